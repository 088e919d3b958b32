//! The table of outcomes, row by row, for both sides; most on one worker and across two.

use std::thread;
use std::time::{Duration, Instant};

use protocols::{over_both, over_http};

use crate::harness::{Ending, Payload, Placement, Raw, Relay, Shape, eventually, send_payload};

const PLACEMENTS: [Placement; 2] = [Placement::SameWorker, Placement::TwoWorkers];

/// A wait short enough for a test to see its end, and long enough for a transfer on a busy machine.
const SHORT_WAIT: &str = "timeouts.wait_timeout = \"2s\"";

#[over_both]
fn all_delivered_is_200_with_a_report() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(1, 12_345);
    let receiver = session.receiver(&payload);
    let answer = session.sender(&payload, Shape::Length).join().unwrap().expect(200);
    receiver.join().unwrap().expect_all(&payload);
    assert_eq!(answer.head.must("X-Bytes-Delivered"), "12345");
    assert_eq!(answer.head.must("X-Receipt"), "acked");
    assert!(answer.head.must("Content-Type").starts_with("text/plain"));
    assert!(
        answer.text().contains("12345 bytes") && answer.text().ends_with('\n'),
        "{:?}",
        answer.text()
    );
}

#[over_both]
fn a_receiver_that_leaves_midway_is_502_with_what_it_got() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    for placement in PLACEMENTS {
        for shape in [Shape::Length, Shape::Chunked(10_000), Shape::Form] {
            for politely in [true, false] {
                let session = relay.session();
                let payload = Payload::new(2, 60 << 20);
                let (mut receiver, mut sender) = relay.pair(&segment, placement);
                receiver.get(&session.path);
                let sending = thread::spawn({
                    let (path, payload) = (session.path.clone(), payload.clone());
                    move || {
                        let _ = send_payload(&mut sender, &path, &payload, shape);
                        sender.read_response()
                    }
                });
                receiver.read_checked_part(&payload, 1_000_000);
                if politely {
                    drop(receiver)
                } else {
                    receiver.reset()
                }
                let answer = sending.join().unwrap().expect_error(502);
                let delivered = answer.head.delivered_bytes();
                // The receiver's kernel may not have acknowledged the last bytes that it read: `receipt` looks closer.
                assert!(
                    (1..payload.len()).contains(&delivered),
                    "{placement:?} {shape:?}: {delivered}"
                );
                assert!(answer.head.closes());
                session.transfer(&Payload::new(3, 5000), Shape::Length);
            }
        }
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[over_both]
fn a_sender_that_leaves_midway_cuts_the_receiver_visibly() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(4, 1_000_000);
    let leave: [(u64, fn(Raw)); 3] =
        [(1, |mut s| s.finish()), (300_000, Raw::reset), (999_999, drop)];
    for placement in PLACEMENTS {
        for framing in [("Content-Length", "1000000"), ("Transfer-Encoding", "chunked")] {
            for (sent, leave) in leave {
                let session = relay.session();
                let (mut receiver, mut sender) = relay.pair(&segment, placement);
                let moved_before = segment.sum().bytes_out;
                receiver.get(&session.path);
                sender.request("PUT", &session.path, &[framing]);
                let part = &payload.bytes()[..usize::try_from(sent).unwrap()];
                if framing.0 == "Content-Length" {
                    sender.send(part)
                } else {
                    sender.send_chunk(part)
                }
                let reading = thread::spawn({
                    let payload = payload.clone();
                    move || receiver.read_checked(&payload)
                });
                eventually("the bytes have moved", || {
                    (segment.sum().bytes_out - moved_before >= sent).then_some(())
                });
                leave(sender);
                let checked = reading.join().unwrap();
                checked.expect_cut();
                assert!(checked.bytes <= sent, "{} of {sent} bytes", checked.bytes);
                session.transfer(&payload, Shape::Length);
            }
        }
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[over_both]
fn nobody_within_the_wait_is_504_for_either_side() {
    let relay = Relay::with(1, &[SHORT_WAIT]);
    let session = relay.session();
    let begun = Instant::now();
    let mut receiver = relay.connect();
    receiver.get(&session.path).read_response().expect_error(504);
    assert!((1900..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let mut sender = relay.connect();
    sender.put(&session.path, b"hello");
    let answer = sender.read_response().expect_error(504);
    assert!(answer.head.closes());
    assert_eq!(answer.head.field("X-Bytes-Delivered").unwrap_or("0"), "0");
    // The receiver's connection is kept, and the key works still.
    receiver.get("/").read_response().expect(200);
    session.transfer(&Payload::new(5, 77), Shape::Length);
}

#[over_both]
fn the_wait_is_not_a_bound_of_the_transfer() {
    let relay = Relay::with(1, &[SHORT_WAIT]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "4")]);
    let begun = Instant::now();
    for byte in b"slow" {
        sender.send(&[*byte]);
        thread::sleep(Duration::from_millis(800));
    }
    assert!(begun.elapsed() > Duration::from_millis(2500));
    assert_eq!(receiver.read_response().expect(200).body, b"slow");
    sender.read_response().expect(200);
}

#[over_http("TLS does not change requests and answers")]
fn no_session_slot_is_503_with_a_time_to_retry() {
    let relay = Relay::with(2, &["memory.sessions_max = 3"]);
    let sessions: Vec<_> = (0..3).map(|_| relay.session()).collect();
    let answer = relay.connect().request("POST", "/", &[]).read_response().expect_error(503);
    assert!(answer.head.must("Retry-After").parse::<u32>().unwrap() > 0);
    sessions[1].transfer(&Payload::new(6, 10), Shape::Length);
    relay.session().transfer(&Payload::new(7, 10), Shape::Length);
}

#[over_both]
fn no_chunk_for_a_pair_is_503_for_both() {
    let relay = Relay::with(
        1,
        &[
            "memory.segment_bytes = \"8MiB\"",
            "memory.chunk_bytes = \"1MiB\"",
            "memory.lane_bytes_max = \"1MiB\"",
            "memory.pipes = 0",
            "timeouts.chunk_wait = \"1s\"",
            "limits.chunks_per_address_max = 0",
            "limits.stall_rate_bytes_min = 0",
        ],
    );
    let segment = relay.segment();
    // Pairs whose receivers read nothing take every chunk there is.
    let mut stalled = Vec::new();
    let big = Payload::new(8, 300 << 20);
    let starved = loop {
        assert!(stalled.len() < 16, "chunks never run out");
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.patience(Duration::from_millis(500));
        let sent = send_payload(&mut sender, &session.path, &big, Shape::Length);
        if receiver_has_answer(&mut receiver) == Some(503) {
            break sender;
        }
        assert!(sent.is_err(), "it must stall");
        stalled.push((receiver, sender));
    };
    let mut starved = starved;
    starved.patience(Duration::from_secs(5));
    let answer = starved.read_response().expect_error(503);
    assert!(answer.head.must("Retry-After").parse::<u32>().unwrap() > 0);
    assert!(stalled.len() >= 2, "{} pairs, {} chunks held", stalled.len(), segment.chunks_held());
    drop(stalled);
    relay.session().transfer(&Payload::new(9, 3_000_000), Shape::Length);
}

/// The status if it is an error that comes within the chunk wait.
fn receiver_has_answer(receiver: &mut crate::harness::Raw) -> Option<u16> {
    receiver.patience(Duration::from_secs(3));
    receiver.try_read_head().ok().map(|head| head.status)
}

#[over_both]
fn too_large_is_413_before_the_receiver_hears_of_it() {
    let relay = Relay::with(1, &["limits.body_bytes_max = \"1MiB\""]);
    let session = relay.session();
    let payload = Payload::new(10, 1 << 20);
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request(
        "PUT",
        &session.path,
        &[("Content-Length", "1048577"), ("Expect", "100-continue")],
    );
    let answer = sender.read_response().expect_error(413);
    assert!(answer.head.closes() && answer.interim.is_empty());
    receiver.expect_silence(Duration::from_millis(50));
    let sending = session.sender(&payload, Shape::Length);
    receiver.read_checked(&payload).expect_all(&payload);
    sending.join().unwrap().expect(200);
}

#[over_both]
fn too_large_along_the_way_is_413_and_cuts_the_receiver() {
    let relay = Relay::with(1, &["limits.body_bytes_max = \"1MiB\""]);
    let payload = Payload::new(11, 3 << 20);
    let session = relay.session();
    let receiver = session.receiver(&payload);
    session.sender(&payload, Shape::Form).join().unwrap().expect_error(413);
    drop(receiver);

    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
    // A receiver that has had no byte of it would go on waiting.
    sender.send_chunk(b"hello");
    let head = receiver.read_head();
    let sending = thread::spawn(move || {
        let chunk = [b'x'; 10_000];
        // The sender may get its answer, and then be cut, before it has sent all.
        let _ = (0..300).try_for_each(|_| {
            sender.try_send(b"2710\r\n")?;
            sender.try_send(&chunk)?;
            sender.try_send(b"\r\n")
        });
        sender.read_response()
    });
    assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
    let answer = sending.join().unwrap().expect_error(413);
    assert!(answer.head.delivered_bytes() <= 1 << 20);
}

#[over_both]
fn the_cut_of_an_unknown_length_lacks_its_final_chunk() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]).send_chunk(b"hello");
    let head = receiver.read_head();
    assert_eq!(receiver.read_exactly(10), b"5\r\nhello\r\n");
    drop(sender);
    assert_ne!(receiver.read_body(&head, |b| panic!("more: {b:?}")), Ending::Complete);
}
