//! Lengths and positions: how long a file is once it is encrypted, where each chunk begins, and the reverse.
//!
//! The payload begins behind the header, with its nonce. Invariant: a length that no file can have gives `None`.

use super::header::HEADER_BYTES;

/// Bytes of the nonce at the beginning of a payload.
pub const NONCE_BYTES: usize = 16;

/// Plaintext bytes of a full chunk.
pub const CHUNK_BYTES: usize = 65_536;

/// Bytes of a chunk's tag.
pub const TAG_BYTES: usize = 16;

/// Bytes of a full chunk once it is sealed. A payload can be resumed at each multiple of these, behind the nonce.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The most chunks of a payload: as many as it takes to count the plaintext's bytes in 64 bits.
pub const CHUNKS_MAX: u64 = 1 << 48;

const NONCE: u64 = NONCE_BYTES as u64;
const CHUNK: u64 = CHUNK_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;
const SEALED_CHUNK: u64 = SEALED_CHUNK_BYTES as u64;

/// Bytes of the payload of so much plaintext, with its nonce.
#[must_use]
pub fn payload_bytes(plaintext_bytes: u64) -> Option<u64> {
    // An empty plaintext takes a chunk, too.
    let tags = plaintext_bytes.div_ceil(CHUNK).max(1).checked_mul(TAG)?;
    plaintext_bytes.checked_add(tags)?.checked_add(NONCE)
}

/// Bytes of a whole file with a header that [`Header::write`](super::Header::write) has written.
#[must_use]
pub fn file_bytes(plaintext_bytes: u64) -> Option<u64> {
    payload_bytes(plaintext_bytes)?.checked_add(HEADER_BYTES as u64)
}

/// Bytes of the plaintext of so long a payload.
#[must_use]
pub fn plaintext_bytes(payload_bytes: u64) -> Option<u64> {
    let chunks = payload_bytes.checked_sub(NONCE)?;
    let plaintext = chunks.checked_sub(chunks.div_ceil(SEALED_CHUNK).checked_mul(TAG)?)?;
    // A last chunk that were empty or shorter than its tag would give a length that leads elsewhere.
    (self::payload_bytes(plaintext) == Some(payload_bytes)).then_some(plaintext)
}

/// The position in the payload at which a chunk begins.
#[must_use]
pub fn chunk_start(chunk: u64) -> Option<u64> {
    chunk.checked_mul(SEALED_CHUNK)?.checked_add(NONCE)
}

/// The chunk to which a position in the payload belongs; `None` within the nonce.
#[must_use]
pub fn chunk_at(position: u64) -> Option<u64> {
    Some(position.checked_sub(NONCE)? / SEALED_CHUNK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_these() {
        for (plaintext, payload) in [
            (0, 32),
            (1, 33),
            (65_535, 65_567),
            (65_536, 65_568),
            (65_537, 65_585),
            (131_072, 131_120),
            (1_000_003, 1_000_275),
        ] {
            assert_eq!(payload_bytes(plaintext), Some(payload));
            assert_eq!(plaintext_bytes(payload), Some(plaintext));
            assert_eq!(file_bytes(plaintext), Some(payload + 168));
        }
    }

    #[test]
    fn no_payload_has_other_lengths() {
        let impossible = (0..32).chain(65_569..65_585).chain(131_121..131_137);
        for payload in impossible.chain([u64::MAX - 65_552]) {
            let plaintext = plaintext_bytes(payload);
            assert!(plaintext.is_none_or(|it| payload_bytes(it) == Some(payload)), "{payload}");
        }
        assert_eq!(plaintext_bytes(31), None);
        assert_eq!(plaintext_bytes(65_569), None);
        assert_eq!(plaintext_bytes(65_584), None);
        assert_eq!(payload_bytes(u64::MAX), None);
        assert_eq!(chunk_start(u64::MAX), None);
        assert_eq!(chunk_at(15), None);
    }

    proptest! {
        #[test]
        fn lengths_and_positions_lead_back(plaintext in any::<u64>(), chunk in 0..CHUNKS_MAX - 1) {
            if let Some(payload) = payload_bytes(plaintext) {
                prop_assert_eq!(plaintext_bytes(payload), Some(plaintext));
            }
            if let Some(back) = plaintext_bytes(plaintext) {
                prop_assert_eq!(payload_bytes(back), Some(plaintext));
            }
            if let Some(start) = chunk_start(chunk) {
                prop_assert_eq!(chunk_at(start), Some(chunk));
                prop_assert_eq!(chunk_at(start + 65_551), Some(chunk));
                prop_assert_eq!(chunk_at(start - 1), chunk.checked_sub(1));
            }
        }
    }
}
