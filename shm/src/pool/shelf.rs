//! The tags of one kind, all chunks or all pipes: how one is taken, and how many are seen to be free.
//!
//! In a large pool a sample stands for all tags, so that the cost of a look does not grow with the pool.

use crate::ids::Tag;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{
    AtomicU32 as PrivateU32, AtomicU64 as PlainU64, Ordering as PrivateOrdering,
};

/// Spreads a small number over 32 bits: 2^32 divided by the golden ratio.
pub(crate) const GOLDEN: u32 = 0x9e37_79b9;

/// Tags that a look reads to weigh what accounts hold, at most: more than there are chunks in 2 GiB. In a larger
/// pool, so many stand for all.
pub(super) const WEIGHED_MAX: usize = 4096;

/// Tags in a cache line: a process that reads one may as well read all of them.
pub(super) const TAGS_PER_LINE: usize = 8;

/// The tags of one kind.
#[derive(Debug)]
pub(super) struct Shelf<'a> {
    pub(super) tags: &'a [AtomicU64],
    /// The accounts, one word for each tag. A word means something only while its tag is held.
    pub(super) accounts: &'a [PlainU64],
    /// Where this process looks first; private, a guess.
    pub(super) hint: PrivateU32,
    /// Counts this process's samples.
    turn: PrivateU32,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(tags: &'a [AtomicU64], accounts: &'a [PlainU64]) -> Self {
        Self { tags, accounts, hint: PrivateU32::new(0), turn: PrivateU32::new(0) }
    }

    pub(super) fn account(&self, index: usize) -> u64 {
        self.accounts.get(index).map_or(0, |word| word.load(PrivateOrdering::Relaxed))
    }

    pub(super) fn count(&self, is_counted: impl Fn(u64) -> bool) -> usize {
        self.tags.iter().filter(|tag| is_counted(tag.load(Ordering::Relaxed))).count()
    }

    /// Takes one whose tag is `free`.
    pub(super) fn take(&self, free: u64, tag: Tag) -> Option<usize> {
        // Acquire pairs with the Release in `set_free`: what the last holder did is over.
        let takes = |word: &AtomicU64| {
            word.load(Ordering::Relaxed) == free
                && word
                    .compare_exchange(free, tag.to_bits(), Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        };
        let (index, _) = self.round_from_hint().find(|(_, word)| takes(word))?;
        self.hint.store(u32::try_from(index).ok()?, PrivateOrdering::Relaxed);
        Some(index)
    }

    /// All tags with their indices, or as many as stand for all, each time beginning elsewhere. Free tags lie
    /// together, so a sample takes whole cache lines from everywhere.
    pub(super) fn sample(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        const LINES_MAX: usize = WEIGHED_MAX / TAGS_PER_LINE;
        let (tags, all) = (self.tags, self.tags.len().div_ceil(TAGS_PER_LINE).max(1));
        let turn = self.turn.fetch_add(1, PrivateOrdering::Relaxed);
        let start = if all <= LINES_MAX { 0 } else { turn.wrapping_mul(GOLDEN) as usize % all };
        let seen = all.min(LINES_MAX);
        let lines = (0..seen).map(move |step| (start + step * all / seen) % all);
        let indices =
            lines.flat_map(|line| (0..TAGS_PER_LINE).map(move |i| line * TAGS_PER_LINE + i));
        indices.filter_map(move |index| Some((index, tags.get(index)?)))
    }

    /// Every tag with its index, beginning at the hint and going round once.
    pub(super) fn round_from_hint(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        let start = (self.hint.load(PrivateOrdering::Relaxed) as usize).min(self.tags.len());
        let (before, after) = self.tags.split_at(start);
        let tail = after.iter().enumerate().map(move |(i, tag)| (start + i, tag));
        tail.chain(before.iter().enumerate())
    }
}
