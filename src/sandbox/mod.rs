//! The sandbox: what a process gives up before it reads the first byte of a stranger.
//!
//! The master calls [`harden`] when it begins, each worker calls [`enter`] once all is made that it needs. Invariant:
//! a worker names no path, opens no socket and starts no program, even if a stranger controls it. A refused
//! call is an error (`EPERM`, `EACCES`) and never kills the worker: a call that a library makes for the first time on
//! some machine must not become a crash that repeats for ever.

mod calls;
mod paths;

use crate::sys::process;
use crate::sys::user::{self, User};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{geteuid, pipe2};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

/// The most that is read of a trial's reason.
const REASON_BYTES_MAX: u64 = 4096;

/// Why something could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The user.
    #[error("cannot become the user {name} (key `user`; workers of \"root\" stay root): {errno}")]
    User {
        /// The user to become.
        name: String,
        /// Why not.
        errno: Errno,
    },
    /// The capabilities.
    #[error("cannot give up all capabilities: {0}")]
    Capabilities(Errno),
    /// New privileges, core dumps, and tracing.
    #[error("cannot forbid core dumps, tracing and new privileges: {0}")]
    Privacy(Errno),
    /// Paths.
    #[error("landlock failed (`sandbox = \"off\"` switches it off): {0}")]
    Paths(#[from] landlock::RulesetError),
    /// System calls.
    #[error("seccomp failed (`sandbox = \"off\"` switches it off): {0}")]
    Calls(#[from] seccompiler::Error),
}

/// Forbids the master, and a program that takes over, core dumps, tracing and new privileges by an execve(2).
pub fn harden() -> Result<(), SandboxError> {
    process::keep_to_itself().map_err(SandboxError::Privacy)?;
    if !paths::can_be_denied() {
        tracing::warn!("the kernel has no landlock: only seccomp denies files to workers");
    }
    Ok(())
}

/// Whether a process with the rights of this one could become a worker under `user`, in the sandbox if that `is_on`;
/// or why not, in words. A child process tries it.
pub fn try_out(user: &User, is_on: bool) -> io::Result<Result<(), String>> {
    let (said, says) = pipe2(OFlag::O_CLOEXEC)?;
    let Some(child) = process::fork_child()? else {
        let entered = if is_on { harden() } else { Ok(()) };
        let entered = entered.and_then(|()| enter(user, is_on.then(Shared::default).as_ref()));
        if let Err(error) = entered {
            let _ = File::from(says).write_all(error.to_string().as_bytes());
        }
        std::process::exit(0);
    };
    drop(says);
    let mut why = String::new();
    let read = File::from(said).take(REASON_BYTES_MAX).read_to_string(&mut why);
    let status = waitpid(child.pid, None)?;
    read?;
    Ok(match status {
        WaitStatus::Exited(_, 0) if why.is_empty() => Ok(()),
        WaitStatus::Exited(_, 0) => Err(why),
        status => Err(process::cause(status)),
    })
}

/// Descriptors that a worker shares with other processes and could harm them by, beside its standard streams.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Listeners, and both descriptors of the worker channel.
    pub fds: Vec<RawFd>,
    /// The access log, which another may replace under the same number.
    pub log: Option<RawFd>,
}

/// Makes a process a worker for good: it becomes `user` without capabilities if it is root. With the sandbox on,
/// which `shared` tells, it gives up every path and every system call that is not on the list.
pub fn enter(user: &User, shared: Option<&Shared>) -> Result<(), SandboxError> {
    let failed = |errno| SandboxError::User { name: user.name.clone(), errno };
    user.become_it().map_err(failed)?;
    match user::drop_capabilities() {
        // A service manager may forbid the call to a user that never had capabilities, or has one to open ports. Then
        // no call is left that a capability would help.
        Err(errno) if !geteuid().is_root() => {
            tracing::debug!(%errno, "cannot give up capabilities")
        }
        done => done.map_err(SandboxError::Capabilities)?,
    }
    if let Some(shared) = shared {
        // Becoming another user has undone a part of it, so it is done again.
        process::keep_to_itself().map_err(SandboxError::Privacy)?;
        paths::deny_all()?;
        calls::deny_all_others(shared)?;
    }
    Ok(())
}
