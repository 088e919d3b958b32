//! The name of a session where its key must not stand: a short hash under the segment's secret.
//!
//! A reader who sees two hashes can tell whether they name the same session, and nothing else: without the secret no key
//! leads to its hash, and no hash leads anywhere.

use super::SessionKey;
use data_encoding::HEXLOWER;
use std::fmt;

/// Sets these hashes apart from everything else that is made with the same secret.
const PURPOSE: &[u8] = b"session";
/// 48 bits: among 262,144 sessions at once, the most there can be, hardly two share a hash.
const HASH_BYTES: usize = 6;

/// A session's short hash; written as 12 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHash([u8; HASH_BYTES]);

impl SessionHash {
    /// The hash of the session whose key has this digest.
    #[must_use]
    pub fn new(secret: &[u8; blake3::KEY_LEN], key: &shm::Digest) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(PURPOSE).update(key);
        let mut hash = [0; HASH_BYTES];
        hasher.finalize_xof().fill(&mut hash);
        Self(hash)
    }

    /// Reads a hash as it is written. `None` for anything that no hash looks like.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut hash = [0; HASH_BYTES];
        if text.len() != 2 * HASH_BYTES {
            return None;
        }
        HEXLOWER.decode_mut(text, &mut hash).ok().map(|_| Self(hash))
    }

    /// The hash of the session that `key` is good for.
    #[must_use]
    pub fn of(secret: &[u8; blake3::KEY_LEN], key: &SessionKey) -> Self {
        Self::new(secret, &key.digest())
    }
}

impl fmt::Display for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_a_sessions_own_under_each_secret() {
        let hash = |secret, key| SessionHash::new(&[secret; 32], &[key; 32]).to_string();
        assert_eq!(hash(1, 1), hash(1, 1));
        assert_eq!(hash(1, 1).len(), 12);
        assert_ne!(hash(1, 1), hash(1, 2));
        assert_ne!(hash(1, 1), hash(2, 1));
    }

    #[test]
    fn a_hash_reads_back_as_it_is_written() {
        let hash = SessionHash::new(&[1; 32], &[2; 32]);
        assert_eq!(SessionHash::parse(hash.to_string().as_bytes()), Some(hash));
        for wrong in
            ["", "0123456789a", "0123456789abc", "0123456789aB", "0123456789a ", "0123456789ag"]
        {
            assert_eq!(SessionHash::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
