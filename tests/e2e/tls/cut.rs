//! An attacker cannot shorten a transfer by cutting the line: an end counts only if it was announced inside TLS.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::harness::{Counters, Payload, Raw, Relay, Segment, Shape, eventually};

/// Sends a FIN without a notice inside TLS, as an attacker on the way can.
fn cut_line(raw: &Raw) {
    raw.line().shutdown(Shutdown::Write).unwrap();
}

/// Waits until so many bytes of bodies have come since `before`.
fn come(segment: &Segment, before: Counters, bytes: u64) {
    let have = || segment.sum().bytes_in >= before.bytes_in + bytes;
    eventually("the bytes come", || have().then_some(()));
}

/// Waits until so many bytes have come and the receiver has had some: a receiver that has had none when its sender leaves
/// waits for the next sender.
fn moved(segment: &Segment, before: Counters, bytes: u64) {
    come(segment, before, bytes);
    let have = || segment.sum().bytes_out > before.bytes_out;
    eventually("the receiver has some", || have().then_some(()));
}

#[test]
fn a_sender_whose_line_is_cut_is_no_success() {
    let relay = Relay::https(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(1, 100_000);
    for framing in [("Content-Length", "100000"), ("Transfer-Encoding", "chunked")] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        let before = segment.sum();
        sender.request("PUT", &session.path, &[framing]);
        if framing.0 == "Content-Length" {
            sender.send(&payload.bytes()[..99_999]);
        } else {
            sender.send_chunk(&payload.bytes());
        }
        let reading = thread::spawn({
            let payload = payload.clone();
            move || receiver.read_checked(&payload)
        });
        moved(&segment, before, 99_999);
        cut_line(&sender);
        reading.join().unwrap().expect_cut();
        session.transfer(&payload, Shape::Length);
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn a_record_that_is_cut_or_bent_is_no_payload() {
    let relay = Relay::https(1, &[]);
    let segment = relay.segment();
    for bend in [false, true] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        let before = segment.sum();
        sender.request("PUT", &session.path, &[("Content-Length", "2000")]).send(&[b'a'; 1000]);
        moved(&segment, before, 1000);
        sender.tls().writer().write_all(&[b'b'; 1000]).unwrap();
        let mut record = Vec::new();
        sender.tls().write_tls(&mut record).unwrap();
        if bend {
            record[500] ^= 1;
        } else {
            record.pop();
        }
        sender.line().write_all(&record).unwrap();
        cut_line(&sender);
        let mut got = Vec::new();
        let head = receiver.read_head();
        let ending = receiver.read_body(&head, |bytes| got.extend_from_slice(bytes));
        assert_ne!(ending, crate::harness::Ending::Complete);
        assert!(got.iter().all(|byte| *byte == b'a') && got.len() <= 1000, "{}", got.len());
    }
}

#[test]
fn the_framing_says_that_a_body_is_whole_and_the_line_may_be_cut_then() {
    let relay = Relay::https(1, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(2, 10_000);
    let receiving = session.receiver(&payload);
    let mut sender = relay.connect();
    sender.put(&session.path, &payload.bytes());
    come(&segment, Counters::default(), payload.len());
    cut_line(&sender);
    receiving.join().unwrap().expect_all(&payload);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
}

/// Reads to the end of the connection; returns whether the end was announced.
fn ends_with_notice(raw: &mut Raw) -> bool {
    raw.line().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut line = raw.line().try_clone().unwrap();
    loop {
        match raw.tls().read_tls(&mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        let state = raw.tls().process_new_packets().unwrap();
        let _ = raw.tls().reader().read(&mut [0; 100_000]);
        if state.peer_has_closed() {
            return true;
        }
    }
}

#[test]
fn an_answer_that_is_cut_ends_without_a_notice_and_others_with_one() {
    let relay = Relay::https(2, &["timeouts.idle_timeout = \"300ms\""]);
    let segment = relay.segment();
    for version in [&TLS12, &TLS13] {
        let connect = || Raw::connect_by(&relay.certificate().client(&[version]), relay.address());
        for framing in [("Content-Length", "1000000"), ("Transfer-Encoding", "chunked")] {
            let session = relay.session();
            let mut receiver = connect();
            receiver.get(&session.path);
            let mut sender = connect();
            let before = segment.sum().bytes_out;
            sender.request("PUT", &session.path, &[framing]);
            if framing.0 == "Content-Length" {
                sender.send(b"abc")
            } else {
                sender.send_chunk(b"abc")
            }
            eventually("it moves", || (segment.sum().bytes_out > before).then_some(()));
            drop(sender);
            assert!(!ends_with_notice(&mut receiver), "{framing:?}");
        }
        let mut asked_to_close = connect();
        asked_to_close.request("GET", "/", &[("Connection", "close")]);
        assert!(ends_with_notice(&mut asked_to_close));
        let mut idle = connect();
        idle.get("/");
        assert!(ends_with_notice(&mut idle));
        let mut parting = connect();
        parting.get("/").read_response().expect(200);
        parting.finish();
        assert!(ends_with_notice(&mut parting));
    }
}
