//! Programs: what this process was started as, and to become another one.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::eventfd::EventFd;
use nix::unistd::execve;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The program's name as it was typed, and its arguments. To be called before [`super::title::prepare`],
/// which needs their memory.
#[must_use]
pub fn arguments() -> Vec<CString> {
    std::env::args_os().filter_map(|it| CString::new(it.into_vec()).ok()).collect()
}

/// Which file a program is, so that another in its place is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// Where the program `name` is, as a shell would find it, and which it is.
pub fn find(name: &CStr) -> io::Result<(PathBuf, Identity)> {
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = |path: PathBuf| {
        let about = path.metadata()?;
        let identity = Identity {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            changed: (about.ctime(), about.ctime_nsec()),
        };
        Ok((path, identity))
    };
    if name.parent().is_some_and(|parent| !parent.as_os_str().is_empty()) {
        return known(name.to_owned());
    }
    let found = std::env::split_paths(&path).find_map(|directory| known(directory.join(name)).ok());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Becomes the program at `path`, called by `arguments`, with `variables` beside those of this process's
/// environment. It keeps `fds`, and whatever else is not closed on exec. Returns only if that failed, and then
/// nothing has changed.
pub fn become_program(
    path: &Path,
    arguments: &[CString],
    variables: &[(&str, RawFd)],
    fds: &[RawFd],
) -> io::Error {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return io::ErrorKind::NotFound.into();
    };
    let is_replaced = |key: &OsStr| variables.iter().any(|(name, _)| key == *name);
    let kept = std::env::vars_os().filter(|(key, _)| !is_replaced(key));
    let kept = kept.map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'='));
    let added = variables.iter().map(|(name, fd)| format!("{name}={fd}").into_bytes());
    let environment: Vec<CString> =
        kept.chain(added).filter_map(|it| CString::new(it).ok()).collect();
    let failed = fds.iter().try_for_each(|fd| set_flags(*fd, FdFlag::empty()));
    let error = match failed.and_then(|()| execve(&path, arguments, &environment).map(|_| ())) {
        Err(errno) => errno.into(),
        Ok(()) => io::ErrorKind::Other.into(),
    };
    // Whoever is forked next must not have them.
    for fd in fds {
        let _ = set_flags(*fd, FdFlag::FD_CLOEXEC);
    }
    error
}

/// Takes the descriptor that the program before left open as `fd`.
///
/// To be called once for each.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    set_flags(fd, FdFlag::FD_CLOEXEC)?;
    // SAFETY: it is open, as the call above has shown, and by the caller's word nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the eventfd that the program before left open as `fd`, likewise.
pub fn take_eventfd(fd: RawFd) -> io::Result<EventFd> {
    // SAFETY: it is what the caller says that it is; of anything else, reads and writes would be errors.
    take(fd).map(|fd| unsafe { EventFd::from_owned_fd(fd) })
}

fn set_flags(fd: RawFd, flags: FdFlag) -> Result<(), Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: used for this call alone, which answers EBADF for what is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(fd, FcntlArg::F_SETFD(flags)).map(|_| ())
}
