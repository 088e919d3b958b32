//! The line before an outgoing chunk, made without allocation.
//!
//! The relay writes it between two payload writes of a chunked answer.

/// Sixteen hexadecimal digits and CRLF.
const LINE_BYTES_MAX: usize = 18;

/// A chunk-size line: hexadecimal digits and CRLF.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLine {
    bytes: [u8; LINE_BYTES_MAX],
    starts: usize,
}

impl ChunkLine {
    /// The line as it goes out.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.starts..).unwrap_or_default()
    }
}

/// The line for a chunk of `size` payload bytes. A size of zero ends the body: then an empty line
/// follows, after any trailers.
#[must_use]
pub fn chunk_line(size: u64) -> ChunkLine {
    let mut line = ChunkLine { bytes: [b'\r'; LINE_BYTES_MAX], starts: LINE_BYTES_MAX - 2 };
    let mut left = size;
    if let Some(last) = line.bytes.last_mut() {
        *last = b'\n';
    }
    for slot in line.bytes.iter_mut().rev().skip(2) {
        let digit = u8::try_from(left & 15).unwrap_or_default();
        *slot = if digit < 10 { b'0' + digit } else { b'a' + (digit - 10) };
        line.starts -= 1;
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_line_is_the_size_in_hexadecimal() {
        for size in [0, 1, 9, 10, 15, 16, 255, 256, 0xabcdef, 1 << 18, u64::MAX] {
            assert_eq!(chunk_line(size).as_bytes(), format!("{size:x}\r\n").as_bytes());
        }
    }
}
