//! Listening sockets, opened once by the master and shared by every worker.

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Connections that the kernel keeps for us while every worker is busy or being replaced. The
/// kernel's own limit (`net.core.somaxconn`) applies below it.
const BACKLOG: i32 = 4096;

/// Opens a listener on `address`: non-blocking, closed on exec, alone on its address.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart does not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // For the connections that will be accepted: they inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The next connection, non-blocking and closed on exec from the start, and who made it.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let accept = |room: *mut SockAddrStorage, room_bytes| {
        // SAFETY: the kernel writes an address into the room it is given, no more than its length.
        let fd = unsafe { libc::accept4(listener.as_raw_fd(), room.cast(), room_bytes, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: a call that succeeds has written an address and its length.
    let (fd, peer) = unsafe { SockAddr::try_init(accept) }?;
    // Only a socket of the internet families is ever listened on.
    let peer = peer.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((fd.into(), peer))
}

/// Stops listening, in every process that shares the socket.
pub fn close(listener: &TcpListener) {
    // It fails where nobody listens any more, which is what was wanted.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
