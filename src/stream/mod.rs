//! A client's connection: a socket, plain or with TLS over it, with one set of calls for both.
//!
//! `worker` and `relay` read and write here and nowhere else. Events are edge-triggered, so each call goes on until
//! its work is done or the socket takes or gives no more. With TLS, bytes that are decrypted and not read count as
//! readable, and a connection with bytes left to write is [`SendOutcome::WouldBlock`] until the socket has taken
//! them.

mod encrypted;

use crate::sys::pipe::Pipe;
use crate::sys::{RecvOutcome, SendOutcome, Socket};
use crate::tls::{Acceptor, TlsError};
use encrypted::Encrypted;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Bytes that are decrypted at a time only to be dropped.
const SKIP_BYTES: usize = 64 << 10;

thread_local! {
    /// Where to.
    static SKIPPED: RefCell<Box<[u8; SKIP_BYTES]>> = RefCell::new(Box::new([0; SKIP_BYTES]));
}

/// A client's connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Encrypted>>,
}

/// How far a handshake has come.
#[derive(Debug)]
pub enum HandshakeState {
    /// There is nothing to wait for.
    Done,
    /// The client has to say more first.
    NotYet,
    /// The client has left.
    Left,
    /// There will be no session.
    Failed(TlsError),
}

impl Stream {
    /// Wraps an accepted socket, which `listener::accept` made non-blocking and which has
    /// no Nagle's delay from its listener.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { socket: Socket::new(socket), tls: None }
    }

    /// Speaks TLS from here on; `early` was read from the socket already.
    pub fn encrypt(&mut self, acceptor: &Acceptor, early: &[u8]) -> Result<(), TlsError> {
        let mut tls = acceptor.accept().map_err(TlsError::Protocol)?;
        tls.keep(early);
        self.tls = Some(Box::new(Encrypted::new(tls)));
        Ok(())
    }

    /// Speaks no TLS from here on.
    pub fn decrypt(&mut self) {
        self.tls = None;
    }

    /// Whether what passes is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the TLS session resumes an earlier one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_resumed())
    }

    /// Continues the handshake as far as it goes now.
    pub fn handshake(&mut self) -> HandshakeState {
        match &mut self.tls {
            None => HandshakeState::Done,
            Some(tls) => tls.handshake(&mut self.socket),
        }
    }

    /// Remembers what epoll said.
    pub fn record_event(&mut self, event: &mio::event::Event) {
        self.socket.record_event(event);
    }

    /// Whether a read may give something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.socket.is_readable() || self.tls.as_ref().is_some_and(|tls| tls.is_readable())
    }

    /// Whether the client has left, or has sent its FIN, as far as epoll has reported.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let has_left = |tls: &Encrypted| tls.is_ended() || tls.is_broken();
        self.socket.is_leaving() || self.tls.as_deref().is_some_and(has_left)
    }

    /// Whether the connection is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.socket.is_broken() || self.tls.as_ref().is_some_and(|tls| tls.is_broken())
    }

    /// Whether bytes have to be read, and cannot be moved by [`Self::recv_into`].
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.socket.has_urgent()
    }

    /// Asks the kernel whether bytes have come that epoll has not reported: a read gives them then.
    pub fn look_for_more(&mut self) -> bool {
        self.socket.look_for_more()
    }

    /// Call it while nothing is read: over TLS, the client's end shows only to a reader that looks behind the
    /// socket's bytes. Payload that has come is kept, 4 KiB at most, and the bytes behind it stay in the socket.
    pub fn look(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.look(&mut self.socket);
        }
    }

    /// Reads into `room`, which must not be empty.
    pub fn recv(&mut self, room: &mut [u8]) -> RecvOutcome {
        match &mut self.tls {
            None => self.socket.recv(room),
            Some(tls) => tls.recv(&mut self.socket, room),
        }
    }

    /// Reads `bytes_max` bytes, which is not 0, into nowhere.
    pub fn skip(&mut self, bytes_max: usize) -> RecvOutcome {
        match &mut self.tls {
            None => self.socket.skip(bytes_max),
            Some(tls) => SKIPPED.with_borrow_mut(|room| {
                let room = room.get_mut(..bytes_max.min(SKIP_BYTES)).unwrap_or_default();
                tls.recv(&mut self.socket, room)
            }),
        }
    }

    /// Bytes of the line in the last [`Self::recv`] that were no payload, if most of them were none.
    #[must_use]
    pub fn overhead_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.overhead_bytes())
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which must be empty. Only [`Self::recv`] finds an end.
    /// TLS refuses that.
    pub fn recv_into(&mut self, pipe: &Pipe, bytes_max: usize) -> RecvOutcome {
        match self.tls {
            None => self.socket.recv_into(pipe, bytes_max),
            Some(_) => RecvOutcome::Broken,
        }
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which holds something. No bytes: the pipe has no room, or
    /// nothing has come. TLS refuses that.
    pub fn recv_more_into(&mut self, pipe: &Pipe, bytes_max: usize) -> RecvOutcome {
        match self.tls {
            None => self.socket.recv_more_into(pipe, bytes_max),
            Some(_) => RecvOutcome::Broken,
        }
    }

    /// Moves what is in `pipe`, `bytes_max` at most, to the client. TLS refuses that. An error has moved nothing, and
    /// a write tells more.
    pub fn send_from(&mut self, pipe: &Pipe, bytes_max: usize) -> io::Result<SendOutcome> {
        match self.tls {
            None => self.socket.send_from(pipe, bytes_max),
            Some(_) => Ok(SendOutcome::Broken),
        }
    }

    /// Writes `parts`, one after the other, as far as the socket takes them. TLS takes as much as it can seal, and
    /// writes the rest of that before anything else, by [`Self::flush`] too.
    pub fn send(&mut self, parts: &[IoSlice<'_>]) -> SendOutcome {
        match &mut self.tls {
            None => self.socket.send(parts),
            Some(tls) => tls.send(&mut self.socket, parts),
        }
    }

    /// Writes `bytes`, as far as the socket takes them, ahead of bytes [from a pipe](Self::send_from): the kernel sends
    /// them together.
    pub fn send_ahead(&mut self, bytes: &[u8]) -> SendOutcome {
        match self.tls {
            None => self.socket.send_ahead(bytes),
            Some(_) => SendOutcome::Broken,
        }
    }

    /// Writes what an earlier call has left; `SendOutcome::Bytes` means that nothing is left.
    pub fn flush(&mut self) -> SendOutcome {
        match &mut self.tls {
            None => SendOutcome::Bytes(0),
            Some(tls) => tls.flush(&mut self.socket),
        }
    }

    /// Bytes that we sent and the client's TCP has not acknowledged: in flight or still unsent. TLS counts the payload
    /// that the client cannot decrypt before more is acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        let bytes = self.socket.unacknowledged();
        self.tls.as_ref().map_or(bytes, |tls| tls.lost_without(bytes))
    }

    /// Whether bytes are in flight: sent and not acknowledged. The client's window or the line may have no room for
    /// others.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.socket.unacknowledged() > self.socket.unsent()
    }

    /// Whether the client's machine has acknowledged nothing for `silence`, though the kernel has asked at least
    /// `times` in a row.
    #[must_use]
    pub fn is_lost(&self, silence: Duration, times: u32) -> bool {
        self.socket.is_lost(silence, times)
    }

    /// Bytes that TLS has taken from the socket and that were not read.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.unread())
    }

    /// Bytes that have come and are unread, as the kernel counts them. TLS bytes may hold less payload.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.socket.unread().saturating_add(self.kept())
    }

    /// Whether so many bytes are unread that the kernel may take no more: then a FIN behind them stays unseen.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.socket.is_backed_up()
    }

    /// Whether nothing has come from the client yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.socket.unread() == 0 && self.tls.as_ref().is_none_or(|tls| !tls.has_begun())
    }

    /// Makes close(2) drop what the kernel still holds, and reset the connection.
    pub fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    /// Takes that back.
    pub fn end_on_close(&self) {
        self.socket.end_on_close();
    }

    /// Announces an end inside TLS, so that nobody takes it for a cut. `SendOutcome::WouldBlock`: there is no room
    /// for that yet.
    pub fn say_goodbye(&mut self) -> SendOutcome {
        match &mut self.tls {
            None => SendOutcome::Bytes(0),
            Some(tls) => tls.say_goodbye(&mut self.socket),
        }
    }

    /// Sends our FIN. `false`: there is no room for the end of TLS yet.
    pub fn shut(&mut self) -> bool {
        let is_said = self.say_goodbye() != SendOutcome::WouldBlock;
        if is_said {
            self.socket.shut();
        }
        is_said
    }

    /// Our end's address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_address()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
