//! Whether a worker hangs. The master wakes the worker from time to time and asks for a heartbeat; the count must
//! have moved by the next time. Pure: time and counts come in.
//!
//! Invariant: a worker counts as hung only after the master asked several times in vain, each time on time itself. A
//! machine that stood still, or has no time for any process, is not the worker's fault.

/// How often the master asks within the time that a worker may be silent.
const QUESTIONS: u64 = 8;
/// The longest interval: it bounds how late a hung worker is found.
const INTERVAL_MS_MAX: u64 = 500;

/// The master's knowledge of one worker's heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heartbeat {
    beats: u64,
    /// When it was asked last.
    asked_ms: Option<u64>,
    /// How long the master has asked in vain.
    silent_ms: u64,
}

impl Heartbeat {
    /// How often to ask.
    pub(super) fn interval_ms(hang_timeout_ms: u64) -> u64 {
        (hang_timeout_ms / QUESTIONS).clamp(1, INTERVAL_MS_MAX)
    }

    /// When to ask next.
    pub(super) fn due_ms(&self, hang_timeout_ms: u64) -> u64 {
        self.asked_ms.map_or(0, |at| at.saturating_add(Self::interval_ms(hang_timeout_ms)))
    }

    /// Call it when it is due, with the worker's count so far; then ask the worker. `true`: the worker hangs. That is
    /// told once in each `hang_timeout_ms`.
    pub(super) fn ask(&mut self, beats: u64, now_ms: u64, hang_timeout_ms: u64) -> bool {
        let interval_ms = Self::interval_ms(hang_timeout_ms);
        let since_ms = self.asked_ms.map_or(0, |asked_ms| now_ms.saturating_sub(asked_ms));
        // A master that was late counts at most two intervals: a machine that stood still is not the worker's fault.
        let silent_ms = self.silent_ms.saturating_add(since_ms.min(2 * interval_ms));
        self.silent_ms = if beats == self.beats { silent_ms } else { 0 };
        (self.beats, self.asked_ms) = (beats, Some(now_ms));
        let hangs = self.silent_ms >= hang_timeout_ms;
        if hangs {
            self.silent_ms = 0;
        }
        hangs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_MS: u64 = 2000;

    /// Asks whenever it is due, `late_ms` late; the time at which it was found to hang.
    fn hangs_at(late_ms: u64, beats: impl Fn(u64) -> u64) -> Option<u64> {
        let mut heartbeat = Heartbeat::default();
        let mut now_ms = 0;
        for _ in 0..1000 {
            now_ms = heartbeat.due_ms(LIMIT_MS).max(now_ms) + late_ms;
            if heartbeat.ask(beats(now_ms), now_ms, LIMIT_MS) {
                return Some(now_ms);
            }
        }
        None
    }

    #[test]
    fn who_never_beats_is_found_soon_after_the_limit() {
        let found_ms = hangs_at(0, |_| 7).expect("it hangs");
        assert!((LIMIT_MS..LIMIT_MS + 2 * INTERVAL_MS_MAX).contains(&found_ms), "{found_ms}");
    }

    #[test]
    fn who_beats_between_any_two_questions_within_the_limit_lives() {
        assert_eq!(hangs_at(0, |now_ms| now_ms / (LIMIT_MS - INTERVAL_MS_MAX)), None);
    }

    #[test]
    fn time_in_which_the_master_itself_stood_still_does_not_count() {
        let mut heartbeat = Heartbeat::default();
        assert!(!heartbeat.ask(1, 1000, LIMIT_MS));
        assert!(!heartbeat.ask(1, 1_000_000, LIMIT_MS), "all of us stood still");
        let late = 10 * LIMIT_MS;
        let found_ms = hangs_at(late, |_| 7).expect("it hangs");
        assert!(found_ms > 3 * late, "it was asked too seldom: {found_ms}");
    }

    #[test]
    fn questions_are_as_frequent_as_the_limit_needs() {
        for (limit_ms, interval_ms) in [(1, 1), (100, 12), (2000, 250), (3_600_000, 500)] {
            assert_eq!(Heartbeat::interval_ms(limit_ms), interval_ms);
        }
    }
}
