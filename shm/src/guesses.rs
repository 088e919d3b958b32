//! How many unknown session keys, or wrong tokens, an address may bring in a second, over all workers.
//!
//! Each address has one word for each kind of guess, found by a keyed digest: the second, and how many guesses came
//! in it. Two addresses that share a word share a budget. A valid key is never counted. A good token is refused while
//! its address's word for tokens is spent.

use crate::sync::{AtomicU64, Ordering};

/// How often one call retries a word that other processes change at the same time, or scribble on.
const TRIES_MAX: usize = 256;

/// The words, borrowed from the segment (or from the heap, in tests).
#[derive(Clone, Copy, Debug)]
pub struct Guesses<'a> {
    words: &'a [AtomicU64],
}

/// A word, decoded. Every pattern is one.
#[derive(Clone, Copy)]
struct Tally {
    second: u32,
    count: u32,
}

impl Tally {
    fn encode(self) -> u64 {
        u64::from(self.second) << 32 | u64::from(self.count)
    }

    fn decode(word: u64) -> Self {
        Self { second: (word >> 32) as u32, count: (word & 0xffff_ffff) as u32 }
    }

    /// Counts one more in `second`. `None`: that would be more than `most`.
    fn more(self, second: u32, most: u32) -> Option<Self> {
        // Workers read their clocks only now and then, so another worker may be a second ahead. A word that is
        // further off is an old one, or noise.
        if self.second == second || self.second == second.wrapping_add(1) {
            let count = self.count.checked_add(1).filter(|count| *count <= most)?;
            return Some(Self { count, ..self });
        }
        (most > 0).then_some(Self { second, count: 1 })
    }
}

impl<'a> Guesses<'a> {
    /// A table over `words`.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// Whether the address with this keyed digest has no guess left of `most` in the second of `now_ms`.
    #[must_use]
    pub fn is_spent(&self, digest: u64, most: u32, now_ms: u64) -> bool {
        let found = self.word(digest).map_or(0, |word| word.load(Ordering::Relaxed));
        Tally::decode(found).more(second(now_ms), most).is_none()
    }

    fn word(&self, digest: u64) -> Option<&'a AtomicU64> {
        let index = usize::try_from(digest).unwrap_or(0).checked_rem(self.words.len())?;
        self.words.get(index)
    }

    /// Counts a guess of the address with this keyed digest at `now_ms`. `false`: there were `most`
    /// in this second already, and this one is not counted.
    #[must_use]
    pub fn count(&self, digest: u64, most: u32, now_ms: u64) -> bool {
        let second = second(now_ms);
        let Some(word) = self.word(digest) else { return false };
        let mut found = word.load(Ordering::Relaxed);
        for _ in 0..TRIES_MAX {
            let Some(more) = Tally::decode(found).more(second, most) else { return false };
            // Relaxed: the word orders no other word.
            let (ok, no) = (Ordering::Relaxed, Ordering::Relaxed);
            match word.compare_exchange_weak(found, more.encode(), ok, no) {
                Ok(_) => return true,
                Err(other) => found = other,
            }
        }
        false
    }
}

fn second(now_ms: u64) -> u32 {
    ((now_ms / 1000) & 0xffff_ffff) as u32
}
