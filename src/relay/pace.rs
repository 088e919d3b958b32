//! The pace of a party: how long it may stay though it moves little. `sending`, `answering` and `pair` ask at each turn.
//!
//! While there is room a silent party harms nobody, and may stay for `silence_timeout` after its last byte. Once
//! others may need what it holds (`pressure`), it has to keep to the minimum rate, and is sent away if it moved less
//! in its last window. Keep-alive finds a dead client, but asks nothing while bytes of ours are under way. Then the
//! kernel is asked here for how long the client has not answered.

use super::{Env, LOOK_ANYWAY_MS};
use crate::stream::Stream;
use crate::sys::clock::millis;
use std::time::Duration;

/// Watches over one party, a window after another.
#[derive(Debug)]
pub(super) struct Pace {
    window_ends_ms: u64,
    /// The position of the transfer when the window began, in bytes.
    began_at: u64,
    /// The time of the last move, and the position then.
    moved_ms: u64,
    moved_to: u64,
}

/// The verdict on a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The party may stay.
    Stays,
    /// The party was silent for too long.
    Silent,
    /// Others need what the party holds, and it is slower than the minimum rate.
    TooSlow,
    /// The party's machine, or the line to it, is gone.
    Lost,
}

impl Pace {
    /// Watches a party that is about to move from `position` on.
    pub(super) fn new(env: &Env, position: u64, now_ms: u64) -> Self {
        Self::starting(millis(env.config.timeouts.rate_window), position, now_ms)
    }

    fn starting(window_ms: u64, position: u64, now_ms: u64) -> Self {
        let window_ends_ms = now_ms.saturating_add(window_ms);
        Self { window_ends_ms, began_at: position, moved_ms: now_ms, moved_to: position }
    }

    /// Judges the party on `stream`, now at `position`.
    pub(super) fn judge(
        &mut self,
        env: &Env,
        stream: &Stream,
        position: u64,
        now_ms: u64,
    ) -> Verdict {
        self.judge_silent(env, stream, position, now_ms, env.config.timeouts.silence_timeout)
    }

    /// The same of a party that may be silent for `silence`.
    pub(super) fn judge_silent(
        &mut self,
        env: &Env,
        stream: &Stream,
        position: u64,
        now_ms: u64,
        silence: Duration,
    ) -> Verdict {
        if self.is_lost(env, stream, position, now_ms) {
            return Verdict::Lost;
        }
        let timeouts = &env.config.timeouts;
        if self.silent_ms(now_ms) >= millis(silence) {
            return Verdict::Silent;
        }
        let (rate, window_ms) = (env.config.limits.rate_bytes_min, millis(timeouts.rate_window));
        if self.is_slow(rate, window_ms, position, now_ms) && env.is_crowded(now_ms) {
            return Verdict::TooSlow;
        }
        Verdict::Stays
    }

    /// Whether the party on `stream`, now at `position`, is gone without a FIN.
    pub(super) fn is_lost(
        &mut self,
        env: &Env,
        stream: &Stream,
        position: u64,
        now_ms: u64,
    ) -> bool {
        self.note(position, now_ms);
        let patience = env.config.keep_alive().lost_after();
        self.silent_ms(now_ms) >= millis(patience)
            && stream.is_lost(patience, env.config.limits.keepalive_probes_max)
    }

    /// The time of the next turn, though nothing has happened.
    pub(super) fn next_look_ms(&self, env: &Env, now_ms: u64) -> u64 {
        let silence_ms = millis(env.config.timeouts.silence_timeout);
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

    /// Whether a window has ended with less than the minimum. The next window begins once the missing bytes have
    /// come.
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
