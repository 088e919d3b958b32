//! What a lane takes to hold payload: chunks, and pipes that are proven empty first.

use super::body::Window;
use super::{Body, Relay};
use crate::stream::Stream;
use crate::sys::Got;
use crate::sys::pipe::Pipe;
use shm::{Filling, PIPE_BYTES_MAX, Refusal, SenderEnd, Vessel};

/// Bytes that have to be left of a body for a pipe to be worth its while.
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
        if self.is_clean(&filling) {
            return Ok(Some(filling));
        }
        if !filling.is_new() {
            // Its bytes are somebody else's, whatever the words say.
            end.put_back(self.shared(), filling)?;
            return Err(Refusal::FullPipe);
        }
        end.put_back(self.shared(), filling)?;
        end.reserve(self.shared())
    }

    /// Whether it is a chunk, or a pipe that nothing is in. One that comes from the pool is emptied for that.
    fn is_clean(&self, filling: &Filling) -> bool {
        let is_empty = if filling.is_new() { Pipe::empty } else { Pipe::is_empty };
        match filling.vessel() {
            Vessel::Chunk(_) => true,
            vessel => self.pipe(vessel).is_some_and(is_empty),
        }
    }

    /// Moves what has come of `body` into `pipe`, which is empty; also tells how many bytes.
    pub(super) fn fill_pipe(
        &self,
        pipe: &Pipe,
        stream: &mut Stream,
        body: &mut Body,
        window: &mut Window,
    ) -> (Got, u64) {
        let left = usize::try_from(body.length().unwrap_or(0)).unwrap_or(usize::MAX);
        let got = stream.recv_into(pipe, left.min(PIPE_BYTES_MAX).min(self.round.turn_bytes()));
        let Got::Bytes(bytes) = got else { return (got, 0) };
        body.pass(window, bytes);
        (got, bytes as u64)
    }
}

/// Whether nobody has to look at what comes next, and enough comes for a pipe.
pub(super) fn suits_pipe(body: &Body, stream: &Stream, inbox: &[u8]) -> bool {
    let is_long = body.length().is_some_and(|left| left >= PIPE_BYTES_MIN);
    is_long && inbox.is_empty() && !stream.is_encrypted()
}
