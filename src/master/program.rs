//! The program that is installed where this one was, which for an upgrade takes its place.
//!
//! It is started twice, both times with all that this one has: first to show in a process of its own that it
//! could go on (a [`Trial`]), then in this very process, so that the workers stay the master's children.

use super::cause;
use super::state::{State, TAKE_OVER, TRY};
use crate::sys::process::{self, Child};
use crate::sys::program;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{dup2_stdout, pipe2};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};

/// The most that a trial's verdict is read of.
const VERDICT_BYTES_MAX: u64 = 4096;
/// What a program says that can take over, and before the reason of one that cannot.
pub(super) const YES: &str = "yes";
pub(super) const NO: &str = "no: ";

/// How this program was started.
#[derive(Debug)]
pub(super) struct Program(Vec<CString>);

impl Program {
    /// This one. To be called before its title is set.
    pub(super) fn this() -> Self {
        Self(program::arguments())
    }

    /// Starts what is installed now, to show that it could go on from `state`.
    pub(super) fn try_out(&self, state: &State) -> io::Result<Trial> {
        let (verdict, says) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let memory = state.write()?;
        let nothing = File::options().write(true).open("/dev/null")?;
        let Some(child) = process::fork_child()? else {
            let mut fds = state.fds();
            fds.extend([memory.as_raw_fd(), says.as_raw_fd()]);
            let variables = [(TAKE_OVER, memory.as_raw_fd()), (TRY, says.as_raw_fd())];
            // What our own standard output is read for is not what another program may say there.
            let _ = dup2_stdout(nothing);
            let error = program::become_program(&self.0, &variables, &fds);
            let _ = nix::unistd::write(&says, format!("{NO}{error}").as_bytes());
            std::process::exit(1);
        };
        Ok(Trial { child, verdict: verdict.into() })
    }

    /// Becomes what is installed now, which goes on from `state`. Returns only if it could not be started.
    pub(super) fn become_next(&self, state: &State) -> io::Error {
        let memory = match state.write() {
            Ok(memory) => memory,
            Err(error) => return error,
        };
        let mut fds = state.fds();
        fds.push(memory.as_raw_fd());
        program::become_program(&self.0, &[(TAKE_OVER, memory.as_raw_fd())], &fds)
    }
}

/// Another program that shows whether it could take over.
#[derive(Debug)]
pub(super) struct Trial {
    child: Child,
    verdict: File,
}

impl Trial {
    /// What to poll for: its end.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(self.child.pidfd.as_fd(), PollFlags::POLLIN)
    }

    /// Whether it could, or why not, once it has ended.
    pub(super) fn outcome(&mut self) -> Option<Result<(), String>> {
        let status = process::reap(&self.child)?;
        let mut said = Vec::new();
        // It would block only where a process that the program has started lives on.
        let _ = (&self.verdict).take(VERDICT_BYTES_MAX).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        Some(match (said.strip_prefix(NO), status) {
            (Some(why), _) => Err(format!("the new program cannot take over: {why}")),
            (None, WaitStatus::Exited(_, 0)) if said == YES => Ok(()),
            (None, status) => {
                Err(format!("the new program cannot take over: {}, without a word", cause(status)))
            }
        })
    }

    /// Ends it.
    pub(super) fn abandon(self) {
        // It is our child and not reaped.
        let _ = kill(self.child.pid, Signal::SIGKILL);
        let _ = waitpid(self.child.pid, None);
    }
}
