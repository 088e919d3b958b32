//! Decides when the keys of session tickets are replaced. The master calls it, and its clock alone decides.
//!
//! Invariant: a key is current for one period and taken for one more, whatever happens to workers or to the segment.
//! A program that takes over continues where the previous one stopped. Old tickets cannot be opened after that.

use shm::{TICKET_KEY_BYTES, TicketKeys};
use std::io;
use zeroize::Zeroizing;

/// How long a key is current, and how long a ticket is good at least; at most it is good for twice as long.
pub(super) const PERIOD_MS: u64 = 6 * 3600 * 1000;
/// How long until the next attempt, if the kernel has no random numbers.
const RETRY_MS: u64 = 60 * 1000;

/// The next change of keys.
#[derive(Debug)]
pub struct Rotation {
    keys: TicketKeys<'static>,
    due_ms: u64,
}

impl Rotation {
    /// Continues with `keys` of a previous program, or draws the first.
    pub fn new(keys: TicketKeys<'static>, now_ms: u64) -> io::Result<Self> {
        let mut rotation = Self { keys, due_ms: due_ms(keys.current(), keys.drawn_ms(), now_ms) };
        rotation.turn(now_ms)?;
        Ok(rotation)
    }

    /// When [`Self::turn`] is due.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Draws a key if it is time to. A failure leaves everything as it is for a while.
    pub fn turn(&mut self, now_ms: u64) -> io::Result<()> {
        if now_ms < self.due_ms {
            return Ok(());
        }
        self.due_ms = now_ms.saturating_add(RETRY_MS);
        let mut key = Zeroizing::new([0; TICKET_KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        self.keys.put(&key, now_ms);
        self.due_ms = now_ms.saturating_add(PERIOD_MS);
        Ok(())
    }
}

/// When the key after `current` is drawn: within a period, whatever the segment says.
fn due_ms(current: u64, drawn_ms: u64, now_ms: u64) -> u64 {
    if current == 0 || drawn_ms > now_ms {
        return now_ms;
    }
    drawn_ms.saturating_add(PERIOD_MS).max(now_ms)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Keys of their own, none put yet.
    pub(in crate::tls) fn keys() -> TicketKeys<'static> {
        let words: Vec<_> = (0..TicketKeys::WORDS).map(|_| AtomicU64::new(0)).collect();
        TicketKeys::new(words.leak())
    }

    #[test]
    fn a_key_is_drawn_at_once_and_then_each_period() {
        let keys = keys();
        let mut rotation = Rotation::new(keys, 1000).unwrap();
        let first = keys.key(1).unwrap();
        assert_ne!(first, [0; 32]);
        assert_eq!((keys.current(), rotation.due_ms()), (1, 1000 + PERIOD_MS));
        rotation.turn(999 + PERIOD_MS).unwrap();
        assert_eq!(keys.current(), 1);
        // The turn comes late, and the time counts from then on.
        rotation.turn(1500 + PERIOD_MS).unwrap();
        assert_eq!((keys.current(), rotation.due_ms()), (2, 1500 + 2 * PERIOD_MS));
        assert_eq!(keys.key(1), Some(first));
        assert_ne!(keys.key(2), Some(first));
        rotation.turn(1500 + 2 * PERIOD_MS).unwrap();
        assert_eq!((keys.current(), keys.key(1)), (3, None));
    }

    #[test]
    fn the_next_program_goes_on_where_the_last_left_off() {
        let keys = keys();
        Rotation::new(keys, 1000).unwrap();
        let mut next = Rotation::new(keys, 5000).unwrap();
        assert_eq!((keys.current(), next.due_ms()), (1, 1000 + PERIOD_MS));
        next.turn(1000 + PERIOD_MS).unwrap();
        assert_eq!(keys.current(), 2);
        // A turn after the time draws at once.
        Rotation::new(keys, 1000 + 3 * PERIOD_MS).unwrap();
        assert_eq!(keys.current(), 3);
    }

    #[test]
    fn what_a_worker_writes_puts_nothing_off() {
        let keys = keys();
        let mut rotation = Rotation::new(keys, 1000).unwrap();
        keys.put(&[1; 32], 900 + PERIOD_MS);
        let before = keys.current();
        rotation.turn(1000 + PERIOD_MS).unwrap();
        assert_eq!(keys.current(), before + 1);
    }

    #[test]
    fn a_time_that_cannot_be_is_not_believed() {
        let keys = keys();
        keys.put(&[1; 32], u64::MAX);
        let rotation = Rotation::new(keys, 1000).unwrap();
        assert_eq!((keys.current(), rotation.due_ms()), (2, 1000 + PERIOD_MS));
    }
}
