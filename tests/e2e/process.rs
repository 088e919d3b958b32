//! The processes as an operator sees them: titles, signals, and what happens to transfers when the program stops.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Ending, Payload, Raw, Relay, Shape, eventually};

#[test]
fn ps_shows_who_is_who() {
    let relay = Relay::with(3, &[]);
    assert_eq!(relay.master().title(), "idontstore: master process");
    let titles: Vec<_> = relay.worker_pids().iter().map(|p| p.title()).collect();
    for (i, title) in titles.iter().enumerate() {
        let number: usize = title.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(number == i || number == i + 1, "{titles:?}");
    }
    let session = relay.session();
    for pid in [vec![relay.master()], relay.worker_pids()].concat() {
        let shown = format!("{}{}", pid.title(), pid.read("comm"));
        assert!(!shown.contains(&session.key));
    }
}

#[test]
fn every_listener_serves_the_same_sessions() {
    let relay = Relay::with(2, &["[[listener]]\naddress = \"[::1]:0\""]);
    let said = relay.wait_for_output("listening on http://[::1]:");
    let line = said.lines().find(|l| l.starts_with("listening on http://[::1]:")).expect(&said);
    let other: SocketAddr = line.trim_start_matches("listening on http://").parse().unwrap();
    let ours = said.lines().filter(|l| l.starts_with("listening on http://")).count();
    assert_eq!(ours, 2, "{said}");
    let session = relay.session();
    let mut receiver = Raw::connect(other);
    receiver.get(&session.path);
    session.sender(&Payload::new(1, 10), Shape::Length).join().unwrap().expect(200);
    assert_eq!(receiver.read_response().expect(200).body.len(), 10);
    let issued = Raw::connect(other).request("POST", "/", &[]).read_response().expect(201);
    assert!(issued.text().starts_with(&format!("http://{other}/")), "{}", issued.text());
}

#[test]
fn keys_and_tokens_never_enter_the_log() {
    let relay = Relay::with(2, &["log.level = \"trace\""]);
    let session = relay.session();
    session.transfer(&Payload::new(1, 1000), Shape::Length);
    let revoked = relay.session();
    let bearer = format!("Bearer {}", revoked.token);
    relay
        .connect()
        .request("DELETE", &revoked.path, &[("Authorization", &bearer)])
        .read_response()
        .expect(200);
    let log = relay.errors();
    for secret in [&session.key, &session.token, &revoked.key, &revoked.token] {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
}

#[test]
fn shared_memory_never_holds_a_key_or_a_token() {
    let relay = Relay::start();
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path).expect_silence(Duration::from_millis(50));
    let mut bytes = Vec::new();
    relay.segment().file().read_to_end(&mut bytes).unwrap();
    for secret in [&session.key, &session.token] {
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none());
    }
}

#[test]
pub(crate) fn term_and_int_stop_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut relay = Relay::with(2, &[]);
        let workers = relay.worker_pids();
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
        let head = receiver.read_head();
        let begun = Instant::now();
        relay.signal(signal);
        assert_eq!(relay.wait(), 0, "{signal}: {}", relay.errors());
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(workers.iter().all(|p| p.is_gone_within(Duration::from_secs(1))));
        assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
        assert!(TcpStream::connect(relay.address()).is_err());
    }
}

#[test]
pub(crate) fn quit_lets_running_transfers_finish() {
    let mut relay = Relay::with(2, &[]);
    let workers = relay.worker_pids();
    let session = relay.session();
    let mut idle = relay.connect();
    idle.get("/").read_response().expect(200);
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    let head = receiver.read_head();
    relay.signal(Signal::SIGQUIT);
    eventually("the port is closed", || TcpStream::connect(relay.address()).is_err().then_some(()));
    assert!(idle.is_gone_within(Duration::from_secs(5)), "an idle connection is closed");
    assert!(workers.iter().any(|p| p.is_alive()), "a transfer still runs");
    sender.send(b"world");
    let mut body = Vec::new();
    assert_eq!(receiver.read_body(&head, |b| body.extend_from_slice(b)), Ending::Complete);
    assert_eq!(body, b"helloworld");
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 10);
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!(workers.iter().all(|p| p.is_gone_within(Duration::from_secs(1))));
}

#[test]
pub(crate) fn quit_has_a_deadline() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"1s\""]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    let head = receiver.read_head();
    let begun = Instant::now();
    relay.signal(Signal::SIGQUIT);
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!((900..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
}

#[test]
fn term_cuts_a_graceful_stop_short() {
    let mut relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    receiver.read_head();
    relay.signal(Signal::SIGQUIT);
    eventually("it is stopping", || TcpStream::connect(relay.address()).is_err().then_some(()));
    relay.signal(Signal::SIGTERM);
    let begun = Instant::now();
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
pub(crate) fn quit_sends_away_a_pair_that_has_met_and_not_begun() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"60s\""]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]);
    segment.wait_until_held(2);
    relay.signal(Signal::SIGQUIT);
    receiver.read_response().expect_error(503);
    sender.read_response().expect_error(503);
    drop((receiver, sender));
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
}
