//! Encrypted files of the format age v1 (`age-encryption.org/v1`), written for one recipient and read by an identity.
//!
//! A file is a header and a payload:
//!
//! | part | bytes | content |
//! |---|---|---|
//! | version | 22 | `age-encryption.org/v1`, line feed |
//! | stanza, one or more | 98 for X25519 | the file key, wrapped for one recipient |
//! | MAC | 48 | `--- `, the MAC of the header under the file key, line feed |
//! | nonce | 16 | makes the payload's key out of the file key |
//! | sealed chunk, one or more | up to 65,552 | up to 65,536 bytes of the file, encrypted, and their tag |
//!
//! A sender draws a [`FileKey`], an ephemeral secret and a nonce, writes the [`Header`] and the nonce, and seals the
//! file with a [`Sealer`]. A receiver parses and opens the [`Header`] with its [`Identity`], and opens the chunks with
//! an [`Opener`]. The format's plugins, passphrases, SSH keys and armor are absent.
//!
//! Invariant: the code draws no randomness, so equal arguments give equal bytes, and a sender that resumes continues the
//! same file. No secret is in a `Debug` text. Parsing and opening allocate no memory that depends on the input. Two
//! different files must never be sealed with the same file key and nonce: their difference would be plain to see.

mod crypto;
mod fault;
mod header;
mod keys;
mod length;
mod payload;
mod stanza;

pub use crypto::{FILE_KEY_BYTES, FileKey, SECRET_BYTES};
pub use fault::{HeaderFault, KeyFault, PayloadFault};
pub use header::{HEADER_BYTES, HEADER_BYTES_MAX, Header, STANZAS_MAX};
pub use keys::{Identity, Recipient};
pub use length::{
    CHUNK_BYTES, CHUNKS_MAX, NONCE_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES, chunk_at, chunk_start,
    file_bytes, payload_bytes, plaintext_bytes,
};
pub use payload::{Opener, Sealer};
pub use stanza::STANZA_BYTES_MAX;
