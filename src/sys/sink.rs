//! Where lines of a log go, and never for longer than the kernel takes to say yes or no.
//!
//! Each line is one system call. A line that finds no room is the caller's loss, never its wait: pipes and
//! terminals are opened anew, so that nobody else's descriptor of them becomes non-blocking, and sockets are told
//! with each line not to wait. A file on a disk may take its time, as every file may.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::sys::uio::writev;
use nix::unistd::{AccessFlags, faccessat};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// The permissions of a log that is made.
const MODE: Mode = Mode::from_bits_truncate(0o640);

/// Names of what the program was started with: to be opened where they can be, and shared where not.
const STANDARD: [(&str, RawFd); 2] = [("/dev/stdout", 1), ("/dev/stderr", 2)];

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// All of it was taken.
    Whole,
    /// Some of it was taken.
    Torn,
    /// Nothing was.
    Nothing,
}

/// An open log.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    is_socket: Cell<bool>,
}

impl Sink {
    /// Opens the log at `path` to append to, and makes it if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some((_, standard)) = STANDARD.iter().find(|(name, _)| Path::new(name) == path)
            && let Some(fd) = shared(*standard)?
        {
            return Ok(Self::new(fd));
        }
        open_pipe_or_file(path).map(Self::new)
    }

    /// Whether the log at `path` could be opened, as far as can be told without making it.
    pub fn probe(path: &Path) -> io::Result<()> {
        if STANDARD.iter().any(|(name, _)| Path::new(name) == path) {
            return Ok(());
        }
        let may = |path: &Path, what| faccessat(AT_FDCWD, path, what, AtFlags::AT_EACCESS);
        let tried = match stat(path) {
            Ok(found) if kind(&found) == SFlag::S_IFDIR => Err(Errno::EISDIR),
            Ok(found) if kind(&found) == SFlag::S_IFSOCK => Err(Errno::ENXIO),
            Ok(_) => may(path, AccessFlags::W_OK),
            Err(Errno::ENOENT) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                Err(Errno::EISDIR)
            }
            Err(Errno::ENOENT) => {
                may(path.parent().unwrap_or(path), AccessFlags::W_OK | AccessFlags::X_OK)
            }
            Err(errno) => Err(errno),
        };
        Ok(tried?)
    }

    /// One that is open.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let is_socket = Cell::new(is_socket(fd.as_fd()));
        Self { fd, is_socket }
    }

    /// Writes a line, or what there is of one.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Wrote {
        put(self.fd.as_fd(), self.is_socket.get(), parts)
    }

    /// Lets this be `other` from now on, under the number that it has.
    pub fn replace(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.is_socket.set(is_socket(other));
        // SAFETY: no pointers. What the number stood for is closed, and ours alone to close.
        match unsafe { libc::dup3(other.as_raw_fd(), self.fd.as_raw_fd(), libc::O_CLOEXEC) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A descriptor that is to be shared, as it cannot be opened anew, or should not: a file that is no log of its own
/// has a place where the next write goes, and everybody who shares it knows that one alone.
fn shared(standard: RawFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: descriptors 0 to 2 are open in every Rust program, and it does not close them.
    let fd = unsafe { BorrowedFd::borrow_raw(standard) };
    let kind = kind(&fstat(fd)?);
    let is_shared = kind == SFlag::S_IFSOCK || kind == SFlag::S_IFREG;
    is_shared.then(|| fd.try_clone_to_owned()).transpose()
}

fn open_pipe_or_file(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    match open(path, flags | OFlag::O_WRONLY | OFlag::O_CREAT, MODE) {
        // A pipe that nobody reads yet: it takes what it has room for.
        Err(Errno::ENXIO) if is_pipe(path) => Ok(open(path, flags | OFlag::O_RDWR, MODE)?),
        opened => Ok(opened?),
    }
}

fn is_pipe(path: &Path) -> bool {
    stat(path).is_ok_and(|found| kind(&found) == SFlag::S_IFIFO)
}

/// Asked as a socket is: a C library may ask for the kind of a file by a call that takes a path, which workers may not
/// make.
fn is_socket(fd: BorrowedFd<'_>) -> bool {
    getsockopt(&fd, sockopt::SockType).is_ok()
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// Lets nobody who does not read what we write to standard error make us wait.
pub fn unblock_stderr() {
    let stderr = io::stderr();
    let Ok(found) = fstat(stderr.as_fd()) else { return };
    if !matches!(kind(&found), SFlag::S_IFIFO | SFlag::S_IFCHR) {
        return;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if let Ok(own) = open("/proc/self/fd/2", flags | OFlag::O_CLOEXEC, Mode::empty()) {
        // Under its number, so that whoever inherits it, or complains in a hurry, has it, too. Where it fails, it
        // stays as it was.
        let _ = nix::unistd::dup2_stderr(&own);
    }
}

/// Writes a line to standard error.
pub fn write_stderr(line: &[u8]) -> Wrote {
    let stderr = io::stderr();
    put(stderr.as_fd(), is_socket(stderr.as_fd()), &[IoSlice::new(line)])
}

/// Whether standard error is what `JOURNAL_STREAM` names: the journal's socket (sd-daemon(3)).
pub fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

fn put(fd: BorrowedFd<'_>, is_socket: bool, parts: &[IoSlice<'_>]) -> Wrote {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let written = if is_socket {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(fd.as_raw_fd(), parts, &[] as &[ControlMessage<'_>], flags, None)
    } else {
        writev(fd, parts)
    };
    match written {
        Ok(written) if written == bytes => Wrote::Whole,
        Ok(0) | Err(_) => Wrote::Nothing,
        Ok(_) => Wrote::Torn,
    }
}
