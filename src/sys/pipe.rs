//! Pipes that payload passes through without being copied: what one process moves in from a socket, another
//! moves out to one.
//!
//! The master makes them, and every worker has both ends of each. Who may fill or empty one is decided in shared
//! memory, not here. What must always hold: no pipe is filled for one transfer while it holds bytes of another.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Reads that a pipe is emptied with, at most: four times as many as one that is full takes.
const DRAINS_MAX: usize = 256;
/// Bytes of such a read.
const DRAIN_BYTES: usize = 16 << 10;
/// What a pipe is tried out with.
const TRIAL: &[u8; 5] = b"trial";

/// Both ends of a pipe, neither of which waits.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// Makes one that holds `bytes`. An error also where the kernel gives less.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let bytes = i32::try_from(bytes).map_err(io::Error::other)?;
        if fcntl(&into, FcntlArg::F_SETPIPE_SZ(bytes))? < bytes {
            return Err(Errno::EPERM.into());
        }
        Ok(Self { out, into })
    }

    /// Moves a few bytes from a socket to another through it, which must be empty. An error where the system refuses
    /// that, as the sandboxes of some containers do.
    pub fn try_out(&self) -> io::Result<()> {
        let (mut near, far) = UnixStream::pair()?;
        // What is not there is not waited for.
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        near.write_all(TRIAL)?;
        self.fill(&far, TRIAL.len())?;
        self.pour(&far, TRIAL.len())?;
        let mut found = [0; TRIAL.len()];
        near.read_exact(&mut found)?;
        if found == *TRIAL { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// One whose ends the program before has left open.
    #[must_use]
    pub fn after(out: OwnedFd, into: OwnedFd) -> Self {
        Self { out, into }
    }

    /// The descriptors of both ends, in the order of [`Self::after`].
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.out.as_raw_fd(), self.into.as_raw_fd()]
    }

    /// Whether nothing is in it. Asks the kernel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int, which lives through the call.
        let done = unsafe {
            libc::ioctl(self.out.as_raw_fd(), libc::FIONREAD, std::ptr::from_mut(&mut bytes))
        };
        done == 0 && bytes == 0
    }

    /// Drops what is in it. `false`: it cannot be proven empty, and must not be used.
    #[must_use]
    pub fn empty(&self) -> bool {
        let mut nowhere = [0; DRAIN_BYTES];
        for _ in 0..DRAINS_MAX {
            if self.is_empty() {
                return true;
            }
            match read(&self.out, &mut nowhere) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Moves what `socket` has, `bytes` at most, into the pipe.
    pub(super) fn fill(&self, socket: impl AsFd, bytes: usize) -> io::Result<usize> {
        retry(|| splice(&socket, None, &self.into, None, bytes, SpliceFFlags::SPLICE_F_NONBLOCK))
    }

    /// Moves what is in the pipe, `bytes` at most, to `socket`.
    pub(super) fn pour(&self, socket: impl AsFd, bytes: usize) -> io::Result<usize> {
        retry(|| splice(&self.out, None, &socket, None, bytes, SpliceFFlags::SPLICE_F_NONBLOCK))
    }
}

fn retry(call: impl Fn() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::unistd::write;

    #[test]
    fn one_that_was_tried_out_is_empty() {
        let pipe = Pipe::new(1 << 16).unwrap();
        pipe.try_out().unwrap();
        assert!(pipe.is_empty());
    }

    #[test]
    fn one_that_another_has_left_full_is_emptied() {
        let pipe = Pipe::new(1 << 16).unwrap();
        assert!(pipe.is_empty());
        while write(&pipe.into, &[7; 4096]).is_ok() {}
        assert!(!pipe.is_empty());
        assert!(pipe.empty());
        assert!(pipe.is_empty());
    }

    #[test]
    fn one_that_cannot_be_read_is_not_taken_for_empty() {
        let Pipe { out, into } = Pipe::new(1 << 16).unwrap();
        write(&into, &[7]).unwrap();
        let pipe = Pipe::after(into.try_clone().unwrap(), into);
        assert!(!pipe.empty());
        drop(out);
    }
}
