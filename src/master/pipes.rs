//! The pipes that payload passes through: made once, before the first fork. A reload and an upgrade keep them.
//!
//! Linux counts the memory of a pipe against the real user of the process that makes it (`get_current_user` in
//! `fs/pipe.c`), for as long as the pipe lives. Once a user has reached `fs.pipe-user-pages-soft`, processes of that user
//! without privilege get pipes of 8 KiB. The limit does not stop a master that is root, whose pipes would use up what
//! unprivileged processes of root may have, in containers for instance. So a child makes them that is counted as the user
//! that workers become.
//!
//! Must always hold: by default other programs of the same user keep half of its allowance.

use crate::config::Config;
use crate::sys::channel::{Heard, OrdersIn, OrdersOut, orders};
use crate::sys::pipe::Pipe;
use crate::sys::process::{self, Child, cause};
use crate::sys::user::User;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm::PIPE_BYTES_MAX;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// One in so many of the files that a process may open can be an end of a pipe: the others are for clients.
pub(super) const PIPE_FILES_SHARE: u64 = 8;
/// How long the child may take for each step.
const PATIENCE_MS: u16 = 5000;
/// What the child says with an end of a pipe. Any other word is the number of the error that it has stopped at.
const END: u8 = 0;
/// The number of an error that has none, or a greater one than a word holds.
const UNKNOWN: u8 = 5;

/// What to make.
#[derive(Clone, Copy, Debug)]
struct Order {
    wanted: u32,
    /// How many more the kernel must be able to give.
    spare: u32,
    /// Whether root may exceed the user's allowance.
    is_demanded: bool,
}

impl Order {
    fn carry_out(self) -> Made {
        Pipe::make(PIPE_BYTES_MAX, self.wanted, self.spare)
    }
}

/// The pipes, and why there are no more.
type Made = (Vec<Pipe>, io::Result<()>);

/// As many pipes as `config` asks for, or as the system gives: chunks serve where there are none. None, where nothing can
/// be moved through the first. `files` is how many a process may open.
pub(super) fn make(config: &Config, files: u64) -> Vec<Pipe> {
    let asked = config.memory.geometry.pipes;
    let wanted = u32::try_from(files / (2 * PIPE_FILES_SHARE)).unwrap_or(asked).min(asked);
    let is_demanded = !config.memory.pipes_are_auto;
    let spare = if is_demanded { 0 } else { wanted.div_ceil(2) };
    let (mut pipes, outcome) = make_for(&config.user, Order { wanted, spare, is_demanded });
    let outcome = if wanted < asked { outcome.and(Err(Errno::EMFILE.into())) } else { outcome };
    if let Err(error) = outcome {
        let made = pipes.len();
        tracing::info!(%error, asked, made, "fewer pipes than memory.pipes asks for");
    }
    if let Some(Err(error)) = pipes.first().map(Pipe::try_out) {
        tracing::warn!(%error, "splice(2) does not work here: all payload is copied, and there are no pipes");
        pipes.clear();
    }
    pipes
}

fn make_for(user: &User, order: Order) -> Made {
    if order.wanted == 0 || !user.is_another() {
        return order.carry_out();
    }
    match make_in_child(user, order) {
        Ok(made) => made,
        Err(error) => {
            tracing::info!(%error, user = user.name, "pipes cannot be counted as the user's, and are counted as root's");
            order.carry_out()
        }
    }
}

/// Lets a child of this process carry `order` out as `user`.
fn make_in_child(user: &User, order: Order) -> io::Result<Made> {
    let (its, ours) = orders()?;
    let Some(child) = process::fork_child()? else {
        drop(ours);
        std::process::exit(match make_and_tell(user, order, &its) {
            Ok(()) => 0,
            Err(error) => {
                tracing::info!(%error, "a child that was to make pipes cannot");
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

/// What the child does.
fn make_and_tell(user: &User, order: Order, parent: &OrdersOut) -> io::Result<()> {
    // Root's privilege lets it exceed the allowance.
    if order.is_demanded { user.count_as_it() } else { user.become_it() }?;
    let (pipes, outcome) = order.carry_out();
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

/// Tells the parent, as soon as there is room.
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

/// Hears what the child has made, to its end.
fn collect(child: &OrdersIn) -> io::Result<Made> {
    let (mut ends, mut outcome) = (Vec::new(), Ok(()));
    loop {
        match child.hear() {
            Heard::Nothing => wait_for(child.as_fd(), PollFlags::POLLIN)?,
            Heard::Word((END, Some(end))) => ends.push(end),
            // There is no descriptor left for it here.
            Heard::Word((END, None)) => return Err(Errno::EMFILE.into()),
            Heard::Word((errno, _)) => outcome = Err(io::Error::from_raw_os_error(errno.into())),
            Heard::Gone => break,
        }
    }
    let mut ends = ends.into_iter();
    let pair = || Some(Pipe::after(ends.next()?, ends.next()?));
    Ok((std::iter::from_fn(pair).collect(), outcome))
}

/// How the child has ended, once it has.
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
