//! The receiver's end of a lane: it reads what is published, and gives it back by AckRecv.

use super::PIPE_BYTES_MAX;
use super::descriptor::{Described, decode};
use crate::finish::{Finish, Settled};
use crate::ids::{AddressTag, LaneRef, Owner, Tag};
use crate::lane::{LANE_CHUNKS_MAX, Lane};
use crate::place::State;
use crate::pool::{Buffer, Pool};
use crate::refusal::Refusal;
use crate::resume::{Passing, Want};
use crate::sync::Ordering;
use std::sync::atomic::Ordering as PlainOrdering;

/// A range of a published chunk, or the bytes in a published pipe. The receiver may read the bytes until
/// [AckRecv](Self::ack_recv) consumes the piece. The borrow of the end allows no second piece beside it, so no slice
/// of the bytes outlives their AckRecv:
///
/// ```compile_fail,E0505
/// # use shm::{ReceiverEnd, Segment};
/// fn keep(segment: &Segment, end: &mut ReceiverEnd) -> usize {
///     let mut receiver = end.attach(segment.shared()).unwrap();
///     let piece = receiver.next_published().unwrap().unwrap();
///     let bytes = segment.bytes(&piece);
///     piece.ack_recv();
///     bytes.len()
/// }
/// ```
#[derive(Debug)]
pub struct Published<'e> {
    end: &'e mut ReceiverEnd,
    lane: &'e Lane,
    buffer: Buffer,
    start: usize,
    bytes: usize,
}

impl Published<'_> {
    /// Sets AckRecv: the receiver's socket took the piece, so the sender may write the chunk again. Returns `true` if
    /// the sender waits for room: the caller then rings its bell.
    pub fn ack_recv(self) -> bool {
        self.end.released = (self.end.released + 1).min(self.end.published);
        // Release(released): our reads of the chunk come before it.
        self.lane.receiver.released.store(self.end.released, Ordering::Release);
        self.lane.sender.waits.take()
    }

    /// Asks the sender to put nothing more into pipes. The receiver still gets what the sender has put into pipes
    /// already.
    pub fn refuse_pipes(&self) {
        self.lane.receiver.takes_pipes.store(0, Ordering::Relaxed);
    }

    /// The chunk or pipe of the piece.
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        self.buffer
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

/// The receiver's end of one attempt.
#[derive(Debug)]
pub struct ReceiverEnd {
    pub(crate) at: LaneRef,
    pub(crate) owner: Owner,
    pub(crate) tag: Tag,
    /// Pieces handed back: the number of times that AckRecv was set.
    released: u64,
    /// The sender's cursor when last read.
    published: u64,
    /// Where in its file the attempt began, if it passes one on.
    pub(crate) resumed_at: Option<u64>,
}

impl ReceiverEnd {
    pub(crate) fn new(at: LaneRef, owner: Owner, tag: Tag) -> Self {
        Self { at, owner, tag, released: 0, published: 0, resumed_at: None }
    }

    fn read_published(&self, lane: &Lane, lane_chunks: usize) -> Result<u64, Refusal> {
        // Acquire(published): the descriptors and the bytes they name are there.
        let found = lane.sender.published.load(Ordering::Acquire);
        let (low, high) = (self.published, self.released + lane_chunks as u64);
        if (low..=high).contains(&found) {
            return Ok(found);
        }
        Err(Refusal::Cursor { found, low, high })
    }

    /// Chunks and pipes that are published and were not handed back, as far as this end knows.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.published - self.released
    }
}

/// A receiver's end, attached to its lane for a turn: what it does there needs no look-up, and mostly cannot fail.
#[derive(Debug)]
pub struct Receiver<'a> {
    pub(super) end: &'a mut ReceiverEnd,
    pub(super) lane: &'a Lane,
    pool: &'a Pool<'a>,
}

impl<'a> Receiver<'a> {
    #[inline]
    pub(crate) fn new(end: &'a mut ReceiverEnd, lane: &'a Lane, pool: &'a Pool<'a>) -> Self {
        Self { end, lane, pool }
    }

    /// The bytes that the sender announced. Precondition: the attempt has begun.
    pub fn announcement(&self) -> Result<Vec<u8>, Refusal> {
        self.lane.announcement()
    }

    /// Whether the lane yields a chunk that it holds to a chunk request. The receiver takes nothing, so the caller
    /// then gives the lane up. Returns true once for each request.
    pub fn yields_chunk(&self, wide_factor: u32) -> Result<bool, Refusal> {
        for number in self.end.released..self.end.published {
            let word = self.lane.entry(number, self.end.tag)?;
            let described = decode(word, self.pool)?;
            if let Buffer::Chunk(_) = described.buffer {
                let account = self.pool.account(described.buffer);
                return Ok(self.pool.yields_chunk(account, wide_factor));
            }
        }
        Ok(false)
    }

    /// Lets the sender put what it publishes from now on into pipes.
    pub fn take_pipes(&self) {
        self.lane.receiver.takes_pipes.store(1, Ordering::Relaxed);
    }

    /// The oldest published piece that was not handed back, if there is one.
    pub fn next_published(&mut self) -> Result<Option<Published<'_>>, Refusal> {
        let (end, lane, pool) = (&mut *self.end, self.lane, self.pool);
        if end.released == end.published {
            end.published = end.read_published(lane, pool.sizes.lane_chunks)?;
        }
        if end.released == end.published {
            return Ok(None);
        }
        let word = lane.entry(end.released, end.tag)?;
        let described = decode(word, pool)?;
        let Described { buffer, start, bytes } = described;
        let (start_max, end_max) = match buffer {
            Buffer::Chunk(_) => (usize::MAX, pool.sizes.chunk_bytes),
            Buffer::Pipe(_) => (0, PIPE_BYTES_MAX),
        };
        if bytes == 0 || start > start_max || start.saturating_add(bytes) > end_max {
            return Err(Refusal::Descriptor(word));
        }
        // Acquire(tag): what came back to this lane by way of another is no longer described.
        pool.check(buffer, end.tag)?;
        if lane.entry(end.released, end.tag)? != word {
            return Err(Refusal::Descriptor(word));
        }
        Ok(Some(Published { end, lane, buffer, start, bytes }))
    }

    /// Announces that this end sleeps until a chunk is published. `false`: one is there already.
    pub fn wait_for_chunk(&self) -> Result<bool, Refusal> {
        self.lane.receiver.waits.announce();
        let news = self.end.read_published(self.lane, self.pool.sizes.lane_chunks)?
            != self.end.released
            || self.lane.finish() != Finish::Open;
        if news {
            self.lane.receiver.waits.cancel();
        }
        Ok(!news)
    }

    /// How the sender's bytes ended. A receiver that sees `Whole` sees all that was published
    /// before it.
    #[must_use]
    pub fn finish(&self) -> Finish {
        self.lane.finish()
    }

    /// Stores the two counters: bytes the kernel socket took, bytes the receiver's TCP acknowledged.
    pub fn count(&self, taken: u64, delivered: u64) {
        self.lane.receiver.taken.store(taken, Ordering::Release);
        self.lane.receiver.delivered.store(delivered, Ordering::Release);
        if let Some(from) = self.end.resumed_at {
            self.lane.receiver.passed.note_delivered(from.saturating_add(delivered));
        }
    }

    /// Stores the first of the two alone, for the admin listener.
    pub fn count_taken(&self, taken: u64) {
        self.lane.receiver.taken.store(taken, Ordering::Release);
    }

    /// Vouches for the whole transfer. The caller rings the sender's bell.
    pub fn settle(&self, settled: Settled) {
        self.lane.settle(settled);
    }

    /// Gives back the buffers in flight, once the sender is gone: those that the lane's entries still describe.
    pub(crate) fn give_back_in_flight(&self) -> Result<(), Refusal> {
        let published = self.lane.sender.published.load(Ordering::Acquire);
        // The sender voids what it takes back, and can hold no more than the lane has entries.
        for number in published.saturating_sub(LANE_CHUNKS_MAX as u64)..published {
            let Some(word) = self.lane.left_entry(number, self.end.tag)? else { continue };
            let Described { buffer, .. } = decode(word, self.pool)?;
            self.pool.give_back(buffer, self.end.tag)?;
        }
        Ok(())
    }

    /// Says which part the receiver asks for. The caller does so once it has the place, and before it rings for the
    /// sender.
    pub fn want(&self, want: Want) {
        self.lane.receiver.want.say(want);
    }

    /// Records as whom the receiver may use the session: 0, or the name of the session's guest. The caller does so
    /// before it rings for the sender.
    pub fn record_guest(&self, guest: Option<AddressTag>) {
        self.lane.receiver_guest.store(AddressTag::to_word(guest), Ordering::SeqCst);
    }

    /// Whether the sender that the receiver waits for still reads bytes that the receiver has already.
    pub fn sender_skips(&self) -> Result<bool, Refusal> {
        let is_there = self.lane.load()?.sender.state == State::Held;
        Ok(is_there && self.lane.sender.skips.load(PlainOrdering::Relaxed) == 1)
    }

    /// Notes what passes, once the attempt has begun and before the client is told of it.
    pub fn note_passing(&mut self, passing: Passing) {
        self.end.resumed_at = match passing {
            Passing::Stream => None,
            Passing::File { from, .. } => Some(from),
        };
        self.lane.receiver.passed.begin(passing);
    }

    /// Notes that the receiver has the whole file. The caller does so before it [settles](Self::settle).
    pub fn note_whole(&self, settled: Settled) {
        if self.end.resumed_at.is_some() {
            self.lane.receiver.passed.end_whole(settled);
        }
    }
}
