//! The program that is installed in place of this one, and takes over in an upgrade.
//!
//! The new program starts twice, both times with everything that this one has open: first in a process of its own, to
//! show that it could take over (a [`Trial`]), then in this very process, so that the workers stay the master's
//! children.

use super::handover::{HandoverState, TAKE_OVER, TRY};
use crate::sys::process::{self, Child, cause};
use crate::sys::program::{self, Identity};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, dup2_stdout, pipe2};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// The most that is read of a trial's verdict.
const VERDICT_BYTES_MAX: u64 = 4096;
/// The verdict of a program that can take over, and the prefix of the reason why it cannot.
pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no: ";

/// How this program was started.
#[derive(Debug)]
pub(super) struct Program {
    arguments: Vec<CString>,
    /// The program whose trial succeeded last.
    tried: Option<Identity>,
}

impl Program {
    /// Records how this program was started. Call it before the title is set.
    pub(super) fn this() -> Self {
        Self { arguments: program::arguments(), tried: None }
    }

    fn find(&self) -> io::Result<(PathBuf, Identity)> {
        program::find(self.arguments.first().ok_or(io::ErrorKind::NotFound)?)
    }

    /// Starts the installed program, to show that it could take over from `state`.
    pub(super) fn try_out(&mut self, state: &HandoverState) -> io::Result<Trial> {
        let (path, identity) = self.find()?;
        self.tried = Some(identity);
        let (verdict, says) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let memory = state.write()?;
        let nothing = process::nothing()?;
        let Some(child) = process::fork_child()? else {
            let mut fds = state.fds();
            fds.extend([memory.as_raw_fd(), says.as_raw_fd()]);
            let variables = [(TAKE_OVER, memory.as_raw_fd()), (TRY, says.as_raw_fd())];
            // The trial program must not write to our standard output: the program that started us may be reading it.
            let _ = dup2_stdout(nothing);
            let error = program::become_program(&path, &self.arguments, &variables, &fds);
            let _ = nix::unistd::write(&says, format!("{NO}{error}").as_bytes());
            std::process::exit(1);
        };
        Ok(Trial { child, verdict: verdict.into() })
    }

    /// Becomes the program that was tried, which takes over from `state`. Returns only if it could not be started, or
    /// is gone.
    pub(super) fn become_next(&self, state: &HandoverState) -> io::Error {
        let found = self.find().and_then(|(path, identity)| match self.tried == Some(identity) {
            true => Ok(path),
            false => Err(io::Error::other("it was replaced after the trial")),
        });
        let (path, memory) = match found.and_then(|path| Ok((path, state.write()?))) {
            Ok(both) => both,
            Err(error) => return error,
        };
        let mut fds = state.fds();
        fds.push(memory.as_raw_fd());
        let variables = [(TAKE_OVER, memory.as_raw_fd())];
        program::become_program(&path, &self.arguments, &variables, &fds)
    }
}

/// A trial: another program that shows whether it could take over.
#[derive(Debug)]
pub(super) struct Trial {
    child: Child,
    verdict: File,
}

impl Trial {
    /// The trial's process.
    pub(super) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// The descriptor to poll for its end.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.child.pidfd.as_fd(), PollFlags::POLLIN)
    }

    /// The verdict, once the trial has ended.
    pub(super) fn outcome(&mut self) -> Option<Result<(), String>> {
        let status = process::reap(&self.child)?;
        let mut said = Vec::new();
        // Reading would block only if a process that the program has started lives on.
        let _ = (&self.verdict).take(VERDICT_BYTES_MAX).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let why = match (said.strip_prefix(NO), status) {
            (None, WaitStatus::Exited(_, 0)) if said == YES => return Some(Ok(())),
            (Some(why), _) => why.to_owned(),
            (None, status) => format!("{}, and it gave no reason", cause(status)),
        };
        Some(Err(format!("the new program cannot take over: {why}")))
    }

    /// Kills the trial, and returns its process to be reaped.
    pub(super) fn kill(self) -> Child {
        process::send(&self.child, Signal::SIGKILL);
        self.child
    }
}
