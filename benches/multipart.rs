//! Finding the file in a form.
//!
//! A form as curl sends it around a file of 1 MiB:
//!
//! - `whole` and `256 KiB feeds`: random bytes, in one piece and in pieces as the ring's chunks cut
//!   it;
//! - `near misses`: a file made of nothing but beginnings of the delimiter, each broken off at its
//!   last character, in 256 KiB feeds: what a search that began anew at each would be slowest on;
//! - `line ends`: nothing but `\r\n--`, where every fourth byte may begin a delimiter.
//!
//! What to look at: the adversarial ones must stay within a small factor of the random one, and far
//! above the speed of a network. Distorted by little: one thread, 1 MiB that stays in the cache.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use idontstore::multipart::Multipart;
use std::hint::black_box;

const FILE_BYTES: usize = 1 << 20;
/// The default of `chunk_bytes`: the most that one `recv` brings.
const FEED_BYTES: usize = 256 << 10;
const BOUNDARY: &str = "------------------------Q3mX0dJcT7hV2pLrW9sZ4a";

fn form(file: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"holiday.mp4\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    [head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat()
}

fn random() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..FILE_BYTES / 8).flat_map(|_| word()).collect()
}

fn repeated(pattern: &str) -> Vec<u8> {
    pattern.bytes().cycle().take(FILE_BYTES).collect()
}

/// Reads `form`, carrying over what is undecided as the worker does; returns the file's bytes.
fn read(form: &[u8], feed_bytes: usize) -> usize {
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

fn multipart(criterion: &mut Criterion) {
    let near_miss = &format!("\r\n--{BOUNDARY}")[..4 + BOUNDARY.len() - 1];
    let forms = [
        ("whole", random(), usize::MAX / 2),
        ("256 KiB feeds", random(), FEED_BYTES),
        ("near misses", repeated(near_miss), FEED_BYTES),
        ("line ends", repeated("\r\n--"), FEED_BYTES),
    ];
    let mut group = criterion.benchmark_group("multipart, 1 MiB");
    for (name, file, feed_bytes) in forms {
        let form = form(&file);
        assert_eq!(read(&form, feed_bytes), FILE_BYTES);
        group.throughput(Throughput::Bytes(form.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| read(&form, feed_bytes)));
    }
    group.finish();
}

criterion_group!(benches, multipart);
criterion_main!(benches);
