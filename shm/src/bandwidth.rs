//! Paces each address over all workers: a table says until when the bandwidth of an address is reserved.
//!
//! Each address has one word, found by its keyed digest: a time in nanoseconds. A transfer that wants to move bytes
//! reserves a portion of them, which moves that time on. The transfer may move them once the earlier time has come.
//! So the transfers of one address take turns, in the order in which they asked. A process that dies costs its
//! address one portion at most. Two addresses that share a word share a bandwidth.

use crate::sync::{AtomicU64, Ordering};
use core::num::NonZeroU64;

/// How often one call retries a word that other processes change at the same time, or scribble on.
const TRIES_MAX: usize = 256;
/// Portions that may be reserved ahead of time. A word with more than that is noise, and the cap no longer holds.
const PORTIONS_AHEAD_MAX: u64 = 4096;
/// A portion lasts for a twentieth of a second, but has no fewer and no more bytes than this.
const PORTIONS_PER_SECOND: u64 = 20;
const PORTION_BYTES_MIN: u64 = 1 << 10;
const PORTION_BYTES_MAX: u64 = 1 << 20;

const SECOND_NS: u128 = 1_000_000_000;

/// A bandwidth, and the portions that it is given out in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    portion_bytes: u64,
    portion_ns: u64,
}

impl Rate {
    /// So many bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        let rate = bytes_per_second.get();
        let portion_bytes =
            (rate / PORTIONS_PER_SECOND).clamp(PORTION_BYTES_MIN, PORTION_BYTES_MAX);
        let ns = (u128::from(portion_bytes) * SECOND_NS).div_ceil(u128::from(rate));
        Self { portion_bytes, portion_ns: u64::try_from(ns).unwrap_or(u64::MAX) }
    }

    /// Bytes that may be moved once a time has come that [`reserve`](Self::reserve) gave.
    #[must_use]
    pub fn portion_bytes(self) -> u64 {
        self.portion_bytes
    }

    /// Reserves `bytes`, a portion at most, where everything up to `spoken_for_ns` is reserved already. Returns when
    /// the bytes may be moved, and up to when everything is reserved then. A sender that left its time before
    /// `now_ns` unused makes up for one portion of it at most.
    #[must_use]
    pub fn reserve(self, bytes: u64, spoken_for_ns: u64, now_ns: u64) -> (u64, u64) {
        let part = u128::from(self.portion_ns) * u128::from(bytes.min(self.portion_bytes));
        let part_ns = part.checked_div(self.portion_bytes.into()).unwrap_or(0);
        let part_ns = u64::try_from(part_ns).unwrap_or(u64::MAX);
        let ahead_ns = self.portion_ns.saturating_mul(PORTIONS_AHEAD_MAX);
        let is_noise = spoken_for_ns > now_ns.saturating_add(ahead_ns);
        let spoken_for_ns = if is_noise { now_ns } else { spoken_for_ns };
        let starts_ns = spoken_for_ns.max(now_ns.saturating_sub(self.portion_ns));
        (starts_ns, starts_ns.saturating_add(part_ns))
    }
}

/// The words, borrowed from the segment (or from the heap, in tests).
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Bandwidth<'a> {
    /// A table over `words`.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// Reserves `bytes`, a portion at most, at `rate` for the address with this keyed digest. Returns when they may
    /// be moved.
    #[must_use]
    pub fn reserve(&self, digest: u64, rate: Rate, bytes: u64, now_ns: u64) -> u64 {
        let index = usize::try_from(digest).unwrap_or(0).checked_rem(self.words.len());
        let Some(word) = index.and_then(|index| self.words.get(index)) else { return now_ns };
        let mut found = word.load(Ordering::Relaxed);
        for _ in 0..TRIES_MAX {
            let (starts_ns, spoken_for_ns) = rate.reserve(bytes, found, now_ns);
            // Relaxed: the word orders no other word.
            let (ok, no) = (Ordering::Relaxed, Ordering::Relaxed);
            match word.compare_exchange_weak(found, spoken_for_ns, ok, no) {
                Ok(_) => return starts_ns,
                Err(other) => found = other,
            }
        }
        // Other processes won every try: wait until after all that they reserved.
        rate.reserve(bytes, found, now_ns).1
    }
}
