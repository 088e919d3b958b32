//! Programs: how this process was started, and how to become another program.

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

/// The program's name as it was typed, and its arguments. Call it before [`super::title::prepare`], which uses their
/// memory.
#[must_use]
pub fn arguments() -> Vec<CString> {
    std::env::args_os().filter_map(|it| CString::new(it.into_vec()).ok()).collect()
}

/// Identity of a program's file, so that a replacement is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// The path of the program `name`, as a shell would find it, and its identity.
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

/// Becomes the program at `path` with `arguments`, and `variables` beside this process's environment. The new program
/// keeps `fds`, and every other descriptor without close-on-exec. Returns only if that fails, and then nothing has
/// changed.
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
    // A later fork must not inherit them.
    for fd in fds {
        let _ = set_flags(*fd, FdFlag::FD_CLOEXEC);
    }
    error
}

/// Takes the descriptor that the previous program left open as `fd`.
///
/// Call it once for each.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    set_flags(fd, FdFlag::FD_CLOEXEC)?;
    // SAFETY: it is open, as the call above has shown, and by the caller's word nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the eventfd that the previous program left open as `fd`.
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
