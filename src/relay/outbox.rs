//! Bytes that wait to be written before anything else: heads, chunk-size lines, short answers.

use crate::stream::Stream;
use crate::sys::Put;
use std::io::IoSlice;

/// What remains to be written of some bytes.
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

    /// What remains.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Whether nothing remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Counts `bytes` as written, as far as they go; returns how many of them were not ours.
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
    pub fn flush(&mut self, stream: &mut Stream) -> Put {
        while !self.is_empty() {
            match stream.send(&[IoSlice::new(self.rest())]) {
                Put::Bytes(written) => {
                    self.advance(written);
                }
                other => return other,
            }
        }
        stream.flush()
    }
}
