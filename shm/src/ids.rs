//! The names of things in the segment: workers, their lives, sessions, lanes, the ends of lanes, holders of chunks.
//!
//! Every module of the crate uses them, and they use none. All are plain numbers that fit into part of a word. A name
//! proves nothing: its user checks the word that it names.

use std::num::NonZeroU64;

/// Worker records there can be, whatever the number of workers: 8 bits of a place.
pub const WORKER_RECORDS_MAX: usize = 1 << WORKER_BITS;

const WORKER_BITS: u32 = 8;
/// A worker's words are swept when it has died, so that none of an earlier life is left: a few lives are enough to tell
/// apart.
const EPOCH_MASK: u64 = (1 << 8) - 1;

/// A worker record's index, always below [`WORKER_RECORDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The id of record `index`, or `None` where there is no such record.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().map(Self)
    }

    /// The record's index, below [`WORKER_RECORDS_MAX`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The life of a worker, named by its record and the epoch it was forked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The worker's record.
    pub worker: WorkerId,
    /// The epoch, below 256.
    epoch: u64,
}

impl Owner {
    /// The owner that lives in `epoch` of `worker`. Epochs count modulo 256.
    #[must_use]
    pub fn new(worker: WorkerId, epoch: u32) -> Self {
        Self { worker, epoch: u64::from(epoch) & EPOCH_MASK }
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.worker.0) | self.epoch << WORKER_BITS
    }

    /// Reads the low 16 bits: every pattern is an owner.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self { worker: WorkerId((bits & 0xff) as u8), epoch: bits >> WORKER_BITS & EPOCH_MASK }
    }
}

/// An end of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end where bytes come from.
    Sender,
    /// The end where bytes go to.
    Receiver,
}

/// A direction: it names one of a session's two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The first lane: the only one of a session that needs one.
    Forth,
    /// The other way.
    Back,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Forth, Self::Back];
}

/// A living session: its slot and the slot's issue number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The slot's index.
    pub slot: u32,
    /// Tells the sessions apart that lived in the slot.
    pub issue_number: u32,
}

/// A digest that stands for a client's address: who the guest of a session is, who wants a place. In shared memory 0
/// stands for nobody; everywhere else `None` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressTag(NonZeroU64);

impl AddressTag {
    /// The tag of `digest`. The digests 0 and 1 share a tag.
    #[must_use]
    pub const fn of(digest: u64) -> Self {
        match NonZeroU64::new(digest) {
            Some(digest) => Self(digest),
            None => Self(NonZeroU64::MIN),
        }
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        NonZeroU64::new(word).map(Self)
    }

    pub(crate) fn to_word(tag: Option<Self>) -> u64 {
        tag.map_or(0, |tag| tag.0.get())
    }
}

/// A lane of a living session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRef {
    /// The session.
    pub session: SessionRef,
    /// The lane's direction.
    pub direction: Direction,
}

impl SessionRef {
    /// The session's lane in `direction`.
    #[must_use]
    pub fn lane(self, direction: Direction) -> LaneRef {
        LaneRef { session: self, direction }
    }
}

/// High bits of a tag in use, so that neither zero nor small numbers are ever valid.
const HELD: u64 = 0xa5d << 52;

/// The same of a pipe that a worker empties.
const EMPTIED: u64 = 0x6e2 << 52;

/// Says who holds a chunk or pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The tag of `attempt` (below 2^23) in a lane of a slot below 2^28.
    pub(crate) fn new(lane: LaneRef, attempt: u32) -> Self {
        let lane = u64::from(lane.session.slot) << 1 | lane.direction as u64;
        Self(HELD | lane << 23 | u64::from(attempt))
    }

    /// The tag of what `worker` empties.
    pub(crate) fn emptied_by(worker: WorkerId) -> Self {
        Self(EMPTIED | worker.index() as u64)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}
