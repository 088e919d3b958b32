//! Listening sockets, opened once by the master and shared by every worker.

use nix::sys::socket::{SockFlag, accept4};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

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

/// The next connection, non-blocking and closed on exec from the start.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { TcpStream::from_raw_fd(fd) })
}

/// Stops listening, in every process that shares the socket.
pub fn close(listener: &TcpListener) {
    // It fails where nobody listens any more, which is what was wanted.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
