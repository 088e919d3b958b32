//! Bytes into a lane: a sender's body goes from its socket into chunks and pipes, is decoded there, and is published. No
//! policy.
//!
//! `sending` drives it, and decides about time, rates and ends. Published bytes are free of framing. Payload that was
//! read for a receiver that left before the attempt began is kept for the next one.

use shm::{Buffer, Refusal, Reserved, SenderEnd, TakenBack};

use super::bandwidth::Bandwidth;
use super::body::Window;
use super::pipes::{may_go_by_pipe, suits_pipe};
use super::{Body, Cx, Env, Io};
use crate::http::Fault;
use crate::sys::RecvOutcome;

/// Bytes that the kernel drops at a time.
const SKIP_BYTES_MAX: u64 = 1 << 20;

/// The cost of a byte of framing in bytes of payload: each byte of framing is looked at, and the payload between is
/// moved.
const FRAMING_COST: usize = 128;

/// The longest framing between two chunks that is read by itself: the longest size, and some extension.
const FRAMING_BYTES_MAX: usize = 64;

/// A pipe with so many bytes is published, though more may fit.
const PIPE_FULL_BYTES: usize = 512 << 10;

/// Moves the payload of one sender.
#[derive(Debug)]
pub(super) struct Upload {
    filling: Option<(Reserved, Window)>,
    /// Whether the pipe that is being filled may take more.
    pipe_has_room: bool,
    /// The buffers that a lost receiver had not taken, for the next one. The first is at the end.
    taken_back: Vec<TakenBack>,
    /// The caps on how fast the sender is read from, if there are any.
    bandwidth: Option<Box<Bandwidth>>,
    read_bytes: u64,
    skipped_bytes: u64,
}

impl Upload {
    pub(super) fn new(bandwidth: Option<Box<Bandwidth>>) -> Self {
        let (filling, taken_back) = (None, Vec::new());
        Self {
            filling,
            pipe_has_room: false,
            taken_back,
            bandwidth,
            read_bytes: 0,
            skipped_bytes: 0,
        }
    }

    /// Bytes of the body that were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Payload bytes that were read and dropped.
    pub(super) fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Whether it holds payload for a receiver that is there no more.
    pub(super) fn holds_payload(&self) -> bool {
        self.filling.is_some() || self.has_taken_back()
    }

    /// Whether it holds buffers that another receiver did not take.
    pub(super) fn has_taken_back(&self) -> bool {
        !self.taken_back.is_empty()
    }

    /// Whether the buffer that is being filled is a pipe.
    pub(super) fn is_filling_pipe(&self) -> bool {
        let is_pipe = |it: &(Reserved, Window)| matches!(it.0.buffer(), Buffer::Pipe(_));
        self.filling.as_ref().is_some_and(is_pipe)
    }

    /// Whether there is payload to publish in the buffer that is being filled.
    pub(super) fn has_payload(&self) -> bool {
        self.filling.as_ref().is_some_and(|(_, window)| !window.payload.is_empty())
    }

    /// The bytes of `body` that may be read now, or the time at which to ask again.
    pub(super) fn allowance(&mut self, cx: Cx<'_>, body: &Body) -> Result<usize, u64> {
        let Some(bandwidth) = &mut self.bandwidth else { return Ok(usize::MAX) };
        bandwidth.allowance(cx.env, body.remaining_bytes().unwrap_or(u64::MAX), cx.now_ms)
    }

    /// Reserves a chunk or a pipe, if none is being filled. It is a pipe only if payload may go `by_pipe`. `false`: there
    /// is no room.
    pub(super) fn reserve(
        &mut self,
        env: &Env,
        end: &mut SenderEnd,
        body: &mut Body,
        io: &Io<'_>,
        by_pipe: bool,
    ) -> Result<bool, Refusal> {
        if self.filling.is_some() {
            return Ok(true);
        }
        let suits = suits_pipe(body, io.stream, io.inbox) && by_pipe;
        let Some(mut filling) = env.reserve(end, suits)? else { return Ok(false) };
        let window = body.begin(env.segment.bytes_mut(&mut filling));
        self.filling = Some((filling, window));
        Ok(true)
    }

    /// Reads the framing between two parts of a chunked body by itself, so that the payload behind it can go by pipe. If
    /// the framing is shorter than the last one, the inbox gets what stands behind it. `None`: no such framing comes
    /// next, or it is read together with payload.
    pub(super) fn read_framing(
        &mut self,
        body: &mut Body,
        io: &mut Io<'_>,
        most: usize,
    ) -> Option<Result<RecvOutcome, Fault>> {
        let bytes = body.framing_between()?.min(most);
        let is_free = self.filling.is_none() || (self.is_filling_pipe() && self.pipe_has_room);
        if !is_free || !may_go_by_pipe(io.stream, io.inbox) {
            return None;
        }
        let mut room = [0; FRAMING_BYTES_MAX];
        let room = room.get_mut(..bytes)?;
        let got = io.stream.recv(room);
        let RecvOutcome::Bytes(bytes) = got else { return Some(Ok(got)) };
        let framing = match body.read_framing(room.get(..bytes).unwrap_or_default()) {
            Ok(bytes) => bytes,
            Err(fault) => return Some(Err(fault)),
        };
        // The line is shorter than the last one: what stands behind it is read as if it had come now.
        io.inbox.extend_from_slice(room.get(framing..bytes).unwrap_or_default());
        self.count_read(framing as u64);
        Some(Ok(got))
    }

    /// Moves bytes into the chunk and decodes them there, or into the pipe: `most` of them.
    pub(super) fn fill(
        &mut self,
        env: &Env,
        body: &mut Body,
        io: &mut Io<'_>,
        most: usize,
    ) -> Result<RecvOutcome, Fault> {
        let Some((filling, window)) = &mut self.filling else { return Ok(RecvOutcome::WouldBlock) };
        if let Some(pipe) = env.pipe(filling.buffer()) {
            if !suits_pipe(body, io.stream, io.inbox) {
                self.pipe_has_room = false;
                return Ok(RecvOutcome::Bytes(0));
            }
            let (got, bytes) = env.fill_pipe(pipe, io.stream, body, window, most);
            // The next part of a chunked body may fit as well.
            self.pipe_has_room =
                window.filled < PIPE_FULL_BYTES && body.framing_between().is_some();
            self.count_read(bytes);
            return Ok(got);
        }
        let chunk = env.segment.bytes_mut(filling);
        let room = body.room(chunk, window);
        if room.is_empty() {
            // The chunk was filled for a receiver that left before the attempt began.
            return Ok(RecvOutcome::Bytes(0));
        }
        let bytes = room.len().min(most);
        let room = room.get_mut(..bytes).unwrap_or_default();
        let got = if io.inbox.is_empty() { io.stream.recv(room) } else { unload(io.inbox, room) };
        let RecvOutcome::Bytes(bytes) = got else { return Ok(got) };
        let beyond = body.absorb(chunk, window, bytes)?;
        if let Some(rest) = chunk.get(beyond)
            && !rest.is_empty()
        {
            io.inbox.splice(..0, rest.iter().copied());
        }
        self.count_read(bytes as u64);
        Ok(got)
    }

    /// Reads up to `most` payload bytes and drops them.
    pub(super) fn skip(
        &mut self,
        env: &Env,
        body: &mut Body,
        io: &mut Io<'_>,
        most: u64,
    ) -> RecvOutcome {
        let most = usize::try_from(most.min(SKIP_BYTES_MAX)).unwrap_or(usize::MAX);
        let got = if io.inbox.is_empty() {
            io.stream.skip(most)
        } else {
            let bytes = io.inbox.len().min(most);
            io.inbox.drain(..bytes);
            io.inbox.shrink_to_fit();
            RecvOutcome::Bytes(bytes)
        };
        if let RecvOutcome::Bytes(bytes) = got {
            let bytes = bytes as u64;
            body.skip(bytes);
            self.skipped_bytes = self.skipped_bytes.saturating_add(bytes);
            self.count_read(bytes);
            env.record.add_bytes_skipped(bytes);
        }
        got
    }

    fn count_read(&mut self, bytes: u64) {
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.spend(bytes);
        }
    }

    /// Whether the buffer is full, so that it is published though more of the body may be there.
    pub(super) fn is_full(&self, env: &Env) -> bool {
        self.filling.as_ref().is_some_and(|(filling, window)| match filling.buffer() {
            Buffer::Chunk(_) => window.filled >= env.shared().chunk_bytes(),
            // A pipe that got no bytes may suit no longer, and then the body is read.
            Buffer::Pipe(_) => !self.pipe_has_room,
        })
    }

    /// Hands the payload in the buffer to the receiver, or gives back a buffer without payload. `true`: the receiver
    /// waits for it, ring its bell. If there [is payload](Self::has_payload), the attempt must have begun.
    pub(super) fn publish(
        &mut self,
        env: &Env,
        end: &mut SenderEnd,
        body: &mut Body,
    ) -> Result<bool, Refusal> {
        let Some((mut filling, window)) = self.filling.take() else { return Ok(false) };
        body.end(env.segment.bytes_mut(&mut filling), &window);
        let mut sender = end.attach(env.shared())?;
        if window.payload.is_empty() {
            sender.give_back_empty(filling)?;
            return Ok(false);
        }
        env.record.add_bytes_in(window.payload.len());
        Ok(sender.publish(filling, window.payload))
    }

    /// Keeps what a lost receiver had not taken, the first one first.
    pub(super) fn take_back(&mut self, mut taken_back: Vec<TakenBack>) {
        taken_back.reverse();
        self.taken_back = taken_back;
    }

    /// Publishes the buffers that were taken back. An error leaves the rest here, and it is given back with the place.
    pub(super) fn publish_again(&mut self, env: &Env, end: &mut SenderEnd) -> Result<(), Refusal> {
        while let Some((chunk, payload)) = self.taken_back.pop() {
            end.attach(env.shared())?.publish(chunk, payload);
        }
        Ok(())
    }

    /// Gives back the buffers that were taken back. Returns the buffer that was being filled, which is given back with
    /// the place.
    pub(super) fn leave(self, env: &Env, end: &mut SenderEnd) -> Option<Reserved> {
        for (chunk, _) in self.taken_back {
            // A chunk that is refused here is not ours any more. The place must be left anyway.
            let _ = end.attach(env.shared()).and_then(|sender| sender.give_back(chunk));
        }
        self.filling.map(|(filling, _)| filling)
    }
}

/// The cost of the framing of the bytes that were received last, of chunks and of TLS, in bytes of payload.
pub(super) fn overhead(body: &Body, io: &Io<'_>) -> usize {
    let bytes = body.framing_bytes().saturating_add(io.stream.overhead_bytes());
    bytes.saturating_mul(FRAMING_COST)
}

/// Moves bytes that were read with the head into `room`.
fn unload(inbox: &mut Vec<u8>, room: &mut [u8]) -> RecvOutcome {
    let bytes = inbox.len().min(room.len());
    if let (Some(to), Some(from)) = (room.get_mut(..bytes), inbox.get(..bytes)) {
        to.copy_from_slice(from);
    }
    inbox.drain(..bytes);
    // An idle connection holds no buffer.
    inbox.shrink_to_fit();
    RecvOutcome::Bytes(bytes)
}
