//! A request's body on its way into chunks: framing off, form off, payload in place. `upload` feeds it.
//!
//! Bytes are received straight into a chunk and decoded where they lie. The payload ends up in one range of the
//! chunk. The few bytes of a form that may or may not be its delimiter are carried over to the next chunk.

use crate::http::{Dechunker, Fault, Framing};
use crate::multipart::{FilePart, Multipart};
use std::ops::Range;

/// The shortest rest of a body for which a pipe pays. Bodies of 128 to 512 KiB are mostly in the first chunk, and
/// cost the same with pipes and without; from 1 MiB on they cost less (measured).
const PIPE_BYTES_MIN: u64 = 64 << 10;
/// Bytes without an end go by pipe until fewer than these come at a time: messages, which cost less by chunk.
const PIPE_LEAVE_BYTES: usize = 4 << 10;
/// The shortest chunk of a chunked body for which a pipe pays. Each takes two calls of the kernel more. With
/// chunks of 64 KiB a body costs three fifths of what copying costs on one worker, and four fifths across two (measured).
const PIPE_CHUNK_BYTES_MIN: u64 = 48 << 10;

/// A request's body, as far as it has come.
#[derive(Debug)]
pub struct Body {
    framing: Remaining,
    form: Option<Multipart>,
    /// Undecided bytes of a form between two chunks.
    carry: Vec<u8>,
    /// Bytes of framing among those that were decoded last.
    framing_bytes: usize,
    /// Most of the bytes that were decoded last were framing.
    is_wordy: bool,
}

/// The most that is received at a time of a body that is mostly framing. It costs as much work as a whole chunk of
/// another body.
const WORDY_BYTES_MAX: usize = 4 << 10;

/// The rest of the body, by its framing.
#[derive(Debug)]
enum Remaining {
    Bytes(u64),
    Chunks(Dechunker),
    /// All that its client sends.
    Endless {
        /// The last bytes came in such a number that a pipe pays.
        is_bulk: bool,
    },
}

/// The ranges of a chunk: `start..end` is payload, `end..filled` is undecided.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) payload: Range<usize>,
    pub(super) filled: usize,
}

impl Body {
    /// A body framed as `framing`, with `form` around the payload if there is one. `dechunker` reads
    /// a chunked body, and bounds it.
    #[must_use]
    pub fn new(framing: Framing, form: Option<Multipart>, dechunker: Dechunker) -> Self {
        let framing = match framing {
            Framing::None => Remaining::Bytes(0),
            Framing::Length(bytes) => Remaining::Bytes(bytes),
            Framing::Chunked => Remaining::Chunks(dechunker),
        };
        Self { framing, form, carry: Vec::new(), framing_bytes: 0, is_wordy: false }
    }

    /// All that a client sends, which only its FIN ends.
    pub(super) fn endless() -> Self {
        let framing = Remaining::Endless { is_bulk: false };
        Self { framing, form: None, carry: Vec::new(), framing_bytes: 0, is_wordy: false }
    }

    /// Payload bytes still to come, if the body has a stated length and no form around it.
    #[must_use]
    pub fn remaining_payload(&self) -> Option<u64> {
        match (&self.framing, &self.form) {
            (Remaining::Bytes(bytes), None) => Some(*bytes),
            _ => None,
        }
    }

    /// Bytes of the body still to be read, without framing, if the body has a stated length.
    #[must_use]
    pub fn remaining_bytes(&self) -> Option<u64> {
        match self.framing {
            Remaining::Bytes(bytes) => Some(bytes),
            Remaining::Chunks(_) | Remaining::Endless { .. } => None,
        }
    }

    /// Whether the whole request body has been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.framing {
            Remaining::Bytes(bytes) => *bytes == 0,
            Remaining::Chunks(dechunker) => dechunker.is_done(),
            Remaining::Endless { .. } => false,
        }
    }

    /// Whether the body has ended well: a form must have had its file and its end.
    pub fn finish(&self) -> Result<(), Fault> {
        self.form.as_ref().map_or(Ok(()), Multipart::finish)
    }

    /// The form's file part, once its header has been read.
    #[must_use]
    pub fn file(&self) -> Option<&FilePart> {
        self.form.as_ref()?.file()
    }

    /// Begins a chunk: puts what was carried over at its front.
    pub(super) fn begin(&mut self, chunk: &mut [u8]) -> Window {
        let filled = self.carry.len().min(chunk.len());
        chunk.iter_mut().zip(self.carry.drain(..filled)).for_each(|(to, from)| *to = from);
        Window { payload: 0..0, filled }
    }

    /// Ends a chunk: takes what is undecided along.
    pub(super) fn end(&mut self, chunk: &[u8], window: &Window) {
        let undecided = chunk.get(window.payload.end..window.filled);
        self.carry.extend_from_slice(undecided.unwrap_or_default());
    }

    /// The part of the chunk into which to receive next: as many bytes as may belong to this body.
    pub(super) fn room<'c>(&self, chunk: &'c mut [u8], window: &Window) -> &'c mut [u8] {
        let room = chunk.get_mut(window.filled..).unwrap_or_default();
        let wanted = match self.framing {
            Remaining::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            Remaining::Chunks(_) if self.is_wordy => WORDY_BYTES_MAX,
            Remaining::Chunks(_) | Remaining::Endless { .. } => usize::MAX,
        };
        let bytes = room.len().min(wanted);
        room.get_mut(..bytes).unwrap_or_default()
    }

    /// Payload bytes that come next as they are: no framing stands before them, and nothing in them has to be looked
    /// at. `None`: too few for a pipe to pay.
    pub(super) fn run_bytes(&self) -> Option<u64> {
        let (bytes, of_bytes, bytes_min) = match (&self.framing, &self.form) {
            (_, Some(_)) => return None,
            (Remaining::Bytes(bytes), None) => (*bytes, *bytes, PIPE_BYTES_MIN),
            (Remaining::Chunks(dechunker), None) => {
                (dechunker.run_bytes(), dechunker.chunk_bytes(), PIPE_CHUNK_BYTES_MIN)
            }
            (Remaining::Endless { is_bulk }, None) => return is_bulk.then_some(u64::MAX),
        };
        (bytes > 0 && of_bytes >= bytes_min).then_some(bytes)
    }

    /// Bytes of framing that come next, if the chunks between which they stand suit a pipe.
    pub(super) fn framing_between(&self) -> Option<usize> {
        match (&self.framing, &self.form) {
            (Remaining::Chunks(chunks), None) if chunks.chunk_bytes() >= PIPE_CHUNK_BYTES_MIN => {
                chunks.framing_bytes()
            }
            _ => None,
        }
    }

    /// Reads framing from `bytes`, as far as payload. Returns how many bytes that was.
    pub(super) fn read_framing(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let Remaining::Chunks(dechunker) = &mut self.framing else { return Ok(0) };
        self.framing_bytes = dechunker.read_framing(bytes)?;
        self.is_wordy = false;
        Ok(self.framing_bytes)
    }

    /// Bytes of framing among those that were decoded last.
    pub(super) fn framing_bytes(&self) -> usize {
        self.framing_bytes
    }

    /// Counts `bytes` of the [run](Self::run_bytes) that went into a pipe.
    pub(super) fn pass(&mut self, window: &mut Window, bytes: usize) {
        match &mut self.framing {
            Remaining::Bytes(left) => *left = left.saturating_sub(bytes as u64),
            Remaining::Chunks(dechunker) => dechunker.pass(bytes as u64),
            Remaining::Endless { is_bulk } => *is_bulk = bytes >= PIPE_LEAVE_BYTES,
        }
        self.framing_bytes = 0;
        window.filled = window.filled.saturating_add(bytes);
        window.payload.end = window.filled;
    }

    /// Counts `bytes` that were dropped. The body's [remaining payload](Self::remaining_payload) is known.
    pub(super) fn skip(&mut self, bytes: u64) {
        if let Remaining::Bytes(left) = &mut self.framing {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Decodes `bytes` new bytes that were received into the room. Returns those behind the body's
    /// end: they belong to the next request.
    pub(super) fn absorb(
        &mut self,
        chunk: &mut [u8],
        window: &mut Window,
        bytes: usize,
    ) -> Result<Range<usize>, Fault> {
        let start = window.filled;
        let new = start..start.saturating_add(bytes).min(chunk.len());
        let (decoded, beyond) = self.unframe(chunk, new)?;
        let Some(form) = &mut self.form else {
            window.payload.end = decoded;
            window.filled = decoded;
            return Ok(beyond);
        };
        let base = window.payload.end;
        let fed = form.feed(chunk.get(base..decoded).unwrap_or_default())?;
        if !fed.payload.is_empty() {
            if window.payload.is_empty() {
                window.payload.start = base + fed.payload.start;
            }
            window.payload.end = base + fed.payload.end;
        }
        // The undecided bytes move up to the payload. The bytes between were no payload and are overwritten.
        let undecided = decoded.saturating_sub(fed.carry).max(window.payload.end)..decoded;
        window.filled = window.payload.end + undecided.len();
        if undecided.start > window.payload.end {
            chunk.copy_within(undecided, window.payload.end);
        }
        Ok(beyond)
    }

    /// Takes the framing off `new`. Returns where the decoded bytes end, and what lies behind the
    /// body's end.
    fn unframe(
        &mut self,
        chunk: &mut [u8],
        new: Range<usize>,
    ) -> Result<(usize, Range<usize>), Fault> {
        match &mut self.framing {
            Remaining::Bytes(left) => {
                *left = left.saturating_sub(new.len() as u64);
                Ok((new.end, new.end..new.end))
            }
            Remaining::Endless { is_bulk } => {
                *is_bulk = new.len() as u64 >= PIPE_BYTES_MIN;
                Ok((new.end, new.end..new.end))
            }
            Remaining::Chunks(dechunker) => {
                let decoded = dechunker.decode(chunk.get_mut(new.clone()).unwrap_or_default())?;
                self.framing_bytes = decoded.consumed.saturating_sub(decoded.payload);
                self.is_wordy = self.framing_bytes > decoded.payload;
                let beyond = (new.start + decoded.consumed).min(new.end)..new.end;
                Ok((new.start + decoded.payload, beyond))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Decodes `wire`. Returns how many of its bytes are framing, and how many would be received next.
    fn framing_and_room(wire: &[u8]) -> (usize, usize) {
        let dechunker = Dechunker::new(256, 4096, u64::MAX);
        let mut body = Body::new(Framing::Chunked, None, dechunker);
        let mut chunk = vec![0; 1 << 19];
        let mut window = body.begin(&mut chunk);
        body.room(&mut chunk, &window).get_mut(..wire.len()).unwrap().copy_from_slice(wire);
        body.absorb(&mut chunk, &mut window, wire.len()).unwrap();
        (body.framing_bytes(), body.room(&mut chunk, &window).len())
    }

    #[test]
    fn a_body_that_is_mostly_framing_is_received_a_little_at_a_time() {
        let (framing, room) = framing_and_room(&b"1\r\nx\r\n".repeat(1000));
        assert_eq!((framing, room), (5000, WORDY_BYTES_MAX));
        let long = format!("10000\r\n{}\r\n", "x".repeat(1 << 16));
        assert_eq!(framing_and_room(long.as_bytes()), (9, (1 << 19) - (1 << 16)));
    }
}
