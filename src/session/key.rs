//! Session keys and tokens: how they are drawn, written and read.
//!
//! A key is 28 characters of base64url: 21 bytes. Three of them name the slot, and 18 (144 bits) are
//! random. 21 bytes fill 28 characters exactly, so every key has one spelling.

use data_encoding::BASE64URL_NOPAD;
use std::fmt;

/// Characters of a session key.
pub const KEY_CHARS: usize = 28;
const SECRET_BYTES: usize = 18;
const KEY_BYTES: usize = 3 + SECRET_BYTES;

/// The random part of a key.
#[derive(Clone)]
pub(super) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Asks the kernel each time: a fork would copy a generator in the process.
    pub(super) fn draw() -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(super) fn digest(&self) -> shm::Digest {
        blake3::hash(&self.0).into()
    }
}

/// A session key: the unguessable name in a session's URL. The `Debug` form hides it.
#[derive(Clone)]
pub struct SessionKey {
    slot: u32,
    secret: Secret,
}

impl SessionKey {
    pub(super) fn new(slot: u32, secret: Secret) -> Self {
        Self { slot, secret }
    }

    /// Reads a key. `None` for anything that no key looks like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != KEY_CHARS {
            return None;
        }
        let mut bytes = [0; KEY_BYTES];
        BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).ok()?;
        let (slot, secret) = bytes.split_first_chunk::<3>()?;
        let slot = u32::from_be_bytes([0, slot[0], slot[1], slot[2]]);
        Some(Self { slot, secret: Secret(secret.try_into().ok()?) })
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    pub(super) fn digest(&self) -> shm::Digest {
        self.secret.digest()
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; KEY_BYTES];
        let (slot, secret) = bytes.split_at_mut(3);
        slot.copy_from_slice(&self.slot.to_be_bytes()[1..]);
        secret.copy_from_slice(&self.secret.0);
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey(slot {})", self.slot)
    }
}

/// The secret that the party which asked for a session proves that with. The `Debug` form hides it.
pub struct Token(String);

impl Token {
    pub(super) fn draw() -> Option<Self> {
        Secret::draw().map(|secret| Self(BASE64URL_NOPAD.encode(&secret.0)))
    }

    pub(super) fn digest(&self) -> shm::Digest {
        Self::digest_of(self.0.as_bytes())
    }

    pub(super) fn digest_of(text: &[u8]) -> shm::Digest {
        blake3::hash(text).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_reads_back_as_itself() {
        let key = SessionKey::new(0x02_03fe, Secret::draw().unwrap());
        let text = key.to_string();
        assert_eq!(text.len(), KEY_CHARS);
        let read = SessionKey::parse(&text).unwrap();
        assert_eq!((read.slot, read.secret.0), (key.slot, key.secret.0));
    }

    #[test]
    fn what_no_key_looks_like_is_none() {
        for text in ["", "short", &"A".repeat(27), &"A".repeat(29), &"=".repeat(28)] {
            assert!(SessionKey::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn debug_hides_key_and_token() {
        let key = SessionKey::new(7, Secret::draw().unwrap());
        assert_eq!(format!("{key:?}"), "SessionKey(slot 7)");
        assert_eq!(format!("{:?}", Token::draw().unwrap()), "Token(..)");
    }
}
