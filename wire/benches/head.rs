//! Reading a request head: `http::parse` on what curl and a browser send.
//!
//! - `whole`: the head in one piece, as nearly always.
//! - `bytewise`: a head that comes a byte at a time and is read again with each, which is what the
//!   worker does with it. The cost grows with the square of the head: compare it with as many calls
//!   of `recv` (some 0.2 us each), which bring these bytes.
//!
//! Distorted by little: one thread, everything in the cache, which in a worker it need not be.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/heads.rs"]
mod heads;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heads::{BROWSER_GET, CURL_FORM, CURL_GET, read};

const HEADS: [(&str, &str); 3] =
    [("curl GET", CURL_GET), ("curl -F", CURL_FORM), ("browser GET", BROWSER_GET)];

fn head(criterion: &mut Criterion) {
    for (way, step) in [("whole", usize::MAX), ("bytewise", 1)] {
        let mut group = criterion.benchmark_group(format!("head, {way}"));
        for (name, head) in HEADS {
            let head = head.as_bytes();
            assert_eq!(read(head, step), head.len());
            group.throughput(Throughput::Bytes(head.len() as u64));
            group.bench_function(name, |bencher| bencher.iter(|| read(head, step)));
        }
        group.finish();
    }
}

criterion_group!(benches, head);
criterion_main!(benches);
