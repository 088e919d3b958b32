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
//! Look at this: the adversarial ones must stay within a small factor of the random one, and far
//! above the speed of a network. Distorted by little: one thread, 1 MiB that stays in the cache.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "cases/forms.rs"]
mod forms;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forms::{FEED_BYTES, FILE_BYTES, form, near_misses, random, read, repeated};

fn multipart(criterion: &mut Criterion) {
    let forms = [
        ("whole", random(), usize::MAX / 2),
        ("256 KiB feeds", random(), FEED_BYTES),
        ("near misses", near_misses(), FEED_BYTES),
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
