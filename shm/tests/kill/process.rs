//! A process that a test starts, and that never outlives it.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The exit code of a process whose own assertions failed.
pub(crate) const PANICKED: i32 = 101;

/// How long anything here may take. Reached only by what hangs.
const DEADLINE_MS: u16 = 20_000;

/// A child, killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    /// Readable once the child is over.
    pidfd: OwnedFd,
    reaped: bool,
}

impl Child {
    /// Runs `body` in a process of its own, which exits with what it returns.
    pub(crate) fn spawn(body: impl FnOnce() -> i32) -> Self {
        let parent = nix::unistd::getpid();
        // SAFETY: the child runs `body` and exits. What it inherits of other threads' locks is the
        // allocator's, which glibc makes usable again after a fork.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                let orphan = getppid() != parent;
                let code = catch_unwind(AssertUnwindSafe(|| if orphan { 0 } else { body() }));
                // SAFETY: ends the child alone, running no destructor of the parent's.
                unsafe { libc::_exit(code.unwrap_or(PANICKED)) }
            }
            ForkResult::Parent { child } => Self { pid: child, pidfd: pidfd(child), reaped: false },
        }
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
    }

    /// Waits until the child is over: its exit code, or `None` if SIGKILL ended it.
    pub(crate) fn reap(mut self) -> Option<i32> {
        assert!(self.wait_readable(), "{} does not come to its end", self.pid);
        self.reaped = true;
        match waitpid(self.pid, None).unwrap() {
            WaitStatus::Exited(_, code) => Some(code),
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => None,
            other => panic!("{other:?}"),
        }
    }

    fn wait_readable(&self) -> bool {
        wait_any(&[Some(self)]) == Some(0)
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

/// Waits until one of `children` is over, and says which. `None`: none is within the deadline.
pub(crate) fn wait_any(children: &[Option<&Child>]) -> Option<usize> {
    let seats: Vec<usize> = (0..children.len()).filter(|seat| children[*seat].is_some()).collect();
    let pidfds = children.iter().flatten().map(|child| child.pidfd.as_fd());
    let mut fds: Vec<PollFd> = pidfds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::from(DEADLINE_MS)).unwrap();
    let over = fds.iter().position(|fd| fd.any() == Some(true))?;
    Some(seats[over])
}

fn pidfd(pid: Pid) -> OwnedFd {
    // SAFETY: the call takes two integers and returns a descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    assert!(fd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap()) }
}
