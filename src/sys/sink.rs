//! Where lines of a log go. A write never waits.
//!
//! A line is written at once. A line that finds no room is the caller's loss, never its wait. Pipes and terminals are
//! opened again, so that no other process's descriptor becomes non-blocking. Sockets, and files that another user
//! made and does not let us open, get the flag with each write. A file on a disk may take its time, as every file
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

/// How a log is opened: for appending, non-blocking.
const FLAGS: OFlag =
    OFlag::O_APPEND.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// The permissions of a new log.
const MODE: Mode = Mode::from_bits_truncate(0o640);

/// Names of the standard streams: they are opened again if possible, and shared otherwise.
const STANDARD: [(&str, RawFd); 2] = [("/dev/stdout", 1), ("/dev/stderr", 2)];

/// The kernel follows no more (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The result of writing a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// All of it was taken.
    Whole,
    /// Some of it was taken.
    Torn,
    /// The sink took no part of it.
    Nothing,
}

/// How to write a line without waiting.
#[derive(Clone, Copy, Debug)]
enum WriteMode {
    /// The sink is a file, or was opened non-blocking.
    Write,
    /// The sink is a socket.
    Send,
    /// The sink is a pipe or a terminal that another process opened blocking and shares with us.
    Try,
}

/// An open log.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    mode: Cell<WriteMode>,
}

impl Sink {
    /// Opens the log at `path` for appending, and creates it if it is missing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let opened = match STANDARD.iter().find(|(name, _)| Path::new(name) == path) {
            Some((_, number)) => open_standard(path, *number),
            None => open_pipe_or_file(path),
        };
        opened.map(Self::new)
    }

    /// Whether the log at `path` could be opened, as far as can be told without creating it.
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

    /// Wraps an open descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let mode = Cell::new(write_mode(fd.as_fd()));
        Self { fd, mode }
    }

    /// Writes a line, or the part of one.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Wrote {
        put(self.fd.as_fd(), self.mode.get(), parts)
    }

    /// Replaces the descriptor by `other`, under the same number.
    pub fn replace(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.mode.set(write_mode(other));
        // SAFETY: no pointers. The old file under this number is closed, and was ours alone.
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

/// Opens a standard stream again, or shares it if that is not allowed or not wanted: a file that is not only a log
/// has a position for the next write, and all processes that share it know only that one.
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
    // Readers may come and go: our own reading end is always open, so the pipe takes what it has room for, and keeps
    // it.
    match open(path, FLAGS | OFlag::O_RDWR, MODE) {
        Err(Errno::EACCES) => Ok(open(path, FLAGS | OFlag::O_WRONLY, MODE)?),
        opened => Ok(opened?),
    }
}

/// The place where `path` would create the file: a link leads to its own place (open(2)).
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

/// Asks by what only a socket, a pipe or a terminal answers: a C library may find the kind of a file by a call that
/// takes a path, which workers may not make.
fn write_mode(fd: BorrowedFd<'_>) -> WriteMode {
    if getsockopt(&fd, sockopt::SockType).is_ok() {
        return WriteMode::Send;
    }
    let is_pipe = || fcntl(fd, FcntlArg::F_GETPIPE_SZ).is_ok();
    match !is_nonblocking(fd) && (is_pipe() || is_terminal(fd)) {
        true => WriteMode::Try,
        false => WriteMode::Write,
    }
}

/// Whether `fd`, which is no socket, has a queue of unread bytes.
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
    /// How standard error is written to, also by all children.
    static STDERR: Cell<WriteMode> = const { Cell::new(WriteMode::Write) };
}

/// Makes writes to standard error non-blocking for this process.
pub fn unblock_stderr() {
    let stderr = io::stderr();
    open_stderr_anew(stderr.as_fd());
    STDERR.set(write_mode(stderr.as_fd()));
}

fn open_stderr_anew(stderr: BorrowedFd<'_>) {
    let Ok(found) = fstat(stderr) else { return };
    if !matches!(kind(&found), SFlag::S_IFIFO | SFlag::S_IFCHR) {
        return;
    }
    if let Ok(own) = open("/proc/self/fd/2", FLAGS | OFlag::O_WRONLY, Mode::empty()) {
        // Standard error keeps its number, so that children and panic messages go there, too. Where it fails, it
        // stays as it was, and lines are tried.
        let _ = nix::unistd::dup2_stderr(&own);
    }
}

/// Writes a line, or the part of one, to standard error.
pub fn write_stderr(parts: &[IoSlice<'_>]) -> Wrote {
    let stderr = io::stderr();
    put(stderr.as_fd(), STDERR.get(), parts)
}

/// Whether standard error is the socket of the journal that `JOURNAL_STREAM` names (sd-daemon(3)).
pub fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

fn put(fd: BorrowedFd<'_>, mode: WriteMode, parts: &[IoSlice<'_>]) -> Wrote {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let written = match mode {
        WriteMode::Write => writev(fd, parts),
        WriteMode::Send => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            // Sends the line in one call, as each call is a message on some sockets. A worker has no sendmsg(2).
            let whole = parts.iter().fold(Vec::with_capacity(bytes), |mut line, part| {
                line.extend_from_slice(part);
                line
            });
            send(fd.as_raw_fd(), &whole, flags)
        }
        WriteMode::Try => match write_at_once(fd, parts) {
            // Named pipes and terminals have no such flag for one write. A pipe that has any room takes a whole line,
            // unless another process writes in between.
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

/// Writes, unless that would wait (`EAGAIN`) or the flag is not supported (`EOPNOTSUPP`).
fn write_at_once(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> nix::Result<usize> {
    let count = i32::try_from(parts.len()).map_err(|_| Errno::EINVAL)?;
    let (fd, flags) = (fd.as_raw_fd(), libc::RWF_NOWAIT);
    // SAFETY: an `IoSlice` is an `iovec`, and `parts` are as many, which live through the call. The place -1 means
    // the file's own position.
    let written = unsafe { libc::pwritev2(fd, parts.as_ptr().cast(), count, -1, flags) };
    Errno::result(written).map(isize::cast_unsigned)
}

/// Whether a write would find room, or an error.
fn has_room(fd: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|answered| answered > 0)
}
