//! Where lines of a log go, and never for longer than the kernel takes to say yes or no.
//!
//! A line is written at once. One that finds no room is the caller's loss, never its wait: pipes and terminals are
//! opened anew, so that nobody else's descriptor of them becomes non-blocking; sockets, and what another user made
//! and does not let us open, are told with each line not to wait. A file on a disk may take its time, as every file
//! may.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::sys::uio::writev;
use nix::unistd::{AccessFlags, faccessat};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// How a log is opened: to append to, and to wait for nobody.
const FLAGS: OFlag =
    OFlag::O_APPEND.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// The permissions of a log that is made.
const MODE: Mode = Mode::from_bits_truncate(0o640);

/// Names of what the program was started with: to be opened where they can be, and shared where not.
const STANDARD: [(&str, RawFd); 2] = [("/dev/stdout", 1), ("/dev/stderr", 2)];

/// The kernel follows no more (path_resolution(7)).
const LINKS_MAX: usize = 40;

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

/// How a line is written so that nobody waits.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// What it goes to is a file, or was opened so.
    Write,
    /// It goes to a socket.
    Send,
    /// It goes to a pipe or a terminal that was opened to be waited for, by somebody who shares it with us.
    Try,
}

/// An open log.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    manner: Cell<Manner>,
}

impl Sink {
    /// Opens the log at `path` to append to, and makes it if it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let opened = match STANDARD.iter().find(|(name, _)| Path::new(name) == path) {
            Some((_, number)) => open_standard(path, *number),
            None => open_pipe_or_file(path),
        };
        opened.map(Self::new)
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
                may(&directory_of_new(path), AccessFlags::W_OK | AccessFlags::X_OK)
            }
            Err(errno) => Err(errno),
        };
        Ok(tried?)
    }

    /// One that is open.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let manner = Cell::new(manner(fd.as_fd()));
        Self { fd, manner }
    }

    /// Writes a line, or what there is of one.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Wrote {
        put(self.fd.as_fd(), self.manner.get(), parts)
    }

    /// Lets this be `other` from now on, under the number that it has.
    pub fn replace(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.manner.set(manner(other));
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

/// Opens what the program was started with anew, or shares it where that is not allowed, or should not be: a file
/// that is no log of its own has a place where the next write goes, and everybody who shares it knows that one alone.
fn open_standard(path: &Path, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: descriptors 0 to 2 are open in every Rust program, and it does not close them.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let kind = kind(&fstat(fd)?);
    if kind != SFlag::S_IFSOCK
        && kind != SFlag::S_IFREG
        && let Ok(own) = open(path, FLAGS | OFlag::O_WRONLY, MODE)
    {
        return Ok(own);
    }
    fd.try_clone_to_owned()
}

fn open_pipe_or_file(path: &Path) -> io::Result<OwnedFd> {
    if !is_pipe(path) {
        return Ok(open(path, FLAGS | OFlag::O_WRONLY | OFlag::O_CREAT, MODE)?);
    }
    // Whoever reads may come and go: as there is always one end to read from, ours, the pipe takes what it has room
    // for, and keeps it.
    match open(path, FLAGS | OFlag::O_RDWR, MODE) {
        Err(Errno::EACCES) => Ok(open(path, FLAGS | OFlag::O_WRONLY, MODE)?),
        opened => Ok(opened?),
    }
}

/// Where the file would be made that `path` names: a link leads to its own place (open(2)).
fn directory_of_new(path: &Path) -> PathBuf {
    let directory = |path: &Path| path.parent().unwrap_or(path).to_owned();
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = path.read_link() else { break };
        path = directory(&path).join(target);
    }
    directory(&path)
}

fn is_pipe(path: &Path) -> bool {
    stat(path).is_ok_and(|found| kind(&found) == SFlag::S_IFIFO)
}

/// Asked by what only a socket, a pipe or a terminal answers: a C library may ask for the kind of a file by a call that
/// takes a path, which workers may not make.
fn manner(fd: BorrowedFd<'_>) -> Manner {
    if getsockopt(&fd, sockopt::SockType).is_ok() {
        return Manner::Send;
    }
    let is_pipe = || fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok();
    match !is_nonblocking(fd) && (is_pipe() || is_terminal(fd)) {
        true => Manner::Try,
        false => Manner::Write,
    }
}

/// Whether `fd`, which is no socket, has a queue of what it was told and has not said yet.
fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: for this request the argument is a pointer to an int, which lives through the call.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) == 0 }
}

fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags.contains(OFlag::O_NONBLOCK))
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

thread_local! {
    /// How standard error is written to, by all that this process forks, too.
    static STDERR: Cell<Manner> = const { Cell::new(Manner::Write) };
}

/// Lets nobody who does not read what we write to standard error make us wait.
pub fn unblock_stderr() {
    let stderr = io::stderr();
    open_stderr_anew(stderr.as_fd());
    STDERR.set(manner(stderr.as_fd()));
}

fn open_stderr_anew(stderr: BorrowedFd<'_>) {
    let Ok(found) = fstat(stderr) else { return };
    if !matches!(kind(&found), SFlag::S_IFIFO | SFlag::S_IFCHR) {
        return;
    }
    if let Ok(own) = open("/proc/self/fd/2", FLAGS | OFlag::O_WRONLY, Mode::empty()) {
        // Under its number, so that whoever inherits it, or complains in a hurry, has it, too. Where it fails, it
        // stays as it was, and lines are tried.
        let _ = nix::unistd::dup2_stderr(&own);
    }
}

/// Writes a line, or what there is of one, to standard error.
pub fn write_stderr(parts: &[IoSlice<'_>]) -> Wrote {
    let stderr = io::stderr();
    put(stderr.as_fd(), STDERR.get(), parts)
}

/// Whether standard error is what `JOURNAL_STREAM` names: the journal's socket (sd-daemon(3)).
pub fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

fn put(fd: BorrowedFd<'_>, manner: Manner, parts: &[IoSlice<'_>]) -> Wrote {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let written = match manner {
        Manner::Write => writev(fd, parts),
        Manner::Send => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            // In one piece, as each call is a message where the socket has such. A worker has no sendmsg(2).
            let whole = parts.iter().fold(Vec::with_capacity(bytes), |mut line, part| {
                line.extend_from_slice(part);
                line
            });
            send(fd.as_raw_fd(), &whole, flags)
        }
        Manner::Try => match write_at_once(fd, parts) {
            // Named pipes and terminals cannot be told with each line. What has any room takes a line, unless somebody
            // else's comes between.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) if has_room(fd) => writev(fd, parts),
            tried => tried,
        },
    };
    match written {
        Ok(written) if written == bytes => Wrote::Whole,
        Ok(0) | Err(_) => Wrote::Nothing,
        Ok(_) => Wrote::Torn,
    }
}

/// Writes, unless that means to wait (`EAGAIN`), or cannot be done without (`EOPNOTSUPP`).
fn write_at_once(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> nix::Result<usize> {
    let count = i32::try_from(parts.len()).map_err(|_| Errno::EINVAL)?;
    let (fd, flags) = (fd.as_raw_fd(), libc::RWF_NOWAIT);
    // SAFETY: an `IoSlice` is an `iovec`, and `parts` are as many, which live through the call. With -1 for a place
    // it is written where the next write goes.
    let written = unsafe { libc::pwritev2(fd, parts.as_ptr().cast(), count, -1, flags) };
    Errno::result(written).map(isize::cast_unsigned)
}

/// Whether there is room now, or an error to be had.
fn has_room(fd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|answered| answered > 0)
}
