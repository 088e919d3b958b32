//! Listening sockets, opened once by the master and shared by every worker.

use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Connections that the kernel keeps for us while every worker is busy or being replaced. The
/// kernel's own limit (`net.core.somaxconn`) applies below it.
const BACKLOG: i32 = 4096;

/// When a silent connection counts as lost: after `idle` and `probes` times `interval`. The kernel counts whole
/// seconds.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Silence after each probe.
    pub interval: Duration,
    /// Probes in a row without an answer.
    pub probes: u32,
}

impl KeepAlive {
    /// How long a connection is silent until it counts as lost.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.idle.saturating_add(self.interval.saturating_mul(self.probes))
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Whether it is `[::]` and leaves IPv4 alone.
    pub ipv6_only: bool,
}

impl Endpoint {
    /// `ipv6_only` has a meaning for `[::]` only.
    #[must_use]
    pub fn new(address: SocketAddr, ipv6_only: bool) -> Self {
        let is_all = address.is_ipv6() && address.ip().is_unspecified();
        Self { address, ipv6_only: ipv6_only && is_all }
    }

    /// The address and option that a listener is bound with.
    pub fn of(listener: &TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let ipv6_only = address.is_ipv6() && SockRef::from(listener).only_v6()?;
        Ok(Self::new(address, ipv6_only))
    }

    /// Whether connections of both families come there.
    #[must_use]
    pub fn takes_both(self) -> bool {
        self.address.is_ipv6() && self.address.ip().is_unspecified() && !self.ipv6_only
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address, false)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alone = if self.ipv6_only { " (ipv6_only)" } else { "" };
        write!(f, "{}{alone}", self.address)
    }
}

/// Whether the kernel has IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

/// Opens a listener at `endpoint`: non-blocking, closed on exec, alone on its address.
pub fn open(endpoint: Endpoint, keep_alive: KeepAlive) -> io::Result<TcpListener> {
    let socket = bind(endpoint)?;
    socket.set_nonblocking(true)?;
    // For the connections that will be accepted: they inherit it.
    socket.set_tcp_nodelay(true)?;
    keep_alive.set(&socket)?;
    socket.listen(BACKLOG)?;
    let listener = socket.into();
    refuse_fast_open(&listener)?;
    Ok(listener)
}

/// Switches TCP Fast Open off (RFC 7413), so that no connection begins with its request. The kernel accepts such a
/// connection before its client has shown that it hears us, and counts nothing that is written to it meanwhile as
/// unacknowledged.
///
/// Call it for a listening socket: if `net.ipv4.tcp_fastopen` has 0x400, listen(2) switches this on, whatever was set
/// before (`inet_listen` in `net/ipv4/af_inet.c`). See [`super::Socket::unacknowledged`] for the connections that
/// come between the two calls.
pub fn refuse_fast_open(listener: &TcpListener) -> io::Result<()> {
    let none: libc::c_int = 0;
    let bytes = libc::socklen_t::try_from(size_of_val(&none)).unwrap_or(0);
    // SAFETY: the kernel reads one int, which lives through the call.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            std::ptr::from_ref(&none).cast(),
            bytes,
        )
    };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(()),
        // A kernel that does not know the option does not do it.
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        error => Err(error),
    }
}

/// Whether a listener could be opened at `endpoint`. Nobody can connect during the test.
pub fn probe(endpoint: Endpoint) -> io::Result<()> {
    bind(endpoint).map(drop)
}

fn bind(endpoint: Endpoint) -> io::Result<Socket> {
    let address = endpoint.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(|error| match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) if address.is_ipv6() => {
            let why = "this system has no IPv6; 0.0.0.0 stands for all addresses of IPv4";
            io::Error::new(io::ErrorKind::Unsupported, why)
        }
        _ => error,
    })?;
    // A restart does not wait for old connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The setting overrides `net.ipv6.bindv6only`.
        socket.set_only_v6(!endpoint.takes_both())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes a listener of `fd`, on which another program has begun to listen, as [`open`] makes them, except the
/// keep-alive. An error if it is anything but a listening TCP socket.
pub fn adopt(fd: OwnedFd) -> io::Result<TcpListener> {
    let socket = Socket::from(fd);
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if getsockopt(&socket, sockopt::SockType)? != SockType::Stream {
        return wrong("it is not for streams");
    }
    if socket.local_addr()?.as_socket().is_none() {
        return wrong("it has no IP address");
    }
    if !getsockopt(&socket, sockopt::AcceptConn)? {
        return wrong("it does not listen");
    }
    socket.set_nonblocking(true)?;
    // An error of anything that is not TCP.
    socket.set_tcp_nodelay(true)?;
    let listener = socket.into();
    refuse_fast_open(&listener)?;
    Ok(listener)
}

impl KeepAlive {
    /// Sets it for the connections that `listener` accepts from now on.
    pub fn apply(self, listener: &TcpListener) -> io::Result<()> {
        self.set(&SockRef::from(listener))
    }

    fn set(self, socket: &Socket) -> io::Result<()> {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        setsockopt(socket, sockopt::TcpKeepIdle, &seconds(self.idle))?;
        setsockopt(socket, sockopt::TcpKeepInterval, &seconds(self.interval))?;
        setsockopt(socket, sockopt::TcpKeepCount, &self.probes)?;
        socket.set_keepalive(true)
    }
}

/// The next connection, non-blocking and closed on exec from the start, and its remote address.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let accept = |room: *mut SockAddrStorage, room_bytes: *mut libc::socklen_t| {
        let room: *mut libc::sockaddr = room.cast();
        // Makes the call itself, not through the C library: musl's tries accept(2) as well, which workers may not
        // make. SAFETY: the kernel writes an address into the room it is given, no more than its length.
        let fd = unsafe {
            libc::syscall(libc::SYS_accept4, listener.as_raw_fd(), room, room_bytes, flags)
        };
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
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
    // The call fails if nobody listens any more, which is the goal.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
