//! The access log without room for its lines: they are dropped and counted, and no transfer notices.
//!
//! Not run again over HTTPS: logs do not depend on TLS.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{ADMIN, AccessLog, Payload, Pid, Relay, Shape, eventually, shut_out};
use crate::processes::reload::expect_children;

const DROPPED: &str = "log_lines_dropped_total{log=\"access\"}";

/// Asks for something that takes no time until `count` lines are dropped.
fn expect_dropped(relay: &Relay, more: u64) {
    let before = relay.metrics().value(DROPPED);
    eventually("lines are dropped", || {
        relay.connect().get("/").read_response().expect(200);
        (relay.metrics().value(DROPPED) >= before + more).then_some(())
    });
}

#[test]
fn a_full_disk_costs_lines_and_no_transfer() {
    let relay = Relay::with(2, &[ADMIN, "log.access = \"/dev/full\""]);
    relay.session().transfer(&Payload::new(1, 3 << 20), Shape::Length);
    // The issue and both sides of the transfer have a line each.
    eventually("all are counted", || (relay.metrics().value(DROPPED) == 3).then_some(()));
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_transfer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let guesses = "limits.unknown_keys_per_second_max = 0";
    let relay = Relay::with(2, &[ADMIN, &format!("log.access = {path:?}"), guesses]);
    expect_dropped(&relay, 10);
    relay.session().transfer(&Payload::new(1, 3 << 20), Shape::Length);
    // A reader that comes later gets whole lines: first the lines that found room, then new ones.
    let mut reader = File::open(&path).unwrap();
    let mut read = String::new();
    eventually("a new line comes", || {
        relay.connect().get("/new").read_response().expect(404);
        let mut room = [0; 4096];
        let bytes = reader.read(&mut room).unwrap();
        read.push_str(std::str::from_utf8(&room[..bytes]).unwrap());
        read.contains("\"GET /new HTTP/1.1\" 404").then_some(())
    });
    let whole = read.rsplit_once('\n').unwrap().0;
    for line in whole.lines() {
        let end = line.rsplit(' ').next().unwrap();
        assert!(line.starts_with("127.0.0.1 - - [") && end.starts_with("end="), "{line:?}");
        assert_eq!(line.matches("127.0.0.1").count(), 1, "{line:?}");
    }
    let dropped = relay.metrics().value(DROPPED);
    drop(reader);
    relay.connect().get("/").read_response().expect(200);
    assert!(relay.metrics().value(DROPPED) >= dropped);
}

#[test]
fn a_pipe_keeps_lines_for_its_reader_across_generations() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let lines = [format!("log.access = {path:?}")];
    let lines = lines.each_ref().map(String::as_str);
    let relay = Relay::with(1, &lines);
    relay.connect().get("/first").read_response().expect(404);
    relay.reload(1, &lines);
    expect_children(&relay, 1);
    relay.connect().get("/second").read_response().expect(404);
    let nobody_waits = OFlag::O_NONBLOCK.bits();
    let mut reader = File::options().read(true).custom_flags(nobody_waits).open(&path).unwrap();
    let mut read = Vec::new();
    let wanted = ["\"GET /first HTTP/1.1\" 404", "\"GET /second HTTP/1.1\" 404"];
    eventually("both lines", || {
        // The read fails once all is read.
        let _ = reader.read_to_end(&mut read);
        let text = String::from_utf8_lossy(&read);
        wanted.iter().all(|it| text.contains(it)).then_some(())
    });
    assert_eq!(read.iter().filter(|byte| **byte == b'\n').count(), 2);
}

/// Lets files that `pid` writes to grow to `bytes` and no further.
pub(crate) fn limit_files(pid: Pid, bytes: &str) {
    let arguments = [format!("--pid={}", pid.0), format!("--fsize={bytes}:unlimited")];
    let output = Command::new("prlimit").args(arguments).output().expect("prlimit");
    assert!(output.status.success(), "{output:?}");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn a_torn_line_has_no_other_behind_it() {
    let log = AccessLog::combined();
    let keys = log.keys();
    // Not every machine lets root limit the processes of another user.
    let lines = [&keys[0], ADMIN, "limits.unknown_keys_per_second_max = 0", "user = \"root\""];
    let relay = Relay::with(2, &lines);
    let pids = relay.worker_pids();
    relay.connect().get("/").read_response().expect(200);
    log.entries(1);
    // Both workers have room for a part of a line.
    let before = size(&log.path());
    pids.iter().for_each(|pid| limit_files(*pid, &(before + 20).to_string()));
    for _ in 0..20 {
        relay.connect().get("/lost").read_response().expect(404);
    }
    eventually("all are dropped", || (relay.metrics().value(DROPPED) == 20).then_some(()));
    assert_eq!(size(&log.path()), before + 20);
    pids.iter().for_each(|pid| limit_files(*pid, "unlimited"));
    for _ in 0..20 {
        relay.connect().get("/kept").read_response().expect(404);
    }
    let text = eventually("all are written", || {
        let text = log.text();
        (text.matches("/kept").count() == 20).then_some(text)
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 1 + 20, "{text}");
    assert_eq!(lines[1].len(), 20, "{text}");
    let kept = |line: &&str| line.starts_with("127.0.0.1 - - [") && line.ends_with("end=-");
    assert!(lines[2..].iter().all(kept), "{text}");
    assert_eq!(relay.worker_pids(), pids, "no worker died");
}

#[test]
fn standard_output_may_be_the_log() {
    let relay = Relay::with(1, &["log.access = \"/dev/stdout\""]);
    relay.connect().get("/").read_response().expect(200);
    let said = relay.wait_for_output("\"GET / HTTP/1.1\" 200");
    assert!(said.contains("listening on http://"), "{said}");
}

#[test]
fn another_users_standard_output_may_be_the_log() {
    let mut relay = Relay::run(shut_out(1), 1, &["log.access = \"/dev/stdout\""], None);
    relay.connect().get("/").read_response().expect(200);
    relay.wait_for_output("\"GET / HTTP/1.1\" 200");
    let output = relay.request("reopen").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    relay.connect().get("/more").read_response().expect(404);
    relay.wait_for_output("\"GET /more HTTP/1.1\" 404");
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
}
