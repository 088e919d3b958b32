//! The times at which a claim tries again if no bell rings. Pure: the time comes in.

/// The first delay before a place that may come free is claimed again.
const FIRST_DELAY_MS: u64 = 5;
/// The delay is this fraction of the time waited, once that is more.
const WAITED_SHARE: u64 = 4;

/// The times of one claim.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Retry {
    began_ms: u64,
    ends_ms: u64,
    next_ms: u64,
}

impl Retry {
    /// A claim that begins now and ends at `ends_ms`.
    pub(in crate::worker) fn new(now_ms: u64, ends_ms: u64) -> Self {
        Self { began_ms: now_ms, ends_ms, next_ms: now_ms }
    }

    /// The time of the next try.
    pub(in crate::worker) fn next_ms(self) -> u64 {
        self.next_ms
    }

    /// Whether the claim may wait for another try.
    pub(in crate::worker) fn may_wait(self, now_ms: u64) -> bool {
        now_ms < self.ends_ms
    }

    /// Puts off the next try: of several waiters only the last one is rung for. The delay grows with the time waited,
    /// since a thousand claims may wait for one place.
    pub(in crate::worker) fn put_off(&mut self, now_ms: u64) {
        let waited_ms = now_ms.saturating_sub(self.began_ms);
        let soonest_ms = now_ms.saturating_add(FIRST_DELAY_MS);
        let next_ms = now_ms.saturating_add(waited_ms / WAITED_SHARE);
        self.next_ms = next_ms.min(self.ends_ms).max(soonest_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays between the tries of a claim that waits for `wait_ms`.
    fn delays(wait_ms: u64) -> Vec<u64> {
        let mut retry = Retry::new(1000, 1000 + wait_ms);
        let mut now_ms = 1000;
        let mut delays = Vec::new();
        while retry.may_wait(now_ms) {
            retry.put_off(now_ms);
            delays.push(retry.next_ms() - now_ms);
            now_ms = retry.next_ms();
        }
        delays
    }

    #[test]
    fn the_delay_grows_with_the_time_waited() {
        let delays = delays(60_000);
        assert_eq!(&delays[..5], [FIRST_DELAY_MS; 5]);
        assert!(
            delays.is_sorted_by(|one, next| one <= next || *next == *delays.last().unwrap_or(&0))
        );
        assert!(delays.len() < 50, "{delays:?}");
    }

    #[test]
    fn the_last_try_is_when_the_claim_ends() {
        for wait_ms in [5, 100, 60_000] {
            let total: u64 = delays(wait_ms).iter().sum();
            assert!((wait_ms..=wait_ms + FIRST_DELAY_MS).contains(&total), "{wait_ms}: {total}");
        }
        assert!(delays(0).is_empty());
    }

    #[test]
    fn a_try_after_the_end_is_put_off_a_little() {
        let mut retry = Retry::new(0, 10);
        retry.put_off(50);
        assert_eq!(retry.next_ms(), 50 + FIRST_DELAY_MS);
        retry.put_off(u64::MAX);
        assert_eq!(retry.next_ms(), u64::MAX);
    }
}
