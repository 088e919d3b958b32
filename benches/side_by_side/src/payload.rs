//! The payload: bytes that say where they belong, so that the reader can tell a lost, doubled or misplaced chunk.
//! Comparing each byte is stricter than a hash, and says where the fault is.

use crate::Outcome;
use std::sync::OnceLock;

/// The most that one call sends or reads.
pub(crate) const CALL_BYTES: usize = 256 << 10;
/// The payload repeats itself after so many bytes: no multiple of any chunk's size is one of it.
pub(crate) const PERIOD_BYTES: usize = 65_521;

/// A period of the payload.
fn period() -> &'static [u8] {
    static PERIOD: OnceLock<Vec<u8>> = OnceLock::new();
    PERIOD.get_or_init(|| {
        let mut state = 0x9e37_79b9_u32;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        (0..PERIOD_BYTES).map(|_| noise()).collect()
    })
}

/// A period, and a call more, so that from any place in it a whole call can be taken.
fn and_a_call_more(period: &[u8]) -> Vec<u8> {
    period.iter().copied().cycle().take(period.len() + CALL_BYTES).collect()
}

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| and_a_call_more(period()))
}

/// The payload in a chunked coding, a period in a chunk: each chunk is the same. curl's chunks have three bytes more.
fn chunked_pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| and_a_call_more(&chunk(period())))
}

fn chunk(payload: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
}

/// The bytes at `position` of a payload of `total` bytes: a call's worth, or the rest.
pub(crate) fn at(position: u64, total: u64) -> &'static [u8] {
    let phase = usize::try_from(position % PERIOD_BYTES as u64).unwrap_or_default();
    let bytes = usize::try_from(total - position).unwrap_or(usize::MAX).min(CALL_BYTES);
    &pattern()[phase..phase + bytes]
}

/// A payload in a chunked coding: bytes of all chunks that hold a period, and what stands behind them.
pub(crate) fn chunked(total: u64) -> (u64, Vec<u8>) {
    let period = PERIOD_BYTES as u64;
    let chunk_bytes = (chunked_pattern().len() - CALL_BYTES) as u64;
    let rest = usize::try_from(total % period).unwrap_or_default();
    let rest = if rest == 0 { Vec::new() } else { chunk(&pattern()[..rest]) };
    (total / period * chunk_bytes, [&rest[..], b"0\r\n\r\n"].concat())
}

/// The bytes at `position` of chunks that take `total` bytes: a call's worth, or the rest.
pub(crate) fn chunks_at(position: u64, total: u64) -> &'static [u8] {
    let pattern = chunked_pattern();
    let period = (pattern.len() - CALL_BYTES) as u64;
    let phase = usize::try_from(position % period).unwrap_or_default();
    let bytes = usize::try_from(total - position).unwrap_or(usize::MAX).min(CALL_BYTES);
    &pattern[phase..phase + bytes]
}

/// Whether `bytes` are the payload at `position`.
pub(crate) fn verify(mut position: u64, bytes: &[u8]) -> Outcome<()> {
    for piece in bytes.chunks(CALL_BYTES) {
        let wanted = at(position, position + piece.len() as u64);
        if piece != wanted {
            let fault = piece.iter().zip(wanted).take_while(|(a, b)| a == b).count();
            return Err(format!("altered at byte {}", position + fault as u64).into());
        }
        position += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misplaced_chunk_is_found() {
        assert!(verify(7, at(7, 1 << 20)).is_ok());
        assert!(verify(7, at(7 + (256 << 10), 1 << 20)).is_err());
    }
}
