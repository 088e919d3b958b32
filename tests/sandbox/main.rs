//! A process under the workers' sandbox tries what a worker never has to do, and is refused each time: by an error,
//! and not by its death. The same attempts in a free process show that it is the sandbox that refuses.

#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)]

mod attempts;
#[path = "../e2e/harness/needs.rs"]
mod needs;

use attempts::{Attempt, Stage};
use idontstore::sandbox::{self, Shared};
use idontstore::sys::process::fork_child;
use idontstore::sys::user::User;
use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// How few attempts would be too few.
const ATTEMPTS_MIN: usize = 30;

/// Runs `body` in a process of its own, which tells what it wants to by the file; returns that, and how it ended.
fn in_child(body: impl FnOnce(&mut File)) -> (String, WaitStatus) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let Some(child) = fork_child().unwrap() else {
        body(&mut File::from(writer));
        // SAFETY: ends the process, and runs nothing of the test harness that was copied.
        unsafe { libc::_exit(0) }
    };
    drop(writer);
    let mut said = String::new();
    File::from(reader).read_to_string(&mut said).unwrap();
    (said, waitpid(child.pid, None).unwrap())
}

/// Returns the result of each attempt, in a process that has called `prepare`.
fn attempt_all(prepare: impl FnOnce(&Stage)) -> BTreeMap<String, i32> {
    let stage = Stage::set();
    let (said, ended) = in_child(|out| {
        prepare(&stage);
        for Attempt { name, make, .. } in attempts::ALL {
            let errno = if make(&stage) < 0 { Errno::last_raw() } else { 0 };
            writeln!(out, "{name}={errno}").unwrap();
        }
    });
    assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?} after {said}");
    let lines = said.lines().map(|line| line.rsplit_once('=').unwrap());
    lines.map(|(name, errno)| (name.to_owned(), errno.parse().unwrap())).collect()
}

fn is_refused(errno: i32) -> bool {
    errno == libc::EPERM || errno == libc::EACCES
}

fn nobody() -> User {
    User::find("nobody").unwrap()
}

#[track_caller]
fn expect_all_refused(user: &User) {
    let outcomes = attempt_all(|stage| sandbox::enter(user, Some(&stage.shared())).unwrap());
    assert!(outcomes.len() >= ATTEMPTS_MIN, "only {}", outcomes.len());
    let done: Vec<_> = outcomes.iter().filter(|(_, errno)| !is_refused(**errno)).collect();
    assert!(done.is_empty(), "not refused: {done:?}");
}

#[test]
fn whatever_a_worker_does_not_need_is_refused() {
    expect_all_refused(&nobody());
}

#[test]
fn it_is_refused_to_a_process_that_is_root_still() {
    expect_all_refused(&User::find("root").unwrap());
}

#[test]
fn a_free_process_is_refused_nothing_of_it() {
    let outcomes = attempt_all(|_| ());
    let is_root = nix::unistd::geteuid().is_root();
    let expected = |it: &&Attempt| is_root || !it.takes_root;
    let refused: Vec<_> = attempts::ALL
        .iter()
        .filter(|it| !it.machine_may_refuse)
        .filter(expected)
        .filter(|it| is_refused(outcomes[it.name]))
        .map(|it| it.name)
        .collect();
    assert!(refused.is_empty(), "not the sandbox's doing: {refused:?}");
}

#[test]
fn without_the_sandbox_a_worker_is_no_longer_root_and_has_no_capability() {
    if !needs::needs_root() {
        return;
    }
    let (said, _) = in_child(|out| {
        sandbox::enter(&nobody(), None).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let shown = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb"];
        for line in status.lines().filter(|it| shown.iter().any(|name| it.starts_with(name))) {
            writeln!(out, "{}", line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap();
        }
        // SAFETY: no pointers.
        let back = unsafe { libc::setresuid(0, 0, 0) };
        let mut signal = 0;
        // SAFETY: the kernel writes one int.
        unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
        writeln!(out, "back {back}, dies by {signal}").unwrap();
    });
    let none = "0000000000000000";
    let expected = format!(
        "Uid: 65534 65534 65534 65534\nGid: 65534 65534 65534 65534\nGroups: 65534\n\
         CapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapAmb: {none}\nback -1, dies by 9\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn what_holds_for_the_master_is_neither_dumped_nor_looked_into() {
    let (said, _) = in_child(|out| {
        sandbox::harden().unwrap();
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE);
        let dumpable = nix::sys::prctl::get_dumpable().unwrap();
        let alone = nix::sys::prctl::get_no_new_privs().unwrap();
        writeln!(out, "{:?} {dumpable} {alone}", limit.unwrap()).unwrap();
    });
    assert_eq!(said, "(0, 0) false true\n");
}

#[test]
fn what_a_worker_is_for_works_still() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (said, ended) = in_child(|out| {
        sandbox::enter(&nobody(), Some(&Shared::default())).unwrap();
        let (mut served, _) = idontstore::sys::listener::accept(&listener).unwrap();
        // A connection that is given up is reset.
        socket2::SockRef::from(&served).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        socket2::SockRef::from(&served).set_linger(None).unwrap();
        served.write_all(b"hello").unwrap();
        let mut random = [0; 32];
        getrandom::fill(&mut random).unwrap();
        // More than what is taken by moving the end of the heap.
        let memory = vec![1u8; 4 << 20];
        writeln!(out, "{}", memory.len()).unwrap();
    });
    assert_eq!((said.as_str(), matches!(ended, WaitStatus::Exited(_, 0))), ("4194304\n", true));
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
}

/// Payload passes between a pipe and a socket; splice(2) can write nothing that write(2) cannot.
#[test]
fn payload_passes_through_a_pipe_and_nowhere_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (served, _) = listener.accept().unwrap();
    let (out, into) = nix::unistd::pipe().unwrap();
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kept.path(), "text").unwrap();
    let open_file = File::open(kept.path()).unwrap();
    let log = File::options().append(true).open(kept.path()).unwrap();
    let directory = File::open("/").unwrap();
    client.write_all(b"hello, and more").unwrap();
    let (said, ended) = in_child(|said| {
        sandbox::enter(&nobody(), Some(&Shared::default())).unwrap();
        let move_to = |from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes| {
            splice(from, None, to, None, bytes, SpliceFFlags::SPLICE_F_NONBLOCK)
        };
        let through =
            [move_to(served.as_fd(), into.as_fd(), 15), move_to(out.as_fd(), served.as_fd(), 5)];
        writeln!(said, "{through:?}").unwrap();
        let nowhere = [open_file.as_fd(), directory.as_fd(), listener.as_fd(), out.as_fd()];
        for to in nowhere {
            let written = nix::unistd::write(to, b"x");
            let spliced = move_to(out.as_fd(), to, 1);
            writeln!(said, "{} {}", written.is_err(), spliced.is_err()).unwrap();
        }
        // A log is written at its end alone.
        writeln!(said, "{:?}", move_to(out.as_fd(), log.as_fd(), 1)).unwrap();
    });
    let expected = format!("[Ok(15), Ok(5)]\n{}Err(EINVAL)\n", "true true\n".repeat(4));
    assert_eq!((said.as_str(), matches!(ended, WaitStatus::Exited(_, 0))), (&*expected, true));
    drop(served);
    let mut heard = [0; 5];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    assert_eq!(std::fs::read_to_string(kept.path()).unwrap(), "text");
}

/// A service manager's filter may refuse changes of capabilities, and nothing else.
#[test]
fn a_manager_that_forbids_to_change_capabilities_is_no_reason_to_stop() {
    let (said, ended) = in_child(|out| {
        nobody().become_it().unwrap();
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let machine = std::env::consts::ARCH.try_into().unwrap();
        let rules = [(libc::SYS_capset, Vec::new())].into();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, machine).unwrap();
        let filter: BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&filter).unwrap();
        let entered = sandbox::enter(&nobody(), Some(&Shared::default()));
        writeln!(out, "{entered:?}").unwrap();
    });
    assert_eq!((said.as_str(), matches!(ended, WaitStatus::Exited(_, 0))), ("Ok(())\n", true));
}

#[test]
fn who_aborts_dies_of_that() {
    let (_, ended) = in_child(|_| {
        sandbox::enter(&nobody(), Some(&Shared::default())).unwrap();
        std::process::abort();
    });
    assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGABRT, _)), "{ended:?}");
}

/// The most listeners that there can be, and more.
#[test]
fn the_filter_has_room_for_all_that_workers_share() {
    let (said, ended) = in_child(|out| {
        let shared = Shared { fds: (100..200).collect(), log: Some(99) };
        writeln!(out, "{:?}", sandbox::enter(&nobody(), Some(&shared))).unwrap();
    });
    assert_eq!((said.as_str(), matches!(ended, WaitStatus::Exited(_, 0))), ("Ok(())\n", true));
}
