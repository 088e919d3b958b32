//! The payload: a nonce, and the file in chunks, each sealed with its number and whether it is the last.
//!
//! A sender calls [`Sealer::seal`] for each chunk, and a receiver calls [`Opener::open`]. Both can start at any chunk.
//! Invariant: a chunk opens only at its own place, and no byte that was not verified comes out. A file is whole only once
//! [`Opener::finish`] says so: chunks that opened before that are its beginning.

use core::fmt;

use super::crypto::{Cipher, FileKey};
use super::fault::PayloadFault;
use super::length::{
    CHUNK_BYTES, CHUNKS_MAX, NONCE_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES, chunk_start,
};

/// The next chunk of a payload, and the key of all.
struct Cursor {
    cipher: Cipher,
    chunk: u64,
    is_over: bool,
}

impl Cursor {
    fn new(
        file_key: &FileKey,
        nonce: &[u8; NONCE_BYTES],
        chunk: u64,
    ) -> Result<Self, PayloadFault> {
        if chunk >= CHUNKS_MAX {
            return Err(PayloadFault::TooManyChunks);
        }
        Ok(Self { cipher: file_key.payload_cipher(nonce)?, chunk, is_over: false })
    }

    fn position(&self) -> u64 {
        chunk_start(self.chunk).unwrap_or(u64::MAX)
    }

    /// The nonce of the next chunk: its number, and whether it is the last.
    fn nonce(&self, is_last: bool) -> Result<[u8; 12], PayloadFault> {
        if self.chunk >= CHUNKS_MAX {
            return Err(PayloadFault::TooManyChunks);
        }
        let [a, b, c, d, e, f, g, h] = self.chunk.to_be_bytes();
        Ok([0, 0, 0, a, b, c, d, e, f, g, h, u8::from(is_last)])
    }

    fn advance(&mut self, is_last: bool) {
        self.chunk = self.chunk.saturating_add(1);
        self.is_over = is_last;
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let mut shown = f.debug_struct(name);
        shown.field("chunk", &self.chunk).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

/// Encrypts a file, chunk by chunk.
pub struct Sealer(Cursor);

impl Sealer {
    /// Starts at the beginning. The caller has drawn `nonce` for this file alone, and writes it behind the header.
    ///
    /// # Errors
    /// [`PayloadFault::Library`].
    pub fn new(file_key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Result<Self, PayloadFault> {
        Self::at_chunk(file_key, nonce, 0)
    }

    /// Starts at a chunk, counted from 0, to resume. The file must be the same as before.
    ///
    /// # Errors
    /// [`PayloadFault::TooManyChunks`] or [`PayloadFault::Library`].
    pub fn at_chunk(
        file_key: &FileKey,
        nonce: &[u8; NONCE_BYTES],
        chunk: u64,
    ) -> Result<Self, PayloadFault> {
        Cursor::new(file_key, nonce, chunk).map(Self)
    }

    /// The position of the next chunk in the payload.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Seals the next chunk in place: `buffer` is its plaintext, and [`TAG_BYTES`] of room behind it.
    ///
    /// # Errors
    /// [`PayloadFault::Length`] unless this is a full chunk, or the last and not longer; [`PayloadFault::EmptyLastChunk`]
    /// if chunks came before; [`PayloadFault::BehindEnd`] if the last chunk was sealed. Then nothing is changed.
    pub fn seal(&mut self, buffer: &mut [u8], is_last: bool) -> Result<(), PayloadFault> {
        if self.0.is_over {
            return Err(PayloadFault::BehindEnd);
        }
        let bytes = buffer.len();
        let is_long_enough = if is_last { bytes >= TAG_BYTES } else { bytes == SEALED_CHUNK_BYTES };
        let (plaintext, tag) = buffer
            .split_last_chunk_mut::<TAG_BYTES>()
            .filter(|_| is_long_enough && bytes <= SEALED_CHUNK_BYTES)
            .ok_or(PayloadFault::Length { bytes })?;
        if plaintext.is_empty() && self.0.chunk > 0 {
            return Err(PayloadFault::EmptyLastChunk);
        }
        *tag = self.0.cipher.seal(self.0.nonce(is_last)?, plaintext)?;
        self.0.advance(is_last);
        Ok(())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f, "Sealer")
    }
}

/// Decrypts a file, chunk by chunk, and knows its end.
pub struct Opener(Cursor);

impl Opener {
    /// Starts at the beginning: `nonce` is what follows the header.
    ///
    /// # Errors
    /// [`PayloadFault::Library`].
    pub fn new(file_key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Result<Self, PayloadFault> {
        Self::at_chunk(file_key, nonce, 0)
    }

    /// Starts at a chunk, counted from 0, to resume.
    ///
    /// # Errors
    /// [`PayloadFault::TooManyChunks`] or [`PayloadFault::Library`].
    pub fn at_chunk(
        file_key: &FileKey,
        nonce: &[u8; NONCE_BYTES],
        chunk: u64,
    ) -> Result<Self, PayloadFault> {
        Cursor::new(file_key, nonce, chunk).map(Self)
    }

    /// The position of the next chunk in the payload.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Whether the last chunk was opened.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over
    }

    /// Opens the next chunk and returns its plaintext, at the front of `out`.
    ///
    /// The caller hands in [`SEALED_CHUNK_BYTES`], or fewer if no more bytes come. `sealed` stays as it is: a chunk that
    /// is full may be the last or not, and the opener has to try both.
    ///
    /// # Errors
    /// [`PayloadFault::BehindEnd`] if the last chunk was opened; [`PayloadFault::Truncated`] if not even a tag is left;
    /// [`PayloadFault::EmptyLastChunk`] and [`PayloadFault::Changed`] if the chunk is none. Then `out` holds nothing of
    /// the file, and the same chunk may be tried again.
    pub fn open<'o>(&mut self, sealed: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], PayloadFault> {
        if self.0.is_over {
            return Err(PayloadFault::BehindEnd);
        }
        let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(PayloadFault::Truncated)?;
        if text.len() > CHUNK_BYTES {
            return Err(PayloadFault::Length { bytes: sealed.len() });
        }
        let out = out.get_mut(..text.len()).ok_or(PayloadFault::NoRoom)?;
        // Most full chunks are not the last.
        let tries: &[bool] = if text.len() == CHUNK_BYTES { &[false, true] } else { &[true] };
        for &is_last in tries {
            if self.0.cipher.open(self.0.nonce(is_last)?, text, tag, out) {
                if text.is_empty() && self.0.chunk > 0 {
                    return Err(PayloadFault::EmptyLastChunk);
                }
                self.0.advance(is_last);
                return Ok(out);
            }
        }
        out.fill(0);
        Err(PayloadFault::Changed { chunk: self.0.chunk })
    }

    /// Ends the file: no more bytes come.
    ///
    /// # Errors
    /// [`PayloadFault::Truncated`] if the last chunk was not among them.
    pub fn finish(&self) -> Result<(), PayloadFault> {
        if self.0.is_over { Ok(()) } else { Err(PayloadFault::Truncated) }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f, "Opener")
    }
}

#[cfg(test)]
mod tests;
