//! Pipes that payload passes through without a copy: one process moves it in from a socket, another moves it out to
//! one.
//!
//! The master makes them, and every worker has both ends of each. Shared memory, not this module, decides who may
//! fill or empty a pipe. Invariant: no pipe is filled for one transfer while it holds bytes of another.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::{pipe2, read};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The most reads to empty a pipe: four times as many as a full one takes.
const DRAINS_MAX: usize = 256;
/// Bytes of such a read.
const DRAIN_BYTES: usize = 16 << 10;
/// Pages that the kernel lets a user have without privilege, if the kernel does not say: 16 for each of 1024 open
/// files (`pipe_user_pages_soft` in `fs/pipe.c`).
const USER_PAGES: u64 = 16 << 10;
/// The kernel's file for the limit; 0 there stands for no limit (proc_sys_fs(5)).
const USER_PAGES_FILES: [&str; 2] =
    ["/proc/sys/fs/pipe-user-pages-soft", "/proc/sys/fs/pipe-user-pages-hard"];

/// Bytes to try a pipe out with.
const TRIAL: &[u8; 5] = b"trial";

/// Both ends of a pipe, non-blocking.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    /// Makes a pipe that holds `bytes`. An error if the kernel gives less.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let bytes = i32::try_from(bytes).map_err(io::Error::other)?;
        if fcntl(&into, FcntlArg::F_SETPIPE_SZ(bytes))? < bytes {
            return Err(Errno::EPERM.into());
        }
        Ok(Self { out, into })
    }

    /// Makes pipes of `bytes` until there are `wanted` or the kernel refuses one, and returns why. Meanwhile it holds
    /// `spare` more, and makes none if the kernel refuses those: the kernel does not tell how much of a user's
    /// allowance other programs hold, so only a trial shows that something is left for them.
    pub fn make(bytes: usize, wanted: u32, spare: u32) -> (Vec<Self>, io::Result<()>) {
        let (spares, outcome) = Self::make_all(bytes, spare);
        match outcome {
            // The trial asks about the allowance only.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => (Vec::new(), Err(error)),
            _ => {
                let made = Self::make_all(bytes, wanted);
                drop(spares);
                made
            }
        }
    }

    fn make_all(bytes: usize, wanted: u32) -> (Vec<Self>, io::Result<()>) {
        let mut made = Vec::new();
        for _ in 0..wanted {
            match Self::new(bytes) {
                Ok(pipe) => made.push(pipe),
                Err(error) => return (made, Err(error)),
            }
        }
        (made, Ok(()))
    }

    /// Moves a few bytes through the pipe, from a socket to another. The pipe must be empty. An error if the system
    /// refuses that, as the sandboxes of some containers do.
    pub fn try_out(&self) -> io::Result<()> {
        let (mut near, far) = UnixStream::pair()?;
        // The call never waits for bytes.
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        near.write_all(TRIAL)?;
        self.fill(&far, TRIAL.len())?;
        self.pour(&far, TRIAL.len())?;
        let mut found = [0; TRIAL.len()];
        near.read_exact(&mut found)?;
        if found == *TRIAL { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// A pipe whose ends the previous program has left open.
    #[must_use]
    pub fn after(out: OwnedFd, into: OwnedFd) -> Self {
        Self { out, into }
    }

    /// Both ends, in the order of [`Self::after`].
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.out.as_fd(), self.into.as_fd()]
    }

    /// The descriptors of both ends, in the order of [`Self::after`].
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.out.as_raw_fd(), self.into.as_raw_fd()]
    }

    /// Whether the pipe is empty, as the kernel says.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int, which lives through the call.
        let done = unsafe {
            libc::ioctl(self.out.as_raw_fd(), libc::FIONREAD, std::ptr::from_mut(&mut bytes))
        };
        done == 0 && bytes == 0
    }

    /// Drops the content. `false`: the pipe cannot be proven empty, and must not be used.
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

    /// Takes bytes out of the pipe into `room`, which must not be empty. `WouldBlock`: the pipe is empty.
    pub fn take(&self, room: &mut [u8]) -> io::Result<usize> {
        retry(|| read(&self.out, room))
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

/// How many pipes of `bytes` a user without privilege may have, all programs of the user together; `None`: no limit.
#[must_use]
pub fn user_allowance(bytes: usize) -> Option<u64> {
    let texts = USER_PAGES_FILES.map(|path| std::fs::read_to_string(path).ok());
    // SAFETY: no pointers, and every system has a page size.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page_bytes = u64::try_from(page_bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(4096);
    let pages_each = (bytes as u64).div_ceil(page_bytes).max(1);
    Some(user_pages(texts.each_ref().map(Option::as_deref))? / pages_each)
}

/// The lower of the soft and the hard limit, from the texts of the kernel's files.
fn user_pages([soft, hard]: [Option<&str>; 2]) -> Option<u64> {
    let soft = soft.and_then(|text| text.trim_end().parse().ok()).unwrap_or(USER_PAGES);
    let hard = hard.and_then(|text| text.trim_end().parse().ok()).unwrap_or(0);
    [soft, hard].into_iter().filter(|pages| *pages > 0).min()
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
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
    fn the_lower_limit_of_a_user_holds() {
        assert_eq!(user_pages([Some("16384\n"), Some("0\n")]), Some(16384));
        assert_eq!(user_pages([Some("16384\n"), Some("8192\n")]), Some(8192));
        assert_eq!(user_pages([Some("0\n"), Some("8192\n")]), Some(8192));
        assert_eq!(user_pages([Some("0\n"), Some("0\n")]), None);
        assert_eq!(user_pages([None, None]), Some(16384), "the kernel's own number");
        assert_eq!(user_pages([Some("many"), None]), Some(16384));
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
