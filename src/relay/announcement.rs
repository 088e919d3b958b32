//! What a sender tells its receiver before the first chunk, and how it lies in shared memory.
//!
//! Layout: flags (1 byte: 1 = length known, 2 = receipt `sent`, 4 = has a type, 8 = has a name),
//! length (8 bytes, little-endian), name length (1 byte), name; the rest is the type.

use crate::config::Receipt;
use crate::http::{FILE_NAME_BYTES_MAX, FileName, is_value_byte};
use shm::ANNOUNCEMENT_BYTES_MAX;

const LENGTH_KNOWN: u8 = 1;
const RECEIPT_SENT: u8 = 2;
const HAS_TYPE: u8 = 4;
const HAS_NAME: u8 = 8;

/// Bytes of a media type that are passed on: what there is room for beside the longest name. RFC 6838
/// section 4.2 allows 127 for each half of the type's name. What is longer is left out, and the receiver
/// is told `application/octet-stream`.
const TYPE_BYTES_MAX: usize = ANNOUNCEMENT_BYTES_MAX - FIXED_BYTES - FILE_NAME_BYTES_MAX;

/// Bytes before the name.
const FIXED_BYTES: usize = 1 + 8 + 1;

/// What a receiver is told of the bytes to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// How many bytes, where that is known beforehand.
    pub length: Option<u64>,
    /// The sender's `Content-Type`.
    pub content_type: Option<Vec<u8>>,
    /// The file's name.
    pub name: Option<FileName>,
    /// What the sender's final answer waits for.
    pub receipt: Receipt,
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
                | flag(name.is_some(), HAS_NAME),
        ];
        bytes.extend_from_slice(&self.length.unwrap_or(0).to_le_bytes());
        let (content_type, name) = (content_type.unwrap_or_default(), name.unwrap_or_default());
        // A name has 255 bytes at most.
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name.get(..usize::from(u8::MAX)).unwrap_or(name));
        bytes.extend_from_slice(content_type);
        bytes
    }

    /// Reads what `encode` wrote. `None` where shared memory holds something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[flags], rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (&[name_bytes], rest) = rest.split_first_chunk()?;
        let (name, content_type) = rest.split_at_checked(usize::from(name_bytes))?;
        let content_type = content_type.get(..TYPE_BYTES_MAX).unwrap_or(content_type);
        let printable = content_type.iter().all(|byte| is_value_byte(*byte));
        Some(Self {
            length: (flags & LENGTH_KNOWN != 0).then_some(u64::from_le_bytes(*length)),
            content_type: (flags & HAS_TYPE != 0 && printable).then(|| content_type.to_vec()),
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
                content_type: Some("text/plain;\tcharset=utf-8; title=\"žluť\"".into()),
                name: FileName::from_bytes("žluťoučký kůň.txt".as_bytes()),
                receipt: Receipt::Sent,
            };
            assert_eq!(Announcement::decode(&announcement.encode()), Some(announcement));
        }
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
