//! The keys of TLS session tickets, drawn by the master and used by every worker: the current one and the one before.
//!
//! Keys are numbered from 1, and two slots hold them in turn, so that each new key overwrites the last but one. A
//! worker that reads while the master writes finds the slot's number gone or changed, and then has no key. Must
//! always hold: a key that was read is whole, and the segment keeps nothing of a key that two others came after.

use crate::sync::{AtomicU64, Ordering, fence};
use std::fmt;

/// Bytes of a key.
pub const TICKET_KEY_BYTES: usize = 32;

const KEY_WORDS: usize = TICKET_KEY_BYTES / 8;
/// A slot's words: the number of its key, or 0, then the key.
const SLOT_WORDS: usize = 1 + KEY_WORDS;
const SLOTS: usize = 2;
/// The words before the slots: the current key's number, and when it was drawn.
const HEAD_WORDS: usize = 2;

/// The words, borrowed from the segment (or from the heap, in tests).
#[derive(Clone, Copy)]
pub struct TicketKeys<'a> {
    words: &'a [AtomicU64],
}

impl<'a> TicketKeys<'a> {
    /// Words that the keys take.
    pub const WORDS: usize = HEAD_WORDS + SLOTS * SLOT_WORDS;

    /// The keys in `words`, which are [`Self::WORDS`] many, all zero before the first key.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    fn word(&self, index: usize, order: Ordering) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(order))
    }

    fn slot(&self, number: u64) -> Option<(&AtomicU64, &[AtomicU64])> {
        let at = HEAD_WORDS + if number.is_multiple_of(2) { 0 } else { SLOT_WORDS };
        self.words.get(at..at + SLOT_WORDS)?.split_first()
    }

    /// The number of the current key; 0 before the first.
    #[must_use]
    pub fn current(&self) -> u64 {
        // Acquire pairs with the last store of `put`: the key is there, and so is its time.
        self.word(0, Ordering::Acquire)
    }

    /// When the current key was drawn, on the clock that it was put with.
    #[must_use]
    pub fn drawn_ms(&self) -> u64 {
        self.word(1, Ordering::Relaxed)
    }

    /// The key with this number. `None`: it was overwritten, or is being written.
    #[must_use]
    pub fn key(&self, number: u64) -> Option<[u8; TICKET_KEY_BYTES]> {
        let (holds, words) = self.slot(number)?;
        // Acquire pairs with the last store of `put` to the slot: its key is there.
        if number == 0 || holds.load(Ordering::Acquire) != number {
            return None;
        }
        let mut key = [0; TICKET_KEY_BYTES];
        for (word, bytes) in words.iter().zip(key.as_chunks_mut::<8>().0) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        // Pairs with the fence of `put`: a worker that has read a word of the next key sees that the number is gone.
        fence(Ordering::Acquire);
        (holds.load(Ordering::Relaxed) == number).then_some(key)
    }

    /// Makes `key` the current one, in place of the last but one. Only the master calls this. If two masters, an old
    /// and a new one, do so at once, the result is a mixture of two random keys, or both, and costs no more than some
    /// tickets.
    pub fn put(&self, key: &[u8; TICKET_KEY_BYTES], now_ms: u64) {
        // The number is never 0, even if a process scribbled on it.
        let number = self.current().checked_add(1).unwrap_or(1);
        let Some((holds, words)) = self.slot(number) else { return };
        holds.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, bytes) in words.iter().zip(key.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        holds.store(number, Ordering::Release);
        let [current, drawn_ms, ..] = self.words else { return };
        drawn_ms.store(now_ms, Ordering::Relaxed);
        current.store(number, Ordering::Release);
    }
}

/// Shows nothing of the keys.
impl fmt::Debug for TicketKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("current", &self.current()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn words() -> [AtomicU64; TicketKeys::WORDS] {
        [const { AtomicU64::new(0) }; TicketKeys::WORDS]
    }

    #[test]
    fn there_is_none_at_first() {
        let words = words();
        let keys = TicketKeys::new(&words);
        assert_eq!((keys.current(), keys.key(0), keys.key(1)), (0, None, None));
    }

    #[test]
    fn the_current_key_and_the_one_before_are_there_and_no_byte_of_another() {
        let words = words();
        let keys = TicketKeys::new(&words);
        for number in 1..=9u8 {
            keys.put(&[number; 32], u64::from(number) * 100);
            let number = u64::from(number);
            assert_eq!((keys.current(), keys.drawn_ms()), (number, number * 100));
            for other in 0..12u8 {
                let kept = other > 0 && [number, number - 1].contains(&u64::from(other));
                assert_eq!(
                    keys.key(other.into()),
                    kept.then_some([other; 32]),
                    "{number}: {other}"
                );
            }
            let old = |byte: &u8| u64::from(*byte) + 1 < number && *byte != 0;
            let bytes =
                words[HEAD_WORDS..].iter().flat_map(|it| it.load(Ordering::Relaxed).to_le_bytes());
            assert!(!bytes.collect::<Vec<_>>().iter().any(old), "after {number}");
        }
    }

    #[test]
    fn a_master_that_died_while_it_wrote_costs_the_last_but_one() {
        let words = words();
        let keys = TicketKeys::new(&words);
        keys.put(&[1; 32], 1);
        keys.put(&[2; 32], 2);
        // A write that got half-way: the number is gone, half of the key is another's.
        let (holds, slot) = keys.slot(3).unwrap_or_else(|| unreachable!());
        holds.store(0, Ordering::Relaxed);
        slot[1].store(7, Ordering::Relaxed);
        assert_eq!((keys.current(), keys.key(1), keys.key(2)), (2, None, Some([2; 32])));
        keys.put(&[3; 32], 3);
        assert_eq!((keys.key(2), keys.key(3)), (Some([2; 32]), Some([3; 32])));
    }

    #[test]
    fn any_words_are_borne() {
        let words = words();
        words.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        let keys = TicketKeys::new(&words);
        keys.put(&[1; 32], 1);
        assert_eq!((keys.current(), keys.key(1)), (1, Some([1; 32])));
        assert_eq!(TicketKeys::new(&[]).key(1), None);
        TicketKeys::new(&[]).put(&[1; 32], 1);
    }
}
