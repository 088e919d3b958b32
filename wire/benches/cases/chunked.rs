//! A chunked body, and decoding it; for `dechunk.rs` and `counts.rs`.

use wire::http::Dechunker;

pub(crate) const PAYLOAD_BYTES: usize = 1 << 20;
/// The default of `chunk_bytes`: the most that one `recv` brings.
const FEED_BYTES: usize = 256 << 10;

pub(crate) fn chunked(http_chunk_bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in vec![b'x'; PAYLOAD_BYTES].chunks(http_chunk_bytes) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

/// Decodes `body` where it lies; returns the payload bytes found.
#[inline(never)]
pub(crate) fn decode(body: &mut [u8]) -> usize {
    let mut dechunker = Dechunker::new(256, 4096, u64::MAX);
    let feeds = body.chunks_mut(FEED_BYTES);
    let payload = feeds.map(|feed| dechunker.decode(feed).unwrap().payload).sum();
    assert!(dechunker.is_done());
    payload
}
