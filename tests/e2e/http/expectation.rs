//! `Expect: 100-continue`, final answers before the body was read, and the lingering close that lets a client see them.

use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Payload, Raw, Relay, Session, Strace, send_part};

const EXPECT: (&str, &str) = ("Expect", "100-continue");

fn expecting(session: &Session, length: &str) -> Raw {
    let mut sender = session.connect();
    sender.request("PUT", &session.path, &[("Content-Length", length), EXPECT]);
    sender
}

#[over_both]
fn continue_comes_with_the_receiver_and_not_before() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut sender = expecting(&session, "5");
    sender.expect_silence(Duration::from_millis(150));
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    sender.read_continue();
    sender.send(b"hello");
    assert_eq!(receiver.read_response().expect(200).body, b"hello");
    sender.read_response().expect(200);
}

#[over_both]
fn continue_comes_at_once_when_the_receiver_is_there() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    relay.segment().wait_until_held(1);
    let mut sender = expecting(&session, "5");
    sender.read_continue();
    receiver.expect_silence(Duration::from_millis(50));
    sender.send(b"hello");
    assert_eq!(receiver.read_response().expect(200).body, b"hello");
    sender.read_response().expect(200);
}

#[over_both]
fn a_late_continue_is_left_out_once_bytes_have_come() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut sender = expecting(&session, "5");
    sender.send(b"he");
    relay.segment().wait_until_held(1);
    let receiver = session.receiver(&Payload::new(1, 5));
    sender.send(b"llo");
    let answer = sender.read_response().expect(200);
    assert_eq!(answer.interim, [0_u16; 0]);
    assert_eq!(receiver.join().unwrap().bytes, 5);
}

#[over_both]
fn no_interim_answer_is_given_unasked() {
    let relay = Relay::start();
    let session = relay.session();
    let receiver = session.receiver(&Payload::new(1, 5));
    let mut sender = relay.connect();
    sender.put(&session.path, b"hello");
    assert_eq!(sender.read_response().expect(200).interim, [0_u16; 0]);
    receiver.join().unwrap();
}

#[over_both]
fn a_body_that_is_read_with_its_head_is_asked_for_at_once() {
    let relay = Relay::start();
    let session = relay.session();
    let chunked = ("Transfer-Encoding", "chunked");
    for (method, target, status) in [
        ("POST", "/", 201),
        ("PUT", "/session", 201),
        ("HEAD", &*session.path, 200),
        ("PUT", "/", 405),
        ("DELETE", &session.path, 403),
    ] {
        let mut raw = relay.connect();
        raw.request(method, target, &[chunked, EXPECT]).read_continue();
        raw.expect_silence(Duration::from_millis(20));
        raw.send_last_chunk();
        let answer = raw.read_response().expect(status);
        assert_eq!(answer.interim, [0_u16; 0], "{method} {target}");
        // The next request on the connection gets a `100` of its own.
        raw.request("POST", "/", &[chunked, EXPECT]).read_continue();
        raw.send_last_chunk();
        raw.read_response().expect(201);
    }
    let mut raw = relay.connect();
    raw.request("POST", "/", &[chunked, EXPECT]).read_continue();
    raw.send_chunk(b"x");
    raw.read_response().expect_error(400);
    let mut raw = relay.connect();
    raw.request("POST", "/", &[("Content-Length", "1"), EXPECT]).read_response().expect_error(400);
    // A client that does not wait needs no answer in between.
    let mut raw = relay.connect();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n";
    raw.send(head.as_bytes());
    assert_eq!(raw.read_response().expect(201).interim, [0_u16; 0]);
}

#[over_http("TLS does not change requests and answers")]
fn another_expectation_is_refused() {
    let relay = Relay::start();
    let session = relay.session();
    let mut raw = relay.connect();
    raw.request("PUT", &session.path, &[("Content-Length", "1"), ("Expect", "200-ok")]);
    raw.read_response().expect_error(417);
}

#[over_both]
fn a_sender_is_not_read_before_the_pairing() {
    let relay = Relay::start();
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(2, 100 << 20);
    let mut sender = relay.connect();
    sender.patience(Duration::from_millis(300));
    assert!(
        crate::harness::send_payload(
            &mut sender,
            &session.path,
            &payload,
            crate::harness::Shape::Length
        )
        .is_err()
    );
    assert_eq!((segment.sum().bytes_in, segment.chunks_held()), (0, 0));
    assert_eq!(segment.places_held(), 1);
}

#[over_both]
fn a_final_answer_before_the_body_says_close() {
    let relay = Relay::with(1, &["timeouts.wait_timeout = \"1s\""]);
    let dead = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let session = relay.session();
    let revoked = |s: &Session, status| (s.path.clone(), status);
    for (path, status) in [(dead.to_owned(), 404), revoked(&session, 504), ("/".to_owned(), 405)] {
        let mut sender = relay.connect();
        sender.request("PUT", &path, &[("Content-Length", "1000"), EXPECT]);
        let answer = sender.read_response().expect_error(status);
        assert!(answer.head.closes(), "{status}: {:#?}", answer.head);
        assert_eq!(answer.interim, [0_u16; 0]);
    }
}

#[over_both]
fn a_client_in_full_flow_sees_its_answer_and_not_a_reset() {
    let relay = Relay::with(1, &["limits.linger_bytes_max = \"4MiB\""]);
    for len in [1, 1000, 900 << 10, 3 << 20] {
        let mut sender = relay.connect();
        sender.put("/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &Payload::new(3, len).bytes());
        sender.finish();
        let answer = sender.read_response().expect_error(404);
        assert!(answer.head.closes());
        sender.expect_close();
    }
}

#[over_both]
fn what_follows_a_final_answer_is_never_parsed() {
    let relay = Relay::start();
    let session = relay.session();
    let mut sender = relay.connect();
    sender.request("PUT", "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &[("Content-Length", "100")]);
    let bearer = format!("Bearer {}", session.token);
    sender.request("DELETE", &session.path, &[("Authorization", &bearer)]);
    sender.read_response().expect_error(404);
    sender.finish();
    sender.expect_close();
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
}

#[over_both]
fn lingering_is_bounded_in_bytes_and_time() {
    let relay = Relay::with(
        1,
        &["timeouts.linger_timeout = \"1s\"", "limits.linger_bytes_max = \"64KiB\""],
    );
    let mut endless = relay.connect();
    endless.request("PUT", "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &[("Content-Length", "1000000000")]);
    let block = vec![7; 64 << 10];
    let start = std::time::Instant::now();
    while endless.try_send(&block).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(8), "it reads for ever");
    }
    let mut silent = relay.connect();
    silent.request("PUT", "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &[("Content-Length", "10")]);
    silent.read_response().expect_error(404);
    assert!(silent.is_gone_within(Duration::from_secs(4)), "it lingers for ever");
}

#[over_http("TLS does not change requests and answers")]
fn those_that_linger_are_read_from_a_little_at_a_time() {
    let relay = Relay::with(1, &["limits.linger_bytes_max = \"64MiB\""]);
    let workers = relay.worker_pids();
    let mut strace = Strace::watch(&workers, "epoll_wait,recvfrom", &relay.path("trace"));
    let mut raw = relay.connect();
    raw.request("PUT", "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", &[("Content-Length", "1000000000")]);
    // The traced worker reads more slowly than this is sent: it never finds that there is no more.
    let _ = send_part(&mut raw, &Payload::new(3, 64 << 20), 0..16 << 20);
    strace.detach();
    let calls = strace.text(workers[0]);
    let turns = calls.split("epoll_wait").map(|turn| turn.matches("recvfrom").count());
    let (most, all) = (turns.clone().max().unwrap(), turns.sum::<usize>());
    assert!(all > 200 && most <= 5, "{most} of {all} reads in one turn");
}
