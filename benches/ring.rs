//! The ring without its payload: what the words of a lane cost, beside the copying that the kernel
//! does. A real segment and the production steps, but no socket.
//!
//! - `one thread`: both ends driven in turn by one thread, every word in its cache: the price of the
//!   instructions. An element is a chunk.
//! - `two threads`: each end in a thread of its own, with a bell and an eventfd, asleep and woken as
//!   workers are. `ping-pong` has one chunk in flight, so each chunk wakes either side once and this
//!   measures the scheduler more than the ring; `stream` may have a lane full of them.
//! - `session`: a slot claimed, both places taken, begun, ended, left: what a small exchange costs in
//!   shared memory beside its chunk.
//!
//! The result depends on where the two threads run (one CPU, neighbours, or far apart: several times as much) and on
//! everything else that runs. Compare within one run.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "work/lanes.rs"]
mod lanes;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanes::{CHUNK_BYTES, RECEIVER, SENDER, exchange, issue, pair, pass, segment};
use nix::sys::eventfd::EventFd;
use shm::{Doorbell, LaneEnd, ReceiverEnd, SenderEnd, Shared, WorkerId};
use std::time::{Duration, Instant};

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, one thread");
    for in_flight in [1, 8] {
        let segment = segment(8);
        let shared = segment.shared();
        let (mut sender, mut receiver) = pair(shared, issue(shared));
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("{in_flight} in flight"), |bencher| {
            bencher.iter(|| pass(in_flight, shared, &mut sender, &mut receiver));
        });
    }
    group.finish();
}

/// The bell and the eventfd that one thread sleeps by and is woken by.
struct Side<'s> {
    bell: Doorbell<'s>,
    waker: EventFd,
}

impl<'s> Side<'s> {
    fn new(shared: &Shared<'s>, worker: usize) -> Self {
        let bell = *shared.bell(WorkerId::new(worker).unwrap()).unwrap();
        Self { bell, waker: EventFd::new().unwrap() }
    }

    fn sleep(&self) {
        if self.bell.park() {
            self.waker.read().unwrap();
            self.bell.unpark();
        }
        self.bell.take(|_| {});
    }

    fn ring(&self, slot: u32) {
        if self.bell.ring(slot) {
            self.waker.write(1).unwrap();
        }
    }
}

fn send(chunks: u64, shared: &Shared<'_>, sender: &mut SenderEnd, [ours, peer]: [&Side<'_>; 2]) {
    let slot = sender.lane().session.slot;
    for _ in 0..chunks {
        let mut sender = sender.attach(shared).unwrap();
        let reserved = loop {
            match sender.reserve().unwrap() {
                Some(reserved) => break reserved,
                None if sender.wait_for_room().unwrap() => ours.sleep(),
                None => {}
            }
        };
        if sender.publish(reserved, 0..CHUNK_BYTES) {
            peer.ring(slot);
        }
    }
}

fn receive(
    chunks: u64,
    shared: &Shared<'_>,
    receiver: &mut ReceiverEnd,
    [ours, peer]: [&Side<'_>; 2],
) {
    let slot = receiver.lane().session.slot;
    for _ in 0..chunks {
        let rings = loop {
            let mut attached = receiver.attach(shared).unwrap();
            if let Some(piece) = attached.next_published().unwrap() {
                break piece.ack_recv();
            }
            if attached.wait_for_chunk().unwrap() {
                ours.sleep();
            }
        };
        if rings {
            peer.ring(slot);
        }
    }
}

fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, two threads");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, lane_chunks) in [("ping-pong", 1), ("stream", 8)] {
        let segment = segment(lane_chunks);
        let shared = segment.shared();
        let (mut sender, mut receiver) = pair(shared, issue(shared));
        let (left, right) = (Side::new(shared, SENDER), Side::new(shared, RECEIVER));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|chunks| {
                timed(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(|| receive(chunks, shared, &mut receiver, [&right, &left]));
                        send(chunks, shared, &mut sender, [&left, &right]);
                    });
                })
            });
        });
    }
    group.finish();
}

/// How long `work` takes. Threads are started in it, which counts little over many chunks.
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn session(criterion: &mut Criterion) {
    let segment = segment(8);
    let shared = segment.shared();
    criterion.bench_function("session", |bencher| bencher.iter(|| exchange(shared)));
}

criterion_group!(benches, one_thread, two_threads, session);
criterion_main!(benches);
