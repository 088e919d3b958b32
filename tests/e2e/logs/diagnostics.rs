//! The relay's messages on stderr: for people, for the journal, for programs, and without a reader.
//!
//! Not run again over HTTPS: logs do not depend on TLS.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{mkfifo, pipe};

use crate::harness::{ADMIN, Payload, Relay, Shape, eventually, shut_out, stays};
use crate::logs::loss::limit_files;

const DROPPED: &str = "log_lines_dropped_total{log=\"diagnostics\"}";

#[test]
fn json_is_an_object_a_line() {
    let mut relay = Relay::with(2, &["log.format = \"json\"", "log.level = \"debug\""]);
    relay.session().transfer(&Payload::new(1, 1000), Shape::Length);
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    let log = relay.errors();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |message: &str| {
        let found = events.iter().find(|it| it["message"] == message);
        found.unwrap_or_else(|| panic!("{message:?} in {log}"))
    };
    let started = of("started");
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(started["listeners"], format!("http://{}", relay.address()));
    assert_eq!((&started["workers"], &started["admin"]), (&2.into(), &"none".into()));
    assert_eq!(started["pid"], relay.master().0);
    assert_eq!(of("a session was issued")["client"], "127.0.0.1");
    assert_eq!(of("received a signal")["signal"], "SIGTERM");
    assert_eq!(of("forked a worker")["level"], "debug");
    assert!(events.iter().all(|it| it["time"].as_str().is_some_and(|it| it.len() == 25)), "{log}");
}

#[test]
fn the_format_may_change() {
    let relay = Relay::with(1, &["log.level = \"debug\""]);
    drop(relay.session());
    relay.reload(1, &["log.level = \"debug\"", "log.format = \"json\""]);
    drop(relay.session());
    eventually("a line of each format", || {
        let log = relay.errors();
        let lines: Vec<_> = log.lines().filter(|it| it.contains("session was issued")).collect();
        let is_json = |line: &str| line.starts_with("{\"time\":\"");
        (lines.len() == 2 && !is_json(lines[0]) && is_json(lines[1])).then_some(())
    });
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let found = fstat(&theirs).unwrap();
    let named = format!("{}:{}", found.st_dev, found.st_ino);
    let lines = ["log.level = \"debug\""];
    let mut relay = Relay::saying(OwnedFd::from(theirs), &[("JOURNAL_STREAM", &named)], 1, &lines);
    drop(relay.session());
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    let mut log = String::new();
    ours.read_to_string(&mut log).unwrap();
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    assert!(log.contains("\n<7>a session was issued client=127.0.0.1\n"), "{log}");
    assert!(log.contains("<6>received a signal signal=\"SIGTERM\"\n"), "{log}");
}

#[test]
fn another_socket_is_not_the_journal() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut relay = Relay::saying(OwnedFd::from(theirs), &[("JOURNAL_STREAM", "1:2")], 1, &[]);
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    let mut log = String::new();
    ours.read_to_string(&mut log).unwrap();
    assert!(log.contains(" INFO received a signal"), "{log}");
    assert!(!log.contains("<6>"), "{log}");
}

/// Fills the pipe or socket behind `end`, and restores the flags of `end`.
fn fill(end: &impl AsFd) {
    let flags = OFlag::from_bits_truncate(fcntl(end, FcntlArg::F_GETFL).unwrap());
    fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let mut file = File::from(end.as_fd().try_clone_to_owned().unwrap());
    for size in [4096, 1] {
        while file.write(&vec![b'x'; size]).is_ok() {}
    }
    fcntl(end, FcntlArg::F_SETFL(flags)).unwrap();
}

#[track_caller]
fn expect_service(mut relay: Relay) {
    for _ in 0..3 {
        relay.session().transfer(&Payload::new(1, 1 << 20), Shape::Length);
    }
    // The dropped lines are of three issues and of the workers' start.
    assert!(relay.metrics().value(DROPPED) >= 3);
    let output = relay.request("reload").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
}

#[test]
fn a_pipe_that_nobody_reads_makes_nobody_wait() {
    let (reader, writer) = pipe().unwrap();
    fill(&writer);
    let kept = writer.try_clone().unwrap();
    let lines = [ADMIN, "log.level = \"debug\""];
    expect_service(Relay::saying(writer, &[], 2, &lines));
    // A program that shares the descriptor with us finds it as it was.
    let flags = OFlag::from_bits_truncate(fcntl(&kept, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
    drop(reader);
}

#[test]
fn another_users_pipe_that_nobody_reads_makes_nobody_wait() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    let named = File::options().write(true).open(&path).unwrap();
    let (nameless_reader, nameless) = pipe().unwrap();
    for writer in [OwnedFd::from(named), nameless] {
        fill(&writer);
        let lines = [ADMIN, "log.level = \"debug\""];
        expect_service(Relay::run(shut_out(2), 2, &lines, Some(writer.into())));
    }
    drop((reader, nameless_reader));
}

#[test]
fn another_users_pipe_is_written_to() {
    let (reader, writer) = pipe().unwrap();
    let mut relay = Relay::run(shut_out(2), 1, &[], Some(writer.into()));
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    let mut log = String::new();
    File::from(reader).read_to_string(&mut log).unwrap();
    assert!(log.contains(" INFO received a signal"), "{log}");
}

#[test]
fn a_socket_that_nobody_reads_makes_nobody_wait() {
    let (reader, writer) = UnixStream::pair().unwrap();
    fill(&writer);
    let lines = [ADMIN, "log.level = \"debug\""];
    expect_service(Relay::saying(OwnedFd::from(writer), &[], 2, &lines));
    drop(reader);
}

#[test]
fn a_torn_line_has_no_other_behind_it() {
    let lines = [ADMIN, "user = \"root\"", "log.level = \"debug\"", "log.format = \"json\""];
    let relay = Relay::with(1, &lines);
    let worker = relay.worker_pids()[0];
    let before = stays("it is quiet", Duration::from_millis(100), || relay.errors().len());
    // The file has room for a part of a line.
    limit_files(worker, &(before + 20).to_string());
    drop(relay.session());
    eventually("it is dropped", || (relay.metrics().value(DROPPED) > 0).then_some(()));
    limit_files(worker, "unlimited");
    // The master writes the next line.
    let output = relay.request("reopen").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    drop(relay.session());
    let (opened, issued) = ("reopened the access logs", "a session was issued");
    let log = eventually("both lines", || {
        let log = relay.errors();
        (log.contains(opened) && log.contains(issued) && log.ends_with('\n')).then_some(log)
    });
    let is_whole = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    let torn: Vec<_> = log.lines().filter(|line| !is_whole(line)).collect();
    assert!(torn.len() == 1 && torn[0].len() == 20, "{log}");
}

#[test]
fn nothing_a_client_sends_forges_a_diagnostic() {
    let relay = Relay::with(1, &["log.level = \"trace\"", "trusted_proxies = [\"127.0.0.1\"]"]);
    let odd = "\u{9b}31mERROR\u{85} \u{2028}forged";
    let fields = [
        ("X-Forwarded-For", odd),
        ("X-Forwarded-Host", odd),
        ("User-Agent", odd),
        ("Connection", "close"),
    ];
    relay.connect().request("POST", "/", &fields).read_response().expect(201);
    relay.connect().request("GET", "/forged", &fields).read_response().expect(404);
    relay.connect().get("/").read_response().expect(200);
    let log = relay.errors();
    assert!(!log.contains("forged") && !log.contains('\u{9b}'), "{log}");
}
