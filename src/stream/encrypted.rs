//! A TLS connection on its socket.
//!
//! *Delivered* payload is payload in records that the client's TCP has acknowledged to their last byte.
//! [`TlsConnection`] says what is lost without the last bytes of the line. The kernel counts those bytes (`SIOCOUTQ`,
//! less our FIN, which comes last), and the sealed bytes that are still in user memory come on top. A payload byte
//! counts as taken only when it is sealed, so it is in that account from the first moment. A reset does not change
//! the kernel's count.
//!
//! Invariant: an end of the connection that the client has not announced inside TLS is a break, so that nobody can
//! shorten the payload by cutting the line.

use super::HandshakeState;
use crate::sys::{RecvOutcome, SendOutcome, Socket};
use crate::tls::{Plain, TlsConnection, TlsError};
use std::cell::RefCell;
use std::io::{self, IoSlice, Write};

/// Bytes of the line read at a time for a body: four records and more.
const LINE_BYTES: usize = 64 << 10;
/// Bytes of the line read at a time while a handshake or a head is awaited: the connection holds what came too early.
const LINE_BYTES_MIN: usize = 4 << 10;
/// Bytes of the line without a byte of payload that one call accepts: the largest handshake has fewer.
const EMPTY_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Bytes of the line on their way into TLS. All connections share this room.
    static LINE: RefCell<Box<[u8]>> = RefCell::new(vec![0; LINE_BYTES].into_boxed_slice());
}

/// A TLS connection and its state on the socket.
#[derive(Debug)]
pub(super) struct Encrypted {
    tls: TlsConnection,
    broken: bool,
    said_goodbye: bool,
    /// Bytes of the line that were decrypted ahead since the last read.
    looked_bytes: usize,
    /// Bytes of the line in the last read that were no payload, if most of them were none: the shortest records cost
    /// as much as the longest.
    overhead_bytes: usize,
}

impl Encrypted {
    pub(super) fn new(tls: TlsConnection) -> Self {
        Self { tls, broken: false, said_goodbye: false, looked_bytes: 0, overhead_bytes: 0 }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.tls.is_readable()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.tls.is_ended()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bytes of the line that were no payload, in the last read, if most of them were none.
    pub(super) fn overhead_bytes(&self) -> usize {
        self.overhead_bytes
    }

    pub(super) fn has_begun(&self) -> bool {
        self.tls.has_begun()
    }

    pub(super) fn unread(&self) -> u64 {
        self.tls.unread() as u64
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.is_resumed()
    }

    /// The payload that cannot be decrypted without the last `line_bytes` that were written.
    pub(super) fn lost_without(&self, line_bytes: u64) -> u64 {
        self.tls.lost_without(line_bytes)
    }

    pub(super) fn handshake(&mut self, socket: &mut Socket) -> HandshakeState {
        if self.broken {
            return HandshakeState::Left;
        }
        let mut line_bytes = 0;
        while self.tls.is_handshaking() {
            if self.tls.is_ended() {
                return HandshakeState::Left;
            }
            let moved = self.move_line(socket, LINE_BYTES_MIN, |tls, line| {
                line_bytes += line.len();
                tls.handshake(line)
            });
            match moved {
                Err(fault) => {
                    self.fail(socket);
                    return HandshakeState::Failed(fault);
                }
                Ok(RecvOutcome::Bytes(_)) if line_bytes > EMPTY_BYTES_MAX => {
                    self.broken = true;
                    return HandshakeState::Failed(TlsError::Flood);
                }
                Ok(RecvOutcome::Bytes(_)) => {}
                Ok(RecvOutcome::WouldBlock) => return HandshakeState::NotYet,
                Ok(RecvOutcome::Eof | RecvOutcome::Broken) => {
                    self.broken = true;
                    return HandshakeState::Left;
                }
            }
        }
        HandshakeState::Done
    }

    pub(super) fn recv(&mut self, socket: &mut Socket, room: &mut [u8]) -> RecvOutcome {
        let was_wordy = std::mem::take(&mut self.overhead_bytes) > 0;
        if self.broken {
            return RecvOutcome::Broken;
        }
        self.looked_bytes = 0;
        let line_bytes_max = if was_wordy { LINE_BYTES_MIN } else { LINE_BYTES };
        let most = room.len().clamp(LINE_BYTES_MIN, line_bytes_max);
        let (mut filled, mut line_bytes, mut taken_bytes) = (0, 0, 0);
        loop {
            let rest = room.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                return RecvOutcome::Bytes(filled);
            }
            let mut plain = Plain::Bytes(0);
            let moved = self.move_line(socket, most, |tls, line| {
                line_bytes += line.len();
                let come = line.len();
                plain = tls.open(line, rest)?;
                taken_bytes += come - line.len();
                Ok(())
            });
            match (moved, plain) {
                (Err(fault), _) => {
                    tracing::debug!(%fault, "a TLS connection is broken");
                    self.fail(socket);
                    return RecvOutcome::Broken;
                }
                (Ok(RecvOutcome::Bytes(_)), Plain::Bytes(bytes)) => filled += bytes,
                // A call after a failure fails the same way again.
                (Ok(_), _) if filled > 0 => return RecvOutcome::Bytes(filled),
                (Ok(_), Plain::End) => return RecvOutcome::Eof,
                (Ok(RecvOutcome::WouldBlock), _) => return RecvOutcome::WouldBlock,
                (Ok(RecvOutcome::Eof | RecvOutcome::Broken), _) => {
                    self.broken = true;
                    return RecvOutcome::Broken;
                }
            }
            if filled > 0 && taken_bytes > LINE_BYTES_MIN && filled < taken_bytes / 2 {
                self.overhead_bytes = taken_bytes - filled;
                return RecvOutcome::Bytes(filled);
            }
            if line_bytes > EMPTY_BYTES_MAX + room.len() {
                if filled > 0 {
                    return RecvOutcome::Bytes(filled);
                }
                tracing::debug!(fault = %TlsError::Flood, "a TLS connection is broken");
                self.broken = true;
                return RecvOutcome::Broken;
            }
        }
    }

    /// Reads what has come, up to the first payload, so that an end in front of it is known. If a record is longer
    /// than a few KiB, only its beginning is taken: a short read is no end.
    pub(super) fn look(&mut self, socket: &mut Socket) {
        while !self.broken && !self.tls.is_readable() {
            let most = LINE_BYTES_MIN.saturating_sub(self.looked_bytes);
            if most == 0 {
                return;
            }
            let mut line_bytes = 0;
            let moved = self.move_line(socket, most, |tls, line| {
                line_bytes = line.len();
                tls.look(line)
            });
            self.looked_bytes += line_bytes;
            match moved {
                Ok(RecvOutcome::Bytes(_)) => {}
                Ok(RecvOutcome::WouldBlock) => return,
                Ok(RecvOutcome::Eof | RecvOutcome::Broken) => self.broken = true,
                Err(fault) => {
                    tracing::debug!(%fault, "a TLS connection is broken");
                    self.fail(socket);
                }
            }
        }
    }

    /// Gives `take` the next bytes of the line, or none if TLS has enough to continue, and keeps what it leaves.
    /// Writes what TLS answers.
    fn move_line(
        &mut self,
        socket: &mut Socket,
        most: usize,
        take: impl FnOnce(&mut TlsConnection, &mut &[u8]) -> Result<(), TlsError>,
    ) -> Result<RecvOutcome, TlsError> {
        let behind = self.tls.take_behind();
        let moved = if !behind.is_empty() || self.tls.is_readable() {
            let mut line = behind.as_slice();
            take(&mut self.tls, &mut line).map(|()| {
                self.tls.keep(line);
                RecvOutcome::Bytes(behind.len())
            })
        } else {
            LINE.with_borrow_mut(|room| {
                let room = room.get_mut(..most).unwrap_or_default();
                let got = socket.recv(room);
                let RecvOutcome::Bytes(bytes) = got else { return Ok(got) };
                let mut line = room.get(..bytes).unwrap_or_default();
                take(&mut self.tls, &mut line).map(|()| {
                    self.tls.keep(line);
                    got
                })
            })
        };
        if moved.is_ok() && self.flush(socket) == SendOutcome::Broken {
            return Ok(RecvOutcome::Broken);
        }
        moved
    }

    pub(super) fn send(&mut self, socket: &mut Socket, parts: &[IoSlice<'_>]) -> SendOutcome {
        match self.handshake(socket) {
            HandshakeState::Done => {}
            HandshakeState::NotYet => return SendOutcome::WouldBlock,
            HandshakeState::Left | HandshakeState::Failed(_) => return SendOutcome::Broken,
        }
        match self.flush(socket) {
            SendOutcome::Bytes(_) => {}
            other => return other,
        }
        let bytes = self.tls.seal(parts);
        if bytes == 0 && parts.iter().any(|part| !part.is_empty()) {
            self.broken = true;
            return SendOutcome::Broken;
        }
        // The bytes are taken in and count, even if the write fails: the next call tells.
        self.flush(socket);
        SendOutcome::Bytes(bytes)
    }

    pub(super) fn flush(&mut self, socket: &mut Socket) -> SendOutcome {
        if self.broken {
            return SendOutcome::Broken;
        }
        match self.tls.write_to(&mut Line(socket)) {
            Ok(()) => SendOutcome::Bytes(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SendOutcome::WouldBlock,
            Err(_) => {
                self.broken = true;
                SendOutcome::Broken
            }
        }
    }

    /// Tells the client why the connection fails, if it still listens.
    fn fail(&mut self, socket: &mut Socket) {
        self.flush(socket);
        self.broken = true;
    }

    /// `SendOutcome::WouldBlock`: some of it is still unsent, so call it again.
    pub(super) fn say_goodbye(&mut self, socket: &mut Socket) -> SendOutcome {
        if !self.tls.is_handshaking() && !std::mem::replace(&mut self.said_goodbye, true) {
            self.tls.end();
        }
        self.flush(socket)
    }
}

/// The socket as TLS writes to it.
struct Line<'s>(&'s mut Socket);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.send(parts) {
            SendOutcome::Bytes(bytes) => Ok(bytes),
            SendOutcome::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
            SendOutcome::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
