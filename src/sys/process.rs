//! Processes: fork, hear of a death, die with the parent, inherit only what is on the list.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its pid, ours to signal until it is reaped.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Forks. `Ok(None)` in the child, which dies with the parent. After an error there is no child, but there may have
/// been one for a moment.
///
/// Precondition: one thread, as the master is for life; otherwise the child could inherit a lock
/// that nobody will release.
pub fn fork_child() -> io::Result<Option<Child>> {
    let parent = nix::unistd::getpid();
    // SAFETY: the caller has one thread, so the child inherits no lock held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => match pidfd_open(child) {
            Ok(pidfd) => Ok(Some(Child { pid: child, pidfd })),
            Err(error) => {
                // A child that we could not watch must not live.
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
                Err(error)
            }
        },
        ForkResult::Child => {
            // An error must not return: the child would go on as a second master.
            if let Err(errno) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
                let error = io::Error::from(errno);
                tracing::error!(%error, "a child cannot be made to die with its parent");
                std::process::exit(1);
            }
            if getppid() != parent {
                std::process::exit(1);
            }
            Ok(None)
        }
    }
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; an error is told by -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us (close-on-exec, by its definition).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reaps `child` if it has ended.
pub fn reap(child: &Child) -> Option<WaitStatus> {
    match waitpid(child.pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
        Ok(status) => Some(status),
        // It is somebody else's to reap: only its pidfd tells whether it still runs.
        Err(_) => has_ended(child).then_some(WaitStatus::Exited(child.pid, 0)),
    }
}

fn has_ended(child: &Child) -> bool {
    let mut fds = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Sends `signal` to `child`, and never to another process that has come to its pid. Nothing happens where it is gone.
pub fn send(child: &Child, signal: Signal) {
    let (fd, nothing) = (child.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the only pointer is null, which the call allows.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as libc::c_int, nothing, 0) };
}

/// Closes every descriptor above standard error that is not in `keep`.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> =
        keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: no pointers. Descriptors that are closed here belong to objects that the caller will
    // not use again: it is the first act of a worker, which keeps what is on its list.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets this process read nothing from where the one before it was started.
pub fn leave_stdin() -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(File::open("/dev/null")?)?)
}

/// Raises the soft limit of open files to the hard one; returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How many files a process may have open that is started like this one, and raises its limit.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// What keeps this process from a memory file of so many `bytes`, and from mapping it: the limit's name, and its value.
#[must_use]
pub fn limit_below(bytes: u64) -> Option<(&'static str, u64)> {
    let limits = [
        (Resource::RLIMIT_FSIZE, "the largest file (ulimit -f)"),
        (Resource::RLIMIT_AS, "the largest address space (ulimit -v)"),
    ];
    let mut limits = limits.into_iter().filter_map(|(limit, name)| {
        let (soft, _) = getrlimit(limit).ok()?;
        Some((name, soft))
    });
    limits.find(|(_, most)| *most < bytes)
}

/// No core dumps, no debugger but root's, and no program that is executed brings privileges. What is executed has to ask
/// for the second again, and so has whoever becomes another user.
pub fn keep_to_itself() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    set_no_new_privs()
}

/// The raw numbers of anything that has one.
pub fn raw<'a, T: AsRawFd + 'a>(fds: impl IntoIterator<Item = &'a T>) -> Vec<RawFd> {
    fds.into_iter().map(AsRawFd::as_raw_fd).collect()
}
