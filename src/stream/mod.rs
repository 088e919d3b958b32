//! A client's connection: a socket, plain or with TLS over it, with one set of calls for both.
//!
//! `worker` and `relay` read and write here and nowhere else. Events are edge-triggered, so each call goes on until its
//! work is done or the socket says that it takes or gives no more; with TLS, bytes that are decrypted and not read
//! count as readable, and whoever has something left to write is [`Put::Full`] until the socket has taken it.

mod encrypted;

use crate::sys::pipe::Pipe;
use crate::sys::{Got, Put, Socket};
use crate::tls::{Acceptor, Fault};
use encrypted::Encrypted;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A client's connection.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Encrypted>>,
}

/// How far a handshake has come.
#[derive(Debug)]
pub enum Shaken {
    /// There is nothing to wait for.
    Done,
    /// The client has to say more first.
    NotYet,
    /// The client has left.
    Left,
    /// There will be no session.
    Failed(Fault),
}

impl Stream {
    /// Takes over an accepted socket, which `listener::accept` made non-blocking and which has
    /// no Nagle's delay from its listener.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self { socket: Socket::new(socket), tls: None }
    }

    /// From here on TLS is spoken; `early` was read from the socket already.
    pub fn encrypt(&mut self, acceptor: &Acceptor, early: &[u8]) -> Result<(), Fault> {
        let mut session = acceptor.accept().map_err(Fault::Protocol)?;
        session.keep(early);
        self.tls = Some(Box::new(Encrypted::new(session)));
        Ok(())
    }

    /// From here on no TLS is spoken.
    pub fn decrypt(&mut self) {
        self.tls = None;
    }

    /// Whether what passes is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the TLS session goes on where an earlier one ended.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_resumed())
    }

    /// Brings the handshake as far as it goes now.
    pub fn shake(&mut self) -> Shaken {
        match &mut self.tls {
            None => Shaken::Done,
            Some(tls) => tls.shake(&mut self.socket),
        }
    }

    /// Remembers what epoll said.
    pub fn note(&mut self, event: &mio::event::Event) {
        self.socket.note(event);
    }

    /// Whether a read may give something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.socket.is_readable() || self.tls.as_ref().is_some_and(|tls| tls.is_readable())
    }

    /// Whether the client has left, or has said all it will say, as far as epoll has told.
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

    /// Whether what comes has to be read, and cannot be moved by [`Self::recv_into`].
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.socket.has_urgent()
    }

    /// Asks the kernel whether something has come that epoll has not told of: a read gives it then.
    pub fn look_for_more(&mut self) -> bool {
        self.socket.look_for_more()
    }

    /// To be called while nothing is read: with TLS, an end that the client has announced is known only to whoever looks
    /// behind what the socket says. Payload that has come is kept, 4 KiB at most, and what is behind it not looked at.
    pub fn look(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.look(&mut self.socket);
        }
    }

    /// Reads into `room`, which must not be empty.
    pub fn recv(&mut self, room: &mut [u8]) -> Got {
        match &mut self.tls {
            None => self.socket.recv(room),
            Some(tls) => tls.recv(&mut self.socket, room),
        }
    }

    /// Bytes of the line that were no payload, in the last [`Self::recv`], if most of them were none: work for nothing.
    #[must_use]
    pub fn overhead_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.overhead_bytes())
    }

    /// Moves what has come, `bytes_max` at most, into `pipe`, which must be empty. An end is found by [`Self::recv`]
    /// alone. With TLS that is refused.
    pub fn recv_into(&mut self, pipe: &Pipe, bytes_max: usize) -> Got {
        match self.tls {
            None => self.socket.recv_into(pipe, bytes_max),
            Some(_) => Got::Broken,
        }
    }

    /// Moves what is in `pipe`, `bytes_max` at most, to the client. With TLS that is refused. After an error nothing was
    /// moved, and a write tells more.
    pub fn send_from(&mut self, pipe: &Pipe, bytes_max: usize) -> io::Result<Put> {
        match self.tls {
            None => self.socket.send_from(pipe, bytes_max),
            Some(_) => Ok(Put::Broken),
        }
    }

    /// Writes `parts`, one after the other, as far as the socket takes them; with TLS, as far as they are as good as
    /// written: what remains of that is written before anything else, by [`Self::flush`] too.
    pub fn send(&mut self, parts: &[IoSlice<'_>]) -> Put {
        match &mut self.tls {
            None => self.socket.send(parts),
            Some(tls) => tls.send(&mut self.socket, parts),
        }
    }

    /// Writes what an earlier call has left; `Put::Bytes` if nothing is left any more.
    pub fn flush(&mut self) -> Put {
        match &mut self.tls {
            None => Put::Bytes(0),
            Some(tls) => tls.flush(&mut self.socket),
        }
    }

    /// Bytes that we sent and the client's TCP has not acknowledged: in flight or still unsent. With TLS, the payload
    /// that the client cannot decrypt before more is acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        let bytes = self.socket.unacknowledged();
        self.tls.as_ref().map_or(bytes, |tls| tls.lost_without(bytes))
    }

    /// Whether bytes were sent that are not acknowledged. Others the client's window or the line has no room for.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.socket.unacknowledged() > self.socket.unsent()
    }

    /// Whether the client's machine has acknowledged nothing for `silence`, though the kernel has asked `times` in a row, or
    /// more often.
    #[must_use]
    pub fn is_lost(&self, silence: Duration, times: u32) -> bool {
        self.socket.is_lost(silence, times)
    }

    /// Bytes that TLS has taken from the socket and keeps: what came behind what was read.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.unread())
    }

    /// Bytes that have come and were not read: asks the kernel. With TLS there may be less payload in them.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.socket.unread().saturating_add(self.kept())
    }

    /// Whether so much has come that was not read that the kernel may take no more: then a FIN that
    /// comes behind it is not seen.
    #[must_use]
    pub fn is_backed_up(&self) -> bool {
        self.socket.is_backed_up()
    }

    /// Whether the client has not said anything yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.socket.unread() == 0 && self.tls.as_ref().is_none_or(|tls| !tls.has_begun())
    }

    /// Lets closing drop what the kernel still holds, and tell the client by a reset.
    pub fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    /// Before an end that is to be seen as one: with TLS it is announced, so that nobody takes it for a cut.
    /// `Put::Full`: there is no room for that yet.
    pub fn say_goodbye(&mut self) -> Put {
        match &mut self.tls {
            None => Put::Bytes(0),
            Some(tls) => tls.say_goodbye(&mut self.socket),
        }
    }

    /// Says that we have said all we will say. `false`: there is no room for that yet.
    pub fn shut(&mut self) -> bool {
        let is_said = self.say_goodbye() != Put::Full;
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
