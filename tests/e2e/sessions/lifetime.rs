//! Time: how long a session lives, what its end does to waits and transfers, and the minimum rate.

use std::thread;
use std::time::{Duration, Instant};

use protocols::over_both;

use crate::harness::{FIRM, Payload, Relay, Session, Shape, eventually, send_payload};

const SHORT_LIFE: &str = "timeouts.session_lifetime = \"2s\"";

/// A session that is about to expire expires.
fn expect_unknown_soon(session: &Session) {
    eventually("the key is unknown", || {
        let head = session.connect().request("HEAD", &session.path, &[]).read_response();
        (head.status() == 404).then_some(())
    });
    session.connect().get(&session.path).read_response().expect_error(404);
}

#[over_both]
fn waits_end_with_the_session_and_do_not_extend_it() {
    let relay = Relay::with(2, &[SHORT_LIFE]);
    let segment = relay.segment();
    let begun = Instant::now();
    let (one, two, three) = (relay.session(), relay.session(), relay.session());
    let mut receiver = relay.connect();
    receiver.get(&one.path);
    let mut sender = relay.connect();
    sender.put(&two.path, b"hello");
    receiver.read_response().expect_error(410);
    let answer = sender.read_response().expect_error(410);
    assert!(answer.head.closes());
    assert!((1800..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    for session in [one, two, three] {
        expect_unknown_soon(&session);
    }
    segment.wait_until_held(0);
}

#[over_both]
fn a_running_transfer_outlives_the_session() {
    let relay = Relay::with(2, &[SHORT_LIFE]);
    let session = relay.session();
    let begun = Instant::now();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "7")]);
    for byte in b"lasting" {
        sender.send(&[*byte]);
        thread::sleep(Duration::from_millis(500));
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(receiver.read_response().expect(200).body, b"lasting");
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 7);
}

#[over_both]
fn expired_slots_are_issued_again() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"1s\"", "memory.sessions_max = 2"]);
    let old = [relay.session(), relay.session()];
    relay.connect().request("POST", "/", &[]).read_response().expect_error(503);
    let fresh = eventually("a slot is free again", || {
        let answer = relay.connect().request("POST", "/", &[]).read_response();
        (answer.status() == 201).then(|| answer.text().trim_end().to_owned())
    });
    assert!(old.iter().all(|s| s.url != fresh));
    old.iter().for_each(expect_unknown_soon);
}

#[over_both]
fn a_transfer_below_the_minimum_rate_is_cut() {
    let relay = Relay::with(
        2,
        &[FIRM, "limits.rate_bytes_min = \"1KiB\"", "timeouts.rate_window = \"1s\""],
    );
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "1000")]).send(b"hello");
    let begun = Instant::now();
    let head = receiver.read_head();
    assert_eq!(receiver.read_exactly(5), b"hello");
    assert_ne!(receiver.read_body(&head, |_| ()), crate::harness::Ending::Complete);
    let answer = sender.read_response();
    assert!(answer.status() == 408, "{:#?}", answer.head);
    assert!(answer.head.delivered_bytes() <= 5 && answer.head.closes());
    assert!((800..6000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    eventually("all is free", || {
        (segment.places_held() == 0 && segment.chunks_held() == 0).then_some(())
    });
}

#[over_both]
fn a_transfer_above_the_minimum_rate_goes_on() {
    let relay =
        Relay::with(2, &[FIRM, "limits.rate_bytes_min = 100", "timeouts.rate_window = \"1s\""]);
    let session = relay.session();
    let payload = Payload::new(1, 6000);
    let receiver = session.receiver(&payload);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "6000")]);
    for block in payload.bytes().chunks(200) {
        sender.send(block);
        thread::sleep(Duration::from_millis(100));
    }
    receiver.join().unwrap().expect_all(&payload);
    sender.read_response().expect(200);
}

#[over_both]
fn a_receiver_that_stops_reading_is_cut_by_the_minimum_rate() {
    let relay = Relay::with(2, &[FIRM, "timeouts.rate_window = \"1s\""]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    let _ = send_payload(&mut sender, &session.path, &Payload::new(2, 200 << 20), Shape::Length);
    let answer = sender.read_response();
    assert!(answer.status() == 502, "{:#?}", answer.head);
    eventually("all is free", || {
        (segment.places_held() == 0 && segment.chunks_held() == 0).then_some(())
    });
    drop(receiver);
}
