//! A client's TLS connection, without a socket: bytes of the line go in and payload comes out, and the other way
//! round.
//!
//! `crate::stream` moves the bytes. The buffers are bounded: bytes that came in and have no room yet are at most one
//! read of the caller's and one record; bytes that wait to be written are at most [`UNWRITTEN_BYTES_MAX`] and their
//! overhead. Invariant: the payload that counts as lost without some bytes of the line is never less than what really
//! is.

use rustls::{
    CipherSuite, Error, HandshakeKind, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

/// Payload that is sealed at a time. The connection takes in nothing more before all of it is written.
const UNWRITTEN_BYTES_MAX: usize = 128 << 10;
/// Payload in one record, at most (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// How much of the payload that came last is remembered piece by piece: in full pieces, as much as a socket's buffer holds.
const SEALED_MAX: usize = 40;
/// Records that a TLS 1.2 connection writes: the key of AES-GCM is good for 2^24 (RFC 8446, section 5.5) and there is
/// no way to change it. TLS 1.3 changes its keys by itself.
const TLS12_RECORDS_MAX: u64 = (1 << 24) - (1 << 16);

/// Why a TLS connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The client speaks HTTP without TLS.
    #[error("the client speaks plain HTTP")]
    PlainHttp {
        /// The method is `HEAD`, so an answer has no content.
        to_head: bool,
    },
    /// The client breaks the protocol, or needs a part of it that the relay does not speak.
    #[error("TLS failed: {0}")]
    Protocol(Error),
    /// The client has sent more than there is room for, without any payload.
    #[error("the client sends records without payload, over and over")]
    Flood,
}

/// The result of opening a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// So many bytes were given out; 0: more bytes have to come first.
    Bytes(usize),
    /// The client has announced the end.
    End,
}

/// A client's TLS connection.
#[derive(Debug)]
pub struct TlsConnection {
    connection: ServerConnection,
    /// Bytes of the line that were read too early.
    behind: Vec<u8>,
    /// A first byte has come.
    begun: bool,
    /// Payload that can be read at once, in bytes.
    ready: usize,
    ended: bool,
    /// The bytes taken in, the last first.
    sealed: VecDeque<Sealed>,
    /// Bytes that are to be written to the line.
    unwritten: usize,
    records: u64,
}

impl TlsConnection {
    pub(super) fn new(mut connection: ServerConnection) -> Self {
        connection.set_buffer_limit(Some(UNWRITTEN_BYTES_MAX));
        Self {
            connection,
            behind: Vec::new(),
            begun: false,
            ready: 0,
            ended: false,
            sealed: VecDeque::new(),
            unwritten: 0,
            records: 0,
        }
    }

    /// Whether the two have not agreed on keys yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the keys come from an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether anything has come from the client.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun || !self.behind.is_empty()
    }

    /// Whether a read gives something, for instance an end, though nothing more comes over the line.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.ready > 0 || self.ended || !self.behind.is_empty()
    }

    /// Unread bytes of the line, payload or not.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.ready + self.behind.len()
    }

    /// Whether the client has announced that it will send no more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Payload in records that need any of the last `line_bytes`, written or unwritten: none of it can be decrypted
    /// without them. Never too little, and exact as far back as is remembered.
    ///
    /// Why it is never too little: all payload on the line is in `sealed`, or older than all that is, in the order of
    /// the line. Tickets, changes of keys and alerts are on the line as well. Wherever they stand, they are counted
    /// as if they were payload's, so that more payload counts as lost and never less. Older records have at most as
    /// much payload as bytes of the line, and one begun record. Framing counts as payload.
    #[must_use]
    pub fn lost_without(&self, line_bytes: u64) -> u64 {
        let mut left = line_bytes.saturating_add(self.unwritten as u64);
        let mut payload = 0;
        for sealed in &self.sealed {
            payload += sealed.lost_without(left);
            left = left.saturating_sub(sealed.line_bytes);
        }
        // Older records: some bytes of the first one may have gone already.
        let begun_record = if left > 0 { RECORD_BYTES_MAX as u64 } else { 0 };
        left.saturating_add(begun_record).saturating_add(payload)
    }

    /// Keeps bytes that the caller has read from the line too early.
    pub fn keep(&mut self, rest: &[u8]) {
        self.behind.extend_from_slice(rest);
    }

    /// The kept bytes, to be opened next.
    pub fn take_behind(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.behind)
    }

    /// Takes from `line` what the handshake needs, and no more.
    pub fn handshake(&mut self, line: &mut &[u8]) -> Result<(), TlsError> {
        while self.is_handshaking() && !self.ended && !line.is_empty() {
            self.step(line)?;
        }
        Ok(())
    }

    /// Takes from `line` until there is payload or the end, and no more.
    pub fn look(&mut self, line: &mut &[u8]) -> Result<(), TlsError> {
        while self.ready == 0 && !self.ended && !line.is_empty() {
            self.step(line)?;
        }
        Ok(())
    }

    /// Fills `room`, which must not be empty, with decrypted payload, as far as `line` and the room go.
    pub fn open(&mut self, line: &mut &[u8], room: &mut [u8]) -> Result<Plain, TlsError> {
        let mut filled = 0;
        loop {
            let rest = room.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Plain::Bytes(filled));
            }
            if self.ready > 0 {
                filled += self.read(rest);
            } else if self.ended {
                // The bytes after an end belong to nobody (RFC 8446, section 6.1).
                *line = &[];
                return Ok(if filled == 0 { Plain::End } else { Plain::Bytes(filled) });
            } else if line.is_empty() {
                return Ok(Plain::Bytes(filled));
            } else {
                match self.step(line) {
                    // The connection remembers its error, and reports it again.
                    Err(_) if filled > 0 => return Ok(Plain::Bytes(filled)),
                    step => step?,
                }
            }
        }
    }

    /// Moves payload out.
    fn read(&mut self, room: &mut [u8]) -> usize {
        let bytes = self.connection.reader().read(room).unwrap_or(0);
        self.ready = if bytes == 0 { 0 } else { self.ready.saturating_sub(bytes) };
        bytes
    }

    /// Takes some kilobytes of `line`.
    fn step(&mut self, line: &mut &[u8]) -> Result<(), TlsError> {
        if !std::mem::replace(&mut self.begun, true)
            && line.first().is_some_and(u8::is_ascii_uppercase)
        {
            return Err(TlsError::PlainHttp { to_head: line.starts_with(b"HEAD ") });
        }
        // Reading from memory fails only for want of room.
        self.connection.read_tls(line).map_err(|_| TlsError::Flood)?;
        let state = self.connection.process_new_packets().map_err(TlsError::Protocol)?;
        self.ready = state.plaintext_bytes_to_read();
        self.ended = state.peer_has_closed();
        Ok(())
    }

    /// Seals payload for [`Self::write_to`]; returns how many bytes of it. Returns none once the connection cannot be
    /// used any more. Call it when nothing is left to be written.
    pub fn seal(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let is_tls12 = self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        if is_tls12 && self.records >= TLS12_RECORDS_MAX {
            return 0;
        }
        let bytes = self.connection.writer().write_vectored(parts).unwrap_or(0);
        // An empty input makes the library tell how much is to be written.
        let Ok(state) = self.connection.process_new_packets() else { return 0 };
        self.unwritten = state.tls_bytes_to_write();
        let each = self.record_overhead();
        let sealed =
            Sealed { payload_bytes: bytes as u64, line_bytes: self.unwritten as u64, each };
        if !sealed.is_whole() {
            // The library has taken the payload and not sealed it. Payload that is not on its way must never count.
            return 0;
        }
        self.records += sealed.records();
        self.sealed.truncate(SEALED_MAX - 1);
        self.sealed.push_front(sealed);
        bytes
    }

    /// Bytes that a record adds to its payload: header (5), tag (16) and, in TLS 1.3, the type or, in TLS 1.2 with
    /// AES-GCM, the nonce (8).
    fn record_overhead(&self) -> u64 {
        match self.connection.negotiated_cipher_suite() {
            Some(SupportedCipherSuite::Tls12(suite)) if is_chacha(suite.common.suite) => 21,
            Some(SupportedCipherSuite::Tls12(_)) => 29,
            Some(SupportedCipherSuite::Tls13(_)) | None => 22,
        }
    }

    /// Whether there is something to be written to the line.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes everything to the line; stops at the first error of the line.
    pub fn write_to(&mut self, line: &mut dyn Write) -> io::Result<()> {
        while self.connection.wants_write() {
            let written = self.connection.write_tls(line)?;
            self.unwritten = self.unwritten.saturating_sub(written);
        }
        self.unwritten = 0;
        Ok(())
    }

    /// Announces the end of what we send.
    pub fn end(&mut self) {
        self.connection.send_close_notify();
    }
}

fn is_chacha(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    };
    let suites = [
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    suites.contains(&suite)
}

/// Payload that was taken at once, and its bytes on the line: records that are full but for the last, and maybe
/// something else, such as a change of keys.
#[derive(Debug)]
struct Sealed {
    payload_bytes: u64,
    line_bytes: u64,
    /// Bytes that each record adds to its payload.
    each: u64,
}

impl Sealed {
    /// Whether all of it is on the line, or will be.
    fn is_whole(&self) -> bool {
        self.line_bytes >= self.payload_bytes.saturating_add(self.each * self.records())
    }

    fn records(&self) -> u64 {
        self.payload_bytes.div_ceil(RECORD_BYTES_MAX as u64)
    }

    /// Payload that cannot be decrypted without the last `line_bytes`.
    fn lost_without(&self, line_bytes: u64) -> u64 {
        let full = RECORD_BYTES_MAX as u64;
        let (each, overhead) = (self.each, self.line_bytes.saturating_sub(self.payload_bytes));
        let is_payload_alone = each * self.records() == overhead;
        match self.line_bytes.saturating_sub(line_bytes) {
            0 => self.payload_bytes,
            there if there == self.line_bytes => 0,
            there if is_payload_alone => {
                self.payload_bytes.saturating_sub(there / (full + each) * full)
            }
            // Something else is among them, as a change of keys is, so where one record ends is not known. Where n
            // records are whole in `there`, it ends within record n + 1: less the overhead of all and of what else there
            // is, that is less than n + 1 full payloads. So no more than n are computed, wherever the rest stands.
            there => {
                let whole = there.saturating_sub(overhead) / full;
                self.payload_bytes.saturating_sub(whole * full)
            }
        }
    }
}

#[cfg(test)]
mod acknowledged;

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(payload_bytes: u64, line_bytes: u64) -> Sealed {
        Sealed { payload_bytes, line_bytes, each: 22 }
    }

    #[test]
    fn what_is_taken_in_and_not_sealed_is_not_whole() {
        assert!(sealed(100, 122).is_whole());
        assert!(!sealed(100, 24).is_whole(), "a goodbye in its place");
        assert!(!sealed(100, 0).is_whole(), "kept for later");
    }

    #[test]
    fn a_record_is_lost_with_any_byte_of_it() {
        // Two full records and one of 100 bytes, of a cipher suite that adds 22 bytes to each.
        let changed = sealed(2 * 16384 + 100, 27 + 2 * 16406 + 122);
        let sealed = sealed(2 * 16384 + 100, 2 * 16406 + 122);
        let line = [(0, 0), (1, 100), (122, 100), (123, 16484), (122 + 16406, 16484)];
        for (line_bytes, lost) in line {
            assert_eq!(sealed.lost_without(line_bytes), lost, "{line_bytes}");
        }
        for all in [122 + 16407, 122 + 2 * 16406, 1 << 20] {
            assert_eq!(sealed.lost_without(all), sealed.payload_bytes, "{all}");
        }
        // The same behind a record of 27 bytes that changes the keys: never less than is lost.
        for (line_bytes, lost) in [(0, 0), (1, 100), (123, 16484), (122 + 16407, 32868)] {
            assert!(changed.lost_without(line_bytes) >= lost, "{line_bytes}");
        }
    }
}
