//! A sender takes back what it has published, when its receiver's worker died before it took any of it.
//!
//! A receiver that waits may be dead without anybody's knowing, until the master has swept its worker. A sender that
//! comes meanwhile begins an attempt with it. Nothing of the payload is lost then: all of it is still in the chunks
//! that this sender published. So the attempt can begin again, with the next receiver and the same chunks.
//!
//! Must always hold: only a sender whose receiver's place is `Lost` does this. A worker that lives can never read a
//! chunk that was taken back, since a place is `Lost` only after its worker was reaped.

use super::{Filling, LaneEnd, SenderEnd, decode};
use crate::place::{LaneWord, Place, Role, State};
use crate::pool::Vessel;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::sync::Ordering;
use std::ops::Range;

/// A chunk that was published and taken back, and where its payload is.
pub type TakenBack = (Filling, Range<usize>);

impl SenderEnd {
    /// Takes back all that was published, and waits for a receiver again: nothing has begun any more. `None`: the
    /// receiver is not lost, or may have taken some of it. Precondition: what was reserved is kept, and published after
    /// what is returned here.
    pub fn rewind(&mut self, shared: &Shared<'_>) -> Result<Option<Vec<TakenBack>>, Refusal> {
        let (word, lane) = (shared.look(self)?, shared.lane(self.lane())?);
        let is_lost = word.begun && word.receiver.state == State::Lost;
        let receiver = &*lane.receiver;
        // Relaxed: the receiver's process was reaped before the place was `Lost`.
        let counts = [&receiver.acked, &receiver.taken, &receiver.delivered, &receiver.settled];
        let is_untouched = counts.into_iter().all(|count| count.load(Ordering::Relaxed) == 0);
        if !is_lost || !is_untouched || self.reclaimed > 0 {
            return Ok(None);
        }
        let Some(taken_back) = self.published_chunks(shared)? else { return Ok(None) };
        (0..self.published).for_each(|number| lane.void_entry(number));
        lane.wipe();
        // From here on the next receiver may come.
        let receiver = word.with(Role::Receiver, Place::EMPTY).receiver;
        let unbegun = LaneWord { receiver, begun: false, ..word };
        if !lane.swap(word, unbegun) {
            return Err(Refusal::NotOurs(word.encode()));
        }
        (self.published, self.published_bytes) = (0, 0);
        Ok(Some(taken_back))
    }

    /// All that was published, if all of it is in chunks. What is in a pipe may be taken in part.
    fn published_chunks(&self, shared: &Shared<'_>) -> Result<Option<Vec<TakenBack>>, Refusal> {
        let lane = shared.lane(self.at)?;
        let (mut chunks, mut bytes) = (Vec::new(), 0u64);
        for number in 0..self.published {
            let word = lane.entry(number, self.tag)?;
            let piece = decode(word, &shared.pool).ok_or(Refusal::Descriptor(word))?;
            let vessel = self.at(number);
            let end = piece.start.saturating_add(piece.bytes);
            if piece.vessel != vessel || end > shared.chunk_bytes() {
                return Err(Refusal::Descriptor(word));
            }
            let Vessel::Chunk(_) = vessel else { return Ok(None) };
            shared.pool.check(vessel, self.tag)?;
            bytes = bytes.saturating_add(piece.bytes as u64);
            chunks.push((Filling { vessel }, piece.start..end));
        }
        if bytes != self.published_bytes {
            return Err(Refusal::Total { found: bytes, taken: self.published_bytes });
        }
        Ok(Some(chunks))
    }
}
