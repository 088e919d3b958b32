//! Step 2: sending and receiving, in both orders and in every shape of body; the fields of the sender's head that reach
//! the receiver; and the end of a session.

use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Ending, Payload, Placement, Relay, Shape};

const SHAPES: [Shape; 4] =
    [Shape::Length, Shape::Chunked(usize::MAX), Shape::Chunked(7), Shape::Form];

#[over_both]
fn every_shape_in_both_orders_on_one_worker_and_two() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        for shape in SHAPES {
            for len in [0, 1, 5000] {
                for receiver_first in [true, false] {
                    let session = relay.session();
                    let payload = Payload::new(len + 1, len);
                    let (mut receiver, mut sender) = relay.pair(&segment, placement);
                    let before = segment.all();
                    if receiver_first {
                        receiver.get(&session.path);
                    }
                    crate::harness::send_payload(&mut sender, &session.path, &payload, shape)
                        .unwrap();
                    if !receiver_first {
                        receiver.get(&session.path);
                    }
                    receiver.read_checked(&payload).expect_all(&payload);
                    let answer = sender.read_response().expect(200);
                    assert_eq!(answer.head.delivered_bytes(), len, "{placement:?} {shape:?}");
                    placement.expect_moved(&segment, &before, len);
                }
            }
        }
    }
}

#[over_both]
fn megabytes_in_every_shape() {
    let relay = Relay::with(2, &[]);
    for shape in [Shape::Length, Shape::Chunked(usize::MAX), Shape::Chunked(4000), Shape::Form] {
        relay.session().transfer(&Payload::new(9, 20_000_003), shape);
    }
}

#[over_both]
fn sent_by_put_and_post_on_each_path_that_means_the_session() {
    let relay = Relay::start();
    for (method, suffix) in
        [("PUT", ""), ("PUT", "/"), ("PUT", "/name.txt"), ("POST", ""), ("POST", "/")]
    {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender
            .request(method, &format!("{}{suffix}", session.path), &[("Content-Length", "2")])
            .send(b"hi");
        assert_eq!(receiver.read_response().expect(200).body, b"hi", "{method} {suffix}");
        sender.read_response().expect(200);
    }
}

#[over_both]
fn deeper_paths_are_unknown() {
    let relay = Relay::start();
    let session = relay.session();
    for (method, suffix) in [
        ("PUT", "/a/b"),
        ("PUT", "//"),
        ("PUT", "/a/"),
        ("GET", "/a/b"),
        ("GET", "//"),
        ("HEAD", "/a/"),
        ("DELETE", "/a/b"),
        ("POST", "/a/b"),
    ] {
        let mut raw = relay.connect();
        raw.request(method, &format!("{}{suffix}", session.path), &[("Content-Length", "0")]);
        raw.patience(Duration::from_secs(3));
        assert_eq!(raw.read_response().status(), 404, "{method} {suffix}");
    }
    session.transfer(&Payload::new(1, 10), Shape::Length);
}

#[over_both]
fn length_and_type_reach_the_receiver() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    let kind = "text/csv; charset=utf-8; header=present";
    sender
        .request("POST", &session.path, &[("Content-Length", "4"), ("Content-Type", kind)])
        .send(b"a,b\n");
    let answer = receiver.read_response().expect(200);
    assert_eq!(answer.head.must("Content-Length"), "4");
    assert_eq!(answer.head.must("Content-Type"), kind);
    assert_eq!(answer.head.must("Content-Disposition"), "attachment");
    sender.read_response().expect(200);
}

#[over_http("TLS does not change requests and answers")]
fn a_trailing_slash_means_the_same_session() {
    let relay = Relay::start();
    let session = relay.session();
    let path = format!("{}/", session.path);
    relay.connect().request("HEAD", &path, &[]).read_response().expect(200);
    relay.connect().request("DELETE", &path, &[]).read_response().expect_error(403);
    let mut receiver = relay.connect();
    receiver.get(&path);
    let mut sender = relay.connect();
    sender.request("POST", &path, &[("Content-Length", "2")]).send(b"hi");
    assert_eq!(receiver.read_response().expect(200).body, b"hi");
    sender.read_response().expect(200);
    relay.connect().request("HEAD", &path, &[]).read_response().expect(404);
    let session = relay.session();
    let bearer = format!("Bearer {}", session.token);
    let path = format!("{}/", session.path);
    relay
        .connect()
        .request("DELETE", &path, &[("Authorization", &bearer)])
        .read_response()
        .expect(200);
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(404);
}

#[over_both]
fn an_unknown_length_is_chunked() {
    let relay = Relay::start();
    for shape in [Shape::Chunked(10), Shape::Form] {
        let session = relay.session();
        let payload = Payload::new(5, 100);
        let receiver = session.receiver(&payload);
        session.sender(&payload, shape).join().unwrap().expect(200);
        let checked = receiver.join().unwrap();
        checked.expect_all(&payload);
        assert_eq!(checked.head.must("Transfer-Encoding"), "chunked");
    }
}

#[over_both]
fn the_receivers_head_waits_for_the_first_byte() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "3")]);
    receiver.expect_silence(Duration::from_millis(100));
    sender.send(b"abc");
    assert_eq!(receiver.read_response().expect(200).body, b"abc");
    sender.read_response().expect(200);
}

#[over_both]
fn a_second_sender_or_receiver_is_turned_away() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    relay.segment().wait_until_held(1);
    relay.connect().get(&session.path).read_response().expect_error(409);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "6")]).send(b"abc");
    let head = receiver.read_head();
    for _ in 0..4 {
        relay.connect().get(&session.path).read_response().expect_error(409);
        let mut second = relay.connect();
        second.put(&session.path, b"other");
        second.read_response().expect_error(409);
    }
    sender.send(b"def");
    let mut body = Vec::new();
    assert_eq!(receiver.read_body(&head, |b| body.extend_from_slice(b)), Ending::Complete);
    assert_eq!(body, b"abcdef");
    sender.read_response().expect(200);
}

#[over_both]
fn a_second_sender_is_turned_away_while_the_first_waits() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let payload = Payload::new(6, 64);
    let mut first = relay.connect();
    first.put(&session.path, &payload.bytes());
    relay.segment().wait_until_held(1);
    let mut second = relay.connect();
    second.put(&session.path, b"other");
    second.read_response().expect_error(409);
    session.receiver(&payload).join().unwrap().expect_all(&payload);
    first.read_response().expect(200);
}

#[over_both]
fn a_complete_transfer_ends_the_session() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    assert_eq!(segment.sessions_live(), 1);
    session.transfer(&Payload::new(7, 0), Shape::Length);
    for _ in 0..4 {
        relay.connect().get(&session.path).read_response().expect_error(404);
        let mut sender = relay.connect();
        sender.put(&session.path, b"again");
        sender.read_response().expect_error(404);
    }
    assert_eq!(segment.sessions_live(), 0);
}

#[over_both]
fn a_receiver_of_http_1_0_gets_a_known_length() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.send(format!("GET {} HTTP/1.0\r\n\r\n", session.path).as_bytes());
    let mut sender = relay.connect();
    sender.put(&session.path, b"known");
    let answer = receiver.read_response().expect(200);
    assert_eq!((answer.head.must("Content-Length"), &answer.body[..]), ("5", &b"known"[..]));
    receiver.expect_close();
    sender.read_response().expect(200);
}

#[over_both]
fn a_receiver_of_http_1_0_is_refused_an_unknown_length_and_the_sender_waits_on() {
    for workers in [1, 2] {
        let relay = Relay::with(workers, &[]);
        let segment = relay.segment();
        for old_one_first in [true, false] {
            let session = relay.session();
            let payload = Payload::new(8, 3000);
            let mut old = relay.connect();
            let ask = format!("GET {} HTTP/1.0\r\n\r\n", session.path);
            if old_one_first {
                old.send(ask.as_bytes());
                segment.wait_until_held(1);
            }
            let mut sender = relay.connect();
            let sent = crate::harness::send_payload(
                &mut sender,
                &session.path,
                &payload,
                Shape::Chunked(100),
            );
            sent.unwrap();
            if !old_one_first {
                segment.wait_until_held(1);
                old.send(ask.as_bytes());
            }
            old.read_response().expect_error(505);
            session.receiver(&payload).join().unwrap().expect_all(&payload);
            assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 3000);
            segment.wait_until_held(0);
        }
    }
}

#[over_both]
fn a_stalled_pair_does_not_slow_another() {
    let relay = Relay::with(2, &["memory.segment_bytes = \"8MiB\""]);
    let (stalled, lively) = (relay.session(), relay.session());
    let mut receiver = relay.connect();
    receiver.get(&stalled.path);
    let big = Payload::new(10, 200 << 20);
    let mut sender = relay.connect();
    sender.patience(Duration::from_millis(300));
    assert!(
        crate::harness::send_payload(&mut sender, &stalled.path, &big, Shape::Length).is_err(),
        "it must stall"
    );
    let payload = Payload::new(11, 50 << 20);
    let start = std::time::Instant::now();
    lively.transfer(&payload, Shape::Length);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
