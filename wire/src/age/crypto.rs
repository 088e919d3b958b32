//! The cryptography that the format is made of: X25519, HKDF-SHA256, HMAC-SHA256 and ChaCha20-Poly1305.
//!
//! Invariant: each key has one purpose, which its derivation names, and is zeroed when it is dropped.

use core::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

/// Bytes of a file key.
pub const FILE_KEY_BYTES: usize = 16;

/// Bytes of a secret of X25519: an identity's, or an ephemeral one.
pub const SECRET_BYTES: usize = 32;

/// Bytes of a file key that is wrapped: encrypted, with the tag.
pub(super) const WRAPPED_BYTES: usize = 32;

/// A derived key.
type Key = Zeroizing<[u8; 32]>;

/// The cryptographic library failed at a step that fails with no input. The machine may be out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LibraryFailed;

impl fmt::Display for LibraryFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cryptographic library failed")
    }
}

impl From<Unspecified> for LibraryFailed {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// The secret of one file. All its other keys are derived from this one.
pub struct FileKey(Zeroizing<[u8; FILE_KEY_BYTES]>);

impl FileKey {
    /// Takes bytes that the caller has drawn for this file alone.
    #[must_use]
    pub fn new(bytes: [u8; FILE_KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The MAC of a header's text.
    pub(super) fn mac(&self, text: &[u8]) -> Result<[u8; 32], LibraryFailed> {
        let tag = hmac::sign(&self.mac_key()?, text);
        tag.as_ref().try_into().map_err(|_| LibraryFailed)
    }

    /// Whether `mac` is the MAC of a header's text. The comparison takes the same time wherever they differ.
    pub(super) fn is_mac(&self, text: &[u8], mac: &[u8]) -> Result<bool, LibraryFailed> {
        Ok(hmac::verify(&self.mac_key()?, text, mac).is_ok())
    }

    /// The cipher of the payload that begins with `nonce`.
    pub(super) fn payload_cipher(&self, nonce: &[u8]) -> Result<Cipher, LibraryFailed> {
        let key = derive(nonce, &*self.0, b"payload")?;
        Cipher::new(&key)
    }

    /// The file key as a recipient's stanza holds it.
    pub(super) fn wrap(&self, cipher: &Cipher) -> Result<[u8; WRAPPED_BYTES], LibraryFailed> {
        let mut wrapped = [0; WRAPPED_BYTES];
        let (key, tag) = wrapped.split_first_chunk_mut::<FILE_KEY_BYTES>().ok_or(LibraryFailed)?;
        key.copy_from_slice(&*self.0);
        tag.copy_from_slice(&cipher.seal(WRAP_NONCE, key)?);
        Ok(wrapped)
    }

    /// Reverses [`Self::wrap`]; `None` if the file key was wrapped under another key, or was changed.
    pub(super) fn unwrap(cipher: &Cipher, wrapped: &[u8; WRAPPED_BYTES]) -> Option<Self> {
        let (sealed, tag) = wrapped.split_first_chunk::<FILE_KEY_BYTES>()?;
        let mut key = Zeroizing::new([0; FILE_KEY_BYTES]);
        cipher.open(WRAP_NONCE, sealed, tag, &mut *key).then_some(Self(key))
    }

    fn mac_key(&self) -> Result<hmac::Key, LibraryFailed> {
        let key = derive(b"", &*self.0, b"header")?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }
}

/// Shows no byte.
impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// The nonce under which file keys are wrapped. Each wrapping has a key of its own, so the nonce may be constant.
const WRAP_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// ChaCha20-Poly1305 under one key. The caller never seals twice with the same nonce, except for the same bytes.
pub(super) struct Cipher(LessSafeKey);

impl Cipher {
    pub(super) fn new(key: &[u8; 32]) -> Result<Self, LibraryFailed> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?)))
    }

    /// Encrypts `bytes` in place and returns the tag.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        bytes: &mut [u8],
    ) -> Result<[u8; 16], LibraryFailed> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), bytes)?;
        tag.as_ref().try_into().map_err(|_| LibraryFailed)
    }

    /// Decrypts `sealed` into `out`, which has the same length. If the tag is not right, `out` may have any content.
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LEN],
        sealed: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::empty(), sealed, tag, out).is_ok()
    }
}

/// A secret of X25519, ready for use.
pub(super) fn private_key(secret: &[u8; SECRET_BYTES]) -> Result<PrivateKey, LibraryFailed> {
    PrivateKey::from_private_key(&X25519, secret).map_err(|_| LibraryFailed)
}

/// The public key that belongs to a secret.
pub(super) fn public_key(private: &PrivateKey) -> Result<[u8; 32], LibraryFailed> {
    private.compute_public_key()?.as_ref().try_into().map_err(|_| LibraryFailed)
}

/// The cipher that two parties agree on, both of whom know `salt`; `None` if the public key is weak: every secret would
/// lead to the same cipher.
pub(super) fn agreed_cipher(
    private: &PrivateKey,
    public: &[u8; 32],
    salt: &[u8],
) -> Option<Cipher> {
    agree(private, UnparsedPublicKey::new(&X25519, public), (), |shared| {
        let key = derive(salt, shared, b"age-encryption.org/v1/X25519").map_err(|_| ())?;
        Cipher::new(&key).map_err(|_| ())
    })
    .ok()
}

/// HKDF-SHA256.
fn derive(salt: &[u8], secret: &[u8], purpose: &[u8]) -> Result<Key, LibraryFailed> {
    let mut key = Zeroizing::new([0; 32]);
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    pseudorandom.expand(&[purpose], hkdf::HKDF_SHA256)?.fill(&mut *key)?;
    Ok(key)
}
