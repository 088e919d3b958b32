//! A sender takes back what it has published, if its receiver's worker died before it took any of it.
//!
//! A receiver that waits may be dead, and no process knows it until the master has swept its worker. A sender that
//! comes meanwhile begins an attempt with it. The attempt has lost no payload then: all of it is still in the chunks
//! that this sender published. So the attempt can begin again, with the next receiver and the same chunks.
//!
//! Must always hold: only a sender whose receiver's place is `Lost` does this. A worker that lives can never read a
//! chunk that was taken back, since a receiver's place is `Lost` only after its worker was reaped.

use super::descriptor::decode;
use super::{Reserved, Sender};
use crate::ids::Role;
use crate::place::{LaneWord, Place, State};
use crate::pool::Buffer;
use crate::refusal::Refusal;
use crate::sync::Ordering;
use std::ops::Range;

/// A chunk that was published and taken back, and where its payload is.
pub type TakenBack = (Reserved, Range<usize>);

impl Sender<'_> {
    /// Takes back all that was published, and waits for a receiver again: nothing has begun any more. `None`: the
    /// receiver is not lost, or may have taken some of it. Precondition: what was reserved is kept, and published after
    /// what is returned here.
    pub fn rewind(&mut self) -> Result<Option<Vec<TakenBack>>, Refusal> {
        let (lane, owner) = (self.lane, self.end.owner);
        let word = lane.held_word(Role::Sender, owner)?;
        let is_lost = word.begun && word.receiver.state == State::Lost;
        let receiver = &*lane.receiver;
        // Relaxed: the receiver's process was reaped before the place was `Lost`.
        let counts = [&receiver.released, &receiver.taken, &receiver.delivered, &receiver.settled];
        let is_untouched = counts.into_iter().all(|count| count.load(Ordering::Relaxed) == 0);
        if !is_lost || !is_untouched || self.end.reclaimed > 0 {
            return Ok(None);
        }
        let Some(taken_back) = self.published_chunks()? else { return Ok(None) };
        (0..self.end.published).for_each(|number| lane.void_entry(number));
        lane.wipe();
        // The next receiver may come as soon as this swap is done.
        let receiver = word.with(Role::Receiver, Place::EMPTY).receiver;
        let unbegun = LaneWord { receiver, begun: false, ..word };
        if !lane.swap(word, unbegun) {
            return Err(Refusal::NotOurs(word.encode()));
        }
        (self.end.published, self.end.published_bytes, self.end.pipes_held) = (0, 0, 0);
        Ok(Some(taken_back))
    }

    /// All that was published, if all of it is in chunks. The receiver may have taken a part of what is in a pipe.
    fn published_chunks(&self) -> Result<Option<Vec<TakenBack>>, Refusal> {
        let (mut chunks, mut bytes) = (Vec::new(), 0u64);
        for number in 0..self.end.published {
            let word = self.lane.entry(number, self.end.tag)?;
            let piece = decode(word, self.pool)?;
            let buffer = self.end.at(number);
            let end = piece.start.saturating_add(piece.bytes);
            if piece.buffer != buffer || end > self.pool.sizes.chunk_bytes {
                return Err(Refusal::Descriptor(word));
            }
            let Buffer::Chunk(_) = buffer else { return Ok(None) };
            self.pool.check(buffer, self.end.tag)?;
            bytes = bytes.saturating_add(piece.bytes as u64);
            chunks.push((Reserved { buffer }, piece.start..end));
        }
        if bytes != self.end.published_bytes {
            return Err(Refusal::Total { found: bytes, passed: self.end.published_bytes });
        }
        Ok(Some(chunks))
    }
}
