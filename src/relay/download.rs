//! A lane into bytes: published pieces go to the receiver's socket, straight from chunk or pipe. No policy.
//!
//! `answering` drives it, and decides about time, rates and ends. A piece is asked for anew before each write, which
//! proves that it is still ours. AckRecv follows its last byte. No more payload goes out than the head of the answer
//! says.

use std::io::IoSlice;

use shm::{ReceiverEnd, Refusal};

use super::delivery::{Counts, Store};
use super::{Env, Outbox};
use crate::api::Encoder;
use crate::stream::Stream;
use crate::sys::SendOutcome;
use crate::sys::pipe::Pipe;

/// The most that is read out of a pipe at a time if it cannot be moved to the socket.
const COPY_BYTES: usize = 64 << 10;

/// Writes the payload of one answer.
#[derive(Debug)]
pub(super) struct Download {
    encoder: Encoder,
    counts: Counts,
    /// Whether pieces may be in pipes.
    takes_pipes: bool,
    /// Bytes that the socket took of the piece that is being written, if one is.
    piece_taken: Option<usize>,
    /// The bytes that were read out of a pipe and are still to be written, once splice(2) has failed.
    copied: Option<Outbox>,
}

impl Download {
    /// The payload behind the head that `encoder` has written. `takes_pipes`: the payload is not
    /// encrypted, so it may be in pipes.
    pub(super) fn new(encoder: Encoder, takes_pipes: bool, now_ms: u64) -> Self {
        let counts = Counts::new(now_ms);
        Self { encoder, counts, takes_pipes, piece_taken: None, copied: None }
    }

    /// Payload bytes that the socket took.
    pub(super) fn taken(&self) -> u64 {
        self.counts.taken()
    }

    /// Payload bytes that the client's TCP has acknowledged, at least.
    pub(super) fn delivered(&self, stream: &Stream) -> u64 {
        self.counts.delivered(stream.unacknowledged())
    }

    /// Whether the payload goes out in a chunked coding.
    pub(super) fn is_chunked(&self) -> bool {
        self.encoder.is_chunked()
    }

    /// Whether all that the head of the answer has announced is written.
    pub(super) fn is_complete(&self) -> bool {
        self.encoder.length() == Some(self.taken())
    }

    /// Whether a piece is being written.
    pub(super) fn has_piece(&self) -> bool {
        self.piece_taken.is_some()
    }

    /// Turns to the next published piece, if there is one.
    pub(super) fn next_piece(
        &mut self,
        env: &Env,
        end: &mut ReceiverEnd,
        outbox: &mut Outbox,
    ) -> Result<bool, Refusal> {
        let mut receiver = end.attach(env.shared())?;
        let Some(piece) = receiver.next_published()? else { return Ok(false) };
        let bytes = piece.len() as u64;
        let found = self.taken().saturating_add(bytes);
        if let Some(high) = self.encoder.length().filter(|length| found > *length) {
            return Err(Refusal::Count { found, high });
        }
        self.encoder.begin_piece(outbox.bytes(), bytes);
        self.piece_taken = Some(0);
        Ok(true)
    }

    /// Writes what stands before the piece, the piece straight from its chunk or pipe, and what ends it.
    pub(super) fn write_piece(
        &mut self,
        env: &Env,
        end: &mut ReceiverEnd,
        stream: &mut Stream,
        outbox: &mut Outbox,
    ) -> Result<SendOutcome, Refusal> {
        let mut receiver = end.attach(env.shared())?;
        let Some(piece) = receiver.next_published()? else { return Ok(SendOutcome::Bytes(0)) };
        let taken = self.piece_taken.unwrap_or(0);
        let left = piece.len().saturating_sub(taken);
        let tail = self.encoder.piece_end();
        let mut failed = false;
        let put = match env.pipe(piece.buffer()) {
            Some(_) if !self.takes_pipes => return Err(Refusal::UnwantedPipe),
            Some(pipe) => {
                let poured = pour(&mut self.copied, stream, outbox, pipe, left)?;
                failed = poured.1;
                poured.0
            }
            None => {
                let payload = env.segment.bytes(&piece).get(taken..).unwrap_or_default();
                let parts = [outbox.rest(), payload, tail].map(IoSlice::new);
                stream.send(&parts)
            }
        };
        if failed {
            piece.refuse_pipes();
        }
        let SendOutcome::Bytes(written) = put else { return Ok(put) };
        let of_ours = outbox.advance(written);
        let of_payload = of_ours.min(left);
        self.piece_taken = Some(taken + of_payload);
        self.counts.take(of_payload);
        env.record.add_bytes_out(of_payload);
        if of_payload == left {
            let of_tail = of_ours - of_payload;
            outbox.bytes().extend_from_slice(tail.get(of_tail..).unwrap_or_default());
            self.piece_taken = None;
            if piece.ack_recv() {
                env.ring_peer(end)?;
            }
        }
        Ok(SendOutcome::Bytes(written))
    }

    /// Writes the end of the answer to `outbox`, once.
    pub(super) fn end(&mut self, outbox: &mut Outbox, is_truncated: bool) {
        self.encoder.end(outbox.bytes(), is_truncated);
    }

    /// Stores both counts. Returns what is not acknowledged, framing included.
    pub(super) fn store(
        &self,
        env: &Env,
        end: &mut ReceiverEnd,
        stream: &Stream,
    ) -> Result<u64, Refusal> {
        let unacknowledged = stream.unacknowledged();
        let delivered = self.counts.delivered(unacknowledged);
        end.attach(env.shared())?.count(self.taken(), delivered);
        Ok(unacknowledged)
    }

    /// Stores what the socket took and, now and then, what is acknowledged. If something was written, returns by when
    /// the next turn must come for that.
    pub(super) fn end_turn(
        &mut self,
        env: &Env,
        end: &mut ReceiverEnd,
        stream: &Stream,
        now_ms: u64,
    ) -> Result<Option<u64>, Refusal> {
        let (store, look_ms) = self.counts.end_turn(now_ms);
        match store {
            Store::Taken => end.attach(env.shared())?.count_taken(self.taken()),
            Store::Both => {
                self.store(env, end, stream)?;
            }
        }
        Ok(look_ms)
    }
}

/// Writes what stands before a piece of `left` bytes, or else the piece, from its pipe. If splice(2) fails in
/// mid-transfer, reads the pipe into `copied` and writes that instead. Also returns whether it failed.
fn pour(
    copied: &mut Option<Outbox>,
    stream: &mut Stream,
    outbox: &Outbox,
    pipe: &Pipe,
    left: usize,
) -> Result<(SendOutcome, bool), Refusal> {
    if !outbox.is_empty() {
        return Ok((stream.send_ahead(outbox.rest()), false));
    }
    let mut failure = None;
    if copied.is_none() {
        match stream.send_from(pipe, left) {
            Ok(put) if !matches!(put, SendOutcome::Bytes(1..)) && pipe.is_empty() => {
                return Err(Refusal::EmptyPipe { missing: left });
            }
            Ok(put) => return Ok((put, false)),
            Err(error) => failure = Some(error),
        }
    }
    let copied = copied.get_or_insert_default();
    if copied.is_empty() {
        let room = copied.bytes();
        room.resize(left.min(COPY_BYTES), 0);
        let taken = pipe.take(room).unwrap_or(0);
        room.truncate(taken);
        if taken == 0 {
            return Err(Refusal::EmptyPipe { missing: left });
        }
    }
    let put = stream.send(&[IoSlice::new(copied.rest())]);
    if let SendOutcome::Bytes(written) = put {
        copied.advance(written);
    }
    // A broken connection fails the write as well. It is no fault of splice(2).
    let failure = failure.filter(|_| put != SendOutcome::Broken);
    if let Some(error) = &failure {
        tracing::warn!(%error, "splice(2) failed: the transfer continues by copying");
    }
    Ok((put, failure.is_some()))
}
