//! Letters: the short messages that two clients send each other, sealed with the keys of their [handshake](crate::pake).
//!
//! A letter is `length u32 BE | ciphertext and tag`. Letters of one side are numbered from 0, and the number is the nonce:
//! a letter that is dropped, repeated, moved or changed does not open. Invariant: a key seals each number once.

use crate::pake::{Keys, Side};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The longest text of a letter.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of a letter beside its text.
pub const OVERHEAD_BYTES: usize = LENGTH_BYTES + TAG_BYTES;
pub(crate) const LENGTH_BYTES: usize = 4;
const TAG_BYTES: usize = 16;

/// Why there is no letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// It is longer than a letter may be.
    #[error("a letter of {bytes} bytes: the longest has {TEXT_BYTES_MAX}")]
    TooLong {
        /// Bytes of its text.
        bytes: usize,
    },
    /// The other side did not write it, or not as the next one.
    #[error("what came is not what the other side sent")]
    Forged,
}

/// Writes the letters of one side.
#[derive(Debug)]
pub struct Writer(Numbered);

/// Reads the letters of the other side.
#[derive(Debug)]
pub struct Reader(Numbered);

#[derive(Debug)]
struct Numbered {
    key: Option<LessSafeKey>,
    next: u64,
}

/// What writes our letters, and what reads the peer's.
#[must_use]
pub fn letters(keys: &Keys) -> (Writer, Reader) {
    let side = keys.side();
    (Writer(Numbered::new(keys, side)), Reader(Numbered::new(keys, side.peer())))
}

impl Numbered {
    fn new(keys: &Keys, side: Side) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*keys.letters(side)).ok();
        Self { key: key.map(LessSafeKey::new), next: 0 }
    }

    /// The key, and the nonce that no other letter of it has.
    fn take(&mut self) -> Result<(&LessSafeKey, Nonce), LetterError> {
        let key = self.key.as_ref().ok_or(LetterError::Forged)?;
        let number = self.next;
        self.next = number.checked_add(1).ok_or(LetterError::Forged)?;
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
        Ok((key, Nonce::assume_unique_for_key(nonce)))
    }
}

impl Writer {
    /// Writes a letter with this text at the end of `out`.
    pub fn write(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), LetterError> {
        let length = match u32::try_from(text.len()) {
            Ok(length) if text.len() <= TEXT_BYTES_MAX => length,
            _ => return Err(LetterError::TooLong { bytes: text.len() }),
        };
        let (key, nonce) = self.0.take()?;
        let mut sealed = text.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(length.to_be_bytes()), &mut sealed)
            .map_err(|_| LetterError::Forged)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&sealed);
        Ok(())
    }
}

impl Reader {
    /// Bytes of the letter that begins with these, if its length has come.
    pub(crate) fn letter_bytes(bytes: &[u8]) -> Result<Option<usize>, LetterError> {
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let text = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if text > TEXT_BYTES_MAX {
            return Err(LetterError::TooLong { bytes: text });
        }
        Ok(Some(OVERHEAD_BYTES + text))
    }

    /// Opens the letter at the front of `bytes`. Returns its text and its bytes; `None` as long as it has not come whole.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, LetterError> {
        let Some(whole) = Self::letter_bytes(bytes)? else { return Ok(None) };
        let Some(letter) = bytes.get(..whole) else { return Ok(None) };
        let (length, sealed) = letter.split_at_checked(LENGTH_BYTES).unwrap_or_default();
        let (key, nonce) = self.0.take()?;
        let mut text = sealed.to_vec();
        let opened = key
            .open_in_place(nonce, Aad::from(length), &mut text)
            .map_err(|_| LetterError::Forged)?
            .len();
        text.truncate(opened);
        Ok(Some((text, whole)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::pake::Handshake;
    use proptest::prelude::*;

    fn keys() -> [Keys; 2] {
        let (sender, of_sender) = Handshake::start(Side::Sender, "guitar-lemon");
        let (receiver, of_receiver) = Handshake::start(Side::Receiver, "guitar-lemon");
        let (sender, receiver) =
            (sender.finish(&of_receiver).unwrap(), receiver.finish(&of_sender).unwrap());
        let proofs = [sender.proof(), receiver.proof()];
        [sender.check(&proofs[1]).unwrap(), receiver.check(&proofs[0]).unwrap()]
    }

    /// The sender's writer and the receiver's reader.
    fn line() -> (Writer, Reader) {
        let [sender, receiver] = keys();
        (letters(&sender).0, letters(&receiver).1)
    }

    #[test]
    fn letters_open_in_their_order() {
        let (mut writer, mut reader) = line();
        let texts: [&[u8]; 4] = [b"", b"one", &[7; TEXT_BYTES_MAX], b"two"];
        let mut sent = Vec::new();
        texts.iter().for_each(|text| writer.write(text, &mut sent).unwrap());
        for text in texts {
            assert_eq!(reader.read(&sent[..3]).unwrap(), None);
            let bytes = OVERHEAD_BYTES + text.len();
            assert_eq!(reader.read(&sent[..bytes - 1]).unwrap(), None);
            assert_eq!(reader.read(&sent).unwrap(), Some((text.to_vec(), bytes)));
            sent.drain(..bytes);
        }
        let long = vec![0; TEXT_BYTES_MAX + 1];
        let error = writer.write(&long, &mut sent).unwrap_err();
        assert_eq!(error, LetterError::TooLong { bytes: long.len() });
    }

    #[test]
    fn a_letter_that_is_dropped_repeated_or_sent_back_does_not_open() {
        let (mut writer, mut reader) = line();
        let write = |writer: &mut Writer| {
            let mut letter = Vec::new();
            writer.write(b"text", &mut letter).unwrap();
            letter
        };
        let (first, second) = (write(&mut writer), write(&mut writer));
        assert_eq!(reader.read(&second), Err(LetterError::Forged), "the first is missing");
        let (mut writer, mut reader) = line();
        let letter = write(&mut writer);
        assert!(reader.read(&letter).unwrap().is_some());
        assert_eq!(reader.read(&letter), Err(LetterError::Forged), "again");
        assert_eq!(line().1.read(&first), Err(LetterError::Forged), "of another handshake");
        let [sender, _] = keys();
        let (mut writer, mut reader) = letters(&sender);
        assert_eq!(reader.read(&write(&mut writer)), Err(LetterError::Forged), "its own");
    }

    #[test]
    fn a_length_from_the_line_allocates_nothing() {
        let mut reader = line().1;
        let huge = u32::MAX.to_be_bytes();
        assert_eq!(reader.read(&huge), Err(LetterError::TooLong { bytes: u32::MAX as usize }));
    }

    proptest! {
        // Each case takes a handshake.
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn a_changed_byte_is_found(at in 0_usize..100, by in 1_u8..) {
            let (mut writer, mut reader) = line();
            let mut letter = Vec::new();
            writer.write(&[9; 100 - OVERHEAD_BYTES], &mut letter).unwrap();
            letter[at] ^= by;
            let read = reader.read(&letter);
            // A length that has grown waits for more, which then does not open.
            prop_assert!(read.is_err() || read == Ok(None), "{:?}", read);
        }
    }
}
