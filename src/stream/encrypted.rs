//! A TLS session on its socket.
//!
//! What is *delivered* is payload in records that the client's TCP has acknowledged to their last byte. [`Session`] says
//! what is lost without the last bytes of the line; how many those are the kernel says (`SIOCOUTQ`, less our FIN, which is
//! behind all else), and what is sealed and still in user memory comes on top. A payload byte is counted as taken only
//! when it is sealed, so it stands in that account from the first moment. A reset does not change what the kernel says.
//!
//! Must always hold: an end of the connection that the client has not announced inside TLS is no end but a break, so
//! that nobody can shorten what was sent by cutting the line.

use super::Shaken;
use crate::sys::{Got, Put, Socket};
use crate::tls::{Fault, Plain, Session};
use std::cell::RefCell;
use std::io::{self, IoSlice, Write};

/// Bytes of the line read at a time for a body: four records and more.
const LINE_BYTES: usize = 64 << 10;
/// Bytes of the line read at a time while a handshake or a head is awaited: whoever waits holds what it sent too early.
const LINE_BYTES_MIN: usize = 4 << 10;
/// Bytes of the line without a byte of payload that one call puts up with: the largest handshake has fewer.
const EMPTY_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Bytes of the line on their way into a session, one at a time: no connection needs such room of its own.
    static LINE: RefCell<Box<[u8]>> = RefCell::new(vec![0; LINE_BYTES].into_boxed_slice());
}

/// A session and how it stands with its socket.
#[derive(Debug)]
pub(super) struct Encrypted {
    session: Session,
    broken: bool,
    said_goodbye: bool,
    /// Bytes of the line that were looked at, since somebody last read.
    looked_bytes: usize,
    /// Bytes of the line that were no payload, in the last read, if most of them were none: the shortest records cost as
    /// much as the longest.
    overhead_bytes: usize,
}

impl Encrypted {
    pub(super) fn new(session: Session) -> Self {
        Self { session, broken: false, said_goodbye: false, looked_bytes: 0, overhead_bytes: 0 }
    }

    pub(super) fn is_readable(&self) -> bool {
        self.session.is_readable()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.session.is_ended()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bytes of the line that were no payload, in the last read, if most of them were none.
    pub(super) fn overhead_bytes(&self) -> usize {
        self.overhead_bytes
    }

    pub(super) fn has_begun(&self) -> bool {
        self.session.has_begun()
    }

    pub(super) fn unread(&self) -> u64 {
        self.session.unread() as u64
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.session.is_resumed()
    }

    /// The payload that cannot be decrypted without the last `line_bytes` that were written.
    pub(super) fn lost_without(&self, line_bytes: u64) -> u64 {
        self.session.lost_without(line_bytes)
    }

    pub(super) fn shake(&mut self, socket: &mut Socket) -> Shaken {
        if self.broken {
            return Shaken::Left;
        }
        let mut line_bytes = 0;
        while self.session.is_handshaking() {
            if self.session.is_ended() {
                return Shaken::Left;
            }
            let moved = self.move_line(socket, LINE_BYTES_MIN, |session, line| {
                line_bytes += line.len();
                session.shake(line)
            });
            match moved {
                Err(fault) => {
                    self.fail(socket);
                    return Shaken::Failed(fault);
                }
                Ok(Got::Bytes(_)) if line_bytes > EMPTY_BYTES_MAX => {
                    self.broken = true;
                    return Shaken::Failed(Fault::Flood);
                }
                Ok(Got::Bytes(_)) => {}
                Ok(Got::Dry) => return Shaken::NotYet,
                Ok(Got::End | Got::Broken) => {
                    self.broken = true;
                    return Shaken::Left;
                }
            }
        }
        Shaken::Done
    }

    pub(super) fn recv(&mut self, socket: &mut Socket, room: &mut [u8]) -> Got {
        let was_wordy = std::mem::take(&mut self.overhead_bytes) > 0;
        if self.broken {
            return Got::Broken;
        }
        self.looked_bytes = 0;
        let line_bytes_max = if was_wordy { LINE_BYTES_MIN } else { LINE_BYTES };
        let most = room.len().clamp(LINE_BYTES_MIN, line_bytes_max);
        let (mut filled, mut line_bytes, mut taken_bytes) = (0, 0, 0);
        loop {
            let rest = room.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                return Got::Bytes(filled);
            }
            let mut plain = Plain::Bytes(0);
            let moved = self.move_line(socket, most, |session, line| {
                line_bytes += line.len();
                let come = line.len();
                plain = session.open(line, rest)?;
                taken_bytes += come - line.len();
                Ok(())
            });
            match (moved, plain) {
                (Err(fault), _) => {
                    tracing::debug!(%fault, "a TLS connection is broken");
                    self.fail(socket);
                    return Got::Broken;
                }
                (Ok(Got::Bytes(_)), Plain::Bytes(bytes)) => filled += bytes,
                // Asked once more, each of these says the same again.
                (Ok(_), _) if filled > 0 => return Got::Bytes(filled),
                (Ok(_), Plain::End) => return Got::End,
                (Ok(Got::Dry), _) => return Got::Dry,
                (Ok(Got::End | Got::Broken), _) => {
                    self.broken = true;
                    return Got::Broken;
                }
            }
            if filled > 0 && taken_bytes > LINE_BYTES_MIN && filled < taken_bytes / 2 {
                self.overhead_bytes = taken_bytes - filled;
                return Got::Bytes(filled);
            }
            if line_bytes > EMPTY_BYTES_MAX + room.len() {
                if filled > 0 {
                    return Got::Bytes(filled);
                }
                tracing::debug!(fault = %Fault::Flood, "a TLS connection is broken");
                self.broken = true;
                return Got::Broken;
            }
        }
    }

    /// Reads what has come, up to the first payload, so that an end which stands before any is known. Of a record that
    /// is longer than a few KiB only its beginning is taken: it is no end.
    pub(super) fn look(&mut self, socket: &mut Socket) {
        while !self.broken && !self.session.is_readable() {
            let most = LINE_BYTES_MIN.saturating_sub(self.looked_bytes);
            if most == 0 {
                return;
            }
            let mut line_bytes = 0;
            let moved = self.move_line(socket, most, |session, line| {
                line_bytes = line.len();
                session.look(line)
            });
            self.looked_bytes += line_bytes;
            match moved {
                Ok(Got::Bytes(_)) => {}
                Ok(Got::Dry) => return,
                Ok(Got::End | Got::Broken) => self.broken = true,
                Err(fault) => {
                    tracing::debug!(%fault, "a TLS connection is broken");
                    self.fail(socket);
                }
            }
        }
    }

    /// Gives `take` the next bytes of the line, or none where the session has enough to go on with; keeps what it
    /// leaves. Writes what the session answers.
    fn move_line(
        &mut self,
        socket: &mut Socket,
        most: usize,
        take: impl FnOnce(&mut Session, &mut &[u8]) -> Result<(), Fault>,
    ) -> Result<Got, Fault> {
        let behind = self.session.take_behind();
        let moved = if !behind.is_empty() || self.session.is_readable() {
            let mut line = behind.as_slice();
            take(&mut self.session, &mut line).map(|()| {
                self.session.keep(line);
                Got::Bytes(behind.len())
            })
        } else {
            LINE.with_borrow_mut(|room| {
                let room = room.get_mut(..most).unwrap_or_default();
                let got = socket.recv(room);
                let Got::Bytes(bytes) = got else { return Ok(got) };
                let mut line = room.get(..bytes).unwrap_or_default();
                take(&mut self.session, &mut line).map(|()| {
                    self.session.keep(line);
                    got
                })
            })
        };
        if moved.is_ok() && self.flush(socket) == Put::Broken {
            return Ok(Got::Broken);
        }
        moved
    }

    pub(super) fn send(&mut self, socket: &mut Socket, parts: &[IoSlice<'_>]) -> Put {
        match self.shake(socket) {
            Shaken::Done => {}
            Shaken::NotYet => return Put::Full,
            Shaken::Left | Shaken::Failed(_) => return Put::Broken,
        }
        match self.flush(socket) {
            Put::Bytes(_) => {}
            other => return other,
        }
        let bytes = self.session.seal(parts);
        if bytes == 0 && parts.iter().any(|part| !part.is_empty()) {
            self.broken = true;
            return Put::Broken;
        }
        // It is taken in, so it counts, whatever becomes of it: the next call tells.
        self.flush(socket);
        Put::Bytes(bytes)
    }

    pub(super) fn flush(&mut self, socket: &mut Socket) -> Put {
        if self.broken {
            return Put::Broken;
        }
        match self.session.write_to(&mut Line(socket)) {
            Ok(()) => Put::Bytes(0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Put::Full,
            Err(_) => {
                self.broken = true;
                Put::Broken
            }
        }
    }

    /// Tells the client why there is no way on, if it still listens.
    fn fail(&mut self, socket: &mut Socket) {
        self.flush(socket);
        self.broken = true;
    }

    /// `Put::Full`: it is not all on its way, and to be said again.
    pub(super) fn say_goodbye(&mut self, socket: &mut Socket) -> Put {
        if !self.session.is_handshaking() && !std::mem::replace(&mut self.said_goodbye, true) {
            self.session.end();
        }
        self.flush(socket)
    }
}

/// The socket as something that a session writes to.
struct Line<'s>(&'s mut Socket);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.send(parts) {
            Put::Bytes(bytes) => Ok(bytes),
            Put::Full => Err(io::ErrorKind::WouldBlock.into()),
            Put::Broken => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
