//! The bytes really go through the ring: the segment's counters while a side stands still, the addresses where the
//! workers' system calls read and write, and how far a sender gets when no chunk comes back.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{
    Payload, Placement, Raw, Relay, Shape, Stopped, Strace, eventually, segment_addresses,
    send_payload, stays, tcp_queues,
};

/// The tests here are about chunks.
const BY_CHUNK: &str = "memory.pipes = 0";

#[over_both]
fn a_stopped_receiver_holds_at_most_a_lane_of_chunks() {
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &[BY_CHUNK]);
        let segment = relay.segment();
        let session = relay.session();
        let (mut receiver, mut sender) = relay.pair(&segment, placement);
        let before = segment.sum();
        receiver.get(&session.path);
        sender.patience(Duration::from_millis(500));
        let payload = Payload::new(1, 200 << 20);
        assert!(
            send_payload(&mut sender, &session.path, &payload, Shape::Length).is_err(),
            "it must stall"
        );
        let held = stays("the lane is full", Duration::from_millis(300), || segment.chunks_held());
        assert!((1..=segment.lane_chunks()).contains(&held), "{held} of {}", segment.lane_chunks());
        let now = segment.sum();
        let (taken, given) = (now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out);
        let bound = segment.lane_chunks() * segment.chunk_bytes();
        assert!(taken > given && taken - given <= bound, "in {taken}, out {given}, bound {bound}");
        assert_eq!(segment.places_held(), 2);
    }
}

#[over_both]
fn without_acknowledged_chunks_the_sender_stops_at_the_lanes_capacity() {
    // A socket that runs dry publishes a part of a chunk. So the lane is smaller than what a socket
    // holds, and the sender's worker finds all of it there.
    let small = ["memory.chunk_bytes = \"4KiB\"", "memory.lane_bytes_max = \"32KiB\""];
    let relay = Relay::with(2, &small);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(2, 100 << 20);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    let before = segment.sum();
    receiver.get(&session.path);
    let fields = [("Content-Length", "104857600"), ("Expect", "100-continue")];
    sender.request("PUT", &session.path, &fields).read_continue();
    assert_eq!(segment.places_held(), 2);
    let workers = relay.worker_pids();
    let (receivers_worker, senders_worker) =
        (Stopped::hold(&workers[..1]), Stopped::hold(&workers[1..]));
    let senders_address = sender.local_addr();
    let sending = thread::spawn({
        let payload = payload.clone();
        move || {
            payload.write_to(&mut sender).unwrap();
            sender.read_response()
        }
    });
    let capacity = segment.lane_chunks() * segment.chunk_bytes();
    eventually("more than a lane waits in the socket", || {
        let (_, queued) = tcp_queues(relay.address(), senders_address)?;
        (queued > capacity).then_some(())
    });
    drop(senders_worker);
    let stopped_at = stays("the sender stops", Duration::from_millis(500), || {
        (segment.sum().bytes_in - before.bytes_in, segment.chunks_held())
    });
    assert_eq!(stopped_at, (capacity, segment.lane_chunks()), "(bytes in, chunks held)");
    assert_eq!(segment.sum().bytes_out, before.bytes_out);
    drop(receivers_worker);
    receiver.read_checked(&payload).expect_all(&payload);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

/// More pairs than there are chunks.
const PAIRS: u64 = 20;

#[over_both]
fn transfers_beyond_the_number_of_chunks_take_turns() {
    // The cases are no pipes, and fewer pipes than pairs: a lane that takes pipes gives way as well. The lanes of one
    // address take turns with its share of the chunks, or with all chunks.
    const SHARE: &str = "limits.chunks_per_address_max = \"auto\"";
    const ALL: &str = "limits.chunks_per_address_max = 0";
    for (pipes, chunks) in [(BY_CHUNK, SHARE), ("memory.pipes = 2", SHARE), (BY_CHUNK, ALL)] {
        let few = [
            "memory.segment_bytes = \"8MiB\"",
            "memory.chunk_bytes = \"1MiB\"",
            "memory.lane_bytes_max = \"1MiB\"",
            pipes,
            chunks,
        ];
        let relay = Relay::with(2, &few);
        let (segment, fds) = (relay.segment(), relay.fd_counts());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // These senders never run dry, and their receivers never stand still.
            for _ in 0..PAIRS {
                let session = relay.session();
                let (mut receiver, mut sender) = (relay.connect(), relay.connect());
                receiver.get(&session.path);
                sender.request("PUT", &session.path, &[("Content-Length", "1000000000000")]);
                scope.spawn(move || {
                    let head = receiver.read_head();
                    receiver.read_body(&head, |_| {});
                });
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // This write fails if the relay cuts the sender.
                        sender.send(&[7; 256 << 10]);
                    }
                });
            }
            let most = segment.chunks() * if chunks == ALL { 3 } else { 2 } / 3;
            eventually("they may have no more", || (segment.chunks_held() >= most).then_some(()));
            for seed in 0..PAIRS {
                let shape = [Shape::Form, Shape::Length][usize::from(seed % 2 == 0)];
                relay.session().transfer(&Payload::new(seed, 3 << 20), shape);
            }
            stop.store(true, Ordering::Relaxed);
        });
        relay.expect_nothing_held(&segment, &fds);
    }
}

#[over_both]
fn a_sender_without_room_whose_receiver_left_frees_its_place_when_it_leaves() {
    let few = [
        "memory.segment_bytes = \"8MiB\"",
        "memory.chunk_bytes = \"1MiB\"",
        "memory.lane_bytes_max = \"1MiB\"",
        "timeouts.chunk_wait = \"60s\"",
        "limits.chunks_per_address_max = 0",
        "limits.stall_rate_bytes_min = 0",
        BY_CHUNK,
    ];
    let relay = Relay::with(1, &few);
    let segment = relay.segment();
    let big = Payload::new(6, 300 << 20);
    let mut stalled = Vec::new();
    while segment.chunks_held() < segment.chunks() {
        let session = relay.session();
        let (mut receiver, mut sender) = (relay.connect(), relay.connect());
        receiver.get(&session.path);
        sender.patience(Duration::from_millis(300));
        assert!(
            send_payload(&mut sender, &session.path, &big, Shape::Length).is_err(),
            "it must stall"
        );
        stalled.push((receiver, sender));
    }
    let (session, held) = (relay.session(), segment.places_held());
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&session.path);
    segment.wait_until_held(held + 1);
    sender.put(&session.path, b"no room for this");
    segment.wait_until_held(held + 2);
    drop(receiver);
    eventually("the receiver's place is free", || {
        (segment.places_held() == held + 1).then_some(())
    });
    sender.finish();
    eventually("and so is the sender's", || (segment.places_held() == held).then_some(()));
}

/// How a sender without room goes on sending, and how many wake-ups of its worker may have other causes.
const PIECES: u64 = 400;
const PIECE_BYTES: usize = 100;
const PAUSE: Duration = Duration::from_millis(2);
const WAKE_UPS_MAX: u64 = PIECES / 4;

#[over_both]
fn what_a_sender_without_room_sends_wakes_nobody() {
    let small = ["memory.chunk_bytes = \"4KiB\"", "memory.lane_bytes_max = \"32KiB\"", BY_CHUNK];
    let relay = Relay::with(1, &small);
    let (segment, session, payload) = (relay.segment(), relay.session(), Payload::new(7, 1 << 20));
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "100000000")]);
    eventually("the lane is full, and more waits in the socket", || {
        sender.send(&payload.at(0)[..16 << 10]);
        thread::sleep(PAUSE);
        let (_, queued) = tcp_queues(relay.address(), sender.local_addr())?;
        (queued > 0 && segment.chunks_held() == segment.lane_chunks()).then_some(())
    });
    let worker = relay.worker_pids()[0];
    let before = (segment.sum().bytes_in, worker.wake_ups());
    for _ in 0..PIECES {
        sender.send(&payload.at(0)[..PIECE_BYTES]);
        thread::sleep(PAUSE);
    }
    let after = (segment.sum().bytes_in, worker.wake_ups());
    assert_eq!(after.0, before.0, "there was room");
    assert!(after.1 - before.1 < WAKE_UPS_MAX, "{} wake-ups", after.1 - before.1);
}

/// A call that moves no more than this may be about heads and bells.
const HEAD_BYTES: u64 = 16 << 10;

#[over_http("TLS moves payload through memory outside the segment")]
fn payload_is_received_into_the_segment_and_sent_from_it() {
    let relay = Relay::with(2, &[BY_CHUNK]);
    let segment = relay.segment();
    let session = relay.session();
    let chunk_bytes = segment.chunk_bytes();
    let payload = Payload::new(3, 30 << 20);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    let workers = relay.worker_pids();
    let mut strace = Strace::attach(&workers, &relay.path("trace"));
    receiver.get(&session.path);
    let reading = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    send_payload(&mut sender, &session.path, &payload, Shape::Length).unwrap();
    reading.join().unwrap().expect_all(&payload);
    sender.read_response().expect(200);
    strace.detach();
    for (worker, names) in [(1, ["recvfrom", "read"]), (0, ["sendto", "write"])] {
        let inside = segment_addresses(workers[worker]);
        let calls = strace.calls(workers[worker]);
        let (within, outside): (Vec<_>, Vec<_>) =
            calls.iter().partition(|c| inside.contains(&c.address));
        // The first bytes of a body may come with its head, and the first chunk leaves with one, by
        // a list of ranges that strace shows as the address of the list.
        let (firsts, outside): (Vec<_>, Vec<_>) = outside
            .into_iter()
            .partition(|c| c.name == "writev" && c.bytes <= chunk_bytes + HEAD_BYTES);
        assert!(firsts.len() <= 1, "worker {worker}: {firsts:x?}");
        if let Some(call) = outside.iter().find(|c| c.bytes > HEAD_BYTES) {
            panic!("worker {worker}: {call:x?} is not within {inside:x?}");
        }
        let within = within.iter().filter(|c| names.contains(&c.name.as_str()));
        let bytes: u64 = within.map(|c| c.bytes).sum();
        let all = payload.len() - HEAD_BYTES - chunk_bytes..=payload.len();
        assert!(all.contains(&bytes), "worker {worker}: {bytes} of {} bytes", payload.len());
    }
}

#[over_both]
fn the_receiver_gets_what_the_segment_holds() {
    let relay = Relay::with(2, &[BY_CHUNK]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(5, 100_000);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    let fields = [("Content-Length", "100000"), ("Expect", "100-continue")];
    sender.request("PUT", &session.path, &fields).read_continue();
    let receivers_worker = Stopped::hold(&relay.worker_pids()[..1]);
    let before = segment.sum().bytes_in;
    sender.send(&payload.bytes());
    eventually("all is in", || (segment.sum().bytes_in - before == 100_000).then_some(()));
    // A mark in the middle of what waits in the segment must come out at the other end.
    let mut file = segment.file();
    let mut held = Vec::new();
    file.read_to_end(&mut held).unwrap();
    let known = &payload.bytes()[50_000..50_100];
    let place = memchr::memmem::find(&held, known).expect("the payload lies in the segment");
    file.seek(SeekFrom::Start(place as u64)).unwrap();
    file.write_all(&[b'#'; 100]).unwrap();
    drop(receivers_worker);
    let got = receiver.read_response().expect(200).body;
    let mut want = payload.bytes();
    want[50_000..50_100].fill(b'#');
    assert!(got == want, "the mark is not where it was made");
}

#[over_both]
fn pairs_share_the_chunks_of_a_small_segment() {
    let relay = Relay::with(2, &["memory.segment_bytes = \"8MiB\""]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(4, 8 << 20);
    let sessions: Vec<_> = (0..60).map(|_| relay.session()).collect();
    let receivers: Vec<_> = sessions.iter().map(|s| s.receiver(&payload)).collect();
    let senders: Vec<_> = sessions.iter().map(|s| s.sender(&payload, Shape::Length)).collect();
    receivers.into_iter().for_each(|r| r.join().unwrap().expect_all(&payload));
    senders.into_iter().for_each(|s| {
        assert_eq!(s.join().unwrap().expect(200).head.delivered_bytes(), payload.len())
    });
    relay.expect_nothing_held(&segment, &fds);
}
