//! The sandbox: what is given up before the first byte of a stranger is read.
//!
//! The master calls [`harden`] when it begins, each worker calls [`enter`] once all is made that it needs. What must
//! always hold: a worker names no path, opens no socket and starts no program, whoever has taken it over; and what
//! it is refused is an error (`EPERM`, `EACCES`), never its death, since a call that a library makes for the first
//! time on some machine must not become a crash that is repeated for ever.

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

/// The most that is read of why a trial failed.
const REASON_BYTES_MAX: u64 = 4096;

/// Why something could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The user.
    #[error("cannot become the user {name} (key `user`; \"root\" stays as it is): {errno}")]
    User {
        /// Which one was to be.
        name: String,
        /// Why not.
        errno: Errno,
    },
    /// The capabilities.
    #[error("cannot give up all capabilities: {0}")]
    Capabilities(Errno),
    /// New privileges, core dumps, being looked into.
    #[error("cannot keep to ourselves: {0}")]
    Privacy(Errno),
    /// Paths.
    #[error("landlock failed (`sandbox = \"off\"` does without): {0}")]
    Paths(#[from] landlock::RulesetError),
    /// System calls.
    #[error("seccomp failed (`sandbox = \"off\"` does without): {0}")]
    Calls(#[from] seccompiler::Error),
}

/// For the master, and whoever becomes it: no core dumps, nobody looks in, no new privileges by what is executed.
pub fn harden() -> Result<(), SandboxError> {
    process::keep_to_itself().map_err(SandboxError::Privacy)?;
    if !paths::can_be_denied() {
        tracing::warn!("the kernel has no landlock: only seccomp keeps workers from files");
    }
    Ok(())
}

/// Whether a process of this one's rights could become a worker under `user`, in the sandbox if that `is_on`; or why
/// not, in words. Tried in a process of its own.
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

/// Descriptors that a worker has in common with other processes, and by which it could harm them, beside its standard
/// streams.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// Listeners, and both descriptors of the tether.
    pub fds: Vec<RawFd>,
    /// The access log, which another may replace under its number.
    pub log: Option<RawFd>,
}

/// For a worker that has all it needs: becomes `user`, if it is root, with no capability; and if the sandbox is on,
/// which is if it is told what is `shared`, denies itself every path and every system call that is not on the list,
/// for good.
pub fn enter(user: &User, shared: Option<&Shared>) -> Result<(), SandboxError> {
    let failed = |errno| SandboxError::User { name: user.name.clone(), errno };
    user.become_it().map_err(failed)?;
    match user::give_up_capabilities() {
        // A service manager may forbid the call to a user that never had any, or has one to open ports with: then no
        // call is left that it would be good for.
        Err(errno) if !geteuid().is_root() => tracing::debug!(%errno, "capabilities are kept"),
        done => done.map_err(SandboxError::Capabilities)?,
    }
    if let Some(shared) = shared {
        // Again: becoming another user has undone a part of it.
        process::keep_to_itself().map_err(SandboxError::Privacy)?;
        paths::deny_all()?;
        calls::deny_all_others(shared)?;
    }
    Ok(())
}
