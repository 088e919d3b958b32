//! The buffers of a lane: chunks, and pipes that are proven empty. `upload` and `download` ask here; the worker
//! empties dirty pipes when it has time.

use super::body::Window;
use super::{Body, Env};
use crate::stream::Stream;
use crate::sys::RecvOutcome;
use crate::sys::pipe::Pipe;
use shm::{Buffer, PIPE_BYTES_MAX, Refusal, Reserved, SenderEnd};

impl Env {
    /// The pipe, if the buffer is one.
    pub(super) fn pipe(&self, buffer: Buffer) -> Option<&'static Pipe> {
        match buffer {
            Buffer::Chunk(_) => None,
            Buffer::Pipe(index) => self.pipes.get(index),
        }
    }

    /// Reserves a buffer for `end`: a pipe, if that suits and one is free, or a chunk. `None`: there is no room now.
    pub(super) fn reserve(
        &self,
        end: &mut SenderEnd,
        suits_pipe: bool,
    ) -> Result<Option<Reserved>, Refusal> {
        if !suits_pipe || self.pipes.is_empty() {
            return end.attach(self.shared())?.reserve();
        }
        let Some(filling) = end.attach(self.shared())?.reserve_pipe()? else { return Ok(None) };
        match filling.buffer() {
            // The pipe holds another transfer's bytes, though the segment's words say that it is empty.
            Buffer::Pipe(index) if !self.pipes.get(index).is_some_and(Pipe::is_empty) => {
                end.attach(self.shared())?.give_back(filling)?;
                end.attach(self.shared())?.reserve()
            }
            _ => Ok(Some(filling)),
        }
    }

    /// Empties one dirty pipe. A call empties one at most, so that no client waits for long.
    pub fn empty_a_pipe(&self) -> Result<(), Refusal> {
        let (pool, worker) = (self.shared().pool(), self.owner.worker);
        let Some(index) = pool.take_dirty(worker) else { return Ok(()) };
        if self.pipes.get(index).is_some_and(Pipe::empty) {
            return pool.give_back_emptied(index, worker);
        }
        // No lane gets it while this worker lives.
        tracing::error!(pipe = index, "cannot empty a pipe");
        Ok(())
    }

    /// Moves what has come of `body` into `pipe`, up to `most` bytes; also tells how many.
    pub(super) fn fill_pipe(
        &self,
        pipe: &Pipe,
        stream: &mut Stream,
        body: &mut Body,
        window: &mut Window,
        most: usize,
    ) -> (RecvOutcome, u64) {
        let run = usize::try_from(body.run_bytes().unwrap_or(0)).unwrap_or(usize::MAX);
        let room = PIPE_BYTES_MAX.saturating_sub(window.filled);
        let most = run.min(most).min(room).min(self.budget.turn_bytes());
        let got = if window.payload.is_empty() {
            stream.recv_into(pipe, most)
        } else {
            stream.recv_more_into(pipe, most)
        };
        let RecvOutcome::Bytes(bytes) = got else { return (got, 0) };
        body.pass(window, bytes);
        (got, bytes as u64)
    }
}

/// Whether the relay need not look at the bytes that come next, and enough come for a pipe.
pub(super) fn suits_pipe(body: &Body, stream: &Stream, inbox: &[u8]) -> bool {
    body.run_bytes().is_some() && may_go_by_pipe(stream, inbox)
}

/// Whether the kernel can move the bytes that come next. Urgent bytes have to be left out of a body, so the relay
/// must read it then.
pub(super) fn may_go_by_pipe(stream: &Stream, inbox: &[u8]) -> bool {
    inbox.is_empty() && !stream.is_encrypted() && !stream.has_urgent()
}
