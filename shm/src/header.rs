//! The first page of a segment: which format it has, how much of everything, and the few words that belong to no part.

use crate::account::BOARD_WORDS;
use crate::fields::{Field, Struct};
use crate::ticket_keys::TicketKeys;

/// "iDontSt" and a format number.
pub(crate) const MAGIC: u64 = 0x6944_6f6e_7453_740a;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Bytes of the secret.
pub const SECRET_BYTES: usize = 32;

/// Words that say what the segment is, in order: the fingerprint, six of the geometry, and the magic number, which is
/// written last.
pub(crate) const HEADER_WORDS: usize = 8;
/// Where the secret begins, in words.
pub(crate) const SECRET_AT: usize = 8;
/// Where the keys of TLS tickets begin, in words.
pub(crate) const TICKET_KEYS_AT: usize = 16;
/// Where chunk requests are counted, in words: on a cache line of its own.
pub(crate) const REQUESTS_AT: usize = 64;
/// Where wider networks request some of their own chunks back, in words.
pub(crate) const BOARD_AT: usize = 128;

const fn words(name: &'static str, at: usize, words: usize) -> Field {
    Field { name, offset: 8 * at, bytes: 8 * words }
}

/// The fields of the header.
pub(crate) const HEADER: Struct = Struct {
    name: "Header",
    bytes: HEADER_BYTES,
    fields: &[
        words("fingerprint", 0, 1),
        words("sessions", 1, 1),
        words("connections", 2, 1),
        words("chunks", 3, 1),
        words("chunk_bytes", 4, 1),
        words("lane_chunks", 5, 1),
        words("pipes", 6, 1),
        words("magic", 7, 1),
        words("secret", SECRET_AT, SECRET_BYTES / 8),
        words("ticket_keys", TICKET_KEYS_AT, TicketKeys::WORDS),
        words("requests", REQUESTS_AT, 1),
        words("board", BOARD_AT, BOARD_WORDS),
    ],
};
