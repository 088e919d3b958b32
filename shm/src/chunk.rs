//! Chunks and pipes: what payload is in between two sockets, and the tag that says whose each one is.
//!
//! A tag is `FREE`, or a pipe's `DIRTY`, or it names one attempt in one lane. It is taken by one CAS and given back by
//! one CAS from that very tag, so nothing can be freed twice or by somebody else, and a random word in
//! a tag is neither free nor anybody's.
//!
//! A chunk that comes back may be written again, whatever it holds. A pipe may not be filled again
//! before it is empty, or what one lane has left in it would come out in another. So a pipe comes back
//! as `FREE` only from a sender whose receiver has taken out all that was put in; in any other case it
//! comes back as `DIRTY`, and whoever takes it then empties it first.

use crate::refusal::Refusal;
use crate::slot::LaneRef;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicU32 as PrivateU32, Ordering as PrivateOrdering};

/// The tag of a chunk or pipe that nobody holds. An arbitrary pattern: a scribbled word must not look
/// free.
const FREE: u64 = 0x5a1e_0f0e_c4e9_d0b1;

/// The tag of a pipe that nobody holds, and that may not be empty. As arbitrary.
const DIRTY: u64 = 0x3c96_61b7_d18f_0a2d;

/// High bits of a tag in use, so that neither zero nor small numbers are ever valid.
const HELD: u64 = 0xa5d << 52;

/// Which chunk or pipe: chunks are numbered first, pipes behind them. It names one that is there when it
/// comes from a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VesselId(pub(crate) u32);

/// What payload is in, between the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vessel {
    /// So many chunks come before this one.
    Chunk(usize),
    /// So many pipes come before this one.
    Pipe(usize),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk,
    Pipe,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Chunk, Self::Pipe];
}

/// Which attempt in which lane a chunk or pipe belongs to.
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

/// All tags, borrowed from the segment (or from the heap, in tests).
#[derive(Debug)]
pub struct Pool<'a> {
    chunks: Shelf<'a>,
    pipes: Shelf<'a>,
}

/// The tags of one kind.
#[derive(Debug)]
struct Shelf<'a> {
    tags: &'a [AtomicU64],
    /// Where this process looks first; private, a guess.
    hint: PrivateU32,
}

impl<'a> Pool<'a> {
    /// A pool over tags, one word a chunk and one a pipe.
    #[must_use]
    pub fn new(chunks: &'a [AtomicU64], pipes: &'a [AtomicU64]) -> Self {
        Self { chunks: Shelf::new(chunks), pipes: Shelf::new(pipes) }
    }

    /// Makes everything free. For the creator of a segment, before anybody else maps it.
    pub fn clear(&self) {
        let tags = self.chunks.tags.iter().chain(self.pipes.tags);
        tags.for_each(|tag| tag.store(FREE, Ordering::Release));
    }

    /// Chunks in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.tags.len()
    }

    /// Whether there are no chunks at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.tags.is_empty()
    }

    /// Chunks that somebody holds, counted from the tags.
    #[must_use]
    pub fn held(&self) -> usize {
        self.chunks.count(|tag| !is_free(tag, Kind::Chunk))
    }

    /// Pipes in all.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.pipes.tags.len()
    }

    /// Pipes that somebody holds, counted from the tags.
    #[must_use]
    pub fn pipes_held(&self) -> usize {
        self.pipes.count(|tag| !is_free(tag, Kind::Pipe))
    }

    /// Pipes that nobody holds and that may not be empty, counted from the tags.
    #[must_use]
    pub fn pipes_dirty(&self) -> usize {
        self.pipes.count(|tag| tag == DIRTY)
    }

    pub(crate) fn kind(&self, id: VesselId) -> Kind {
        if (id.0 as usize) < self.len() { Kind::Chunk } else { Kind::Pipe }
    }

    pub(crate) fn vessel(&self, id: VesselId) -> Vessel {
        let number = id.0 as usize;
        number.checked_sub(self.len()).map_or(Vessel::Chunk(number), Vessel::Pipe)
    }

    /// Whether more than `count` of a kind are free. Looks at no more tags than it must.
    pub(crate) fn has_more_than(&self, kind: Kind, count: usize) -> bool {
        let is_free = |word: &AtomicU64| is_free(word.load(Ordering::Relaxed), kind);
        self.shelf(kind).round_from_hint().filter(|(_, tag)| is_free(tag)).nth(count).is_some()
    }

    /// Takes a free one of a kind for `tag`, if there is one. Of a pipe it is not known whether it is
    /// empty.
    pub(crate) fn take(&self, kind: Kind, tag: Tag) -> Option<VesselId> {
        let first = match kind {
            Kind::Chunk => 0,
            Kind::Pipe => self.len(),
        };
        let shelf = self.shelf(kind);
        // Those that have to be emptied come last.
        let index = shelf.take(FREE, tag).or_else(|| match kind {
            Kind::Chunk => None,
            Kind::Pipe => shelf.take(DIRTY, tag),
        })?;
        u32::try_from(first + index).ok().map(VesselId)
    }

    /// Gives back what `tag` holds; a pipe as one that may not be empty. Refused where the tag says
    /// otherwise.
    pub(crate) fn release(&self, id: VesselId, tag: Tag) -> Result<(), Refusal> {
        self.give_back(id, tag, given_up(self.kind(id)))
    }

    /// Gives back what `tag` holds, and whose bytes the receiver has taken, all of them.
    pub(crate) fn release_taken(&self, id: VesselId, tag: Tag) -> Result<(), Refusal> {
        self.give_back(id, tag, FREE)
    }

    fn give_back(&self, id: VesselId, tag: Tag, free: u64) -> Result<(), Refusal> {
        let (shelf, index, word) = self.find(id)?;
        word.compare_exchange(tag.0, free, Ordering::Release, Ordering::Relaxed)
            .map_err(Refusal::ForeignChunk)?;
        shelf.hint.store(index, PrivateOrdering::Relaxed);
        Ok(())
    }

    /// Gives back everything that `tag` holds, found by a scan; pipes as ones that may not be empty.
    pub(crate) fn release_all(&self, tag: Tag) {
        for kind in Kind::ALL {
            let tags = self.shelf(kind).tags.iter();
            for word in tags.filter(|word| word.load(Ordering::Relaxed) == tag.0) {
                let free = given_up(kind);
                // A failure means that it was freed in between: that is what was wanted.
                let _ = word.compare_exchange(tag.0, free, Ordering::Release, Ordering::Relaxed);
            }
        }
    }

    /// Checks that `tag` holds it.
    pub(crate) fn check(&self, id: VesselId, tag: Tag) -> Result<(), Refusal> {
        match self.find(id)?.2.load(Ordering::Acquire) {
            found if found == tag.0 => Ok(()),
            found => Err(Refusal::ForeignChunk(found)),
        }
    }

    fn shelf(&self, kind: Kind) -> &Shelf<'a> {
        match kind {
            Kind::Chunk => &self.chunks,
            Kind::Pipe => &self.pipes,
        }
    }

    fn find(&self, id: VesselId) -> Result<(&Shelf<'a>, u32, &'a AtomicU64), Refusal> {
        let (shelf, index) = match self.vessel(id) {
            Vessel::Chunk(index) => (&self.chunks, index),
            Vessel::Pipe(index) => (&self.pipes, index),
        };
        let hint = u32::try_from(index).unwrap_or(0);
        let word = shelf.tags.get(index).ok_or(Refusal::Descriptor(u64::from(id.0)))?;
        Ok((shelf, hint, word))
    }
}

/// What the tag of one becomes that is given back, whatever it holds.
fn given_up(kind: Kind) -> u64 {
    match kind {
        Kind::Chunk => FREE,
        Kind::Pipe => DIRTY,
    }
}

fn is_free(tag: u64, kind: Kind) -> bool {
    tag == FREE || (kind == Kind::Pipe && tag == DIRTY)
}

impl<'a> Shelf<'a> {
    fn new(tags: &'a [AtomicU64]) -> Self {
        Self { tags, hint: PrivateU32::new(0) }
    }

    fn count(&self, is_counted: impl Fn(u64) -> bool) -> usize {
        self.tags.iter().filter(|tag| is_counted(tag.load(Ordering::Relaxed))).count()
    }

    /// Takes one whose tag is `free`.
    fn take(&self, free: u64, tag: Tag) -> Option<usize> {
        // Acquire pairs with the Release in `give_back`: what the last holder did is over.
        let takes = |word: &AtomicU64| {
            word.load(Ordering::Relaxed) == free
                && word.compare_exchange(free, tag.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let (index, _) = self.round_from_hint().find(|(_, word)| takes(word))?;
        self.hint.store(u32::try_from(index).ok()?, PrivateOrdering::Relaxed);
        Some(index)
    }

    /// Every tag with its index, beginning at the hint and going round once.
    fn round_from_hint(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        let start = (self.hint.load(PrivateOrdering::Relaxed) as usize).min(self.tags.len());
        let (before, after) = self.tags.split_at(start);
        let tail = after.iter().enumerate().map(move |(i, tag)| (start + i, tag));
        tail.chain(before.iter().enumerate())
    }
}
