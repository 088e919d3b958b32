//! How long the master waits before it forks a worker again that has died. Pure: time comes in.

/// A worker that lived this long had started well: its death counts as an accident.
const GOOD_LIFE_MS: u64 = 5000;
/// The wait after the second death in a row; it doubles from there.
const FIRST_MS: u64 = 100;
/// The longest wait.
const LAST_MS: u64 = 10_000;

/// The delays of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    next_ms: u64,
}

impl Backoff {
    /// The delay after a life of `lived_ms`: none after a good life, and none after the first bad
    /// one.
    pub(super) fn after(&mut self, lived_ms: u64) -> u64 {
        if lived_ms >= GOOD_LIFE_MS {
            *self = Self::default();
        }
        let delay_ms = self.next_ms;
        self.next_ms = (delay_ms * 2).clamp(FIRST_MS, LAST_MS);
        delay_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_a_good_life_forgives() {
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..10).map(|_| backoff.after(10)).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(GOOD_LIFE_MS), 0);
        assert_eq!(backoff.after(10), 100);
    }
}
