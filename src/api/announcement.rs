//! The announcement: what the sender's side tells the receiver's side before the first chunk, and its bytes in shared
//! memory. `relay` writes and reads it. It is data from another process, so `decode` refuses what `encode` cannot
//! have written.
//!
//! Layout: flags (1 byte: 1 = length known, 2 = receipt `sent`, 4 = has a type, 8 = has a name, 16 = has an encoding,
//! 32 = is a file); then length, offset in the file, tag of the file and digest of the sender's network (8 bytes
//! each, little-endian); then the lengths of name and encoding (a byte each), name and encoding. The rest is the
//! type.

use crate::config::Receipt;
use crate::http::{ENCODING_BYTES_MAX, FILE_NAME_BYTES_MAX, FileName, is_encoding, is_media_type};
use crate::session::FileTag;
use shm::ANNOUNCEMENT_BYTES_MAX;

const LENGTH_KNOWN: u8 = 1;
const RECEIPT_SENT: u8 = 2;
const HAS_TYPE: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_ENCODING: u8 = 16;
const IS_FILE: u8 = 32;

/// The longest media type that is passed on: the room beside the longest name and encoding. RFC 6838 section 4.2
/// allows 127 bytes for each half of the type's name. A longer type is left out, and the receiver is told
/// `application/octet-stream`.
const TYPE_BYTES_MAX: usize =
    ANNOUNCEMENT_BYTES_MAX - FIXED_BYTES - FILE_NAME_BYTES_MAX - ENCODING_BYTES_MAX;

/// Bytes before the name.
const FIXED_BYTES: usize = 1 + 4 * 8 + 1 + 1;

/// The bytes to come, as the receiver is told of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The number of bytes, if the sender stated it.
    pub length: Option<u64>,
    /// The file whose end they are.
    pub file: Option<AnnouncedFile>,
    /// The sender's `Content-Type`, a media type.
    pub content_type: Option<Vec<u8>>,
    /// The sender's `Content-Encoding`, a list of codings.
    pub encoding: Option<Vec<u8>>,
    /// The file's name.
    pub name: Option<FileName>,
    /// The receipt level that the sender's final answer waits for.
    pub receipt: Receipt,
}

/// A file of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedFile {
    /// Bytes of the whole file.
    pub total: u64,
    /// The file's tag.
    pub tag: FileTag,
}

/// The part of a file of known length that is to come: from an offset to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncedFile {
    /// The offset: the bytes before it are left out.
    pub from: u64,
    /// The file's tag.
    pub tag: FileTag,
    /// The digest of the sender's network.
    pub sender: u64,
}

impl Announcement {
    /// The bytes for shared memory.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let content_type = self.content_type.as_deref();
        let content_type = content_type.filter(|bytes| bytes.len() <= TYPE_BYTES_MAX);
        let name = self.name.as_ref().map(|name| name.as_str().as_bytes());
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut bytes = vec![
            flag(self.length.is_some(), LENGTH_KNOWN)
                | flag(self.receipt == Receipt::Sent, RECEIPT_SENT)
                | flag(content_type.is_some(), HAS_TYPE)
                | flag(name.is_some(), HAS_NAME)
                | flag(self.encoding.is_some(), HAS_ENCODING)
                | flag(self.file.is_some(), IS_FILE),
        ];
        let file = self.file.map(|file| [file.from, file.tag.to_word(), file.sender]);
        let [from, tag, sender] = file.unwrap_or_default();
        for number in [self.length.unwrap_or(0), from, tag, sender] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let (content_type, name) = (content_type.unwrap_or_default(), name.unwrap_or_default());
        let encoding = self.encoding.as_deref().unwrap_or_default();
        // A name has 255 bytes at most, and an encoding fewer.
        for text in [name, encoding] {
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        }
        for text in [name, encoding] {
            bytes.extend_from_slice(text.get(..usize::from(u8::MAX)).unwrap_or(text));
        }
        bytes.extend_from_slice(content_type);
        bytes
    }

    /// The file whose end the bytes to come are.
    #[must_use]
    pub fn whole(&self) -> Option<OfferedFile> {
        let (file, length) = (self.file?, self.length?);
        Some(OfferedFile { total: file.from.checked_add(length)?, tag: file.tag })
    }

    /// Reads what `encode` wrote. `None` where shared memory holds something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[flags], rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (tag, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let (&[name_bytes, encoding_bytes], rest) = rest.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(name_bytes))?;
        let (encoding, content_type) = rest.split_at_checked(usize::from(encoding_bytes))?;
        let content_type = content_type.get(..TYPE_BYTES_MAX).unwrap_or(content_type);
        let has_type = flags & HAS_TYPE != 0 && is_media_type(content_type);
        let has_encoding = flags & HAS_ENCODING != 0;
        // A body without its encoding is another body.
        if has_encoding && !is_encoding(encoding) {
            return None;
        }
        let length = (flags & LENGTH_KNOWN != 0).then_some(u64::from_le_bytes(*length));
        let from = u64::from_le_bytes(*from);
        let tag = FileTag::from_word(u64::from_le_bytes(*tag));
        let sender = u64::from_le_bytes(*sender);
        let file = (flags & IS_FILE != 0).then_some(AnnouncedFile { from, tag, sender });
        // A file has a known length, and its total fits a counter.
        if file.is_some() && length.and_then(|length| length.checked_add(from)).is_none() {
            return None;
        }
        Some(Self {
            length,
            file,
            content_type: has_type.then(|| content_type.to_vec()),
            encoding: has_encoding.then(|| encoding.to_vec()),
            name: if flags & HAS_NAME != 0 { FileName::from_bytes(name) } else { None },
            receipt: if flags & RECEIPT_SENT != 0 { Receipt::Sent } else { Receipt::Acked },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_announced_is_read() {
        for length in [None, Some(0), Some(u64::MAX)] {
            let announcement = Announcement {
                length,
                file: length.map(|length| AnnouncedFile {
                    from: u64::MAX - length,
                    tag: FileTag::from_word(7),
                    sender: u64::MAX,
                }),
                content_type: Some("text/plain;\tcharset=utf-8; title=\"a b\"".into()),
                encoding: length.map(|_| b"br, gzip".to_vec()),
                name: FileName::from_bytes("žluťoučký kůň.txt".as_bytes()),
                receipt: Receipt::Sent,
            };
            assert_eq!(Announcement::decode(&announcement.encode()), Some(announcement));
        }
    }

    #[test]
    fn the_longest_of_each_fits() {
        let announcement = Announcement {
            length: Some(1),
            file: None,
            content_type: Some(b"a/".iter().chain(&[b'a'; TYPE_BYTES_MAX - 2]).copied().collect()),
            encoding: Some(vec![b'a'; ENCODING_BYTES_MAX]),
            name: FileName::from_bytes(&[b'a'; FILE_NAME_BYTES_MAX]),
            receipt: Receipt::Acked,
        };
        let bytes = announcement.encode();
        assert_eq!(bytes.len(), ANNOUNCEMENT_BYTES_MAX);
        assert_eq!(Announcement::decode(&bytes), Some(announcement));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(read) = Announcement::decode(&bytes) {
                prop_assert_eq!(Announcement::decode(&read.encode()), Some(read));
            }
        }
    }
}
