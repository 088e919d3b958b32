//! What a lane takes to hold payload: chunks, and pipes that are proven empty; and how one that is not becomes so.

use super::body::Window;
use super::{Body, Relay};
use crate::stream::Stream;
use crate::sys::Got;
use crate::sys::pipe::Pipe;
use shm::{Filling, PIPE_BYTES_MAX, Refusal, SenderEnd, Vessel};

/// Bytes that have to be left of a body for a pipe to be worth its while. Bodies of 128 to 512 KiB, most of which are
/// in the first chunk, cost the same with pipes and without; from 1 MiB on they cost less (measured).
const PIPE_BYTES_MIN: u64 = 64 << 10;

impl Relay {
    /// The pipe, if that is what it is.
    pub(super) fn pipe(&self, vessel: Vessel) -> Option<&'static Pipe> {
        match vessel {
            Vessel::Chunk(_) => None,
            Vessel::Pipe(index) => self.pipes.get(index),
        }
    }

    /// What `end` may fill next: a pipe, if that suits and one is to be had, or a chunk. `None`: no room now.
    pub(super) fn reserve(
        &self,
        end: &mut SenderEnd,
        suits_pipe: bool,
    ) -> Result<Option<Filling>, Refusal> {
        if !suits_pipe || self.pipes.is_empty() {
            return end.reserve(self.shared());
        }
        let Some(filling) = end.reserve_pipe(self.shared())? else { return Ok(None) };
        match filling.vessel() {
            // What is in it is somebody else's, whatever the words say.
            Vessel::Pipe(index) if !self.pipes.get(index).is_some_and(Pipe::is_empty) => {
                end.give_up(self.shared(), filling)?;
                end.reserve(self.shared())
            }
            _ => Ok(Some(filling)),
        }
    }

    /// Empties one of the pipes that were left with something in them. Nobody is kept waiting for more than one.
    pub fn empty_a_pipe(&self) -> Result<(), Refusal> {
        let (pool, worker) = (self.shared().pool(), self.owner.worker);
        let Some(index) = pool.take_dirty(worker) else { return Ok(()) };
        if self.pipes.get(index).is_some_and(Pipe::empty) {
            return pool.release_emptied(index, worker);
        }
        // Nobody gets it while we live.
        tracing::error!(pipe = index, "a pipe cannot be emptied");
        Ok(())
    }

    /// Moves what has come of `body` into `pipe`, which is empty, up to `most` bytes; also tells how many.
    pub(super) fn fill_pipe(
        &self,
        pipe: &Pipe,
        stream: &mut Stream,
        body: &mut Body,
        window: &mut Window,
        most: usize,
    ) -> (Got, u64) {
        let left = usize::try_from(body.length().unwrap_or(0)).unwrap_or(usize::MAX);
        let most = left.min(most).min(PIPE_BYTES_MAX).min(self.round.turn_bytes());
        let got = stream.recv_into(pipe, most);
        let Got::Bytes(bytes) = got else { return (got, 0) };
        body.pass(window, bytes);
        (got, bytes as u64)
    }
}

/// Whether nobody has to look at what comes next, and enough comes for a pipe. Urgent bytes are left out of a body, for
/// which it has to be read.
pub(super) fn suits_pipe(body: &Body, stream: &Stream, inbox: &[u8]) -> bool {
    let is_long = body.length().is_some_and(|left| left >= PIPE_BYTES_MIN);
    is_long && inbox.is_empty() && !stream.is_encrypted() && !stream.has_urgent()
}
