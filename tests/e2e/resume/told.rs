//! A file was delivered, and its sender left before its answer: the next attempt gets the answer.

use nix::sys::signal::Signal;
use protocols::over_both;

use super::attempts::{expect_whole_report, get, get_rest, put, put_all};
use crate::harness::{Payload, Raw, Relay, Session, eventually};

/// A session in which all of `bytes` was delivered, and whose sender left before its answer.
fn untold(relay: &Relay, bytes: &[u8], fields: &[(&str, &str)]) -> Session {
    let (session, segment) = (relay.session(), relay.segment());
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let before = segment.sum().bytes_in;
    let sender = put(&session, 0, bytes.len() as u64, bytes, fields);
    eventually("all of it is in the relay", || {
        (segment.sum().bytes_in == before + bytes.len() as u64).then_some(())
    });
    sender.reset();
    assert_eq!(receiver.read_response().expect(200).body, bytes);
    eventually("the session is over", || (segment.sessions_live() == 0).then_some(()));
    session
}

#[over_both]
fn a_sender_that_was_not_told_is_told_when_it_comes_again() {
    let relay = Relay::with(2, &[]);
    let whole = Payload::new(7, 400_000).bytes();
    let total = whole.len() as u64;
    for start in [0, total - 10] {
        let session = untold(&relay, &whole, &[]);
        let at = usize::try_from(start).unwrap();
        put(&session, 0, total, b"", &[("ETag", "\"x\"")]).read_response().expect_error(404);
        put(&session, 0, total + 1, b"", &[]).read_response().expect_error(404);
        let mut stranger = Raw::connect_from("127.0.0.2".parse().unwrap(), relay.address());
        let length = total.to_string();
        let fields = [("Content-Length", &*length)];
        stranger.request("PUT", &session.path, &fields).read_response().expect_error(404);
        put(&session, 0, total, b"", &[("X-Receipt", "x")]).read_response().expect_error(404);
        get(&session, &[]).read_response().expect_error(404);
        let mut again = put(&session, start, total, b"", &[]);
        let _ = again.try_send(&whole[at..]);
        expect_whole_report(again.read_response(), total, 0);
        // The sender has its answer now.
        drop(again);
        eventually("it knows", || {
            let status = put(&session, 0, total, b"", &[]).read_response().status();
            (status == 404).then_some(())
        });
    }
    let session = untold(&relay, &whole, &[]);
    let mut waits_for_the_word = put(&session, 0, total, b"", &[("Expect", "100-continue")]);
    assert!(waits_for_the_word.read_response().expect(200).interim.is_empty());
}

#[over_both]
fn a_sender_that_was_told_finds_no_session_any_more() {
    let relay = Relay::with(2, &["limits.unknown_keys_per_second_max = 0"]);
    let session = relay.session();
    let mut receiver = get(&session, &[]);
    let mut sender = put_all(&session, b"0123456789");
    sender.read_response().expect(200);
    receiver.read_response().expect(200);
    sender.put(&session.path, b"9876543210").read_response().expect_error(404);
    put_all(&session, b"9876543210").read_response().expect_error(404);
    // A sender finds no session either once it and the relay have closed the connection.
    for _ in 0..20 {
        let session = relay.session();
        let mut receiver = get(&session, &[]);
        let mut sender = put(&session, 0, 10, b"0123456789", &[("Connection", "close")]);
        sender.read_response().expect(200);
        sender.expect_close();
        drop(sender);
        receiver.read_response().expect(200);
        eventually("it knows", || {
            let status = put_all(&session, b"9876543210").read_response().status();
            assert!(matches!(status, 404 | 409), "no receiver got that: {status}");
            (status == 404).then_some(())
        });
    }
}

#[over_both]
fn what_was_delivered_is_known_though_the_senders_worker_dies_before_it_hears() {
    let relay = Relay::with(2, &[]);
    let (session, segment) = (relay.session(), relay.segment());
    let whole = Payload::new(9, 400_000).bytes();
    let mut receiver =
        relay.on_worker(0, &segment, || Raw::connect_with_receive_buffer(relay.address(), 4096));
    let mut sender = relay.on_worker(1, &segment, || relay.connect());
    receiver.get(&session.path);
    segment.wait_until_held(1);
    sender.put(&session.path, &whole);
    eventually("all of it is in the relay", || {
        (segment.sum().bytes_in == whole.len() as u64).then_some(())
    });
    let worker = relay.worker_pids()[1];
    worker.signal(Signal::SIGSTOP);
    assert_eq!(receiver.read_response().expect(200).body, whole);
    eventually("its worker knows", || (segment.delivered_bytes() == 400_000).then_some(()));
    worker.signal(Signal::SIGKILL);
    segment.wait_until_held(0);
    let answer = get_rest(&session, 400_000).read_response().expect_error(416);
    assert_eq!(answer.head.must("Content-Range"), "bytes */400000");
    let mut again = put(&session, 0, 400_000, b"", &[]);
    let _ = again.try_send(&whole);
    expect_whole_report(again.read_response(), 400_000, 0);
    get(&session, &[]).read_response().expect_error(404);
}

#[over_both]
fn a_receiver_that_has_all_of_what_was_delivered_is_told() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = get(&session, &[]);
    put_all(&session, b"0123456789").read_response().expect(200);
    receiver.read_response().expect(200);
    let answer = get_rest(&session, 10).read_response().expect_error(416);
    assert_eq!(answer.head.must("Content-Range"), "bytes */10");
    let of_another = [("Range", "bytes=10-"), ("If-Range", "\"0123456789abcdef\"")];
    for fields in [&[][..], &[("Range", "bytes=5-")], &[("Range", "bytes=11-")], &of_another] {
        get(&session, fields).read_response().expect_error(404);
    }
    session.connect().request("HEAD", &session.path, &[]).read_response().expect(404);
}

#[over_both]
fn a_sender_that_was_not_told_may_ask_for_less_the_next_time() {
    let relay = Relay::start();
    let session = untold(&relay, &Payload::new(8, 400_000).bytes(), &[]);
    let again = put(&session, 0, 400_000, b"", &[("X-Receipt", "sent")]).read_response();
    assert_eq!(again.expect(200).head.must("X-Receipt"), "sent");
}
