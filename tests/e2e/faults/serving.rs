//! A serving worker with calls that fail: a failed call costs the worker one request or connection at most. The worker
//! goes on, serves all others, does not spin, and keeps nothing.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::cpu_share;
use crate::harness::{Fault, Payload, Raw, Relay, Session, Shape, Strace, eventually};

/// How long a fault that does not go away is watched.
const SPAN: Duration = Duration::from_secs(1);
/// How long a client waits that may never be answered.
const CLIENT_PATIENCE: Duration = Duration::from_millis(100);
/// What strace takes for the third call.
const LATER: &str = "3";
/// How often a fault that does not go away is met.
const ATTEMPTS: usize = 3;
/// An attempt makes each call at least once, unless a busy machine makes it late: some attempts to spare.
const ATTEMPTS_TO_A_LATER_CALL: usize = 10;
/// Relays at a time.
const THREADS: usize = 4;

const FAULTS: &[(&str, &str)] = &[
    ("accept4", "EMFILE"),
    ("accept4", "ENOMEM"),
    ("epoll_ctl", "ENOMEM"),
    ("epoll_ctl", "ENOSPC"),
    ("recvfrom", "ENOMEM"),
    ("sendto", "ENOBUFS"),
    ("sendto", "EAGAIN"),
    ("writev", "ENOMEM"),
    ("getrandom", "EIO"),
    ("ioctl", "ENOMEM"),
];

/// Asks for a session and a transfer in it, and accepts any outcome.
fn attempt(relay: &Relay, session: &Session) {
    let client = || {
        let raw = relay.connect();
        raw.patience(CLIENT_PATIENCE);
        raw
    };
    let mut asker = client();
    let _ = asker.try_request("POST", "/", &[]).and_then(|()| asker.try_read_response());
    let (mut receiver, mut sender) = (client(), client());
    let _ = receiver.try_request("GET", &session.path, &[]);
    let _ = sender.try_request("PUT", &session.path, &[("Content-Length", "5")]);
    let _ = sender.try_send(b"hello");
    let answered = |raw: &mut Raw| raw.try_read_response().ok().filter(|it| it.status() == 200);
    let (sent, received) = (answered(&mut sender), answered(&mut receiver));
    if sent.is_some() {
        assert_eq!(received.expect("it was delivered").text(), "hello");
    }
}

fn expect_little_harm(calls: &str, error: &str, when: &str) {
    let what = format!("{calls} {error} {when}");
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let worker = relay.worker_pids()[0];
    let waits = relay.session();
    let attempts = if when == LATER { ATTEMPTS_TO_A_LATER_CALL } else { ATTEMPTS };
    let attempts: Vec<_> = (0..attempts).map(|_| relay.session()).collect();
    let mut waiting = relay.connect();
    waiting.get(&waits.path);
    segment.wait_until_held(1);

    let fault = Fault { calls, effect: &format!("error={error}"), when };
    let mut strace = Strace::attach_fault(worker, &relay.path("trace"), &fault);
    let (begun, before) = (Instant::now(), worker.cpu());
    attempts.iter().for_each(|session| attempt(&relay, session));
    if when.ends_with('+') {
        thread::sleep(SPAN.saturating_sub(begun.elapsed()));
        let (used, span) = (worker.cpu() - before, begun.elapsed());
        assert!(used * 10 < span, "{what}: {used:?} in {span:?}");
    }
    strace.detach();
    assert!(strace.injected() > 0, "{what}: it was not tried");
    assert_eq!(relay.worker_pids(), [worker], "{what}: {}", relay.errors());
    assert!(worker.is_alive(), "{what}");

    relay.connect().put(&waits.path, b"hello").read_response().expect(200);
    assert_eq!(waiting.read_response().expect(200).text(), "hello", "{what}");
    drop(waiting);
    relay.session().transfer(&Payload::new(1, 1_000_000), Shape::Form);
    assert!(!relay.errors().contains("panicked"), "{what}: {}", relay.errors());
    relay.expect_nothing_held(&segment, &fds);
}

fn try_all(faults: &[(&str, &str)], when: &str) {
    thread::scope(|scope| {
        for index in 0..THREADS {
            let cases = faults.iter().skip(index).step_by(THREADS);
            scope.spawn(move || {
                cases.for_each(|(calls, error)| expect_little_harm(calls, error, when))
            });
        }
    });
}

#[test]
fn a_call_that_fails_once_harms_one_client_at_most() {
    try_all(FAULTS, "1");
}

#[test]
fn a_later_call_that_fails_harms_one_client_at_most() {
    try_all(FAULTS, LATER);
}

#[test]
fn calls_that_go_on_failing_make_nobody_spin_and_are_forgiven() {
    // Removing a socket from an epoll needs no memory, so the kernel cannot fail it again and again.
    let faults: Vec<_> = FAULTS.iter().copied().filter(|it| it.0 != "epoll_ctl").collect();
    try_all(&faults, "1+");
}

#[test]
fn a_worker_without_descriptors_goes_on_with_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("log.access = {:?}", directory.path().join("access.log"));
    // Only a process of the same user can set limits.
    let relay = Relay::with(1, &[&log, "user = \"root\""]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    segment.wait_until_held(1);
    let worker = relay.worker_pids()[0];
    let limit = |number: &str| {
        let pid = worker.0.to_string();
        let number = format!("--nofile={number}:");
        let set = Command::new("prlimit").args(["--pid", &pid, &number]).status();
        assert!(set.unwrap().success());
    };
    let open = worker.fds().iter().map(|(number, _)| *number).max().unwrap() + 1;
    limit(&open.to_string());
    let mut crowd = Vec::new();
    eventually("it cannot accept", || {
        crowd.push(relay.connect());
        relay.errors().contains("cannot accept connections").then_some(())
    });
    let mut late = relay.connect();
    late.put(&session.path, b"hello");
    let share = cpu_share(worker, Duration::from_secs(1));
    assert!(share < 10, "{share} %");
    assert!(relay.request("reopen").output().unwrap().status.success());
    eventually("it says that it goes on in the old log", || {
        relay.errors().contains("cannot switch to the reopened access log").then_some(())
    });
    limit("1024");
    late.read_response().expect(200);
    assert_eq!(waiting.read_response().expect(200).text(), "hello");
    drop((waiting, late, crowd));
    assert_eq!(relay.worker_pids(), [worker]);
    relay.expect_nothing_held(&segment, &fds);
}
