//! A client's socket, non-blocking, with the events that epoll has reported.
//!
//! Events are edge-triggered, so they are remembered here until a call finds that they no longer hold. A short read
//! means that the socket is dry, but only if no FIN came with the data.

mod queues;

use super::pipe::Pipe;
use socket2::SockRef;
use std::cell::Cell;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvOutcome {
    /// So many bytes, at least one.
    Bytes(usize),
    /// No bytes now.
    WouldBlock,
    /// The client has sent its FIN.
    Eof,
    /// The connection is broken.
    Broken,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took so many bytes.
    Bytes(usize),
    /// The socket's buffer is full.
    WouldBlock,
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
    /// Urgent bytes have come, now or before; or splice(2) has failed, or has found an end that they may stand
    /// before. A read stops in front of urgent bytes, so a short one tells nothing; splice(2) never gets past them.
    urgent: bool,
    /// The client has answered our side of the handshake.
    established: Cell<bool>,
    /// We have sent our FIN: it counts as one byte that is not acknowledged.
    shut: bool,
}

impl Socket {
    /// Wraps an accepted socket, which `listener::accept` made non-blocking and which has
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
    pub fn record_event(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.urgent |= event.is_priority();
        self.fin_seen |= event.is_read_closed();
        // Once both FINs have been sent, both directions are closed and nothing is broken.
        let is_hung_up = event.is_read_closed() && event.is_write_closed();
        self.broken |= event.is_error() || (is_hung_up && !self.shut);
    }

    /// Whether a read may give something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Asks the kernel whether bytes have come that epoll has not reported: a read gives them then.
    pub fn look_for_more(&mut self) -> bool {
        self.readable |= self.unread() > 0;
        self.readable
    }

    /// Whether the client has left, or has sent its FIN, as far as epoll has reported.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.fin_seen || self.broken
    }

    /// Whether the connection is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether bytes have to be read, and cannot be moved by [`Self::recv_into`].
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.urgent
    }

    /// Reads into `room`, which must not be empty. Urgent bytes are left out.
    pub fn recv(&mut self, room: &mut [u8]) -> RecvOutcome {
        self.recv_by(room.len(), |socket| socket.read(room))
    }

    /// Receives by `read`, which takes `bytes_max` bytes at most.
    fn recv_by(
        &mut self,
        bytes_max: usize,
        mut read: impl FnMut(&mut TcpStream) -> io::Result<usize>,
    ) -> RecvOutcome {
        // Without this a caller that reads until nothing comes would never see an end of it.
        if self.broken {
            return RecvOutcome::Broken;
        }
        if !self.readable && !self.fin_seen {
            return RecvOutcome::WouldBlock;
        }
        let read = loop {
            match read(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => RecvOutcome::Eof,
            Ok(n) => {
                // A short read empties the socket, unless a FIN stands behind the bytes.
                self.readable = n == bytes_max || self.urgent;
                RecvOutcome::Bytes(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                RecvOutcome::WouldBlock
            }
            Err(_) => {
                self.broken = true;
                RecvOutcome::Broken
            }
        }
    }

    /// Reads `bytes_max` bytes, which is not 0, into nowhere: the kernel drops them.
    pub fn skip(&mut self, bytes_max: usize) -> RecvOutcome {
        self.recv_by(bytes_max, |socket| drop_bytes(socket, bytes_max))
    }

    /// Writes `parts`, one after the other, as far as the socket takes them.
    pub fn send(&mut self, parts: &[IoSlice<'_>]) -> SendOutcome {
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        self.send_by(|socket| match (filled.next(), filled.next()) {
            // A single range needs no list of ranges.
            (Some(only), None) => socket.write(only),
            _ => socket.write_vectored(parts),
        })
    }

    /// Writes `bytes`, as far as the socket takes them. The kernel sends them with the bytes that come right behind.
    pub fn send_ahead(&mut self, bytes: &[u8]) -> SendOutcome {
        let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
        self.send_by(|socket| SockRef::from(&*socket).send_with_flags(bytes, flags))
    }

    /// Sends by `write`.
    fn send_by(&mut self, write: impl FnOnce(&mut TcpStream) -> io::Result<usize>) -> SendOutcome {
        if self.broken {
            return SendOutcome::Broken;
        }
        if !self.writable {
            return SendOutcome::WouldBlock;
        }
        match write(&mut self.socket) {
            Ok(n) => SendOutcome::Bytes(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                SendOutcome::WouldBlock
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => SendOutcome::Bytes(0),
            Err(_) => {
                self.broken = true;
                SendOutcome::Broken
            }
        }
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which must be empty, or else "try again" could
    /// mean that the pipe has no room: see [`Self::recv_more_into`]. Only [`Self::recv`] finds an end.
    pub fn recv_into(&mut self, pipe: &Pipe, bytes_max: usize) -> RecvOutcome {
        if !self.readable && !self.fin_seen {
            return RecvOutcome::WouldBlock;
        }
        match pipe.fill(&self.socket, bytes_max) {
            // The end, or urgent bytes before it.
            Ok(0) => {
                self.urgent = true;
                RecvOutcome::WouldBlock
            }
            // More may have come than the pipe has room for, in however many pieces.
            Ok(n) => RecvOutcome::Bytes(n),
            // A FIN may stand behind the bytes, and then the socket is not dry.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.fin_seen => {
                self.readable = false;
                RecvOutcome::WouldBlock
            }
            // A read tells whether it is the connection that has failed, or splice(2) alone. The call has moved
            // nothing.
            Err(_) => {
                self.urgent = true;
                RecvOutcome::WouldBlock
            }
        }
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which holds something. No bytes: the pipe has no room, or
    /// nothing has come.
    pub fn recv_more_into(&mut self, pipe: &Pipe, bytes_max: usize) -> RecvOutcome {
        // The refusal may be the pipe's: it says nothing about the socket.
        let before = (self.readable, self.urgent);
        match self.recv_into(pipe, bytes_max) {
            RecvOutcome::WouldBlock => {
                (self.readable, self.urgent) = before;
                RecvOutcome::Bytes(0)
            }
            got => got,
        }
    }

    /// Moves what is in `pipe`, `bytes_max` at most, to the client. [`SendOutcome::WouldBlock`] also means that the pipe
    /// is empty. An error has moved nothing; a write tells whether the connection has failed, or splice(2) alone.
    pub fn send_from(&mut self, pipe: &Pipe, bytes_max: usize) -> io::Result<SendOutcome> {
        if self.broken {
            return Ok(SendOutcome::Broken);
        }
        if !self.writable {
            return Ok(SendOutcome::WouldBlock);
        }
        match pipe.pour(&self.socket, bytes_max) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(SendOutcome::WouldBlock)
            }
            poured => poured.map(SendOutcome::Bytes),
        }
    }

    /// Makes close(2) drop what the kernel still holds, and reset the connection.
    pub fn reset_on_close(&self) {
        // A socket that cannot be told is broken already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Takes that back: the kernel sends what it holds, and then a FIN.
    pub fn end_on_close(&self) {
        let _ = SockRef::from(&self.socket).set_linger(None);
    }

    /// Sends our FIN, once.
    pub fn shut(&mut self) {
        if !std::mem::replace(&mut self.shut, true)
            && self.socket.shutdown(std::net::Shutdown::Write).is_err()
        {
            self.broken = true;
        }
    }

    /// The local address. An IPv4 client of a listener for both families came to an IPv4 address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        let address = self.socket.local_addr().ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

/// Makes the kernel drop `bytes_max` bytes that have come, or as many as there are (tcp(7), `MSG_TRUNC`).
#[allow(unsafe_code)]
fn drop_bytes(socket: &TcpStream, bytes_max: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC nothing is written to the buffer of a TCP socket, so there need be none.
    let dropped =
        unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), bytes_max, libc::MSG_TRUNC) };
    usize::try_from(dropped).map_err(|_| io::Error::last_os_error())
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
        assert_eq!(socket.recv_into(&pipe, 1000), RecvOutcome::Bytes(100));
        assert!(pipe.empty());
        assert_eq!(socket.recv_into(&pipe, 1000), RecvOutcome::WouldBlock);
        assert!(socket.is_readable() && socket.has_urgent());
        let mut room = [0; 1000];
        assert_eq!(socket.recv(&mut room), RecvOutcome::Bytes(50));
        assert_eq!(room[..50], [b'b'; 50]);
        assert!(socket.is_readable());
        assert_eq!(socket.recv(&mut room), RecvOutcome::Eof);
    }
}
