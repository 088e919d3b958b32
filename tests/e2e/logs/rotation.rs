//! The access log is renamed, and the relay goes on in a new one, while requests come: none of their lines is lost.
//!
//! Not run again over HTTPS: logs do not depend on TLS.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::harness::{ADMIN, AccessLog, BINARY, Payload, Pid, Relay, Shape, eventually};

fn relay_with(log: &AccessLog, workers: usize, more: &[&str]) -> Relay {
    let keys = log.keys();
    let lines: Vec<_> = keys.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Relay::with(workers, &lines)
}

fn text(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
    both.concat()
}

#[track_caller]
fn reopen(relay: &Relay) {
    let output = relay.request("reopen").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Whether `pid` has a file open that was `path` when it was opened.
fn has_open(pid: Pid, path: &Path) -> bool {
    let path = path.to_str().unwrap();
    pid.fds().iter().any(|(_, link)| link == path)
}

fn everybody(relay: &Relay) -> Vec<Pid> {
    [vec![relay.master()], relay.master().children()].concat()
}

#[track_caller]
fn expect_closed(relay: &Relay, path: &Path) {
    eventually("nobody has the old log open", || {
        everybody(relay).iter().all(|pid| !has_open(*pid, path)).then_some(())
    });
}

#[test]
fn no_line_is_lost_or_torn_when_logs_are_rotated_under_load() {
    const ROTATIONS: usize = 20;
    let log = AccessLog::combined();
    let relay = relay_with(&log, 2, &["limits.unknown_keys_per_second_max = 0"]);
    let old = |index: usize| log.path().with_file_name(format!("old.{index}"));
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..4 {
            let (relay, over, asked) = (&relay, &over, &asked);
            scope.spawn(move || {
                let mut raw = relay.connect();
                while !over.load(Ordering::Relaxed) {
                    let n = asked.fetch_add(1, Ordering::Relaxed);
                    raw.get(&format!("/n{number}.{n}")).read_response().expect(404);
                }
            });
        }
        for index in 0..ROTATIONS {
            let before = asked.load(Ordering::Relaxed);
            eventually("some more requests", || {
                (asked.load(Ordering::Relaxed) > before + 20).then_some(())
            });
            fs::rename(log.path(), old(index)).unwrap();
            if index % 2 == 0 {
                reopen(&relay);
            } else {
                relay.signal(Signal::SIGUSR1);
            }
            // The next rename must not take the new log from a worker that has not reopened it yet.
            eventually("a new log", || log.path().exists().then_some(()));
            expect_closed(&relay, &old(index));
        }
        over.store(true, Ordering::Relaxed);
    });
    let asked = asked.into_inner();
    let lines = || {
        let olds = (0..ROTATIONS).map(old).chain([log.path()]);
        olds.map(|path| log.entries_of(&path).len()).sum::<usize>()
    };
    eventually("all lines", || (lines() == asked).then_some(()));
    let mut requests: Vec<_> = (0..ROTATIONS)
        .map(old)
        .chain([log.path()])
        .flat_map(|path| log.entries_of(&path))
        .filter_map(|entry| entry.request)
        .collect();
    requests.sort_unstable();
    requests.dedup();
    assert_eq!(requests.len(), asked, "some are there twice");
}

#[test]
fn workers_of_every_generation_go_on_in_the_new_log() {
    let log = AccessLog::json();
    let relay = relay_with(&log, 1, &[]);
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    eventually("it waits", || (relay.segment().places_held() == 1).then_some(()));
    let keys = log.keys();
    relay.reload(1, &keys.each_ref().map(String::as_str));
    let old = log.path().with_file_name("old");
    fs::rename(log.path(), &old).unwrap();
    reopen(&relay);
    expect_closed(&relay, &old);
    assert_eq!(log.entries_of(&old).len(), 1);
    // The receiver's worker drains; the sender's is a new one.
    let sender = session.sender(&Payload::new(1, 1000), Shape::Length);
    waiting.read_response().expect(200);
    sender.join().unwrap().expect(200);
    log.entries(2);
    // A worker that is forked later also writes to the new log.
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    relay.connect().get("/").read_response().expect(200);
    log.entries(3);
}

#[test]
fn after_an_upgrade_there_is_the_log_still() {
    let log = AccessLog::json();
    let relay = relay_with(&log, 1, &[]);
    let output = relay.request("upgrade").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    relay.connect().get("/").read_response().expect(200);
    log.entries(1);
    let old = log.path().with_file_name("old");
    fs::rename(log.path(), &old).unwrap();
    reopen(&relay);
    relay.connect().get("/").read_response().expect(200);
    log.entries(1);
}

#[test]
fn a_worker_whose_log_is_not_known_any_more_is_told_of() {
    let log = AccessLog::json();
    let relay = relay_with(&log, 1, &[]);
    let mut waiting = relay.connect();
    waiting.get(&relay.session().path);
    eventually("it waits", || (relay.segment().places_held() == 1).then_some(()));
    relay.reload(1, &[]);
    reopen(&relay);
    // The master tells the next program only of the serving configuration, which has no log.
    relay.upgrade(1, &[]);
    let output = relay.request("reopen").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = "workers that still write to the old access log: 1";
    assert!(text(&output).contains(told), "{}", text(&output));
    waiting.reset();
    eventually("it is gone", || (relay.master().children().len() == 1).then_some(()));
    reopen(&relay);
}

#[test]
fn a_log_that_cannot_be_opened_anew_stays() {
    let log = AccessLog::combined();
    let relay = relay_with(&log, 2, &[ADMIN]);
    relay.connect().get("/").read_response().expect(200);
    log.entries(1);
    let old = log.path().with_file_name("old");
    fs::rename(log.path(), &old).unwrap();
    fs::create_dir(log.path()).unwrap();
    let output = relay.request("reopen").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = format!("cannot write to {} (log.access)", log.path().display());
    assert!(text(&output).contains(&told), "{}", text(&output));
    assert!(relay.errors().contains(&told), "{}", relay.errors());
    relay.connect().get("/").read_response().expect(200);
    eventually("a line in the old one", || (log.entries_of(&old).len() == 2).then_some(()));
}

#[test]
fn without_a_log_there_is_nothing_to_open_anew() {
    let relay = Relay::with(2, &[]);
    let output = relay.request("reopen").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).starts_with("reopened: access logs: 0"), "{}", text(&output));
}

#[test]
fn logrotate_rotates_the_log_with_the_file_that_comes_along() {
    const TURNS: usize = 3;
    let log = AccessLog::combined();
    let mut relay = relay_with(&log, 2, &[]);
    let shipped = fs::read_to_string("conf/idontstore.logrotate").unwrap();
    let command = "idontstore -c /etc/idontstore/idontstore.toml";
    let user = "su idontstore idontstore";
    for part in [command, user, "/var/log/idontstore/*.log"] {
        assert!(shipped.contains(part), "{part} in {shipped}");
    }
    let id = |option| text(&Command::new("id").arg(option).output().unwrap()).trim().to_owned();
    let own = shipped
        .replace(user, &format!("su {} {}", id("-un"), id("-gn")))
        .replace(command, &format!("{BINARY} -c {}", relay.config_path().display()))
        .replace("/var/log/idontstore/*.log", log.path().to_str().unwrap());
    let (file, state) = (relay.path("logrotate.conf"), relay.path("logrotate.state"));
    fs::write(&file, own).unwrap();
    let rotate = || {
        let mut command = Command::new("logrotate");
        let rotated = command.arg("--force").arg("--state").arg(&state).arg(&file).output();
        let rotated = rotated.expect("logrotate must be installed");
        assert!(rotated.status.success(), "{}", text(&rotated));
        text(&rotated)
    };
    for turn in 0..TURNS {
        relay.connect().get(&format!("/turn{turn}")).read_response().expect(404);
        log.entries(1);
        assert_eq!(rotate(), "");
        let old = log.path().with_file_name("access.log.1");
        eventually("it has turned", || (old.exists() && log.path().exists()).then_some(()));
        expect_closed(&relay, &old);
        let entries = log.entries_of(&old);
        let requests: Vec<_> = entries.iter().filter_map(|it| it.request.clone()).collect();
        assert_eq!(requests, [format!("GET /turn{turn} HTTP/1.1")]);
    }
    let compressed = log.path().with_file_name("access.log.2.gz");
    assert!(compressed.exists(), "the one before is compressed");
    // logrotate(8) succeeds also when no relay runs.
    relay.connect().get("/last").read_response().expect(404);
    log.entries(1);
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    assert!(rotate().contains("no answer at the control socket"));
    assert_eq!(log.entries_of(&log.path().with_file_name("access.log.1")).len(), 1);
}
