//! Sockets for the operator, not for clients: TCP, or a Unix socket in a file.
//!
//! The master opens the listener before the fork, a worker accepts from it, and the command line connects to it.
//! Invariant: a Unix socket belongs to its owner alone from the moment it exists, until it gets other rights.

use super::failed;
use super::user::Group;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::socket::{SockFlag, accept4};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, chown, faccessat};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Few talk to it, and briefly.
const BACKLOG: i32 = 64;

/// Prefix of a path in the text of an address.
const UNIX: &str = "unix:";

/// Where to listen, or whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket's absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads what `Display` writes: `127.0.0.1:9180`, or `unix:/run/admin.sock`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().ok().map(Self::Tcp);
        };
        let fits = path.starts_with('/') && !path.ends_with('/') && SockAddr::unix(path).is_ok();
        fits.then(|| Self::Unix(path.into()))
    }

    fn to_socket_address(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address) => Ok((*address).into()),
            Self::Unix(path) => SockAddr::unix(path),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// The rights to connect to a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The group of the socket; `None` for the group of the process that makes it.
    pub group: Option<Group>,
    /// The permissions of its file.
    pub mode: u32,
}

impl Default for Access {
    fn default() -> Self {
        Self { group: None, mode: 0o600 }
    }
}

impl Access {
    /// Gives these rights to the socket at `path`: first its group, then its mode, so that no other group can connect
    /// meanwhile.
    pub fn grant(&self, path: &Path) -> io::Result<()> {
        let mode = |mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
        if let Some(group) = &self.group {
            mode(Self::default().mode)?;
            chown(path, None, Some(group.gid))
                .map_err(|errno| failed("changing the socket's group", &errno.into()))?;
        }
        mode(self.mode).map_err(|error| failed("changing the socket's mode", &error))
    }
}

fn socket(address: &ListenAddress) -> io::Result<(Socket, SockAddr)> {
    let address = address.to_socket_address()?;
    // Socket2 opens all its sockets closed on exec.
    Ok((Socket::new(address.domain(), Type::STREAM, None)?, address))
}

/// Opens a listener on `address` as [`listen`] does, with the rights of `access`.
pub fn listen_for(address: &ListenAddress, access: &Access) -> io::Result<Socket> {
    let listener = listen(address)?;
    if let ListenAddress::Unix(path) = address
        && *access != Access::default()
    {
        access.grant(path).inspect_err(|_| close(&listener))?;
    }
    Ok(listener)
}

/// Opens a non-blocking listener on `address`. The file of a socket that nobody listens on is replaced. Precondition:
/// one thread, as the mode that new files get is the whole process's.
pub fn listen(address: &ListenAddress) -> io::Result<Socket> {
    let (listener, socket_address) = socket(address)?;
    listener.set_nonblocking(true)?;
    match address {
        ListenAddress::Tcp(address) => {
            listener.set_reuse_address(true)?;
            if address.is_ipv6() {
                // `[::]` stands for all addresses, of IPv4 as well.
                listener.set_only_v6(false)?;
            }
            listener.bind(&socket_address)?;
        }
        ListenAddress::Unix(path) => {
            remove_stale(path, &socket_address)?;
            let before = umask(Mode::from_bits_truncate(0o177));
            let bound = listener.bind(&socket_address);
            umask(before);
            bound?;
        }
    }
    // A bound socket has a file already.
    listener.listen(BACKLOG).inspect_err(|_| close(&listener))?;
    Ok(listener)
}

/// Whether a socket could be made at `path`, as far as can be told without making it. A socket that may be replaced
/// is no error.
pub fn probe(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket",
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = path.parent().unwrap_or(path);
    let rights = AccessFlags::W_OK | AccessFlags::X_OK;
    Ok(faccessat(AT_FDCWD, directory, rights, AtFlags::AT_EACCESS)?)
}

/// Removes the file of a socket that refuses connections; anything else is left alone.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return Ok(());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// Stops listening, in every process that shares the socket, and takes the socket's file away.
pub fn close(listener: &Socket) {
    // The call fails if nobody listens any more, which is the goal.
    let _ = listener.shutdown(Shutdown::Both);
    let Ok(address) = listener.local_addr() else { return };
    if let Some(path) = address.as_pathname() {
        // The file may belong to another listener by now. A file that stays is only litter.
        let _ = remove_stale(path, &address);
    }
}

/// The next connection, non-blocking and closed on exec from the start. `None`: there is none now.
pub fn accept(listener: &Socket) -> io::Result<Option<Socket>> {
    match accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
        // SAFETY: the kernel just made it for us.
        Ok(fd) => Ok(Some(unsafe { Socket::from_raw_fd(fd) })),
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects to `address`. Each step that takes longer than `patience` is an error.
pub fn connect(address: &ListenAddress, patience: Duration) -> io::Result<Socket> {
    let (socket, socket_address) = socket(address)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    match address {
        ListenAddress::Tcp(_) => socket.connect_timeout(&socket_address, patience)?,
        // Connecting waits only if the queue is full, and then the time-out for writing applies (unix(7)).
        ListenAddress::Unix(_) => socket.connect(&socket_address)?,
    }
    Ok(socket)
}

/// Where the kernel let `listener` listen, if that is an IP address.
#[must_use]
pub fn local_address(listener: &Socket) -> Option<SocketAddr> {
    listener.local_addr().ok()?.as_socket()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:9180", "[::1]:0", "unix:/run/idontstore/admin.sock"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(200));
        for text in ["", "9180", "localhost:1", "unix:", "unix:a", "unix:/a/", "/run/a", &long] {
            assert_eq!(ListenAddress::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_unix_socket_has_the_rights_that_it_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let own = nix::unistd::getegid().to_string();
        let access = Access { group: Group::find(&own), mode: 0o660 };
        let listener = listen_for(&ListenAddress::Unix(path.clone()), &access).unwrap();
        assert_eq!(mode(), 0o660);
        Access::default().grant(&path).unwrap();
        assert_eq!(mode(), 0o600);
        close(&listener);
    }

    #[test]
    fn a_unix_socket_is_private_and_replaces_only_a_stale_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let address = ListenAddress::Unix(path.clone());
        let first = listen(&address).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(listen(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let (second, other) = (listen(&address).unwrap(), directory.path().join("b.sock"));
        std::fs::rename(&path, &other).unwrap();
        let third = listen(&address).unwrap();
        close(&second);
        assert!(path.exists(), "it is another's by now");
        close(&third);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(listen(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
