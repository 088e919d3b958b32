//! A client's socket, non-blocking, and what epoll has said of it.
//!
//! Events are edge-triggered, so what they said is remembered here until a call finds that it is no
//! longer so: a short read means that the socket is dry, but only if no FIN came with the data.

use super::pipe::Pipe;
use socket2::SockRef;
use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// The bytes of a socket's queue that were never sent (`linux/sockios.h`).
const SIOCOUTQNSD: libc::Ioctl = 0x894b;

/// The state of a connection whose handshake is not over (`net/tcp_states.h`).
const TCP_SYN_RECV: u8 = 3;

/// Where `tcpi_last_ack_recv` ends in `struct tcp_info` (`linux/tcp.h`), in bytes.
const LAST_ACK_ENDS: usize = 60;

/// Counts that `SO_MEMINFO` gives (`linux/sock_diag.h`): the first is the memory that what was received
/// takes, the second its limit.
const SK_MEMINFO_VARS: usize = 9;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Dry,
    /// The client has said all it will say.
    End,
    /// The connection is broken.
    Broken,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The kernel took so many bytes.
    Bytes(usize),
    /// The socket's buffer is full.
    Full,
    /// The connection is broken.
    Broken,
}

/// A client's socket.
#[derive(Debug)]
pub struct Socket {
    socket: TcpStream,
    readable: bool,
    writable: bool,
    /// The client's FIN has arrived, maybe behind bytes that are not read yet.
    fin_seen: bool,
    broken: bool,
    /// Urgent bytes have come, now or before, or splice(2) has found an end, that they may stand before, or has failed. A
    /// read stops in front of urgent bytes, so that a short one says nothing; splice(2) never gets past them.
    urgent: bool,
    /// The client has answered our side of the handshake.
    established: Cell<bool>,
    /// We have sent our FIN: it counts as one byte that is not acknowledged.
    shut: bool,
}

impl Socket {
    /// Takes over an accepted socket, which `listener::accept` made non-blocking and which has
    /// no Nagle's delay from its listener.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            fin_seen: false,
            broken: false,
            urgent: false,
            established: Cell::new(false),
            shut: false,
        }
    }

    /// Remembers what epoll said.
    pub fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.urgent |= event.is_priority();
        self.fin_seen |= event.is_read_closed();
        self.broken |= event.is_error() || (event.is_read_closed() && event.is_write_closed());
    }

    /// Whether a read may give something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Asks the kernel whether something has come that epoll has not told of: a read gives it then.
    pub fn look_for_more(&mut self) -> bool {
        self.readable |= self.unread() > 0;
        self.readable
    }

    /// Whether the client has left, or has said all it will say, as far as epoll has told.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.fin_seen || self.broken
    }

    /// Whether the connection is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether what comes has to be read, and cannot be moved by [`Self::recv_into`].
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.urgent
    }

    /// Reads into `room`, which must not be empty. Urgent bytes are left out.
    pub fn recv(&mut self, room: &mut [u8]) -> Got {
        if !self.readable && !self.fin_seen {
            return Got::Dry;
        }
        let read = loop {
            match self.socket.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Got::End,
            Ok(n) => {
                // A short read empties the socket, unless a FIN stands behind the bytes.
                self.readable = n == room.len() || self.urgent;
                Got::Bytes(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Got::Dry
            }
            Err(_) => {
                self.broken = true;
                Got::Broken
            }
        }
    }

    /// Writes `parts`, one after the other, as far as the socket takes them.
    pub fn send(&mut self, parts: &[IoSlice<'_>]) -> Put {
        if self.broken {
            return Put::Broken;
        }
        if !self.writable {
            return Put::Full;
        }
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        let put = match (filled.next(), filled.next()) {
            // One range needs no list of ranges.
            (Some(only), None) => self.socket.write(only),
            _ => self.socket.write_vectored(parts),
        };
        match put {
            Ok(n) => Put::Bytes(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Put::Full
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Put::Bytes(0),
            Err(_) => {
                self.broken = true;
                Put::Broken
            }
        }
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which must be empty: otherwise it is not known whether
    /// there is nothing to move or no room. An end is found by [`Self::recv`] alone.
    pub fn recv_into(&mut self, pipe: &Pipe, bytes_max: usize) -> Got {
        if !self.readable && !self.fin_seen {
            return Got::Dry;
        }
        match pipe.fill(&self.socket, bytes_max) {
            // The end, or urgent bytes before it.
            Ok(0) => {
                self.urgent = true;
                Got::Dry
            }
            // More may have come than the pipe has room for, in however many pieces.
            Ok(n) => Got::Bytes(n),
            // Behind a FIN nothing is dry.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.fin_seen => {
                self.readable = false;
                Got::Dry
            }
            // A read tells whether it is the connection that has failed, or splice(2) alone. Nothing was moved.
            Err(_) => {
                self.urgent = true;
                Got::Dry
            }
        }
    }

    /// Moves what is in `pipe`, `bytes_max` at most, to the client. [`Put::Full`] also if nothing is in it. After an error
    /// nothing was moved; a write tells whether it is the connection that has failed, or splice(2) alone.
    pub fn send_from(&mut self, pipe: &Pipe, bytes_max: usize) -> io::Result<Put> {
        if self.broken {
            return Ok(Put::Broken);
        }
        if !self.writable {
            return Ok(Put::Full);
        }
        match pipe.pour(&self.socket, bytes_max) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(Put::Full)
            }
            poured => poured.map(Put::Bytes),
        }
    }

    /// Bytes that we wrote and the client's TCP has not acknowledged: in flight or still unsent.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        // Until the handshake is over the kernel says 0, whatever was sent (`tcp_ioctl` in `net/ipv4/tcp.c`).
        if !self.is_established() {
            return u64::MAX;
        }
        match self.count(libc::TIOCOUTQ) {
            // Our FIN takes a sequence number of its own, the last one.
            Some(bytes) => bytes.saturating_sub(u64::from(self.shut)),
            // Not known: as if nothing had been acknowledged, so that no count is too high.
            None => u64::MAX,
        }
    }

    /// Whether the handshake is over. With TCP Fast Open a connection is accepted before that. Once it is, the kernel is not
    /// asked again.
    fn is_established(&self) -> bool {
        if !self.established.get() {
            // A kernel that does not tell the state has no TCP Fast Open.
            self.established.set(self.state().is_none_or(|state| state != TCP_SYN_RECV));
        }
        self.established.get()
    }

    /// The connection's state, as the kernel numbers them; `None` where it does not tell.
    fn state(&self) -> Option<u8> {
        // The first byte is `tcpi_state`.
        self.info().map(|[state]| state)
    }

    /// The first bytes of what TCP_INFO gives (`struct tcp_info` in `linux/tcp.h`); `None` where the kernel has fewer.
    fn info<const N: usize>(&self) -> Option<[u8; N]> {
        let mut info = [0u8; N];
        let mut bytes = libc::socklen_t::try_from(N).ok()?;
        // SAFETY: TCP_INFO writes at most so many bytes as it is told, into a buffer that outlives the call.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        (done == 0 && bytes as usize == N).then_some(info)
    }

    /// Whether the client's machine has acknowledged nothing for `silence`, though the kernel has asked `times` in a row, or
    /// more often: by bytes that it sent again, or by probes of a closed window. A machine that lives answers those,
    /// however long its program stands still. (`TCP_USER_TIMEOUT` would end a closed window that is answered, too.)
    #[must_use]
    pub fn is_lost(&self, silence: Duration, times: u32) -> bool {
        // `tcpi_retransmits`, `tcpi_probes`, and `tcpi_last_ack_recv` in milliseconds.
        let info: Option<[u8; LAST_ACK_ENDS]> = self.info();
        let Some([_, _, resent, probes, .., a, b, c, d]) = info else { return false };
        let since = Duration::from_millis(u32::from_ne_bytes([a, b, c, d]).into());
        u32::from(resent.max(probes)) >= times && since >= silence
    }

    /// Of those, the bytes that were not even sent: the client's window or the line has no room.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.count(SIOCOUTQNSD).unwrap_or(0)
    }

    /// Asks the socket for a count of bytes. `None` where it does not tell.
    fn count(&self, what: libc::Ioctl) -> Option<u64> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the three counts of a socket's queues write one int, which lives through the call.
        let done =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), what, std::ptr::from_mut(&mut bytes)) };
        u64::try_from(bytes).ok().filter(|_| done == 0)
    }

    /// Bytes that have come and were not read: asks the kernel.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.count(libc::FIONREAD).unwrap_or(0)
    }

    /// Whether so much has come that was not read that the kernel may take no more: then a FIN that
    /// comes behind it is not seen.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        let mut info = [0u32; SK_MEMINFO_VARS];
        let mut bytes = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
        // SAFETY: SO_MEMINFO writes at most so many bytes as it is told, into words that live through
        // the call.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let [used, limit, ..] = info;
        // The window closes before all is used up: below one segment, which may be half of it.
        done == 0 && used >= limit / 2
    }

    /// Lets closing drop what the kernel still holds, and tell the client by a reset.
    pub fn reset_on_close(&self) {
        // A socket that cannot be told is broken already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Says that we have said all we will say, once.
    pub fn shut(&mut self) {
        if !std::mem::replace(&mut self.shut, true)
            && self.socket.shutdown(std::net::Shutdown::Write).is_err()
        {
            self.broken = true;
        }
    }

    /// Our end's address: one of IPv4, where a client has come by that to a listener for both.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = self.socket.local_addr().ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::socket::{MsgFlags, send};
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn an_end_is_not_believed_before_urgent_bytes_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(&[b'a'; 100]).unwrap();
        assert_eq!(send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
        client.write_all(&[b'b'; 50]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let (client, begun) = (Socket::new(client), Instant::now());
        while client.unacknowledged() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "all has come, the end too");
        }
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let (mut socket, pipe) = (Socket::new(socket), Pipe::new(1 << 16).unwrap());
        assert_eq!(socket.recv_into(&pipe, 1000), Got::Bytes(100));
        assert!(pipe.empty());
        assert_eq!(socket.recv_into(&pipe, 1000), Got::Dry);
        assert!(socket.is_readable() && socket.has_urgent());
        let mut room = [0; 1000];
        assert_eq!(socket.recv(&mut room), Got::Bytes(50));
        assert_eq!(room[..50], [b'b'; 50]);
        assert!(socket.is_readable());
        assert_eq!(socket.recv(&mut room), Got::End);
    }
}
