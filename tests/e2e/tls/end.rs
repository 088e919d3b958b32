//! How a session of TLS ends: our end is announced whatever is in the way, and an end that a client announces counts,
//! though its line stays open.

use std::io::Read;
use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::harness::{PATIENCE, Payload, Raw, Relay, Segment, Shape, Strace, eventually, stays};

/// Says inside TLS that this was all, and leaves the line open.
fn announce_end(raw: &mut Raw) {
    raw.tls().send_close_notify();
    let mut line = raw.line().try_clone().unwrap();
    while raw.tls().wants_write() {
        raw.tls().write_tls(&mut line).unwrap();
    }
}

#[test]
fn an_announced_end_is_a_departure_of_whoever_waits() {
    let relay = Relay::https(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(1, 100_000);
    for version in [&TLS12, &TLS13] {
        let connect = || Raw::connect_by(&relay.certificate().client(&[version]), relay.address());
        let session = relay.session();
        let held = |count| {
            eventually("the place is taken or left", || {
                (segment.places_held() == count).then_some(())
            });
        };
        let mut receiver = connect();
        receiver.get(&session.path);
        held(1);
        announce_end(&mut receiver);
        held(0);
        assert!(receiver.is_gone_within(PATIENCE));
        // A sender with a short body has sent all of it; a sender that asks first has sent none.
        for (expect, body) in [("100-continue", &b""[..]), ("", b"hello")] {
            let mut fields = vec![("Content-Length", "5")];
            fields.extend((!expect.is_empty()).then_some(("Expect", expect)));
            let mut sender = connect();
            sender.request("PUT", &session.path, &fields);
            held(1);
            sender.send(body);
            if body.is_empty() {
                announce_end(&mut sender);
                held(0);
                assert!(sender.is_gone_within(PATIENCE));
            } else {
                // The relay keeps the bytes of the sender for a receiver.
                let mut receiver = connect();
                receiver.get(&session.path);
                assert_eq!(receiver.read_response().expect(200).text(), "hello");
                sender.read_response().expect(200);
            }
        }
        relay.session().transfer(&payload, Shape::Length);
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn whoever_waits_may_change_its_keys_and_is_still_heard() {
    let relay = Relay::https(1, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = Raw::connect_by(&relay.certificate().client(&[&TLS13]), relay.address());
    receiver.get(&session.path);
    eventually("it waits", || (segment.places_held() == 1).then_some(()));
    for _ in 0..3 {
        receiver.tls().refresh_traffic_keys().unwrap();
        let mut line = receiver.line().try_clone().unwrap();
        while receiver.tls().wants_write() {
            receiver.tls().write_tls(&mut line).unwrap();
        }
        // The worker reads the update while the receiver waits, and not only with the next request.
        eventually("it is read", || {
            let queues = crate::harness::tcp_queues(relay.address(), receiver.local_addr());
            queues.filter(|(_, unread)| *unread == 0).map(|_| ())
        });
    }
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
    // The relay answers a request that comes during a wait after the wait.
    let session = relay.session();
    receiver.get(&session.path).get("/");
    eventually("it waits", || (segment.places_held() == 1).then_some(()));
    relay.connect().put(&session.path, b"again").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "again");
    receiver.read_response().expect(200);
}

#[test]
fn of_a_long_record_only_the_beginning_is_taken_before_a_receiver_comes() {
    let relay = Relay::https(1, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(3, 100_000);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "100000")]);
    eventually("it waits", || (segment.places_held() == 1).then_some(()));
    sender.send(&payload.bytes());
    let left = || crate::harness::tcp_queues(relay.address(), sender.local_addr());
    eventually("some of it is looked at", || {
        left().filter(|(_, unread)| *unread < 100_000).map(|_| ())
    });
    let (_, unread) = stays("no more is taken", Duration::from_millis(300), left).unwrap();
    assert!(unread >= 100_000 - 4096, "{unread} bytes are left in the kernel");
    session.receiver(&payload).join().unwrap().expect_all(&payload);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
}

/// A connection over TLS that has had an answer: both sides have sent every message that opens a session, in whatever
/// order their packets came.
fn opened(relay: &Relay, version: &'static rustls::SupportedProtocolVersion) -> Raw {
    let client = relay.certificate().client(&[version]);
    let mut raw = Raw::connect_by(&client, relay.address());
    raw.request("GET", "/", &[]).read_response().expect(200);
    raw
}

/// How many times the worker calls `sendto` for a last answer and the notice that follows it.
fn calls_of_one(relay: &Relay, version: &'static rustls::SupportedProtocolVersion) -> usize {
    let worker = relay.worker_pids()[0];
    let mut raw = opened(relay, version);
    let mut strace = Strace::attach(&[worker], &relay.path("counted"));
    raw.request("GET", "/", &[("Connection", "close")]).read_response().expect(200);
    assert!(has_notice(&mut raw));
    drop(raw);
    strace.detach();
    strace.calls(worker).iter().filter(|call| call.name == "sendto").count()
}

/// Whether the rest of the connection is nothing but the notice of its end.
fn has_notice(raw: &mut Raw) -> bool {
    let mut line = raw.line().try_clone().unwrap();
    line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    loop {
        let state = raw.tls().process_new_packets().unwrap();
        assert_eq!(raw.tls().reader().read(&mut [0; 100]).unwrap_or(0), 0, "more than the end");
        if state.peer_has_closed() {
            return true;
        }
        if let Ok(0) | Err(_) = raw.tls().read_tls(&mut line) {
            return false;
        }
    }
}

fn open(segment: &Segment) -> u64 {
    segment.sum().open
}

#[test]
fn a_notice_that_found_no_room_is_sent_once_there_is_some() {
    let relay = Relay::https(1, &["timeouts.linger_timeout = \"10s\""]);
    let segment = relay.segment();
    let worker = relay.worker_pids()[0];
    for (index, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let last = calls_of_one(&relay, version);
        assert!(last >= 2, "{last} calls");
        let output = relay.path(&format!("failing{index}"));
        let mut raw = opened(&relay, version);
        let strace = Strace::attach_failing(&[worker], &output, "sendto", last, "EAGAIN");
        raw.request("GET", "/", &[("Connection", "close")]).read_response().expect(200);
        // The client gets nothing more, not even a FIN, which would be a cut.
        thread::scope(|scope| {
            let peeked = raw.line().try_clone().unwrap();
            let peeking = scope.spawn(move || {
                peeked.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                peeked.peek(&mut [0]).map_err(|error| error.kind())
            });
            let peeked = peeking.join().unwrap();
            assert!(matches!(peeked, Err(std::io::ErrorKind::WouldBlock)), "{peeked:?}");
        });
        assert_eq!(open(&segment), 1, "it lingers");
        // Any event of the socket makes the kernel report that there is room.
        raw.send(b"x");
        assert!(has_notice(&mut raw), "cut without a notice");
        drop((raw, strace));
        eventually("it is closed", || (open(&segment) == 0).then_some(()));
    }
}
