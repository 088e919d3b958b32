//! The pipes that payload passes through. The master makes them once, before the first fork. A reload and an upgrade
//! keep them.
//!
//! Linux counts the memory of a pipe against the real user of the process that makes it (`get_current_user` in
//! `fs/pipe.c`), as long as the pipe lives. Once a user has reached `fs.pipe-user-pages-soft`, that user's
//! unprivileged processes get pipes of 8 KiB. The limit does not stop a master that is root, and its pipes would use
//! up what root's unprivileged processes may have, for instance in containers. So a child makes the pipes that counts
//! as the workers' user.
//!
//! Invariant: by default other programs of the same user keep half of its allowance.

use crate::config::{Config, PIPE_FILES_SHARE};
use crate::sys::pipe::Pipe;
use crate::sys::process::{self, Child, cause};
use crate::sys::seqpacket::{Heard, OrdersIn, OrdersOut, orders};
use crate::sys::user::User;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm::PIPE_BYTES_MAX;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How long the child may take for each step.
const PATIENCE_MS: u16 = 5000;
/// The child's word for an end of a pipe. Any other word is the number of the error at which it stopped.
const END: u8 = 0;
/// The word for an error without a number, or whose number is too large for a word.
const UNKNOWN: u8 = 5;

/// The pipes to make.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    count: u32,
    /// How many more the kernel must be able to give.
    spare: u32,
    /// Whether root may exceed the user's allowance.
    is_demanded: bool,
}

impl Wanted {
    fn carry_out(self) -> Made {
        Pipe::make(PIPE_BYTES_MAX, self.count, self.spare)
    }
}

/// The pipes, and why there are no more.
type Made = (Vec<Pipe>, io::Result<()>);

/// Makes as many pipes as `config` asks for, or as the system gives: chunks serve where there are none. Makes none if
/// the first pipe moves nothing. `files` is how many a process may open.
pub(super) fn make(config: &Config, files: u64) -> Vec<Pipe> {
    let asked = config.memory.geometry.pipes;
    let wanted = u32::try_from(files / (2 * PIPE_FILES_SHARE)).unwrap_or(asked).min(asked);
    let is_demanded = !config.memory.pipes_are_auto;
    let spare = if is_demanded { 0 } else { wanted.div_ceil(2) };
    let (mut pipes, outcome) = make_for(&config.user, Wanted { count: wanted, spare, is_demanded });
    let outcome = if wanted < asked { outcome.and(Err(Errno::EMFILE.into())) } else { outcome };
    if let Err(error) = outcome {
        let made = pipes.len();
        tracing::info!(%error, asked, made, "made fewer pipes than memory.pipes asks for");
    }
    if let Some(Err(error)) = pipes.first().map(Pipe::try_out) {
        tracing::warn!(%error, "splice(2) does not work here: the relay copies all payload and uses no pipes");
        pipes.clear();
    }
    pipes
}

fn make_for(user: &User, wanted: Wanted) -> Made {
    if wanted.count == 0 || !user.is_another() {
        return wanted.carry_out();
    }
    match make_in_child(user, wanted) {
        Ok(made) => made,
        Err(error) => {
            tracing::info!(%error, user = user.name, "cannot make pipes as the workers' user: they count as root's");
            wanted.carry_out()
        }
    }
}

/// Makes what is `wanted` in a child of this process, as `user`.
fn make_in_child(user: &User, wanted: Wanted) -> io::Result<Made> {
    let (its, ours) = orders()?;
    let Some(child) = process::fork_child()? else {
        drop(ours);
        std::process::exit(match make_and_tell(user, wanted, &its) {
            Ok(()) => 0,
            Err(error) => {
                tracing::info!(%error, "the child process cannot make pipes");
                1
            }
        });
    };
    drop(its);
    let made = collect(&ours).inspect_err(|_| process::send(&child, Signal::SIGKILL));
    let status = end_of(&child)?;
    match (made, status) {
        (Ok(made), WaitStatus::Exited(_, 0)) => Ok(made),
        (Ok(_), status) => Err(io::Error::other(cause(status))),
        (Err(error), _) => Err(error),
    }
}

/// The child's part.
fn make_and_tell(user: &User, wanted: Wanted, parent: &OrdersOut) -> io::Result<()> {
    // Root's privilege lets it exceed the allowance.
    if wanted.is_demanded { user.count_as_it() } else { user.become_it() }?;
    let (pipes, outcome) = wanted.carry_out();
    for end in pipes.iter().flat_map(Pipe::ends) {
        tell(parent, END, Some(end))?;
    }
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => tell(parent, word(&error), None),
    }
}

fn word(error: &io::Error) -> u8 {
    let number = error.raw_os_error().and_then(|number| u8::try_from(number).ok());
    number.filter(|word| *word != END).unwrap_or(UNKNOWN)
}

/// Tells the parent, once there is room.
fn tell(parent: &OrdersOut, word: u8, end: Option<BorrowedFd<'_>>) -> io::Result<()> {
    loop {
        match parent.tell(word, end) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_for(parent.as_fd(), PollFlags::POLLOUT)?;
            }
            told => return told,
        }
    }
}

/// Reads everything that the child has made.
fn collect(child: &OrdersIn) -> io::Result<Made> {
    let (mut ends, mut outcome) = (Vec::new(), Ok(()));
    loop {
        match child.hear() {
            Heard::Nothing => wait_for(child.as_fd(), PollFlags::POLLIN)?,
            Heard::Word((END, Some(end))) => ends.push(end),
            // This process has no descriptor left for it.
            Heard::Word((END, None)) => return Err(Errno::EMFILE.into()),
            Heard::Word((errno, _)) => outcome = Err(io::Error::from_raw_os_error(errno.into())),
            Heard::Gone => break,
        }
    }
    let mut ends = ends.into_iter();
    let pair = || Some(Pipe::after(ends.next()?, ends.next()?));
    Ok((std::iter::from_fn(pair).collect(), outcome))
}

/// Waits for the child to end.
fn end_of(child: &Child) -> io::Result<WaitStatus> {
    loop {
        wait_for(child.pidfd.as_fd(), PollFlags::POLLIN)?;
        if let Some(status) = process::reap(child) {
            return Ok(status);
        }
    }
}

fn wait_for(fd: BorrowedFd<'_>, event: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, event)], PATIENCE_MS) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
