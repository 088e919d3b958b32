//! Forms around a file of 1 MiB, and finding it; for `multipart.rs` and `counts.rs`.

use std::hint::black_box;
use wire::multipart::Multipart;

pub(crate) const FILE_BYTES: usize = 1 << 20;
/// The default of `chunk_bytes`: the most that one `recv` brings.
pub(crate) const FEED_BYTES: usize = 256 << 10;
const BOUNDARY: &str = "------------------------Q3mX0dJcT7hV2pLrW9sZ4a";

pub(crate) fn form(file: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"holiday.mp4\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

pub(crate) fn random() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..FILE_BYTES / 8).flat_map(|_| word()).collect()
}

pub(crate) fn repeated(pattern: &str) -> Vec<u8> {
    pattern.bytes().cycle().take(FILE_BYTES).collect()
}

/// A delimiter but for its last character, over and over.
pub(crate) fn near_misses() -> Vec<u8> {
    repeated(&format!("\r\n--{BOUNDARY}")[..4 + BOUNDARY.len() - 1])
}

/// Reads `form`, carrying over what is undecided as the worker does; returns the file's bytes.
#[inline(never)]
pub(crate) fn read(form: &[u8], feed_bytes: usize) -> usize {
    let mut multipart = Multipart::new(BOUNDARY.as_bytes(), 64 << 10);
    let (mut start, mut end, mut file_bytes) = (0, 0, 0);
    while end < form.len() {
        end = form.len().min(end + feed_bytes);
        let fed = multipart.feed(black_box(&form[start..end])).unwrap();
        file_bytes += fed.payload.len();
        start = end - fed.carry;
    }
    multipart.finish().unwrap();
    file_bytes
}
