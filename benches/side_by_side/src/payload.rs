//! The payload: bytes that say where they belong, so that the reader can tell a lost, doubled or misplaced chunk.
//! Comparing each byte is stricter than a hash, and says where the fault is.

use crate::Outcome;
use std::sync::OnceLock;

/// The most that one call sends or reads.
pub(crate) const CALL_BYTES: usize = 256 << 10;
/// The payload repeats itself after so many bytes: no multiple of any chunk's size is one of it.
pub(crate) const PERIOD_BYTES: usize = 65_521;

/// A period, and a call more, so that from any place in it a whole call can be taken.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 0x9e37_79b9_u32;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        };
        let period: Vec<u8> = (0..PERIOD_BYTES).map(|_| noise()).collect();
        period.iter().copied().cycle().take(PERIOD_BYTES + CALL_BYTES).collect()
    })
}

/// The bytes at `position` of a payload of `total` bytes: a call's worth, or the rest.
pub(crate) fn at(position: u64, total: u64) -> &'static [u8] {
    let phase = usize::try_from(position % PERIOD_BYTES as u64).unwrap_or_default();
    let bytes = usize::try_from(total - position).unwrap_or(usize::MAX).min(CALL_BYTES);
    &pattern()[phase..phase + bytes]
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
