//! The sandbox of master and workers, seen from outside; the exact descriptors that a worker has open; and that it does
//! without all others. `tests/sandbox` tries the calls that the sandbox refuses.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::harness::{ADMIN, Pid, Relay, Stopped, needs_root_to_look_in};
use crate::processes::reload::exchange;

const NONE: &str = "0000000000000000";

/// A field of `/proc/PID/status`.
fn status(pid: Pid, name: &str) -> String {
    let status = pid.read("status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn ids(number: u32) -> String {
    [number; 4].map(|it| it.to_string()).join(" ")
}

#[track_caller]
fn expect_sandboxed(relay: &Relay) {
    for pid in relay.worker_pids() {
        assert_eq!(status(pid, "Seccomp"), "2");
        assert_eq!([status(pid, "Uid"), status(pid, "Gid")], [ids(65534), ids(65534)]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(pid, set), NONE, "{set}");
        }
        // The files in /proc of a process that no user may look into are root's, whatever user it runs as.
        assert_eq!(fs::metadata(format!("/proc/{}/environ", pid.0)).unwrap().uid(), 0);
    }
    for pid in relay.worker_pids().into_iter().chain([relay.master()]) {
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        let limits = pid.read("limits");
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(cores.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
        assert!(segment_flags(pid).contains(&"dd".to_owned()), "the segment would be dumped");
    }
    assert_eq!(status(relay.master(), "Uid"), ids(0));
}

/// The flags of the mapped segment, as in proc(5).
fn segment_flags(pid: Pid) -> Vec<String> {
    let maps = pid.read("smaps");
    let segment = maps.split_once("memfd:idontstore").expect("it is mapped").1;
    let flags = segment.lines().find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    flags.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn workers_have_given_up_what_they_do_not_need_also_after_an_upgrade() {
    if !needs_root_to_look_in() {
        return;
    }
    let relay = Relay::with(2, &[]);
    expect_sandboxed(&relay);
    relay.reload(3, &[]);
    expect_sandboxed(&relay);
    relay.upgrade(2, &[]);
    expect_sandboxed(&relay);
    exchange(&relay);
}

#[test]
fn a_reload_changes_the_user_and_not_the_sandbox() {
    if !needs_root_to_look_in() {
        return;
    }
    let relay = Relay::with(1, &["user = \"1234567\""]);
    assert_eq!(status(relay.worker_pids()[0], "Uid"), ids(1_234_567));
    relay.reload(1, &["user = \"7654321\""]);
    assert_eq!(status(relay.worker_pids()[0], "Uid"), ids(7_654_321));
    relay.configure(1, &["user = \"7654321\"", "sandbox = \"off\""]);
    let output = relay.request("reload").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("only a restart can change sandbox"), "{said}");
}

#[test]
fn without_the_sandbox_workers_are_nobody_all_the_same() {
    if !needs_root_to_look_in() {
        return;
    }
    let relay = Relay::with(1, &["sandbox = \"off\""]);
    let worker = relay.worker_pids()[0];
    let shown = ["Uid", "Seccomp", "NoNewPrivs", "CapEff"].map(|name| status(worker, name));
    assert_eq!(shown, [&ids(65534), "0", "0", NONE]);
    exchange(&relay);
}

#[test]
fn a_worker_that_cannot_act_dies_with_its_master_all_the_same() {
    let mut relay = Relay::with(1, &[]);
    let workers = relay.worker_pids();
    let _stopped = Stopped::hold(&workers);
    relay.kill_master();
    assert!(workers[0].is_gone_within(Duration::from_secs(5)), "the worker outlives its master");
}

/// Lists the kinds of a process's descriptors, with the number of each.
fn open_things(pid: Pid) -> BTreeMap<String, usize> {
    let sockets = sockets();
    let mut things = BTreeMap::new();
    for (number, link) in pid.fds() {
        let thing = match number {
            0..=2 => format!("{number} {}", link.split(':').next().unwrap()),
            _ => match link.strip_prefix("socket:[").and_then(|it| it.strip_suffix(']')) {
                Some(inode) => sockets.get(inode).cloned().unwrap_or(link),
                None if link.starts_with("pipe:") => "an end of a pipe".to_owned(),
                None => link,
            },
        };
        *things.entry(thing).or_default() += 1;
    }
    things
}

/// The machine's sockets by inode: whether each listens or is connected, and its port.
fn sockets() -> BTreeMap<String, String> {
    const LISTENS: &str = "0A";
    let mut sockets = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let rows = fs::read_to_string(format!("/proc/net/{table}")).unwrap();
        for row in rows.lines().skip(1) {
            let fields: Vec<_> = row.split_whitespace().collect();
            let port = fields[1].rsplit(':').next().unwrap();
            let port = u16::from_str_radix(port, 16).unwrap();
            let what = if fields[3] == LISTENS { "listens at" } else { "connected to" };
            sockets.insert(fields[9].to_owned(), format!("{what} {port}"));
        }
    }
    for row in fs::read_to_string("/proc/net/unix").unwrap().lines().skip(1) {
        let fields: Vec<_> = row.split_whitespace().collect();
        const SEQUENCED: &str = "0005";
        if fields[4] == SEQUENCED && fields.len() == 7 {
            sockets.insert(fields[6].to_owned(), "a worker channel".to_owned());
        }
    }
    sockets
}

#[test]
fn a_worker_has_open_what_it_needs_and_nothing_else() {
    if !needs_root_to_look_in() {
        return;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let access = format!("log.access = {:?}", log.path());
    let relay = Relay::with(2, &["[[listener]]\naddress = \"[::1]:0\"", ADMIN, &access]);
    let admin = relay.wait_for_output("admin listener on ");
    let admin = admin.lines().find(|line| line.starts_with("admin listener on ")).unwrap();
    let admin = admin.rsplit(':').next().unwrap();
    let (first, second) = (relay.listener(0).port(), relay.listener(1).port());
    let errors = format!("2 {}", relay.path("stderr").display());
    let always = [
        ("0 /dev/null", 1),
        ("1 pipe", 1),
        (&errors, 1),
        ("anon_inode:[eventfd]", 256),
        // The worker's connections hold a copy.
        ("anon_inode:[eventpoll]", 2),
        ("a worker channel", 1),
        // The harness asks for four pipes, with two ends each; the worker channel has one end more.
        ("an end of a pipe", 9),
        (log.path().to_str().unwrap(), 1),
        (&format!("listens at {first}"), 1),
        (&format!("listens at {second}"), 1),
        (&format!("listens at {admin}"), 1),
    ];
    let always: BTreeMap<_, _> = always.map(|(thing, count)| (thing.to_owned(), count)).into();
    let segment = relay.segment();
    for pid in relay.worker_pids() {
        assert_eq!(open_things(pid), always);
    }
    let connections: Vec<_> =
        (0..3).map(|_| relay.on_worker(1, &segment, || relay.connect())).collect();
    let mut now = always.clone();
    now.insert(format!("connected to {first}"), connections.len());
    let workers = relay.worker_pids();
    assert_eq!([open_things(workers[0]), open_things(workers[1])], [always, now]);
}
