//! The words of a segment, and the way to each of them.
//!
//! The other modules act on these words: `issue` and `sessions` (a session's life), `places` (take, begin, leave),
//! `rivals` (guests, rivals, waiters), `past`, `sweep`, `views`.
//!
//! `Shared` borrows its words, from the mapping in production and from the heap in tests, so that the models and the
//! product run the same steps. `Shared` holds no lock and keeps no list: every step is one compare-and-swap, and a
//! process may die between any two of them.

use crate::doorbell::Doorbell;
use crate::holdings::Holdings;
use crate::ids::{LaneRef, WorkerId};
use crate::lane::Lane;
use crate::pool::{Pool, Sizes};
use crate::record::WorkerRecord;
use crate::refusal::Refusal;
use crate::slot::Slot;
use std::sync::atomic::AtomicU32 as PrivateU32;

/// All words of a segment.
#[derive(Debug)]
pub struct Shared<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) pool: Pool<'a>,
    records: &'a [WorkerRecord],
    bells: Vec<Doorbell<'a>>,
    pub(crate) holdings: Holdings<'a>,
    /// Where this process looks for a free slot first; private, a guess.
    pub(crate) hint: PrivateU32,
}

/// The parts that a [`Shared`] is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The slots, one for each session.
    pub slots: &'a [Slot],
    /// The pool of tags, one for each chunk and pipe.
    pub pool: Pool<'a>,
    /// The records, one for each worker.
    pub records: &'a [WorkerRecord],
    /// The bells, one for each record.
    pub bells: Vec<Doorbell<'a>>,
    /// Chunks a lane may hold, 1..=[`crate::LANE_CHUNKS_MAX`].
    pub lane_chunks: usize,
    /// Bytes in a chunk.
    pub chunk_bytes: usize,
}

impl<'a> Shared<'a> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts<'a>) -> Self {
        let Parts { slots, pool, records, bells, lane_chunks, chunk_bytes } = parts;
        let (hint, holdings) = (PrivateU32::new(0), Holdings::default());
        let pool = pool.sized(Sizes { lane_chunks, chunk_bytes });
        Self { slots, pool, records, bells, holdings, hint }
    }

    /// Notes in `holdings` where each worker may hold something.
    #[cfg(not(loom))]
    pub(crate) fn noting(self, holdings: Holdings<'a>) -> Self {
        Self { holdings, ..self }
    }

    /// Chunks a lane may hold.
    #[must_use]
    pub fn lane_chunks(&self) -> usize {
        self.pool.sizes.lane_chunks
    }

    /// Bytes in a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.pool.sizes.chunk_bytes
    }

    /// Session slots.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.slots.len()
    }

    /// The tags of chunks and pipes.
    #[must_use]
    pub fn pool(&self) -> &Pool<'a> {
        &self.pool
    }

    /// The record of `worker`, where the segment has one.
    #[must_use]
    pub fn record(&self, worker: WorkerId) -> Option<&'a WorkerRecord> {
        self.records.get(worker.index())
    }

    /// The bell of `worker`, where the segment has one.
    #[must_use]
    pub fn bell(&self, worker: WorkerId) -> Option<&Doorbell<'a>> {
        self.bells.get(worker.index())
    }

    pub(crate) fn slot(&self, slot: u32) -> Result<&'a Slot, Refusal> {
        self.slots.get(slot as usize).ok_or(Refusal::Descriptor(u64::from(slot)))
    }

    pub(crate) fn lane(&self, at: LaneRef) -> Result<&'a Lane, Refusal> {
        Ok(self.slot(at.session.slot)?.lane(at.direction))
    }
}
