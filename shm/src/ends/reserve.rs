//! Gets a sender a chunk or pipe to fill: a buffer that AckRecv gave back, or one more from the pool.

use super::{Reserved, Sender};
use crate::pool::Kind;
use crate::refusal::Refusal;
use crate::share::{Held, LANE_PIPES_MAX, free_to_keep, free_to_take};

/// The result of going through the buffers that came back.
#[derive(Debug)]
enum Back {
    /// The lane keeps a buffer, to fill it again.
    Kept(Reserved),
    /// The lane keeps none.
    Left,
    /// The lane yielded a chunk to the request of another lane.
    Yielded,
}

impl Sender<'_> {
    /// A chunk to fill: AckRecv gave it back, or the pool gives one more while the lane holds
    /// fewer than its share. `None`: no room now.
    ///
    /// The module `share` has the rule for one lane. All lanes of one [payer](super::SenderEnd::charge) together have
    /// its [share](crate::Share). If there are more lanes than chunks, lanes take turns: a lane that holds nothing
    /// and may not, or cannot, have a chunk registers a chunk request; a lane that gets its last chunk back yields it
    /// to a request of its own payer, or of a payer that holds less.
    ///
    /// Precondition: the end has published or put back what it reserved before.
    pub fn reserve(&mut self) -> Result<Option<Reserved>, Refusal> {
        match self.keep_one(Kind::Chunk)? {
            Back::Kept(reserved) => Ok(Some(reserved)),
            Back::Left => Ok(self.take_one(Kind::Chunk)),
            Back::Yielded => Ok(None),
        }
    }

    /// A pipe to fill, in the same way; a chunk where no pipe is free. Precondition: the receiver has said that it
    /// [takes pipes](Self::takes_pipes).
    pub fn reserve_pipe(&mut self) -> Result<Option<Reserved>, Refusal> {
        let back = self.keep_one(Kind::Pipe)?;
        if let Back::Kept(reserved) = back {
            return Ok(Some(reserved));
        }
        let pipe = self.take_one(Kind::Pipe);
        // A lane that has enough pipes under way had better wait for the next one to come back.
        let is_enough = self.end.held_of(Kind::Pipe) >= LANE_PIPES_MAX;
        if pipe.is_some() || is_enough || matches!(back, Back::Yielded) {
            return Ok(pipe);
        }
        Ok(self.take_one(Kind::Chunk))
    }

    /// Goes through what came back until there is one of `kind` to keep, and gives back the others.
    fn keep_one(&mut self, kind: Kind) -> Result<Back, Refusal> {
        let (end, lane, pool) = (&mut *self.end, self.lane, self.pool);
        let released = end.released(lane)?;
        let mut yielded = false;
        while end.reclaimed < released {
            let held = end.held_of(end.at(end.reclaimed).kind());
            let buffer = end.reclaim(lane);
            let yields = held == 1 && buffer.kind() == Kind::Chunk && end.yields_chunk(pool);
            yielded |= yields;
            let suits = buffer.kind() == kind && !yields;
            if suits && pool.has_free(kind, free_to_keep(held)) {
                // The lane has held this buffer all along, unless another process scribbled on its tag meanwhile.
                pool.check(buffer, end.tag)?;
                return Ok(Back::Kept(Reserved { buffer }));
            }
            pool.give_back_empty(buffer, end.tag)?;
        }
        Ok(if yielded { Back::Yielded } else { Back::Left })
    }

    /// Takes one more of `kind` from the pool, if the share allows. A lane that holds anything leaves the last chunks
    /// to lanes that hold nothing.
    fn take_one(&mut self, kind: Kind) -> Option<Reserved> {
        let (pool, lane_chunks) = (self.pool, self.pool.sizes.lane_chunks);
        let held = Held { all: self.end.held(), of_kind: self.end.held_of(kind) };
        let needed = free_to_take(kind, held, lane_chunks, pool.kept_back(kind))?;
        // A lane that needs only one need not ask first: the pool finds out when it takes one.
        if needed > 1 && !pool.has_free(kind, needed) {
            return None;
        }
        let payer = self.end.payer;
        let account = payer.map(|payer| payer.account);
        let taken = pool.may_take(kind, payer).then(|| pool.take(kind, self.end.tag, account));
        let taken = taken.flatten();
        if taken.is_some() {
            self.cancel_request();
        } else if kind == Kind::Chunk && held.all == 0 {
            pool.request_chunk(payer, !std::mem::replace(&mut self.end.has_requested, true));
        }
        taken.map(|buffer| Reserved { buffer })
    }

    pub(super) fn cancel_request(&mut self) {
        if std::mem::take(&mut self.end.has_requested) {
            self.pool.cancel_request();
        }
    }

    /// Whether the lane yields a chunk to a chunk request. A caller that waits with a filled chunk then gives the
    /// lane up. Returns true once for each request.
    #[must_use]
    pub fn yields_chunk(&self) -> bool {
        self.end.yields_chunk(self.pool)
    }
}
