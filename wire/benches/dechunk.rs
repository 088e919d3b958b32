//! Taking the framing off a chunked body, in place, a ring chunk at a time.
//!
//! 1 MiB of payload in HTTP chunks of the size that curl sends (64 KiB), of 4 KiB, and of one byte,
//! which is the worst a sender can do: six bytes of body for each of payload. Throughput counts bytes
//! of body.
//!
//! Distorted by the caches: the body has just been written, as it has when `recv` brought it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/chunked.rs"]
mod chunked;

use chunked::{PAYLOAD_BYTES, chunked, decode};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

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
