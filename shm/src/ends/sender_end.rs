//! The sender's end of a lane: it fills chunks and pipes, publishes them, and takes back what AckRecv gives back.

use super::descriptor;
use crate::account::Payer;
use crate::finish::{Finish, Settled};
use crate::ids::{LaneRef, Owner, Tag};
use crate::lane::{LANE_CHUNKS_MAX, Lane, index};
use crate::pool::{Buffer, Kind, Pool};
use crate::refusal::Refusal;
use crate::share::free_to_idle;
use crate::sync::Ordering;
use std::ops::Range;
use std::sync::atomic::Ordering as PlainOrdering;

/// The ring's element where the end has published nothing.
const NO_BUFFER: Buffer = Buffer::Chunk(usize::MAX);

/// A chunk or pipe that a sender has reserved to fill it. No other end reads or writes it until the sender publishes
/// it.
#[derive(Debug)]
#[must_use = "what is dropped stays held until its lane is cleaned"]
pub struct Reserved {
    pub(super) buffer: Buffer,
}

impl Reserved {
    /// The chunk or pipe to fill.
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        self.buffer
    }
}

/// The sender's end of one attempt.
#[derive(Debug)]
pub struct SenderEnd {
    pub(crate) at: LaneRef,
    pub(crate) owner: Owner,
    pub(crate) tag: Tag,
    /// The chunk or pipe published as number i is `ring[i % ring.len()]`.
    ring: [Buffer; LANE_CHUNKS_MAX],
    pub(super) published: u64,
    /// Chunks that came back and were reused or given back; never above `published`.
    pub(super) reclaimed: u64,
    pub(super) published_bytes: u64,
    /// Pipes among the buffers that it holds, so that no look-up has to go through the ring.
    pub(super) pipes_held: usize,
    /// This end has registered a chunk request, and has had no chunk since.
    pub(super) has_requested: bool,
    /// The account that pays for what this end holds.
    pub(super) payer: Option<Payer>,
}

impl SenderEnd {
    pub(crate) fn new(at: LaneRef, owner: Owner, tag: Tag) -> Self {
        let ring = [NO_BUFFER; LANE_CHUNKS_MAX];
        Self {
            at,
            owner,
            tag,
            ring,
            published: 0,
            reclaimed: 0,
            published_bytes: 0,
            pipes_held: 0,
            has_requested: false,
            payer: None,
        }
    }

    /// Charges what this end takes from now on to `payer`. Tests leave their ends without a payer.
    pub fn charge(&mut self, payer: Payer) {
        self.payer = Some(payer);
    }

    /// Payload bytes published in this attempt.
    #[must_use]
    pub fn published_bytes(&self) -> u64 {
        self.published_bytes
    }

    /// Chunks that the lane holds beside the one being filled: in flight, or back but not reused.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::try_from(self.published - self.reclaimed).unwrap_or(usize::MAX)
    }

    /// How many of those are of `kind`.
    pub(super) fn held_of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Chunk => self.held().saturating_sub(self.pipes_held),
            Kind::Pipe => self.pipes_held,
        }
    }

    /// Takes the next buffer that came back. Precondition: AckRecv says that there is one.
    pub(super) fn reclaim(&mut self, lane: &Lane) -> Buffer {
        let buffer = self.at(self.reclaimed);
        lane.void_entry(self.reclaimed);
        self.reclaimed += 1;
        if buffer.kind() == Kind::Pipe {
            self.pipes_held = self.pipes_held.saturating_sub(1);
        }
        buffer
    }

    pub(super) fn released(&self, lane: &Lane) -> Result<u64, Refusal> {
        // Acquire(released): the receiver's reads of the chunk are over.
        let found = lane.receiver.released.load(Ordering::Acquire);
        let (low, high) = (self.reclaimed, self.published);
        if (low..=high).contains(&found) {
            return Ok(found);
        }
        Err(Refusal::Cursor { found, low, high })
    }

    /// Whether the lane yields a chunk to the chunk request of another lane.
    pub(super) fn yields_chunk(&self, pool: &Pool<'_>) -> bool {
        let account = self.payer.map(|payer| payer.account);
        pool.yields_chunk(account, self.payer.map_or(1, |payer| payer.wide_factor))
    }

    pub(super) fn at(&self, number: u64) -> Buffer {
        self.ring.get(index(number)).copied().unwrap_or(NO_BUFFER)
    }
}

/// A sender's end, attached to its lane for a turn: what it does there needs no look-up, and mostly cannot fail.
#[derive(Debug)]
pub struct Sender<'a> {
    pub(super) end: &'a mut SenderEnd,
    pub(super) lane: &'a Lane,
    pub(super) pool: &'a Pool<'a>,
}

impl<'a> Sender<'a> {
    #[inline]
    pub(crate) fn new(end: &'a mut SenderEnd, lane: &'a Lane, pool: &'a Pool<'a>) -> Self {
        Self { end, lane, pool }
    }

    /// Payload bytes published in this attempt.
    #[must_use]
    pub fn published_bytes(&self) -> u64 {
        self.end.published_bytes()
    }

    /// Gives back a buffer that is still empty.
    pub fn give_back_empty(&self, reserved: Reserved) -> Result<(), Refusal> {
        self.pool.give_back_empty(reserved.buffer, self.end.tag)
    }

    /// Gives back what may have something in it that will not be published.
    pub fn give_back(&self, reserved: Reserved) -> Result<(), Refusal> {
        self.pool.give_back(reserved.buffer, self.end.tag)
    }

    /// Hands `range` of the chunk to the receiver, or what is in the pipe, whose range begins at 0. `true`:
    /// the receiver waits for it, ring its bell. Preconditions: it was reserved by this end, so there is
    /// an entry free; the range lies in it and is not empty, since the receiver refuses anything else.
    pub fn publish(&mut self, reserved: Reserved, range: Range<usize>) -> bool {
        let descriptor = descriptor::encode(self.pool.number(reserved.buffer), &range);
        self.lane.set_entry(self.end.published, descriptor, self.end.tag);
        if let Some(entry) = self.end.ring.get_mut(index(self.end.published)) {
            *entry = reserved.buffer;
        }
        self.end.published += 1;
        self.end.pipes_held += usize::from(reserved.buffer.kind() == Kind::Pipe);
        self.end.published_bytes += range.len() as u64;
        // Release(published): the chunk's bytes and its descriptor come before it.
        self.lane.sender.published.store(self.end.published, Ordering::Release);
        self.lane.receiver.waits.take()
    }

    /// Records when it was paired with its receiver, for the admin listener.
    pub fn note_pairing(&self, now_ms: u64) {
        self.lane.paired_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Says how the bytes ended. The caller rings the receiver's bell.
    pub fn set_finish(&self, finish: Finish) {
        self.lane.set_finish(finish);
    }

    /// Announces that this end sleeps until there is room. `false`: there may be room already.
    pub fn wait_for_room(&self) -> Result<bool, Refusal> {
        self.lane.sender.waits.announce();
        if self.end.released(self.lane)? > self.end.reclaimed {
            self.lane.sender.waits.cancel();
            return Ok(false);
        }
        Ok(true)
    }

    /// Called before an idle lane sleeps with buffers in flight. If fewer are free than the lane holds, or its payer
    /// may have no more, others wait for them: the end then announces that it sleeps until one comes back. `false`:
    /// one has come back already.
    pub fn wait_if_short(&self) -> Result<bool, Refusal> {
        let is_plenty = |kind| {
            let held = self.end.held_of(kind);
            held == 0
                || (self.pool.has_free(kind, free_to_idle(held))
                    && self.pool.may_take(kind, self.end.payer))
        };
        if Kind::ALL.into_iter().all(is_plenty) {
            return Ok(true);
        }
        self.wait_for_room()
    }

    /// Whether the receiver has not set AckRecv for all that was published.
    pub fn has_unreleased(&self) -> Result<bool, Refusal> {
        Ok(self.end.released(self.lane)? < self.end.published)
    }

    /// Gives back everything that came back: an idle lane holds none.
    pub fn shed(&mut self) -> Result<(), Refusal> {
        let released = self.end.released(self.lane)?;
        while self.end.reclaimed < released {
            let buffer = self.end.reclaim(self.lane);
            self.pool.give_back_empty(buffer, self.end.tag)?;
        }
        Ok(())
    }

    /// Whether the receiver has said that the sender may put payload into pipes.
    #[must_use]
    pub fn takes_pipes(&self) -> bool {
        self.lane.receiver.takes_pipes.load(Ordering::Relaxed) == 1
    }

    /// Says, before the attempt begins, whether the sender still reads bytes that its receiver has already.
    pub fn note_skipping(&self, skips: bool) {
        self.lane.sender.skips.store(u64::from(skips), PlainOrdering::Relaxed);
    }

    /// How much the receiver's side vouches for.
    #[must_use]
    pub fn settled(&self) -> Settled {
        self.lane.settled()
    }

    /// Payload bytes that the receiver's kernel socket took.
    pub fn taken(&self) -> Result<u64, Refusal> {
        self.count(self.lane.receiver.taken.load(Ordering::Acquire))
    }

    /// Payload bytes that the receiver's TCP acknowledged.
    pub fn delivered(&self) -> Result<u64, Refusal> {
        self.count(self.lane.receiver.delivered.load(Ordering::Acquire))
    }

    fn count(&self, found: u64) -> Result<u64, Refusal> {
        let high = self.end.published_bytes;
        if found > high { Err(Refusal::Count { found, high }) } else { Ok(found) }
    }

    /// Gives back the buffers that the receiver cannot be reading: the one being filled and those that came back.
    pub(crate) fn give_back_all(&mut self, reserved: Option<Reserved>) -> Result<(), Refusal> {
        self.cancel_request();
        if let Some(reserved) = reserved {
            self.give_back(reserved)?;
        }
        self.shed()
    }

    /// Gives back the buffers in flight, once no receiver can be reading them.
    pub(crate) fn give_back_in_flight(&self) -> Result<(), Refusal> {
        let mut numbers = self.end.reclaimed..self.end.published;
        numbers.try_for_each(|number| self.pool.give_back(self.end.at(number), self.end.tag))
    }
}
