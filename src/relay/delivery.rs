//! The arrival of a transfer: when to ask the kernel for acknowledgements, which counts to store, and whether a
//! sender may be told that all was delivered. Pure: the time and the kernel's answers come in as arguments.
//!
//! `download` counts, `answering` polls, and `sending` asks whether all was delivered. Every unacknowledged byte is
//! taken to be payload, so a count is never too high, and exact once the socket's queue is empty.

use shm::Settled;

use crate::config::Receipt;

/// The intervals at which the kernel is asked what is acknowledged. The interval doubles from the first to the last,
/// but stays at the second while an acknowledgement may only be delayed: Linux delays it by 40 ms, and polls at 1, 3,
/// 7, 15, 31 and 63 ms answered 20 ms late (measured).
const ACK_POLL_MS: [u64; 3] = [1, 8, 50];
/// The time during which the interval stays short.
const ACK_DELAYED_MS: u64 = 60;

/// The time and the payload after which both counts are stored while there is more to write. If this worker dies, the
/// sender is told the counts that were stored last.
const COUNT_EACH_MS: u64 = 100;
const COUNT_EACH_BYTES: u64 = 1 << 20;

/// The payload that a receiver's client has.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Payload bytes that the socket took.
    taken: u64,
    /// The bytes taken when both counts were stored last.
    stored: u64,
    /// The time at which both are stored next.
    due_ms: u64,
}

/// The counts to store at the end of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// The bytes that the socket took.
    Taken,
    /// Both counts. The second costs a system call.
    Both,
}

impl Counts {
    /// The counts of an answer that begins.
    pub(super) fn new(now_ms: u64) -> Self {
        Self { taken: 0, stored: 0, due_ms: now_ms.saturating_add(COUNT_EACH_MS) }
    }

    /// Payload bytes that the socket took.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The socket took `bytes` more of the payload.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes as u64);
    }

    /// Payload bytes that are acknowledged for certain, where `unacknowledged` bytes of any kind are not.
    pub(super) fn delivered(&self, unacknowledged: u64) -> u64 {
        self.taken.saturating_sub(unacknowledged)
    }

    /// Returns which counts to store at the end of a turn. If something was written since both were stored, also
    /// returns by when the next turn must come.
    pub(super) fn end_turn(&mut self, now_ms: u64) -> (Store, Option<u64>) {
        let moved = self.taken.saturating_sub(self.stored);
        let is_due = now_ms >= self.due_ms || moved >= COUNT_EACH_BYTES;
        if is_due {
            self.due_ms = now_ms.saturating_add(COUNT_EACH_MS);
            self.stored = self.taken;
        }
        (if is_due { Store::Both } else { Store::Taken }, (moved > 0).then_some(self.due_ms))
    }
}

/// Polls the kernel for the last acknowledgement. The time-out runs from the last progress: a slow line may need long
/// for the bytes in its buffers.
#[derive(Debug)]
pub(super) struct AckPoll {
    timeout_ms: u64,
    interval_ms: u64,
    short_until_ms: u64,
    unacknowledged: u64,
    ends_ms: u64,
}

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// Poll again at this time.
    Later(u64),
    /// The client made no progress for too long.
    TimedOut,
}

impl AckPoll {
    /// Polls from now on.
    pub(super) fn new(timeout_ms: u64, now_ms: u64) -> Self {
        Self {
            timeout_ms,
            interval_ms: ACK_POLL_MS[0],
            short_until_ms: now_ms.saturating_add(ACK_DELAYED_MS),
            // A count that is not known at first is no progress.
            unacknowledged: u64::MAX,
            ends_ms: now_ms.saturating_add(timeout_ms),
        }
    }

    /// Judges a poll that found `unacknowledged` bytes, more than none. Bytes in flight must be acknowledged in time.
    /// If none is, the client has closed its window and reads later, so the time-out begins anew.
    pub(super) fn judge(
        &mut self,
        unacknowledged: u64,
        is_in_flight: impl FnOnce() -> bool,
        now_ms: u64,
    ) -> Ack {
        let is_progress = unacknowledged < self.unacknowledged;
        self.unacknowledged = unacknowledged;
        if is_progress || !is_in_flight() {
            self.ends_ms = now_ms.saturating_add(self.timeout_ms);
        }
        if now_ms >= self.ends_ms {
            return Ack::TimedOut;
        }
        let look_ms = now_ms.saturating_add(self.interval_ms);
        let longest = ACK_POLL_MS[if now_ms < self.short_until_ms { 1 } else { 2 }];
        self.interval_ms = (self.interval_ms * 2).min(longest);
        Ack::Later(look_ms)
    }
}

/// The sender's view of a transfer whose bytes are all published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The result that the receiver's side recorded.
    pub(super) settled: Settled,
    /// Whether the receiver's worker died.
    pub(super) peer_is_lost: bool,
    /// Payload bytes in all.
    pub(super) published: u64,
    /// Payload bytes that the receiver's side has stored as acknowledged.
    pub(super) delivered: u64,
}

impl Arrival {
    /// Whether all was delivered as surely as `receipt` asks. A worker that died before it could record a result may
    /// have stored that every byte is acknowledged. An empty body has no such count.
    pub(super) fn is_delivered(self, receipt: Receipt) -> bool {
        let is_settled = match receipt {
            Receipt::Acked => self.settled == Settled::Acked,
            Receipt::Sent => self.settled != Settled::No,
        };
        let is_counted = self.published > 0 && self.delivered == self.published;
        is_settled || (self.peer_is_lost && is_counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_MS: u64 = 30_000;

    /// Polls a client that acknowledges nothing until `until_ms`; returns when.
    fn polls(until_ms: u64) -> Vec<u64> {
        let (mut poll, mut now_ms, mut at) = (AckPoll::new(TIMEOUT_MS, 0), 0, Vec::new());
        while now_ms <= until_ms {
            at.push(now_ms);
            let Ack::Later(look_ms) = poll.judge(100, || true, now_ms) else { break };
            now_ms = look_ms;
        }
        at
    }

    #[test]
    fn a_delayed_acknowledgement_is_found_within_8_ms() {
        let at = polls(ACK_DELAYED_MS);
        assert_eq!(at.get(..5), Some(&[0, 1, 3, 7, 15][..]));
        assert!(at.windows(2).all(|pair| matches!(pair, [a, b] if b - a <= 8)), "{at:?}");
    }

    #[test]
    fn a_late_acknowledgement_is_asked_for_20_times_a_second_and_given_up_in_time() {
        let at = polls(u64::MAX);
        assert!(at.len() < 700, "{} polls in {TIMEOUT_MS} ms", at.len());
        assert!(at.last().is_some_and(|last| (TIMEOUT_MS..TIMEOUT_MS + 50).contains(last)));
    }

    #[test]
    fn progress_and_a_closed_window_put_the_time_out_off() {
        let mut poll = AckPoll::new(TIMEOUT_MS, 0);
        let is_later = |ack| matches!(ack, Ack::Later(_));
        assert!(is_later(poll.judge(100, || true, 1)));
        assert!(is_later(poll.judge(99, || true, TIMEOUT_MS)), "a byte was acknowledged");
        assert!(is_later(poll.judge(99, || false, 2 * TIMEOUT_MS)), "nothing is in flight");
        assert!(is_later(poll.judge(99, || true, 3 * TIMEOUT_MS - 1)));
        assert_eq!(poll.judge(99, || true, 3 * TIMEOUT_MS), Ack::TimedOut);
    }

    #[test]
    fn an_unknown_count_is_no_progress() {
        let mut poll = AckPoll::new(TIMEOUT_MS, 0);
        assert_eq!(poll.judge(u64::MAX, || true, TIMEOUT_MS), Ack::TimedOut);
    }

    #[test]
    fn both_counts_are_stored_now_and_then_and_once_more_after_the_last_byte() {
        let mut counts = Counts::new(0);
        assert_eq!(counts.end_turn(1), (Store::Taken, None), "nothing was written");
        counts.take(1);
        assert_eq!(counts.end_turn(2), (Store::Taken, Some(COUNT_EACH_MS)));
        assert_eq!(counts.end_turn(COUNT_EACH_MS), (Store::Both, Some(2 * COUNT_EACH_MS)));
        assert_eq!(counts.end_turn(COUNT_EACH_MS + 1), (Store::Taken, None), "all is stored");
        counts.take(1 << 20);
        assert_eq!(counts.end_turn(COUNT_EACH_MS + 2).0, Store::Both, "a MiB");
    }

    #[test]
    fn what_is_unacknowledged_is_taken_to_be_payload() {
        let mut counts = Counts::new(0);
        counts.take(100);
        assert_eq!(counts.delivered(0), 100);
        assert_eq!(counts.delivered(30), 70);
        assert_eq!(counts.delivered(u64::MAX), 0);
    }

    #[test]
    fn a_sender_is_told_of_a_delivery_that_is_as_sure_as_it_asked_for() {
        let arrival =
            |settled| Arrival { settled, peer_is_lost: false, published: 10, delivered: 10 };
        for (settled, acked, sent) in [
            (Settled::No, false, false),
            (Settled::Sent, false, true),
            (Settled::Acked, true, true),
        ] {
            assert_eq!(arrival(settled).is_delivered(Receipt::Acked), acked);
            assert_eq!(arrival(settled).is_delivered(Receipt::Sent), sent);
        }
        let lost = Arrival { peer_is_lost: true, ..arrival(Settled::No) };
        assert!(lost.is_delivered(Receipt::Acked), "its worker had counted all");
        assert!(!Arrival { delivered: 9, ..lost }.is_delivered(Receipt::Sent));
        assert!(!Arrival { published: 0, delivered: 0, ..lost }.is_delivered(Receipt::Sent));
    }
}
