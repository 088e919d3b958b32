//! Decoding a chunked request body in place.
//!
//! The worker reads from a socket into a chunk of the ring and calls [`Dechunker::decode`] on what
//! came. The decoder leaves the payload at the front, ready to be published. Invariant: every byte is
//! read once, the outcome does not depend on how the bytes were cut, nothing is allocated, no chunk
//! begins that is larger than what may still come, and only the strict grammar of RFC 9112, section
//! 7.1, is taken. (`httparse` reads an empty size as zero and anything at all inside an extension.)

mod extension;

use super::Fault;
use super::grammar::{is_token_byte, is_value_byte};
use extension::Extension;

/// Digits that fit 64 bits. More are refused, even zeros: another reader may cut them off.
const SIZE_DIGITS_MAX: u8 = 16;

/// Extension bytes a body may carry beyond [`EXTENSION_BYTES_PER_CHUNK`] for each of its chunks and
/// one for each two of its payload bytes.
///
/// No receiver sees extensions, so they are wasted work. A signature for each 64 KiB stays within this.
const EXTENSION_EXCESS_BYTES_MAX: u32 = 16 * 1024;
const EXTENSION_BYTES_PER_CHUNK: u64 = 16;

/// The result of one call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// This many bytes at the front are payload now.
    pub payload: usize,
    /// Bytes read: all of them, or up to the end of the body.
    pub consumed: usize,
    /// The body has ended, trailers and all.
    pub done: bool,
}

/// The state of one chunked body.
#[derive(Clone, Debug)]
pub struct Dechunker {
    state: State,
    line_bytes_max: u32,
    trailer_bytes_max: u32,
    body_bytes_max: u64,
    /// Payload bytes that chunks may still announce.
    body_bytes_left: u64,
    /// Payload bytes of the chunk that began last.
    chunk_bytes: u64,
    /// Bytes of the line that this chunk began with, its end included.
    last_line_bytes: u32,
    /// Bytes of the chunk line, or of all trailers, so far.
    line_bytes: u32,
    /// Extension bytes that no payload has made up for.
    extension_excess_bytes: u32,
}

/// The state, named after what comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size { size: u64, digits: u8 },
    SpaceBeforeExtension { size: u64 },
    Extension { size: u64, read: Extension },
    SizeLineFeed { size: u64 },
    Payload { left: u64 },
    PayloadReturn,
    PayloadLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

const EXPECT_SIZE: State = State::Size { size: 0, digits: 0 };

impl Dechunker {
    /// A decoder at the start of a body. A chunk line may have `line_bytes_max` bytes, and all
    /// trailers together `trailer_bytes_max`, line ends included; the payload `body_bytes_max`.
    #[must_use]
    pub fn new(line_bytes_max: u32, trailer_bytes_max: u32, body_bytes_max: u64) -> Self {
        Self {
            state: EXPECT_SIZE,
            line_bytes_max,
            trailer_bytes_max,
            body_bytes_max,
            body_bytes_left: body_bytes_max,
            chunk_bytes: 0,
            last_line_bytes: 0,
            line_bytes: 0,
            extension_excess_bytes: 0,
        }
    }

    /// Whether the body has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Payload bytes that come next, before any framing.
    #[must_use]
    pub fn run_bytes(&self) -> u64 {
        if let State::Payload { left } = self.state { left } else { 0 }
    }

    /// Payload bytes of the chunk that began last.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Counts `bytes` of the [run](Self::run_bytes), which the decoder does not see.
    pub fn pass(&mut self, bytes: u64) {
        if let State::Payload { left } = self.state {
            let run = left.min(bytes);
            self.take_payload(left, usize::try_from(run).unwrap_or(usize::MAX));
        }
    }

    /// Bytes of the framing between two chunks, if it comes next and the next line is as long as the last one.
    #[must_use]
    pub fn framing_bytes(&self) -> Option<usize> {
        let before_line = match self.state {
            State::PayloadReturn => 2,
            State::PayloadLineFeed => 1,
            State::Size { digits: 0, .. } if self.last_line_bytes > 0 => 0,
            _ => return None,
        };
        usize::try_from(self.last_line_bytes).ok().map(|line| line.saturating_add(before_line))
    }

    /// Reads framing from `bytes`, as far as payload. Returns how many bytes that was.
    ///
    /// # Errors
    /// The first fault. The decoder is of no more use then.
    pub fn read_framing(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(self.state, State::Payload { .. } | State::Done) {
                return Ok(at);
            }
            self.state = self.step(byte)?;
        }
        Ok(bytes.len())
    }

    /// Reads framing from `bytes` and moves the payload to their front. Bytes behind the end of the
    /// body are neither read nor moved.
    ///
    /// # Errors
    /// The first fault. The payload decoded before it in this call is then lost, and the decoder is
    /// of no more use.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, Fault> {
        let mut payload = 0;
        let mut at = 0;
        while self.state != State::Done {
            if let State::Payload { left } = self.state {
                let here = bytes.len().saturating_sub(at);
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(here);
                if at != payload {
                    bytes.copy_within(at..at + run, payload);
                }
                payload += run;
                at += run;
                self.take_payload(left, run);
                if run == here {
                    break;
                }
            } else {
                let Some(&byte) = bytes.get(at) else { break };
                self.state = self.step(byte)?;
                at += 1;
            }
        }
        Ok(Decoded { payload, consumed: at, done: self.is_done() })
    }

    fn take_payload(&mut self, left: u64, run: usize) {
        let share = u32::try_from(run / 2).unwrap_or(u32::MAX);
        self.extension_excess_bytes = self.extension_excess_bytes.saturating_sub(share);
        let left = left.saturating_sub(run as u64);
        self.state = if left == 0 { State::PayloadReturn } else { State::Payload { left } };
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        match self.state {
            State::Size { size, digits } => self.size(size, digits, byte),
            State::SpaceBeforeExtension { size } => {
                self.count_extension()?;
                match byte {
                    b' ' | b'\t' => Ok(self.state),
                    b';' => Ok(State::Extension { size, read: Extension::Semicolon }),
                    _ => Err(Fault::ChunkSizeMalformed),
                }
            }
            State::SizeLineFeed { size } => match byte {
                b'\n' => self.begin(size),
                _ => Err(Fault::ChunkSizeMalformed),
            },
            State::PayloadReturn if byte == b'\r' => Ok(State::PayloadLineFeed),
            State::PayloadLineFeed if byte == b'\n' => Ok(EXPECT_SIZE),
            State::PayloadReturn | State::PayloadLineFeed => Err(Fault::ChunkTerminator),
            State::Extension { size, read } => {
                self.count_extension()?;
                Ok(match read.step(byte)? {
                    Some(read) => State::Extension { size, read },
                    None => State::SizeLineFeed { size },
                })
            }
            _ => self.trailer(byte),
        }
    }

    fn size(&mut self, size: u64, digits: u8, byte: u8) -> Result<State, Fault> {
        self.count_line()?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if digits == 0 && matches!(byte, b'\r' | b'\n' | b';' | b' ' | b'\t') => {
                return Err(Fault::ChunkSizeEmpty);
            }
            b'\r' => return Ok(State::SizeLineFeed { size }),
            b';' => return Ok(State::Extension { size, read: Extension::Semicolon }),
            b' ' | b'\t' => return Ok(State::SpaceBeforeExtension { size }),
            _ => return Err(Fault::ChunkSizeMalformed),
        };
        if digits == SIZE_DIGITS_MAX {
            return Err(Fault::ChunkSizeOverflow);
        }
        Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
    }

    /// Ends a chunk line: the chunk's payload comes next, or the trailers.
    fn begin(&mut self, size: u64) -> Result<State, Fault> {
        let left = self.body_bytes_left.checked_sub(size);
        self.body_bytes_left =
            left.ok_or(Fault::BodyTooLarge { bytes_max: self.body_bytes_max })?;
        // The line feed that ends the line is not counted before.
        self.last_line_bytes = self.line_bytes.saturating_add(1);
        self.line_bytes = 0;
        self.chunk_bytes = size;
        let share = u32::try_from(size.min(EXTENSION_BYTES_PER_CHUNK)).unwrap_or(0);
        self.extension_excess_bytes = self.extension_excess_bytes.saturating_sub(share);
        Ok(if size == 0 { State::TrailerStart } else { State::Payload { left: size } })
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Fault> {
        self.line_bytes = self.line_bytes.saturating_add(1);
        let next = match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::LastLineFeed, b'\n') => return Ok(State::Done),
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                State::TrailerName
            }
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            _ => return Err(Fault::TrailerMalformed),
        };
        // The line that ends them is no trailer.
        if next != State::LastLineFeed && self.line_bytes > self.trailer_bytes_max {
            return Err(Fault::TrailerTooLong { bytes_max: self.trailer_bytes_max });
        }
        Ok(next)
    }

    fn count_line(&mut self) -> Result<(), Fault> {
        self.line_bytes = self.line_bytes.saturating_add(1);
        if self.line_bytes > self.line_bytes_max {
            return Err(Fault::ChunkLineTooLong { bytes_max: self.line_bytes_max });
        }
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), Fault> {
        self.count_line()?;
        self.extension_excess_bytes = self.extension_excess_bytes.saturating_add(1);
        if self.extension_excess_bytes > EXTENSION_EXCESS_BYTES_MAX {
            return Err(Fault::ChunkExtensionExcess { bytes_max: EXTENSION_EXCESS_BYTES_MAX });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
