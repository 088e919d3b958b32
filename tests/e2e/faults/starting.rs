//! A start with a call that fails: the program ends, with a line about the failure and nothing left behind, or goes on
//! without an optional part.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{BINARY, Fault, Pid, eventually};

/// How soon a start must have failed.
const FAILS_WITHIN: Duration = Duration::from_secs(5);
/// Lines for each of both workers that fail: the reason, its death, and that the master could not send it an order to
/// end.
const LINES_OF_WORKERS: usize = 6;

/// The program with two workers and a socket of each kind, which meets a fault from its first call on.
#[derive(Debug)]
pub(crate) struct Start {
    master: Child,
    directory: TempDir,
}

impl Start {
    pub(crate) fn with(fault: &Fault<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let text = format!(
            "workers = 2\ncontrol_socket = {:?}\nadmin.listen = \"unix:{}\"\nlog.access = {:?}\nmemory.pipes = 2\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n",
            path("control"),
            path("admin").display(),
            path("access.log"),
        );
        fs::write(path("test.toml"), text).unwrap();
        let mut command = fault.command(&path("trace"));
        // The loader's search path depends on the user who runs the test.
        command.env_remove("LD_LIBRARY_PATH");
        command.arg(BINARY).arg("-c").arg(path("test.toml")).stdin(Stdio::null());
        command.stdout(File::create(path("stdout")).unwrap());
        command.stderr(File::create(path("stderr")).unwrap());
        let master = command.process_group(0).spawn().expect("strace must be installed");
        Self { master, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn master(&self) -> Pid {
        Pid(i32::try_from(self.master.id()).unwrap())
    }

    /// How it ended; `None`: it serves.
    fn outcome(&mut self) -> Option<ExitStatus> {
        eventually("it ends or serves", || {
            let ended = self.master.try_wait().unwrap();
            let serves = || self.read("stdout").contains("listening on").then_some(None);
            ended.map(Some).or_else(serves)
        })
    }

    fn expect_nothing_left(&self, what: &str) {
        eventually(&format!("{what}: nothing is left"), || {
            self.master().group().is_empty().then_some(())
        });
        for socket in ["control", "admin"] {
            assert!(!self.path(socket).exists(), "{what}: {socket} is left behind");
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        self.master().group().iter().for_each(|p| p.signal(Signal::SIGKILL));
        let _ = self.master.wait();
    }
}

/// Calls, how they fail, which of them fail one by one, and the message that at least one of them causes.
type Case = (&'static str, &'static str, RangeInclusive<usize>, &'static str);

/// The outcome of a start.
#[derive(Debug, PartialEq)]
enum Tried {
    /// There are fewer such calls.
    Nothing,
    Served,
    /// The program has ended, and wrote this to stderr.
    Failed(String),
}

fn try_case(calls: &str, error: &str, number: usize, lines_max: usize) -> Tried {
    let what = format!("{calls} {error} {number}");
    let (effect, when) = (format!("error={error}"), number.to_string());
    let begun = Instant::now();
    let mut start = Start::with(&Fault { calls, effect: &effect, when: &when });
    let outcome = start.outcome();
    if !start.read("trace").contains("(INJECTED)") {
        return Tried::Nothing;
    }
    let said = start.read("stderr");
    if let Some(status) = outcome {
        assert!(begun.elapsed() < FAILS_WITHIN, "{what}: {:?}", begun.elapsed());
        start.expect_nothing_left(&what);
        // Before the program's first line the loader and the runtime report in their own way what they lack.
        let is_ours = !["mmap", "openat"].contains(&calls) || said.contains("idontstore: cannot");
        if is_ours {
            assert!(matches!(status.code(), Some(1 | 78)), "{what}: {status:?}\n{said}");
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("idontstore: cannot "), "{what}: {said}");
            assert!(!said.contains("panicked"), "{what}: {said}");
            let grave = said.lines().filter(|line| !line.contains(" INFO "));
            assert!(grave.count() <= lines_max, "{what}: {said}");
        }
        assert!(!status.success(), "{what}");
        return Tried::Failed(said);
    }
    start.master().signal(Signal::SIGTERM);
    let status = eventually(&format!("{what}: it stops"), || start.master.try_wait().unwrap());
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{what}: {said}");
    start.expect_nothing_left(&what);
    Tried::Served
}

fn try_all(cases: &[Case], lines_max: usize) {
    for (calls, error, numbers, says) in cases {
        let tried = numbers.clone().map(|number| try_case(calls, error, number, lines_max));
        let tried: Vec<_> = tried.take_while(|it| *it != Tried::Nothing).collect();
        let says = |it: &Tried| matches!(it, Tried::Failed(said) if said.contains(says));
        assert!(tried.iter().any(says), "{calls} {error}: {tried:#?}");
    }
}

#[test]
fn a_master_that_lacks_something_says_so_and_leaves_nothing() {
    let cases: &[Case] = &[
        ("signalfd4", "ENFILE", 1..=1, "cannot listen for signals: Too many open files in system"),
        ("memfd_create", "EMFILE", 1..=1, "memory.segment_bytes"),
        ("fallocate", "ENOMEM", 1..=1, "no memory for a segment"),
        ("mmap", "ENOMEM", 12..=60, "mapping the segment: Cannot allocate memory"),
        ("mlock", "ENOMEM", 1..=1, ""),
        ("eventfd2", "EMFILE", 1..=1, "cannot make an eventfd: Too many open files"),
        ("eventfd2", "ENFILE", 256..=256, "cannot make an eventfd"),
        ("getrandom", "EIO", 1..=60, "cannot draw random numbers"),
        // A worker makes the first two of these calls as well.
        ("fcntl", "EINVAL", 3..=60, "sealing the segment"),
        ("socket", "ENFILE", 1..=3, "cannot listen on 127.0.0.1:0"),
        ("socket", "EMFILE", 1..=3, "cannot open the admin listener"),
        ("socket", "ENOMEM", 1..=3, "(control_socket)"),
        ("setsockopt", "ENOMEM", 1..=60, "cannot listen on 127.0.0.1:0: Cannot allocate memory"),
        ("bind", "EACCES", 1..=3, "(control_socket): Permission denied"),
        ("listen", "EADDRINUSE", 1..=3, "cannot listen on 127.0.0.1:0: Address already in use"),
        ("openat", "EMFILE", 4..=60, "(log.access): Too many open files"),
        ("poll", "ENOMEM", 2..=4, ""),
        ("recvmsg", "ENOMEM", 1..=2, ""),
        ("pipe2", "ENFILE", 1..=1, ""),
        // The child that makes the pipes makes the following calls, or the master makes them for it.
        ("clone,clone3", "EAGAIN", 1..=1, ""),
        ("pidfd_open", "EMFILE", 1..=1, ""),
        ("splice", "EPERM", 1..=2, ""),
        ("socketpair", "EMFILE", 1..=2, ""),
    ];
    let (optional, needed): (Vec<_>, Vec<_>) =
        cases.iter().cloned().partition(|it| it.3.is_empty());
    try_all(&needed, 1);
    for (calls, error, numbers, _) in optional {
        for number in numbers {
            let tried = try_case(calls, error, number, 0);
            assert!(!matches!(tried, Tried::Failed(_)), "{calls} is not needed: {tried:?}");
        }
    }
}

#[test]
fn a_worker_that_cannot_begin_ends_the_start_with_a_reason() {
    let forks: &[Case] = &[
        // The master makes the first two pairs for the pipes.
        ("socketpair", "EMFILE", 3..=4, "cannot fork a worker: Too many open files"),
        // The first asks for the user, and the child's first two are the pipes.
        ("pipe2", "EMFILE", 3..=3, "cannot fork a worker: Too many open files"),
        // The first child looks for the user, the second makes the pipes.
        (
            "clone,clone3",
            "EAGAIN",
            3..=4,
            "cannot fork a worker: fork: Resource temporarily unavailable",
        ),
        ("clone,clone3", "ENOMEM", 3..=3, "cannot fork a worker: fork: Cannot allocate memory"),
        ("pidfd_open", "EMFILE", 3..=4, "cannot fork a worker: pidfd_open: Too many open files"),
        ("pidfd_open", "ENOSYS", 3..=3, "cannot fork a worker: pidfd_open (Linux 5.3"),
    ];
    try_all(forks, 1);
    let works: &[Case] = &[
        ("prctl", "EPERM", 1..=1, "bind a child's life to its parent's"),
        ("epoll_create1", "EMFILE", 1..=1, "making an epoll instance: Too many open files"),
        ("epoll_ctl", "ENOMEM", 1..=1, "watching the master: Cannot allocate memory"),
        ("epoll_ctl", "ENOSPC", 2..=4, "watching the listeners: No space left"),
        ("fcntl", "EINVAL", 1..=2, "sharing the epoll instance: Invalid argument"),
        // The first raises its score.
        ("write", "EPIPE", 2..=2, "telling the master that it serves"),
    ];
    try_all(works, 1 + LINES_OF_WORKERS);
}
