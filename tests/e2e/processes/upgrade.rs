//! Upgrade: the installed program takes the place of the running one, in the same process, and no client notices. A
//! program that could not continue with the master's state is refused, and nothing changes.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{BINARY, Payload, Pid, Relay, Stopped, eventually};
use crate::processes::reload::{Ended, exchange, expect_children, expect_failure, text};

/// Copies the program to `directory`, where a test may replace it.
pub(crate) fn installed(directory: &TempDir) -> PathBuf {
    let program = directory.path().join("idontstore");
    fs::copy(BINARY, &program).unwrap();
    program
}

/// Replaces the installed program by one with a change, as a package manager does.
pub(crate) fn install(program: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(BINARY).unwrap();
    change(&mut bytes);
    replace(program, &bytes, 0o755);
}

fn replace(program: &Path, bytes: &[u8], mode: u32) {
    let new = program.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, program).unwrap();
}

fn executable(pid: Pid) -> PathBuf {
    fs::read_link(format!("/proc/{}/exe", pid.0)).unwrap()
}

/// A relay of an installed program, and that program's path.
fn relay(workers: usize, lines: &[&str]) -> (Relay, PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    (Relay::of(&program, workers, lines), program, directory)
}

#[test]
fn the_new_program_takes_over_and_the_old_workers_finish() {
    let (relay, program, _directory) = relay(2, &[]);
    let segment = relay.segment();
    let (waits, runs) = (relay.session(), relay.session());
    let mut waiting = relay.connect();
    waiting.get(&waits.path);
    let payload = Payload::new(3, 8 << 20);
    let receiving = runs.receiver(&payload);
    let mut sender = relay.connect();
    sender.request("PUT", &runs.path, &[("Content-Length", &payload.len().to_string())]);
    let bytes = payload.bytes();
    let (first, rest) = bytes.split_at(3 << 20);
    sender.send(first);
    eventually("all are there", || (segment.places_held() == 3).then_some(()));
    let (master, old) = (relay.master(), relay.worker_pids());

    install(&program, |bytes| bytes.push(0));
    relay.upgrade(3, &[]);
    assert_eq!(relay.master(), master);
    assert_eq!(master.title(), "idontstore: master process");
    for pid in relay.worker_pids().into_iter().chain([master]) {
        assert_eq!(executable(pid), program);
    }
    let drains = |p: &&Pid| p.title().contains("draining");
    let draining: Vec<_> = old.iter().filter(drains).collect();
    assert!(!draining.is_empty(), "an old worker still serves a client");
    for pid in draining {
        assert!(executable(*pid).to_string_lossy().ends_with(" (deleted)"));
    }

    // The first transfer joins a worker of the new and one of the old program, the second joins workers of the old.
    relay.connect().put(&waits.path, b"hello").read_response().expect(200);
    assert_eq!(waiting.read_response().expect(200).text(), "hello");
    sender.send(rest);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    receiving.join().unwrap().expect_all(&payload);
    drop((waiting, sender));
    expect_children(&relay, 3);
    exchange(&relay);
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
}

#[test]
fn usr2_upgrades_as_well() {
    let (relay, program, _directory) = relay(1, &[]);
    let before = relay.worker_pids();
    install(&program, |bytes| bytes.push(0));
    relay.signal(Signal::SIGUSR2);
    eventually("a new worker of the new program", || {
        let now = relay.worker_pids();
        (now.len() == 1 && now != before && executable(now[0]) == program).then_some(())
    });
    expect_children(&relay, 1);
    exchange(&relay);
}

#[test]
fn a_program_that_cannot_take_over_changes_nothing() {
    let (relay, program, _directory) = relay(2, &["timeouts.start_timeout = \"2s\""]);
    exchange(&relay);
    let state = || (relay.worker_pids(), relay.master().fds().len(), relay.master().children());
    let before = state();
    let refused = |parts: &[&str]| {
        let told = || relay.errors().matches("upgrade failed").count();
        let before_told = told();
        expect_failure(&relay.request("upgrade").output().unwrap(), 1, parts);
        assert_eq!(told(), before_told + 1, "{parts:?}: {}", relay.errors());
        exchange(&relay);
        eventually("nothing is left of it", || (state() == before).then_some(()));
    };
    replace(&program, &fs::read("/bin/true").unwrap(), 0o755);
    refused(&["exit code 0, and it gave no reason"]);
    replace(&program, b"#!/bin/sh\necho nonsense\nexit 3\n", 0o755);
    refused(&["exit code 3"]);
    replace(&program, b"#!/bin/sh\nkill -SEGV $$\n", 0o755);
    refused(&["SIGSEGV"]);
    replace(&program, b"#!/bin/sh\nexec sleep 1000\n", 0o755);
    refused(&["start_timeout"]);
    replace(&program, b"\x7fELF", 0o755);
    refused(&["Exec format error"]);
    // A program that a shell forks is not the workers' parent.
    let real = format!("#!/bin/sh\n{BINARY} \"$@\"\nexit\n");
    replace(&program, real.as_bytes(), 0o755);
    refused(&["this process is not in the master's place"]);
    install(&program, |bytes| bytes.push(0));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["Permission denied"]);
    fs::remove_file(&program).unwrap();
    refused(&["No such file"]);
    // A program whose segments are of another format: the number's last byte, wherever it stands.
    install(&program, |bytes| {
        let number = b"tStnoDi";
        let at: Vec<usize> = memchr::memmem::find_iter(bytes, number).collect();
        assert!(!at.is_empty(), "the format's number is not found");
        at.into_iter().for_each(|at| bytes[at - 1] ^= 0x40);
    });
    refused(&["not a segment of this format"]);

    install(&program, |bytes| bytes.push(0));
    relay.upgrade(2, &["timeouts.start_timeout = \"2s\""]);
    exchange(&relay);
}

#[test]
fn a_configuration_that_is_no_good_refuses_an_upgrade() {
    let (relay, _program, _directory) = relay(1, &[]);
    let before = relay.worker_pids();
    relay.configure(1, &["memory.sessions_max = 77"]);
    let output = relay.request("upgrade").output().unwrap();
    expect_failure(&output, 1, &["only a restart can change", "memory.sessions_max"]);
    // The client that asks may have a good configuration.
    let good = relay.path("good.toml");
    relay.configure(1, &[]);
    fs::copy(relay.config_path(), &good).unwrap();
    relay.configure(1, &["timeouts.wait_timeout = \"soon\""]);
    let mut command = std::process::Command::new(BINARY);
    let output = command.arg("-c").arg(&good).args(["-s", "upgrade"]).output().unwrap();
    expect_failure(&output, 1, &["allowed: a duration"]);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    relay.configure(1, &[&format!("[[listener]]\naddress = \"{address}\"")]);
    let output = relay.request("upgrade").output().unwrap();
    expect_failure(&output, 1, &[&format!("cannot listen on {address}")]);
    assert_eq!(relay.worker_pids(), before);
    exchange(&relay);
}

/// A script that becomes `program` once the file `go` exists, and creates another file to show that it runs.
fn waiting(program: &Path, go: &Path) -> String {
    let (runs, go, program) = (runs(go), go.display(), program.display());
    format!(
        "#!/bin/sh\n: > {}\nwhile ! [ -e {go} ]; do sleep 0.01; done\nexec {program} \"$@\"\n",
        runs.display()
    )
}

fn runs(go: &Path) -> PathBuf {
    go.with_extension("runs")
}

#[test]
fn a_program_that_was_replaced_since_it_was_tried_does_not_take_over() {
    let (relay, program, _directory) = relay(1, &["timeouts.start_timeout = \"60s\""]);
    let go = program.with_extension("go");
    replace(&program, waiting(Path::new(BINARY), &go).as_bytes(), 0o755);
    let asked = relay.request("upgrade").spawn().unwrap();
    eventually("it is tried", || runs(&go).exists().then_some(()));
    replace(&program, b"#!/bin/sh\nexit 1\n", 0o755);
    fs::write(&go, "").unwrap();
    expect_failure(&asked.wait_with_output().unwrap(), 1, &["replaced after the trial"]);
    exchange(&relay);
}

#[test]
fn certificates_that_go_while_it_is_upgraded_are_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let mut relay = None;
    crate::harness::over_tls(|| relay = Some(Relay::of(&program, 1, &[])));
    let relay = relay.unwrap();
    let certificate = relay.path("certificate.pem");
    let worker = relay.worker_pids();
    // The script moves the certificate away once the trial has found it good.
    let script = format!(
        "#!/bin/sh\n[ -n \"$IDONTSTORE_TRY\" ] || mv {0} {0}.gone\nexec {BINARY} \"$@\"\n",
        certificate.display()
    );
    replace(&program, script.as_bytes(), 0o755);
    let output = relay.request("upgrade").output().unwrap();
    expect_failure(&output, 1, &["the new program keeps the old workers", "certificate"]);
    assert_eq!(relay.worker_pids(), worker);
    exchange(&relay);
    // The master cannot replace a worker that dies until the certificate is back.
    worker[0].signal(Signal::SIGKILL);
    eventually("it cannot be", || relay.errors().contains("cannot fork").then_some(()));
    fs::rename(certificate.with_extension("pem.gone"), &certificate).unwrap();
    assert!(relay.request("reload").output().unwrap().status.success());
    exchange(&relay);
}

#[test]
fn of_two_upgrades_at_once_the_second_is_refused_and_a_reload_waits() {
    let (relay, program, _directory) = relay(1, &["timeouts.start_timeout = \"60s\""]);
    let go = program.with_extension("go");
    replace(&program, waiting(&go, &go).as_bytes(), 0o755);
    let mut first = Ended(relay.request("upgrade").spawn().unwrap());
    eventually("it is tried", || (relay.master().children().len() == 2).then_some(()));
    let output = relay.request("upgrade").output().unwrap();
    expect_failure(&output, 1, &["in progress"]);
    let mut reload = Ended(relay.request("reload").spawn().unwrap());
    eventually("both are asked for", || {
        relay.errors().contains("request=\"reload\"").then_some(())
    });
    assert!(first.0.try_wait().unwrap().is_none() && reload.0.try_wait().unwrap().is_none());
    exchange(&relay);
    fs::copy(BINARY, go.with_extension("tmp")).unwrap();
    fs::rename(go.with_extension("tmp"), &go).unwrap();
    for asked in [&mut first, &mut reload] {
        let code = eventually("it is done", || asked.0.try_wait().unwrap());
        assert!(code.success(), "{}", relay.errors());
    }
    assert_eq!(executable(relay.master()), go);
    expect_children(&relay, 1);
    exchange(&relay);
}

#[test]
fn a_stop_ends_a_trial() {
    let (mut relay, program, _directory) = relay(1, &["timeouts.start_timeout = \"60s\""]);
    replace(&program, b"#!/bin/sh\nexec sleep 1000\n", 0o755);
    let asked = relay.request("upgrade").spawn().unwrap();
    eventually("it is tried", || (relay.master().children().len() == 2).then_some(()));
    let children = relay.master().children();
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    assert!(children.iter().all(|p| p.is_gone_within(Duration::from_secs(1))));
    expect_failure(&asked.wait_with_output().unwrap(), 1, &["the relay is stopping"]);
}

#[test]
fn the_new_master_is_a_parent_to_the_workers_of_both() {
    let (relay, program, _directory) = relay(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    eventually("it waits", || (segment.places_held() == 1).then_some(()));
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(2, &[]);
    let children = relay.master().children();
    let draining = children.iter().find(|p| p.title().contains("draining")).expect("one drains");
    draining.signal(Signal::SIGKILL);
    eventually("its place is free", || (segment.places_held() == 0).then_some(()));
    expect_children(&relay, 2);
    let victim = relay.worker_pids()[1];
    victim.signal(Signal::SIGKILL);
    eventually("it is replaced", || {
        let now = relay.worker_pids();
        (now.len() == 2 && !now.contains(&victim)).then_some(())
    });
    exchange(&relay);
    drop(receiver);
}

#[test]
fn an_upgrade_that_has_to_wait_for_a_generation_is_the_new_programs() {
    let lines = ["generations_max = 2"];
    let (relay, program, _directory) = relay(1, &lines);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    eventually("it waits", || (segment.places_held() == 1).then_some(()));
    relay.reload(1, &lines);
    let serving = relay.worker_pids();
    install(&program, |bytes| bytes.push(0));
    let mut asked = Ended(relay.request("upgrade").spawn().unwrap());
    eventually("the new program waits", || {
        let waits = relay.errors().contains("reload waits");
        (waits && executable(relay.master()) == program).then_some(())
    });
    assert_eq!(relay.worker_pids(), serving);
    // The new program replaces the old program's serving workers if they die, with the configuration that they had.
    serving[0].signal(Signal::SIGKILL);
    eventually("another", || {
        let now = relay.worker_pids();
        (now.len() == 1 && now != serving && executable(now[0]) == program).then_some(())
    });
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
    drop(receiver);
    let code = eventually("the upgrade is done", || asked.0.try_wait().unwrap());
    assert!(code.success());
    expect_children(&relay, 1);
    exchange(&relay);
}

#[test]
fn after_winch_an_upgrade_begins_anew() {
    let (relay, program, _directory) = relay(1, &[]);
    relay.signal(Signal::SIGWINCH);
    expect_children(&relay, 0);
    let mut client = relay.connect();
    client.get("/");
    install(&program, |bytes| bytes.push(0));
    assert!(relay.request("upgrade").output().unwrap().status.success());
    client.read_response().expect(200);
    exchange(&relay);
}

#[test]
fn a_signal_that_comes_during_the_upgrade_is_not_lost() {
    let (mut relay, program, _directory) = relay(1, &[]);
    install(&program, |bytes| bytes.push(0));
    let asked = Ended(relay.request("upgrade").spawn().unwrap());
    eventually("the new program runs", || {
        (executable(relay.master()) == program).then(|| relay.signal(Signal::SIGQUIT))
    });
    assert_eq!(relay.wait(), 0);
    drop(asked);
}

#[test]
fn https_goes_on_too() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let mut relay = None;
    crate::harness::over_tls(|| relay = Some(Relay::of(&program, 2, &[])));
    let relay = relay.unwrap();
    exchange(&relay);
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(2, &[]);
    exchange(&relay);
}

#[test]
fn who_runs_the_relay_may_ask_twenty_times_in_a_row() {
    let (relay, program, _directory) = relay(1, &[]);
    let mut early = 0;
    for round in 0..20 {
        install(&program, |bytes| bytes.push(round));
        relay.upgrade(1, &[]);
        expect_children(&relay, 1);
        let fds = || relay.master().fds().len();
        match round {
            0 => early = fds(),
            _ => eventually("as few descriptors", || (fds() <= early).then_some(())),
        }
    }
    exchange(&relay);
}

#[test]
fn a_stopped_worker_does_not_hold_up_an_upgrade() {
    let (relay, program, _directory) = relay(1, &[]);
    install(&program, |bytes| bytes.push(0));
    let stopped = Stopped::hold(&relay.worker_pids());
    let begun = Instant::now();
    let output = relay.request("upgrade").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(stopped);
    expect_children(&relay, 1);
    exchange(&relay);
}
