//! A running master with calls that fail: workers come late, reloads and upgrades are refused, and it goes on.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cpu_share;
use crate::harness::{Fault, Payload, Relay, Shape, Strace, eventually};
use crate::processes::reload::{exchange, expect_children, expect_failure};

/// How forks fail.
const FORKS: &[(&str, &str)] = &[
    ("clone,clone3", "EAGAIN"),
    ("clone,clone3", "ENOMEM"),
    ("socketpair", "EMFILE"),
    ("pidfd_open", "ENFILE"),
];

fn attach(relay: &Relay, calls: &str, effect: &str, when: &str) -> Strace {
    let fault = Fault { calls, effect, when };
    Strace::attach_fault(relay.master(), &relay.path("trace"), &fault)
}

#[test]
fn a_worker_that_cannot_be_forked_comes_with_patience() {
    for (calls, error) in FORKS {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let fds = (relay.master().fds().len(), relay.fd_counts());
        let mut strace = attach(&relay, calls, &format!("error={error}"), "1+");
        let begun = Instant::now();
        relay.worker_pids()[0].signal(Signal::SIGKILL);
        eventually("four attempts", || (strace.injected() >= 4).then_some(()));
        // The master tries at once, and after 100, 200 and 400 ms.
        assert!(begun.elapsed() > Duration::from_millis(600), "{calls}: {:?}", begun.elapsed());
        relay.session().transfer(&Payload::new(1, 100_000), Shape::Length);
        strace.detach();
        eventually("it is back", || (relay.worker_pids().len() == 2).then_some(()));
        let lines = relay.errors().matches("cannot fork a worker").count();
        assert_eq!(lines, strace.injected(), "{calls} {error}: {}", relay.errors());
        expect_children(&relay, 2);
        exchange(&relay);
        relay.expect_nothing_held(&segment, &fds.1);
        assert_eq!(relay.master().fds().len(), fds.0, "{calls} {error}");
    }
}

#[test]
fn a_worker_that_cannot_be_watched_leaves_nothing_of_what_it_began() {
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let (waits, runs) = (relay.session(), relay.session());
    let mut strace = attach(&relay, "pidfd_open", "error=EMFILE:delay_enter=2000000", "1");
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    let mut waiting = relay.connect();
    waiting.get(&waits.path);
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&runs.path);
    sender.request("PUT", &runs.path, &[("Content-Length", "1000")]).send(b"hello");
    receiver.read_head();
    segment.wait_until_held(3);
    for lost in [&mut waiting, &mut receiver, &mut sender] {
        assert!(lost.is_gone_within(Duration::from_secs(10)));
    }
    strace.detach();
    assert_eq!(strace.injected(), 1);
    segment.wait_until_held(0);
    waits.transfer(&Payload::new(1, 100_000), Shape::Length);
    runs.transfer(&Payload::new(2, 100_000), Shape::Length);
    expect_children(&relay, 1);
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn a_master_that_cannot_wait_for_events_goes_on_without_haste() {
    let relay = Relay::with(2, &[]);
    let first = relay.worker_pids();
    let mut strace = attach(&relay, "poll", "error=ENOMEM", "1+");
    first[0].signal(Signal::SIGKILL);
    eventually("it is replaced", || {
        let now = relay.worker_pids();
        (now.len() == 2 && now[0] != first[0]).then_some(())
    });
    let share = cpu_share(relay.master(), Duration::from_secs(1));
    assert!(share < 10, "{share} %");
    let output = relay.request("reload").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    strace.detach();
    assert!(relay.errors().contains("cannot wait for events"), "{}", relay.errors());
    expect_children(&relay, 2);
    exchange(&relay);
}

#[test]
fn a_reload_that_lacks_something_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("log.access = {:?}", directory.path().join("access.log"));
    let relay = Relay::with(2, &[&log]);
    let state = || (relay.worker_pids(), relay.master().fds().len(), relay.master().children());
    let before = state();
    let another = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    relay.configure(2, &[&log, another]);
    for (calls, error, when, why) in [
        ("openat", "ENFILE", "1+", "Too many open files"),
        ("socket", "EMFILE", "1", "cannot listen on"),
        ("setsockopt", "ENOMEM", "2", "cannot listen on"),
        ("socketpair", "EMFILE", "2", "cannot fork a worker: Too many open files"),
        ("clone,clone3", "EAGAIN", "3", "cannot fork a worker: fork: Resource temporarily"),
        ("pidfd_open", "ENFILE", "3", "cannot fork a worker: pidfd_open: Too many open files"),
    ] {
        let mut strace = attach(&relay, calls, &format!("error={error}"), when);
        let output = relay.request("reload").output().unwrap();
        strace.detach();
        assert!(strace.injected() > 0, "{calls}");
        expect_failure(&output, 1, &[why]);
        expect_children(&relay, 2);
        exchange(&relay);
        eventually(&format!("{calls}: all is as before"), || (state() == before).then_some(()));
    }
    let output = relay.request("reload").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    exchange(&relay);
}

#[test]
fn an_upgrade_that_lacks_something_changes_nothing() {
    let relay = Relay::with(2, &[]);
    let state = || (relay.worker_pids(), relay.master().fds().len(), relay.master().children());
    let before = state();
    for (calls, error, when, why) in [
        ("pipe2", "EMFILE", "1", "cannot try the new program: "),
        ("memfd_create", "EMFILE", "1", "cannot try the new program: "),
        ("clone,clone3", "EAGAIN", "1", "cannot try the new program: "),
        ("pidfd_open", "EMFILE", "1", "cannot try the new program: "),
        ("memfd_create", "ENOMEM", "2", "cannot start the new program: "),
        ("execve", "ENOMEM", "1+", "cannot start the new program: "),
    ] {
        let mut strace = attach(&relay, calls, &format!("error={error}"), when);
        let output = relay.request("upgrade").output().unwrap();
        strace.detach();
        assert!(strace.injected() > 0, "{calls}");
        expect_failure(&output, 1, &[why]);
        exchange(&relay);
        eventually(&format!("{calls}: all is as before"), || (state() == before).then_some(()));
    }
    let output = relay.request("upgrade").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    exchange(&relay);
}

#[test]
fn a_request_that_cannot_be_accepted_at_once_is_answered_later() {
    let relay = Relay::with(1, &[]);
    let mut strace = attach(&relay, "accept4", "error=EMFILE", "1..3");
    let mut asker = relay.request("reload").spawn().unwrap();
    let share = cpu_share(relay.master(), Duration::from_millis(500));
    assert!(eventually("it is answered", || asker.try_wait().unwrap()).success());
    assert!(share < 20, "{share} %");
    strace.detach();
    assert_eq!(strace.injected(), 3);
    assert_eq!(relay.errors().matches("cannot accept requests").count(), 3, "{}", relay.errors());
}

#[test]
fn workers_that_die_on_and_on_cost_next_to_no_time() {
    const SPAN: Duration = Duration::from_secs(10);
    let relay = Relay::with(4, &[]);
    let mut dead = Vec::new();
    let begun = Instant::now();
    let before = relay.master().cpu_of_all();
    while begun.elapsed() < SPAN {
        for pid in relay.worker_pids().into_iter().filter(|p| p.is_alive()) {
            pid.signal(Signal::SIGKILL);
            dead.push(pid);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let used = relay.master().cpu_of_all() - before;
    dead.sort_unstable();
    dead.dedup();
    assert!((12..60).contains(&dead.len()), "{} deaths of four workers", dead.len());
    assert!(used * 20 < SPAN, "{used:?} in {SPAN:?}, with all workers");
    let line = relay.errors().matches("a worker died").count();
    assert!(line >= dead.len() - 4, "each death has its line: {line} of {}", dead.len());
}
