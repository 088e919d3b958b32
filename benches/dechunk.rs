//! Taking the framing off a chunked body, in place, a ring chunk at a time.
//!
//! 1 MiB of payload in HTTP chunks of the size that curl sends (64 KiB), of 4 KiB, and of one byte,
//! which is the worst a sender can do: six bytes of body for each of payload. Throughput counts bytes
//! of body.
//!
//! Distorted by the caches: the body has just been written, as it has when `recv` brought it.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use idontstore::http::Dechunker;

const PAYLOAD_BYTES: usize = 1 << 20;
/// The default of `chunk_bytes`: the most that one `recv` brings.
const FEED_BYTES: usize = 256 << 10;

fn chunked(http_chunk_bytes: usize) -> Vec<u8> {
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
fn decode(body: &mut [u8]) -> usize {
    let mut dechunker = Dechunker::new(256, 4096);
    let feeds = body.chunks_mut(FEED_BYTES);
    let payload = feeds.map(|feed| dechunker.decode(feed).unwrap().payload).sum();
    assert!(dechunker.is_done());
    payload
}

fn dechunk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dechunk, 1 MiB");
    group.sample_size(30);
    for (name, bytes) in [("by 64 KiB", 64 << 10), ("by 4 KiB", 4 << 10), ("by one byte", 1)] {
        let body = chunked(bytes);
        assert_eq!(decode(&mut body.clone()), PAYLOAD_BYTES);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || body.clone(),
                |body| decode(body),
                BatchSize::NumIterations(1),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, dechunk);
criterion_main!(benches);
