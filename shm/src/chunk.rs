//! Chunks: the payload ring's slots, and the tag that says whose each one is.
//!
//! A chunk's tag is either `FREE` or names one attempt in one lane. It is taken by one CAS and given
//! back by one CAS from that very tag, so nothing can be freed twice or by somebody else, and a
//! random word in a tag is neither free nor anybody's.

use crate::refusal::Refusal;
use crate::slot::LaneRef;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicU32 as PrivateU32, Ordering as PrivateOrdering};

/// The tag of a chunk that nobody holds. An arbitrary pattern: a scribbled word must not look free.
const FREE: u64 = 0x5a1e_0f0e_c4e9_d0b1;

/// High bits of a tag in use, so that neither zero nor small numbers are ever valid.
const HELD: u64 = 0xa5d << 52;

/// A chunk's index, always below the number of chunks when it comes from a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId(pub(crate) u32);

/// Which attempt in which lane a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The tag of `attempt` (below 2^23) in a lane of a slot below 2^28.
    pub(crate) fn new(lane: LaneRef, attempt: u32) -> Self {
        let lane = u64::from(lane.session.slot) << 1 | lane.direction as u64;
        Self(HELD | lane << 23 | u64::from(attempt))
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}

/// All chunks' tags, borrowed from the segment (or from the heap, in tests).
#[derive(Debug)]
pub struct Pool<'a> {
    tags: &'a [AtomicU64],
    /// Where this process looks first; private, a guess.
    hint: PrivateU32,
}

impl<'a> Pool<'a> {
    /// A pool over `tags`, one word a chunk.
    #[must_use]
    pub fn new(tags: &'a [AtomicU64]) -> Self {
        Self { tags, hint: PrivateU32::new(0) }
    }

    /// Makes every chunk free. For the creator of a segment, before anybody else maps it.
    pub fn clear(&self) {
        self.tags.iter().for_each(|tag| tag.store(FREE, Ordering::Release));
    }

    /// Chunks in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there are no chunks at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Chunks that somebody holds, counted from the tags.
    #[must_use]
    pub fn held(&self) -> usize {
        self.tags.iter().filter(|tag| tag.load(Ordering::Relaxed) != FREE).count()
    }

    /// Whether more than `count` chunks are free. Looks at no more tags than it must.
    pub(crate) fn has_more_than(&self, count: usize) -> bool {
        self.round_from_hint()
            .filter(|(_, tag)| tag.load(Ordering::Relaxed) == FREE)
            .nth(count)
            .is_some()
    }

    /// Takes a free chunk for `tag`, if there is one.
    pub(crate) fn take(&self, tag: Tag) -> Option<ChunkId> {
        // Acquire pairs with the Release in `release`: what the last holder did is over.
        let free = |word: &AtomicU64| {
            word.load(Ordering::Relaxed) == FREE
                && word.compare_exchange(FREE, tag.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let (index, _) = self.round_from_hint().find(|(_, word)| free(word))?;
        let index = u32::try_from(index).ok()?;
        self.hint.store(index, PrivateOrdering::Relaxed);
        Some(ChunkId(index))
    }

    /// Gives back a chunk that `tag` holds. Refused where the chunk's tag says otherwise.
    pub(crate) fn release(&self, chunk: ChunkId, tag: Tag) -> Result<(), Refusal> {
        let word =
            self.tags.get(chunk.0 as usize).ok_or(Refusal::Descriptor(u64::from(chunk.0)))?;
        word.compare_exchange(tag.0, FREE, Ordering::Release, Ordering::Relaxed)
            .map_err(Refusal::ForeignChunk)?;
        self.hint.store(chunk.0, PrivateOrdering::Relaxed);
        Ok(())
    }

    /// Gives back every chunk that `tag` holds, found by a scan.
    pub(crate) fn release_all(&self, tag: Tag) {
        for word in self.tags.iter().filter(|word| word.load(Ordering::Relaxed) == tag.0) {
            // A failure means that it was freed in between: that is what was wanted.
            let _ = word.compare_exchange(tag.0, FREE, Ordering::Release, Ordering::Relaxed);
        }
    }

    /// Checks that `tag` holds the chunk.
    pub(crate) fn check(&self, chunk: ChunkId, tag: Tag) -> Result<(), Refusal> {
        let word =
            self.tags.get(chunk.0 as usize).ok_or(Refusal::Descriptor(u64::from(chunk.0)))?;
        match word.load(Ordering::Acquire) {
            found if found == tag.0 => Ok(()),
            found => Err(Refusal::ForeignChunk(found)),
        }
    }

    /// Every tag with its index, beginning at the hint and going round once.
    fn round_from_hint(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        let start = (self.hint.load(PrivateOrdering::Relaxed) as usize).min(self.tags.len());
        let (before, after) = self.tags.split_at(start);
        let tail = after.iter().enumerate().map(move |(i, tag)| (start + i, tag));
        tail.chain(before.iter().enumerate())
    }
}
