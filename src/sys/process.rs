//! Processes: fork, hear of a death, die with the parent, inherit only what is on the list.

use super::failed;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe2};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The first descriptor that is not standard input, output or error.
const FIRST_OF_OURS: libc::c_uint = 3;
/// The range of descriptors to close if nothing tells which are open: as many as a process may have by default
/// (`fs.nr_open`).
const DESCRIPTORS_MAX: libc::c_uint = 1 << 20;

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// The child's pid, ours to signal until it is reaped.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Forks. `Ok(None)` in the child, which dies with the parent. An error leaves no child, but there may have been one
/// for a moment.
///
/// Precondition: one thread, as the master is for life; otherwise the child could inherit a lock
/// that nobody will release.
pub fn fork_child() -> io::Result<Option<Child>> {
    let parent = nix::unistd::getpid();
    // SAFETY: the caller has one thread, so the child inherits no lock held by another.
    let forked = unsafe { fork() }.map_err(|errno| failed("fork", &errno.into()))?;
    match forked {
        ForkResult::Parent { child } => match pidfd_open(child) {
            Ok(pidfd) => Ok(Some(Child { pid: child, pidfd })),
            Err(error) => {
                // A child that cannot be watched must not live.
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
                Err(error)
            }
        },
        ForkResult::Child => {
            // An error must not return: the child would go on as a second master.
            if let Err(errno) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
                let error = io::Error::from(errno);
                tracing::error!(%error, "cannot bind a child's life to its parent's");
                std::process::exit(1);
            }
            if getppid() != parent {
                std::process::exit(1);
            }
            Ok(None)
        }
    }
}

/// The most that is read of a child's answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Runs `work` in a child process, which is ended if it takes longer than `patience`. Precondition: as for
/// [`fork_child`].
pub fn ask_child(patience: Duration, work: impl FnOnce() -> String) -> io::Result<String> {
    let (answer, into) = pipe2(OFlag::O_CLOEXEC)?;
    let Some(child) = fork_child()? else {
        let told = File::from(into).write_all(work().as_bytes());
        std::process::exit(i32::from(told.is_err()));
    };
    drop(into);
    let mut fds = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    // Signals are blocked or have no handler, so only the end of the time interrupts the wait.
    if poll(&mut fds, patience)? == 0 {
        send(&child, Signal::SIGKILL);
        // A child that the kernel ends late is reaped with other strangers.
        let _ = reap(&child);
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut text = String::new();
    let read = File::from(answer).take(ANSWER_BYTES_MAX).read_to_string(&mut text);
    match waitpid(child.pid, None)? {
        WaitStatus::Exited(_, 0) => read.map(|_| text),
        status => Err(io::Error::other(cause(status))),
    }
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; an error is told by -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        let error = io::Error::last_os_error();
        // Only a pidfd tells of a child's death; a sandbox around us may refuse it as well.
        return Err(match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM) => failed(
                "pidfd_open (Linux 5.3 or later is needed, and a sandbox that allows it)",
                &error,
            ),
            _ => failed("pidfd_open", &error),
        });
    }
    // SAFETY: the kernel just made it for us (close-on-exec, by its definition).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reaps `child` if it has ended.
pub fn reap(child: &Child) -> Option<WaitStatus> {
    match waitpid(child.pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
        Ok(status) => Some(status),
        // Another process has to reap it: only its pidfd tells whether it still runs.
        Err(_) => has_ended(child).then_some(WaitStatus::Exited(child.pid, 0)),
    }
}

/// Strangers that are reaped at a time.
const STRANGERS_MAX: usize = 256;

/// Reaps children that have ended, except `own`: their owners reap those. Stops as soon as one of them is the next.
pub fn reap_all_but(own: &[Pid]) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    for _ in 0..STRANGERS_MAX {
        // Looking takes nothing from another process.
        let next = waitid(Id::All, flags).ok().and_then(|status| status.pid());
        let Some(stranger) = next.filter(|pid| !own.contains(pid)) else { return };
        let _ = waitpid(stranger, Some(WaitPidFlag::WNOHANG));
    }
}

/// How far a worker's score for the kernel's out-of-memory choice is above its parent's, in thousandths of all memory
/// (proc_pid_oom_score_adj(5)).
const OOM_SCORE_ABOVE: i32 = 100;
const OOM_SCORE_MAX: i32 = 1000;
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Makes the kernel kill this process before its parent if memory runs out: it has its parent's score.
pub fn raise_oom_score() -> io::Result<()> {
    let score: i32 =
        std::fs::read_to_string(OOM_SCORE)?.trim().parse().map_err(io::Error::other)?;
    let score = score.saturating_add(OOM_SCORE_ABOVE).min(OOM_SCORE_MAX).to_string();
    let raised = std::fs::write(OOM_SCORE, &score);
    if !raised.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return raised;
    }
    // The files in `/proc` of a process that forbids tracing are root's, also this one, which otherwise any process
    // may write that owns it.
    set_dumpable(true)?;
    let raised = std::fs::write(OOM_SCORE, &score);
    set_dumpable(false)?;
    raised
}

fn has_ended(child: &Child) -> bool {
    let mut fds = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Sends `signal` to `child`, and never to another process that has got its pid. A process that is gone gets nothing.
pub fn send(child: &Child, signal: Signal) {
    let (fd, nothing) = (child.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: the only pointer is null, which the call allows.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as libc::c_int, nothing, 0)
    };
    if sent != 0 && is_refused(Errno::last()) {
        // The pid does the same as long as only we reap the child: until then the pid stays its own.
        let _ = kill(child.pid, signal);
    }
}

/// Whether the kernel has no such call, or a sandbox around us refuses it.
fn is_refused(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EACCES)
}

/// Closes every descriptor above standard error that is not in `keep`. Closing is the first act of a worker: the
/// descriptors belong to objects that the caller will not use again.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> =
        keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    match close_between(&keep) {
        // A kernel before Linux 5.9, or a sandbox that does not know the call.
        Err(errno) if is_refused(errno) => close_one_by_one(&keep),
        closed => Ok(closed.map_err(|errno| failed("close_range", &errno.into()))?),
    }
}

/// Closes what is not in `keep`, which is in order.
fn close_between(keep: &[libc::c_uint]) -> Result<(), Errno> {
    let mut first = FIRST_OF_OURS;
    for fd in keep {
        if *fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: no pointers. A closed descriptor belongs to nobody any more.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(done).map(drop)
}

/// Closes them by a call for each: those that are open, if `/proc` tells, or else all that could be.
fn close_one_by_one(keep: &[libc::c_uint]) -> io::Result<()> {
    let numbers: Box<dyn Iterator<Item = libc::c_uint>> = match open_descriptors() {
        Ok(open) => Box::new(open.into_iter()),
        Err(_) => {
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
                .map_err(|errno| failed("getrlimit", &errno.into()))?;
            let most = u32::try_from(soft.max(hard)).unwrap_or(u32::MAX).min(DESCRIPTORS_MAX);
            Box::new(0..most)
        }
    };
    for fd in numbers.filter(|fd| *fd >= FIRST_OF_OURS && keep.binary_search(fd).is_err()) {
        let Ok(fd) = RawFd::try_from(fd) else { continue };
        // SAFETY: no pointers; as above. Where nothing is open it is an error that changes nothing.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

fn open_descriptors() -> io::Result<Vec<libc::c_uint>> {
    // Reads all names before it closes the first of them, and the descriptor that it reads from.
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Makes standard input read nothing from where the program was started.
pub fn leave_stdin() -> io::Result<()> {
    let nothing = nothing()?;
    nix::unistd::dup2_stdin(nothing).map_err(|errno| failed("dup2", &errno.into()))
}

/// The descriptor reads as empty and keeps nothing that is written: `/dev/null`, or, where that is missing, an empty
/// file in memory that cannot grow.
pub fn nothing() -> io::Result<File> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    let Err(error) = opened else { return opened };
    let made = memfd_create(c"nothing", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
    let made = made.map_err(|_| failed("opening /dev/null", &error))?;
    fcntl(&made, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE))
        .map_err(|_| failed("opening /dev/null", &error))?;
    Ok(made.into())
}

/// Raises the soft limit of open files to the hard one; returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How many files a process like this one may open, once it has raised its limit.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// The limit that keeps this process from a memory file of so many `bytes`, or from mapping it: its name and value.
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

/// Forbids core dumps, debuggers but root's, and privileges by an execve(2). A program that is executed has to ask
/// for the second again, and so has a process that changes its user.
pub fn keep_to_itself() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    set_no_new_privs()
}

/// The raw numbers of anything that has one.
pub fn raw<'a, T: AsRawFd + 'a>(fds: impl IntoIterator<Item = &'a T>) -> Vec<RawFd> {
    fds.into_iter().map(AsRawFd::as_raw_fd).collect()
}

/// Why a process has ended.
#[must_use]
pub fn cause(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit code {code}"),
        WaitStatus::Signaled(_, signal, _) => signal.as_str().to_owned(),
        _ => "it is stopped, and has not exited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;

    /// Runs the check in a child, which alone may close everything it has.
    #[track_caller]
    fn in_a_child(act: impl FnOnce() -> bool) {
        let Some(child) = fork_child().unwrap() else {
            // The child must not run the test's own code. SAFETY: no pointers.
            unsafe { libc::_exit(i32::from(!act())) };
        };
        let status = waitpid(child.pid, None).unwrap();
        assert_eq!(status, WaitStatus::Exited(child.pid, 0));
    }

    fn is_open(fd: RawFd) -> bool {
        // SAFETY: no pointers.
        unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
    }

    #[test]
    fn what_is_not_kept_is_closed_with_and_without_close_range() {
        let files: Vec<File> = (0..4).map(|_| nothing().unwrap()).collect();
        let fds = raw(&files);
        let keep: Vec<u32> = [fds[2], fds[1]].map(i32::cast_unsigned).into();
        let kept = || is_open(0) && is_open(2) && is_open(fds[1]) && is_open(fds[2]);
        let closed = || !is_open(fds[0]) && !is_open(fds[3]);
        in_a_child(|| close_all_but(&[fds[2], fds[1]]).is_ok() && kept() && closed());
        let mut sorted = keep;
        sorted.sort_unstable();
        in_a_child(|| close_one_by_one(&sorted).is_ok() && kept() && closed());
    }

    #[test]
    fn nothing_is_empty_and_stays_so() {
        let mut nothing = nothing().unwrap();
        let _ = nothing.write_all(b"something");
        assert_eq!(nothing.read(&mut [0; 16]).unwrap(), 0);
    }

    #[test]
    fn a_child_is_asked_for_so_long_and_no_longer() {
        let text = "long ".repeat(100_000);
        let answer = ask_child(Duration::from_secs(60), || text.clone()).unwrap();
        assert_eq!(answer, text);
        let begun = Instant::now();
        let late = ask_child(Duration::from_millis(100), || {
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        });
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert!(ask_child(Duration::from_secs(60), || std::process::exit(1)).is_err());
    }

    #[test]
    fn strangers_are_reaped_and_own_children_are_not() {
        let Some(own) = fork_child().unwrap() else { std::process::exit(7) };
        let Some(stranger) = fork_child().unwrap() else { std::process::exit(8) };
        while !has_ended(&own) || !has_ended(&stranger) {
            std::thread::yield_now();
        }
        // The own one may be the next, and stays so until it is reaped.
        reap_all_but(&[own.pid]);
        assert_eq!(reap(&own), Some(WaitStatus::Exited(own.pid, 7)));
        reap_all_but(&[]);
        assert_eq!(waitpid(stranger.pid, None), Err(Errno::ECHILD));
    }
}
