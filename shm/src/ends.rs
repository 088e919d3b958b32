//! What each end of a lane keeps in its own memory, and the ring between the two.
//!
//! An end believes nothing that it knows itself: its own cursors live here, the other end's cursor
//! is read once, checked against the window it may be in, and only then used.

mod rewind;

pub use rewind::TakenBack;

use crate::account::Payer;
use crate::lane::{Finish, LANE_CHUNKS_MAX, Lane, Settled, index};
use crate::place::{Owner, Role};
use crate::pool::{Kind, Pool, Tag, Vessel};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::LaneRef;
use crate::sync::Ordering;
use std::ops::Range;

/// Pipes that one lane can hold at a time, at most: one that is filled while the other is emptied.
pub const LANE_PIPES_MAX: usize = 2;
/// Bytes that a pipe can be filled with, at most: what a descriptor can say.
pub const PIPE_BYTES_MAX: usize = 1 << 20;

/// Bits of a descriptor: offset below 2^20, length at most 2^20, chunk or pipe above.
const FIELD_BITS: u32 = 21;
const FIELD_MASK: u64 = (1 << FIELD_BITS) - 1;

/// What an end that has published nothing holds.
const NO_VESSEL: Vessel = Vessel::Chunk(usize::MAX);

/// A chunk or pipe that a sender is filling: nobody else reads or writes it until it is published.
#[derive(Debug)]
#[must_use = "what is dropped stays held until its lane is cleaned"]
pub struct Filling {
    vessel: Vessel,
}

impl Filling {
    /// What is filled.
    #[must_use]
    pub fn vessel(&self) -> Vessel {
        self.vessel
    }
}

/// A range of a published chunk, or what is in a published pipe. Its bytes are the receiver's to read until
/// [AckRecv](Self::ack_recv) consumes it; the borrow of the end allows no second piece beside it, so no slice of the
/// bytes outlives their AckRecv:
///
/// ```compile_fail,E0505
/// # use shm::{ReceiverEnd, Segment};
/// fn keep(segment: &Segment, end: &mut ReceiverEnd) -> usize {
///     let piece = end.next(segment.shared()).unwrap().unwrap();
///     let bytes = segment.bytes(&piece);
///     piece.ack_recv(segment.shared()).unwrap();
///     bytes.len()
/// }
/// ```
#[derive(Debug)]
pub struct Piece<'e> {
    end: &'e mut ReceiverEnd,
    vessel: Vessel,
    start: usize,
    bytes: usize,
}

/// What a descriptor says.
#[derive(Clone, Copy)]
struct Described {
    vessel: Vessel,
    start: usize,
    bytes: usize,
}

impl Piece<'_> {
    /// Sets AckRecv: the receiver's socket took the piece, it may be written again. `true`: the sender waits for
    /// room, ring its bell.
    pub fn ack_recv(self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        self.end.ack_recv(shared)
    }

    /// Asks the sender to put nothing more into pipes. What it has put there already still comes.
    pub fn refuse_pipes(&self, shared: &Shared<'_>) -> Result<(), Refusal> {
        shared.lane(self.end.at)?.receiver.takes_pipes.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// What it is in.
    #[must_use]
    pub fn vessel(&self) -> Vessel {
        self.vessel
    }

    /// Where its bytes begin in the chunk; 0 in a pipe.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Bytes in the piece.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// The sender's end of one attempt.
#[derive(Debug)]
pub struct SenderEnd {
    pub(crate) at: LaneRef,
    pub(crate) owner: Owner,
    pub(crate) tag: Tag,
    /// The chunk or pipe published as number i is `ring[i % ring.len()]`.
    ring: [Vessel; LANE_CHUNKS_MAX],
    published: u64,
    /// Chunks that came back and were reused or released; never above `published`.
    reclaimed: u64,
    published_bytes: u64,
    /// It has wished for a chunk, and has had none since.
    has_wished: bool,
    /// Who pays for what it holds.
    payer: Option<Payer>,
}

/// What became of what came back.
#[derive(Debug)]
enum Back {
    /// There is one to fill again.
    Kept(Filling),
    /// There is none.
    Left,
    /// There was a chunk, and another lane had wished for one.
    Granted,
}

impl SenderEnd {
    pub(crate) fn new(at: LaneRef, owner: Owner, tag: Tag) -> Self {
        let ring = [NO_VESSEL; LANE_CHUNKS_MAX];
        Self {
            at,
            owner,
            tag,
            ring,
            published: 0,
            reclaimed: 0,
            published_bytes: 0,
            has_wished: false,
            payer: None,
        }
    }

    /// Has what it takes from now on charged to `payer`. Nobody pays for the ends of tests.
    pub fn charge(&mut self, payer: Payer) {
        self.payer = Some(payer);
    }

    /// Gives back what nothing was put into.
    pub fn put_back(&self, shared: &Shared<'_>, filling: Filling) -> Result<(), Refusal> {
        shared.pool.release_empty(filling.vessel, self.tag)
    }

    /// Gives back what may have something in it that will not be published.
    pub fn give_up(&self, shared: &Shared<'_>, filling: Filling) -> Result<(), Refusal> {
        shared.pool.release(filling.vessel, self.tag)
    }

    /// Payload bytes published in this attempt.
    #[must_use]
    pub fn published_bytes(&self) -> u64 {
        self.published_bytes
    }

    /// A chunk to fill: one that AckRecv gave back, or one more from the pool while the lane holds
    /// fewer than its share. `None`: no room now.
    ///
    /// The share is what the pool has left: a lane that holds k chunks may take one more while more
    /// than k are free, and more than a quarter of all, and gives one back while fewer than k - 1 are. So n busy lanes
    /// settle at about 1/(n+1) of the pool each, without a count that a crash could leave wrong. All lanes of one
    /// [payer](Self::charge) have its [share](crate::Share). Where lanes are more than chunks they take turns: who holds
    /// nothing and may or can have none wishes for one, and a lane whose last chunk comes back leaves it to a wish, of
    /// its own payer or of a poorer one.
    ///
    /// Precondition: what was reserved before was published or put back.
    pub fn reserve(&mut self, shared: &Shared<'_>) -> Result<Option<Filling>, Refusal> {
        match self.keep_one(shared, Kind::Chunk)? {
            Back::Kept(filling) => Ok(Some(filling)),
            Back::Left => Ok(self.take_one(shared, Kind::Chunk)),
            Back::Granted => Ok(None),
        }
    }

    /// A pipe to fill, in the same way; a chunk where no pipe is to be had. To be called once the receiver
    /// has said that it [takes pipes](Self::takes_pipes).
    pub fn reserve_pipe(&mut self, shared: &Shared<'_>) -> Result<Option<Filling>, Refusal> {
        let back = self.keep_one(shared, Kind::Pipe)?;
        if let Back::Kept(filling) = back {
            return Ok(Some(filling));
        }
        let pipe = self.take_one(shared, Kind::Pipe);
        // With pipes enough under way, the next one to come back is worth waiting for.
        let is_enough = self.held_of(Kind::Pipe) >= LANE_PIPES_MAX;
        if pipe.is_some() || is_enough || matches!(back, Back::Granted) {
            return Ok(pipe);
        }
        Ok(self.take_one(shared, Kind::Chunk))
    }

    /// Goes through what came back until there is one of `kind` to keep, and gives back the others.
    fn keep_one(&mut self, shared: &Shared<'_>, kind: Kind) -> Result<Back, Refusal> {
        let (lane, pool) = (shared.lane(self.at)?, &shared.pool);
        let acked = self.acked(lane)?;
        let mut granted = false;
        while self.reclaimed < acked {
            let vessel = self.at(self.reclaimed);
            let held = self.held_of(vessel.kind());
            self.reclaim(lane);
            let is_granted = held == 1 && vessel.kind() == Kind::Chunk && self.grants_wish(pool);
            granted |= is_granted;
            let suits = vessel.kind() == kind && !is_granted;
            if suits && (held == 1 || pool.has_more_than(kind, held.saturating_sub(2))) {
                // Ours since long ago, unless its tag was tampered with meanwhile.
                pool.check(vessel, self.tag)?;
                return Ok(Back::Kept(Filling { vessel }));
            }
            pool.release_empty(vessel, self.tag)?;
        }
        Ok(if granted { Back::Granted } else { Back::Left })
    }

    /// Takes one more of `kind` from the pool, if the share allows. Who holds anything leaves the last chunks to
    /// those that hold nothing.
    fn take_one(&mut self, shared: &Shared<'_>, kind: Kind) -> Option<Filling> {
        let (pool, all, held) = (&shared.pool, self.held(), self.held_of(kind));
        let (held_max, share) = match kind {
            Kind::Chunk => (shared.lane_chunks(), all),
            Kind::Pipe => (LANE_PIPES_MAX, held),
        };
        let has_room = all < shared.lane_chunks() && held < held_max;
        if !has_room || (share > 0 && !pool.has_more_than(kind, share.max(pool.reserve(kind)))) {
            return None;
        }
        let payer = self.payer;
        let account = payer.map(|payer| payer.account);
        let taken = pool.may_take(kind, payer).then(|| pool.take(kind, self.tag, account));
        let taken = taken.flatten();
        if taken.is_some() {
            self.wish_no_more(pool);
        } else if kind == Kind::Chunk && all == 0 {
            pool.wish(payer, !std::mem::replace(&mut self.has_wished, true));
        }
        taken.map(|vessel| Filling { vessel })
    }

    fn wish_no_more(&mut self, pool: &Pool<'_>) {
        if std::mem::take(&mut self.has_wished) {
            pool.wish_no_more();
        }
    }

    /// Whether the lane is to be given up, as it waits with a chunk in its hands, and somebody wishes for that. True once
    /// for each wish.
    #[must_use]
    pub fn grants_wish_waiting(&self, shared: &Shared<'_>) -> bool {
        self.grants_wish(&shared.pool)
    }

    /// Whether a chunk of its is to be left to somebody who wishes for one.
    fn grants_wish(&self, pool: &Pool<'_>) -> bool {
        let account = self.payer.map(|payer| payer.account);
        pool.grants_wish(account, self.payer.map_or(1, |payer| payer.wide_factor))
    }

    /// The next one that came back. For one to whom AckRecv has said that there is one.
    fn reclaim(&mut self, lane: &Lane) -> Vessel {
        let vessel = self.at(self.reclaimed);
        lane.void_entry(self.reclaimed);
        self.reclaimed += 1;
        vessel
    }

    /// Hands `range` of the chunk to the receiver, or what is in the pipe, whose range begins at 0. `true`:
    /// the receiver waits for it, ring its bell. Preconditions: it was reserved by this end, so there is
    /// an entry free; the range lies in it and is not empty, since the receiver refuses anything else.
    pub fn publish(
        &mut self,
        shared: &Shared<'_>,
        filling: Filling,
        range: Range<usize>,
    ) -> Result<bool, Refusal> {
        let lane = shared.lane(self.at)?;
        let (start, bytes) = (range.start as u64, range.len() as u64);
        let number = shared.pool.number(filling.vessel);
        let descriptor = number << (2 * FIELD_BITS) | start << FIELD_BITS | bytes;
        lane.set_entry(self.published, descriptor, self.tag);
        if let Some(entry) = self.ring.get_mut(index(self.published)) {
            *entry = filling.vessel;
        }
        if self.published == 0 {
            lane.note_passing();
        }
        self.published += 1;
        self.published_bytes += bytes;
        // Release(published): the chunk's bytes and its descriptor come before it.
        lane.sender.published.store(self.published, Ordering::Release);
        Ok(lane.receiver.waits.take())
    }

    /// Notes that it has met its receiver, for whoever looks on.
    pub fn note_meeting(&self, shared: &Shared<'_>, now_ms: u64) -> Result<(), Refusal> {
        shared.lane(self.at)?.met_ms.store(now_ms, Ordering::Relaxed);
        Ok(())
    }

    /// Says how the bytes ended. The caller rings the receiver's bell.
    pub fn finish(&self, shared: &Shared<'_>, finish: Finish) -> Result<(), Refusal> {
        shared.lane(self.at)?.set_finish(finish);
        Ok(())
    }

    /// Announces that this end sleeps until there is room. `false`: there may be room already.
    pub fn wait_for_room(&self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        let lane = shared.lane(self.at)?;
        lane.sender.waits.announce();
        if self.acked(lane)? > self.reclaimed {
            lane.sender.waits.cancel();
            return Ok(false);
        }
        Ok(true)
    }

    /// Before an idle lane sleeps with chunks in flight: where fewer are free than it holds, or its payer may have no more,
    /// others wait for them, and it announces that it sleeps until one comes back. `false`: one has already.
    pub fn wait_if_short(&self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        let is_plenty = |kind| {
            let held = self.held_of(kind);
            held == 0
                || (shared.pool.has_more_than(kind, held) && shared.pool.may_take(kind, self.payer))
        };
        if Kind::ALL.into_iter().all(is_plenty) {
            return Ok(true);
        }
        self.wait_for_room(shared)
    }

    /// Whether the receiver has not set AckRecv for all that was published.
    pub fn is_unacked(&self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        Ok(self.acked(shared.lane(self.at)?)? < self.published)
    }

    /// Releases everything that came back: an idle lane holds none.
    pub fn shed(&mut self, shared: &Shared<'_>) -> Result<(), Refusal> {
        let lane = shared.lane(self.at)?;
        let acked = self.acked(lane)?;
        while self.reclaimed < acked {
            let vessel = self.reclaim(lane);
            shared.pool.release_empty(vessel, self.tag)?;
        }
        Ok(())
    }

    /// Whether the receiver has said that what it gets may be in pipes.
    pub fn takes_pipes(&self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        Ok(shared.lane(self.at)?.receiver.takes_pipes.load(Ordering::Relaxed) == 1)
    }

    /// What the receiver's side vouches for.
    pub fn settled(&self, shared: &Shared<'_>) -> Result<Settled, Refusal> {
        Ok(shared.lane(self.at)?.settled())
    }

    /// Payload bytes that the receiver's kernel socket took.
    pub fn taken(&self, shared: &Shared<'_>) -> Result<u64, Refusal> {
        self.count(shared.lane(self.at)?.receiver.taken.load(Ordering::Acquire))
    }

    /// Payload bytes that the receiver's TCP acknowledged.
    pub fn delivered(&self, shared: &Shared<'_>) -> Result<u64, Refusal> {
        self.count(shared.lane(self.at)?.receiver.delivered.load(Ordering::Acquire))
    }

    fn count(&self, found: u64) -> Result<u64, Refusal> {
        let high = self.published_bytes;
        if found > high { Err(Refusal::Count { found, high }) } else { Ok(found) }
    }

    /// Chunks that the lane holds beside the one being filled: in flight, or back but not reused.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::try_from(self.published - self.reclaimed).unwrap_or(usize::MAX)
    }

    /// Those of a kind among them.
    fn held_of(&self, kind: Kind) -> usize {
        let held = (self.reclaimed..self.published).map(|number| self.at(number));
        held.filter(|vessel| vessel.kind() == kind).count()
    }

    fn at(&self, number: u64) -> Vessel {
        self.ring.get(index(number)).copied().unwrap_or(NO_VESSEL)
    }

    fn acked(&self, lane: &Lane) -> Result<u64, Refusal> {
        // Acquire(acked): the receiver's reads of the chunk are over.
        let found = lane.receiver.acked.load(Ordering::Acquire);
        let (low, high) = (self.reclaimed, self.published);
        if (low..=high).contains(&found) {
            return Ok(found);
        }
        Err(Refusal::Cursor { found, low, high })
    }

    /// Gives back what the receiver cannot be reading: what is being filled and what came back.
    pub(crate) fn release(
        &mut self,
        shared: &Shared<'_>,
        filling: Option<Filling>,
    ) -> Result<(), Refusal> {
        self.wish_no_more(&shared.pool);
        if let Some(filling) = filling {
            self.give_up(shared, filling)?;
        }
        self.shed(shared)
    }

    /// Gives back what is in flight, once no receiver can be reading it.
    pub(crate) fn release_in_flight(&self, shared: &Shared<'_>) -> Result<(), Refusal> {
        let mut numbers = self.reclaimed..self.published;
        numbers.try_for_each(|number| shared.pool.release(self.at(number), self.tag))
    }
}

/// The receiver's end of one attempt.
#[derive(Debug)]
pub struct ReceiverEnd {
    pub(crate) at: LaneRef,
    pub(crate) owner: Owner,
    pub(crate) tag: Tag,
    /// Chunks handed back: AckRecv was set for so many.
    acked: u64,
    /// The sender's cursor when last read.
    published: u64,
}

impl ReceiverEnd {
    pub(crate) fn new(at: LaneRef, owner: Owner, tag: Tag) -> Self {
        Self { at, owner, tag, acked: 0, published: 0 }
    }

    /// What the sender announced. Only after the attempt has begun.
    pub fn announcement(&self, shared: &Shared<'_>) -> Result<Vec<u8>, Refusal> {
        shared.lane(self.at)?.announcement()
    }

    /// Whether the lane is to be given up, as its receiver takes nothing and somebody wishes for a chunk that it holds.
    /// True once for each wish.
    pub fn grants_wish(&self, shared: &Shared<'_>, wide_factor: u32) -> Result<bool, Refusal> {
        let lane = shared.lane(self.at)?;
        for number in self.acked..self.published {
            let word = lane.entry(number, self.tag)?;
            let described = decode(word, &shared.pool).ok_or(Refusal::Descriptor(word))?;
            if let Vessel::Chunk(_) = described.vessel {
                let account = shared.pool.account(described.vessel);
                return Ok(shared.pool.grants_wish(account, wide_factor));
            }
        }
        Ok(false)
    }

    /// Chunks and pipes that are published and were not handed back, as far as this end knows.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.published - self.acked
    }

    /// Lets the sender put what follows into pipes.
    pub fn take_pipes(&self, shared: &Shared<'_>) -> Result<(), Refusal> {
        shared.lane(self.at)?.receiver.takes_pipes.store(1, Ordering::Relaxed);
        Ok(())
    }

    /// The oldest published piece that was not handed back, if there is one.
    pub fn next(&mut self, shared: &Shared<'_>) -> Result<Option<Piece<'_>>, Refusal> {
        let lane = shared.lane(self.at)?;
        if self.acked == self.published {
            self.published = self.read_published(lane, shared.lane_chunks())?;
        }
        if self.acked == self.published {
            return Ok(None);
        }
        let word = lane.entry(self.acked, self.tag)?;
        let described = decode(word, &shared.pool).ok_or(Refusal::Descriptor(word))?;
        let Described { vessel, start, bytes } = described;
        let (start_max, end_max) = match vessel {
            Vessel::Chunk(_) => (usize::MAX, shared.chunk_bytes()),
            Vessel::Pipe(_) => (0, PIPE_BYTES_MAX),
        };
        if bytes == 0 || start > start_max || start.saturating_add(bytes) > end_max {
            return Err(Refusal::Descriptor(word));
        }
        // Acquire(tag): what came back to this lane by way of another is no longer described.
        shared.pool.check(vessel, self.tag)?;
        if lane.entry(self.acked, self.tag)? != word {
            return Err(Refusal::Descriptor(word));
        }
        Ok(Some(Piece { end: self, vessel, start, bytes }))
    }

    fn ack_recv(&mut self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        let lane = shared.lane(self.at)?;
        self.acked = (self.acked + 1).min(self.published);
        // Release(acked): our reads of the chunk come before it.
        lane.receiver.acked.store(self.acked, Ordering::Release);
        Ok(lane.sender.waits.take())
    }

    /// Announces that this end sleeps until a chunk is published. `false`: one is there already.
    pub fn wait_for_chunk(&self, shared: &Shared<'_>) -> Result<bool, Refusal> {
        let lane = shared.lane(self.at)?;
        lane.receiver.waits.announce();
        let news = self.read_published(lane, shared.lane_chunks())? != self.acked
            || lane.finish() != Finish::Open;
        if news {
            lane.receiver.waits.cancel();
        }
        Ok(!news)
    }

    /// How the sender's bytes ended. What was published before `Whole` is seen by whoever sees
    /// `Whole`.
    pub fn finish(&self, shared: &Shared<'_>) -> Result<Finish, Refusal> {
        Ok(shared.lane(self.at)?.finish())
    }

    /// Stores the two counters: bytes the kernel socket took, bytes the receiver's TCP acknowledged.
    pub fn count(&self, shared: &Shared<'_>, taken: u64, delivered: u64) -> Result<(), Refusal> {
        let lane = shared.lane(self.at)?;
        lane.receiver.taken.store(taken, Ordering::Release);
        lane.receiver.delivered.store(delivered, Ordering::Release);
        Ok(())
    }

    /// Stores the first of the two alone, for whoever looks on.
    pub fn count_taken(&self, shared: &Shared<'_>, taken: u64) -> Result<(), Refusal> {
        shared.lane(self.at)?.receiver.taken.store(taken, Ordering::Release);
        Ok(())
    }

    /// Vouches for the whole transfer. The caller rings the sender's bell.
    pub fn settle(&self, shared: &Shared<'_>, settled: Settled) -> Result<(), Refusal> {
        shared.lane(self.at)?.settle(settled);
        Ok(())
    }

    /// Gives back what is in flight, once its sender is gone: what the lane's entries still describe.
    pub(crate) fn release_in_flight(&self, shared: &Shared<'_>) -> Result<(), Refusal> {
        let lane = shared.lane(self.at)?;
        let published = lane.sender.published.load(Ordering::Acquire);
        // The sender voids what it takes back, and can hold no more than the lane has entries.
        for number in published.saturating_sub(LANE_CHUNKS_MAX as u64)..published {
            let Some(word) = lane.left_entry(number, self.tag)? else { continue };
            let Described { vessel, .. } =
                decode(word, &shared.pool).ok_or(Refusal::Descriptor(word))?;
            shared.pool.release(vessel, self.tag)?;
        }
        Ok(())
    }

    fn read_published(&self, lane: &Lane, lane_chunks: usize) -> Result<u64, Refusal> {
        // Acquire(published): the descriptors and the bytes they name are there.
        let found = lane.sender.published.load(Ordering::Acquire);
        let (low, high) = (self.published, self.acked + lane_chunks as u64);
        if (low..=high).contains(&found) {
            return Ok(found);
        }
        Err(Refusal::Cursor { found, low, high })
    }
}

/// Either end, where only the place matters.
pub trait LaneEnd {
    /// Which end.
    const ROLE: Role;
    /// The lane it belongs to.
    fn lane(&self) -> LaneRef;
    /// Who holds the place.
    fn owner(&self) -> Owner;
}

impl LaneEnd for SenderEnd {
    const ROLE: Role = Role::Sender;
    fn lane(&self) -> LaneRef {
        self.at
    }
    fn owner(&self) -> Owner {
        self.owner
    }
}

impl LaneEnd for ReceiverEnd {
    const ROLE: Role = Role::Receiver;
    fn lane(&self) -> LaneRef {
        self.at
    }
    fn owner(&self) -> Owner {
        self.owner
    }
}

fn decode(word: u64, pool: &Pool<'_>) -> Option<Described> {
    let number = usize::try_from(word >> (2 * FIELD_BITS)).ok()?;
    let start = usize::try_from(word >> FIELD_BITS & FIELD_MASK).ok()?;
    let bytes = usize::try_from(word & FIELD_MASK).ok()?;
    Some(Described { vessel: pool.vessel(number), start, bytes })
}
