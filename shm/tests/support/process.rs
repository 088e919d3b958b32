//! Real processes for tests: forked, and gone when the test is.
#![allow(dead_code)] // Each test uses a part of it.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, getppid};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

/// The longest that any wait may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A child process. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(Signal),
}

/// Runs `body` in a child process, whose exit code is what it returns, or 101 if it panics.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> Child {
    let parent = getpid();
    HOOK.call_once(|| report_panics_of_children_of(parent));
    // SAFETY: the child runs `body` and leaves by `_exit`, so it never returns into the test harness. The body
    // allocates little, and the C library's allocator is usable in the child of a fork.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Parent { child } => Child { pid: child, pidfd: pidfd_of(child), reaped: false },
        ForkResult::Child => {
            // SAFETY: asks for a signal, touches no memory.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = match getppid() == parent {
                true => catch_unwind(AssertUnwindSafe(body)).unwrap_or(101),
                false => 102,
            };
            // SAFETY: ends the process, runs nothing of the harness that was copied.
            unsafe { libc::_exit(code) }
        }
    }
}

static HOOK: Once = Once::new();

/// The harness keeps what a test prints, and in a child that would end with the child. Set once and
/// in the parent: a child must not wait for a lock that one of the parent's threads held.
fn report_panics_of_children_of(parent: Pid) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if getpid() == parent {
            return default(info);
        }
        let text = format!("in a child process: {info}\n");
        let _ = nix::unistd::write(std::io::stderr(), text.as_bytes());
    }));
}

fn pidfd_of(pid: Pid) -> OwnedFd {
    // SAFETY: takes numbers and gives a file descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).unwrap();
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel gave it to us just now.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Child {
    pub(crate) fn kill(&self) {
        // Not reaped yet, so the pid is still this child's.
        kill(self.pid, Signal::SIGKILL).unwrap();
    }

    /// Whether the child ended, without waiting.
    pub(crate) fn is_over(&self) -> bool {
        is_readable(&self.pidfd, 0)
    }

    /// Waits for the end, at most for the deadline.
    pub(crate) fn wait(mut self) -> Exit {
        assert!(wait_readable(&self.pidfd), "the child still runs after {DEADLINE:?}");
        self.reaped = true;
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::Exited(_, code) => Exit::Code(code),
            WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Whether `fd` became readable before the deadline.
pub(crate) fn wait_readable(fd: &impl AsFd) -> bool {
    is_readable(fd, i32::try_from(DEADLINE.as_millis()).unwrap())
}

fn is_readable(fd: &impl AsFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: the pointer leads to one entry on this stack.
        match unsafe { libc::poll(&raw mut poll, 1, timeout_ms) } {
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            ready => return ready == 1,
        }
    }
}
