//! Keys as text: an identity is `AGE-SECRET-KEY-1...` in capitals, its recipient `age1...` in small letters.
//!
//! Invariant: each key has one text. Another spelling of the same key is refused, as the format demands.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::agreement::PrivateKey;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, ByteIterExt, Fe32IterExt, Hrp};
use zeroize::Zeroizing;

use super::crypto::{SECRET_BYTES, private_key, public_key};
use super::fault::KeyFault;

/// A public key: files are encrypted for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// Takes the bytes of a public key of X25519.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the public key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        Ok(Self(*RECIPIENT.read(text)?))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RECIPIENT.write(&self.0, f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// A secret key, with which the files for its recipient are opened. `Display` shows the secret.
pub struct Identity {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    private: PrivateKey,
    recipient: Recipient,
}

impl Identity {
    /// Takes bytes that the caller has drawn.
    ///
    /// # Errors
    /// [`KeyFault::Library`].
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Result<Self, KeyFault> {
        let private = private_key(secret)?;
        let recipient = Recipient(public_key(&private)?);
        Ok(Self { secret: Zeroizing::new(*secret), private, recipient })
    }

    /// The public key that belongs to this secret.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    pub(super) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

impl FromStr for Identity {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        Self::new(&*IDENTITY.read(text)?)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IDENTITY.write(&self.secret, f)
    }
}

/// Shows the recipient alone.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

const RECIPIENT: Spelling = Spelling { prefix: Hrp::parse_unchecked("age"), is_upper: false };

const IDENTITY: Spelling =
    Spelling { prefix: Hrp::parse_unchecked("age-secret-key-"), is_upper: true };

/// How a kind of key is written.
struct Spelling {
    prefix: Hrp,
    is_upper: bool,
}

impl Spelling {
    fn read(&self, text: &str) -> Result<Zeroizing<[u8; 32]>, KeyFault> {
        let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| KeyFault::Checksum)?;
        let mut found = checked.byte_iter();
        let mut key = Zeroizing::new([0; 32]);
        for byte in key.iter_mut() {
            *byte = found.next().ok_or(KeyFault::OtherKind)?;
        }
        // Bits that fill up the last character, another case, another prefix: each shows in the text.
        let is_spelled = self.characters(&key).eq(text.chars());
        if is_spelled { Ok(key) } else { Err(KeyFault::OtherKind) }
    }

    fn write(&self, key: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.characters(key).try_for_each(|character| fmt::Write::write_char(f, character))
    }

    fn characters(&self, key: &[u8; 32]) -> impl Iterator<Item = char> {
        let fields = key.iter().copied().bytes_to_fes();
        let characters = fields.with_checksum::<Bech32>(&self.prefix).chars();
        let is_upper = self.is_upper;
        characters.map(move |it| if is_upper { it.to_ascii_uppercase() } else { it })
    }
}

#[cfg(test)]
mod tests;
