//! Listening sockets, opened once by the master and shared by every worker.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};

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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Stops listening, in every process that shares the socket.
pub fn close(listener: &TcpListener) {
    // It fails where nobody listens any more, which is what was wanted.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
