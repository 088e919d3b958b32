//! How long a party that moves little may stay.
//!
//! While there is room a silent party harms nobody: it may stay for `silence_timeout` after its last byte. Once others may
//! need what it holds (`pressure`), it has to keep to the minimum rate, and who did not in its last window goes at once.
//! Keep-alive finds a client that is dead, but asks nothing while bytes of ours are under way; then the kernel is asked
//! here for how long nobody has answered.

use super::{LOOK_ANYWAY_MS, Relay, millis};
use crate::stream::Stream;

/// Watches over one party, a window after another.
#[derive(Debug)]
pub(super) struct Pace {
    window_ends_ms: u64,
    /// Where the transfer stood when the window began, in bytes.
    began_at: u64,
    /// When it was seen to move last, and where it stood then.
    moved_ms: u64,
    moved_to: u64,
}

/// What is to become of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may stay.
    Stays,
    /// It was silent for too long.
    Silent,
    /// Others need what it holds, and it is slower than the minimum rate.
    TooSlow,
    /// Its machine, or the line to it, is gone.
    Lost,
}

impl Pace {
    /// Of a party that is about to move from `position` on.
    pub(super) fn new(relay: &Relay, position: u64, now_ms: u64) -> Self {
        Self::starting(millis(relay.config.timeouts.rate_window), position, now_ms)
    }

    fn starting(window_ms: u64, position: u64, now_ms: u64) -> Self {
        let window_ends_ms = now_ms.saturating_add(window_ms);
        Self { window_ends_ms, began_at: position, moved_ms: now_ms, moved_to: position }
    }

    /// What is to become of the party on `stream`, now at `position`.
    pub(super) fn judge(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        position: u64,
        now_ms: u64,
    ) -> Verdict {
        if self.is_lost(relay, stream, position, now_ms) {
            return Verdict::Lost;
        }
        let timeouts = &relay.config.timeouts;
        if self.silent_ms(now_ms) >= millis(timeouts.silence_timeout) {
            return Verdict::Silent;
        }
        let (rate, window_ms) = (relay.config.limits.rate_bytes_min, millis(timeouts.rate_window));
        if self.is_slow(rate, window_ms, position, now_ms) && relay.is_crowded(now_ms) {
            return Verdict::TooSlow;
        }
        Verdict::Stays
    }

    /// Whether the party on `stream`, now at `position`, is gone without a word.
    pub(super) fn is_lost(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        position: u64,
        now_ms: u64,
    ) -> bool {
        self.note(position, now_ms);
        let patience = relay.config.keep_alive().lost_after();
        self.silent_ms(now_ms) >= millis(patience)
            && stream.is_lost(patience, relay.config.limits.keepalive_probes_max)
    }

    /// When to look again, though nothing has happened.
    pub(super) fn next_look_ms(&self, relay: &Relay, now_ms: u64) -> u64 {
        let silence_ms = millis(relay.config.timeouts.silence_timeout);
        let ends = [self.window_ends_ms, self.moved_ms.saturating_add(silence_ms)];
        let ends = ends.into_iter().filter(|end| *end > now_ms);
        ends.fold(now_ms.saturating_add(LOOK_ANYWAY_MS), u64::min)
    }

    fn note(&mut self, position: u64, now_ms: u64) {
        if position > self.moved_to {
            (self.moved_ms, self.moved_to) = (now_ms, position);
        }
    }

    fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.moved_ms)
    }

    /// Whether a window has ended with less than the minimum. Another begins once what was missing has come.
    fn is_slow(&mut self, rate: u64, window_ms: u64, position: u64, now_ms: u64) -> bool {
        if now_ms < self.window_ends_ms {
            return false;
        }
        let minimum = rate.saturating_mul(window_ms) / 1000;
        if position.saturating_sub(self.began_at) < minimum {
            return true;
        }
        self.window_ends_ms = now_ms.saturating_add(window_ms);
        self.began_at = position;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_with_too_little_is_slow_until_that_has_come() {
        let mut pace = Pace::starting(60_000, 100, 0);
        assert!(!pace.is_slow(1, 60_000, 100, 59_999));
        assert!(pace.is_slow(1, 60_000, 159, 60_000));
        // A byte each 14 minutes: it would take 14 hours.
        assert!(pace.is_slow(1, 60_000, 159, 900_000));
        assert!(!pace.is_slow(1, 60_000, 160, 900_001));
        assert!(!pace.is_slow(1, 60_000, 160, 960_000));
        assert!(pace.is_slow(1, 60_000, 160, 960_001));
    }

    #[test]
    fn no_minimum_means_that_nobody_is_slow() {
        assert!(!Pace::starting(60_000, 0, 0).is_slow(0, 60_000, 0, 1_000_000));
    }

    #[test]
    fn silence_is_counted_from_the_last_byte() {
        let mut pace = Pace::starting(60_000, 100, 1000);
        assert_eq!(pace.silent_ms(1500), 500);
        pace.note(100, 2000);
        assert_eq!(pace.silent_ms(2000), 1000);
        pace.note(101, 3000);
        assert_eq!(pace.silent_ms(3000), 0);
        // A count that is not known for a moment is no byte.
        pace.note(0, 4000);
        pace.note(101, 5000);
        assert_eq!(pace.silent_ms(5000), 2000);
    }
}
