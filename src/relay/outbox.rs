//! Bytes that are written before anything else: heads, chunk-size lines, short answers. Every connection has one, and
//! transfers write to it. It holds no payload.

use crate::stream::Stream;
use crate::sys::SendOutcome;
use std::io::IoSlice;

/// Some bytes, and how many of them are written.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// The bytes to add to.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes that remain.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Whether nothing remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Counts `bytes` as written. Returns how many of them were not from here.
    pub fn advance(&mut self, bytes: usize) -> usize {
        let ours = bytes.min(self.rest().len());
        self.written += ours;
        if self.is_empty() {
            // The memory stays for the next of many chunk lines.
            self.bytes.clear();
            self.written = 0;
        }
        bytes - ours
    }

    /// Writes until nothing remains, here and in the stream, or the socket takes no more.
    pub fn flush(&mut self, stream: &mut Stream) -> SendOutcome {
        while !self.is_empty() {
            match stream.send(&[IoSlice::new(self.rest())]) {
                SendOutcome::Bytes(written) => {
                    self.advance(written);
                }
                other => return other,
            }
        }
        stream.flush()
    }
}
