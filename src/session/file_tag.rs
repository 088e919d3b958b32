//! The tag of the file that a session passes on, as `ETag` says it: a digest under the segment's secret.
//!
//! All attempts of a session that send the same file have the same tag, whichever worker serves them. The tag
//! depends on the file's length and on what its sender says about it: a tag or a digest, or else the name.

use super::SessionKey;
use std::fmt;

/// Sets these digests apart from everything else that is made with the same secret.
const PURPOSE: &[u8] = b"file";

/// A file's tag. As `ETag` it is written as 16 hexadecimal digits in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTag(u64);

/// The way in which a sender identifies its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileIdentity<'r> {
    /// The name alone, if it has one.
    Name(Option<&'r str>),
    /// The file's `ETag`.
    Tag(&'r [u8]),
    /// The SHA-256 of its `Repr-Digest`, in base64.
    Sha256(&'r [u8]),
}

impl FileTag {
    /// The tag of a file of `total` bytes in the session that `key` is good for.
    #[must_use]
    pub fn of(
        secret: &[u8; blake3::KEY_LEN],
        key: &SessionKey,
        total: u64,
        identity: FileIdentity<'_>,
    ) -> Self {
        Self::new(secret, &key.digest(), total, identity)
    }

    fn new(
        secret: &[u8; blake3::KEY_LEN],
        key: &shm::Digest,
        total: u64,
        identity: FileIdentity<'_>,
    ) -> Self {
        let (kind, text): (u8, &[u8]) = match identity {
            FileIdentity::Name(None) => (b'-', &[]),
            FileIdentity::Name(Some(name)) => (b'n', name.as_bytes()),
            FileIdentity::Tag(tag) => (b't', tag),
            FileIdentity::Sha256(digest) => (b'd', digest),
        };
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(PURPOSE).update(key).update(&total.to_le_bytes()).update(&[kind]);
        let digest = hasher.update(text).finalize();
        Self(digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The tag that shared memory has as `word`.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word for shared memory.
    #[must_use]
    pub fn to_word(self) -> u64 {
        self.0
    }

    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(field: &[u8]) -> Option<Self> {
        let digits = field.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_tag = digits.len() == 16 && digits.iter().all(is_digit);
        let digits = str::from_utf8(digits).ok().filter(|_| is_tag)?;
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for FileTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:016x}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_one_files_in_one_session() {
        let tag = |secret, key, total, identity| {
            FileTag::new(&[secret; 32], &[key; 32], total, identity).to_word()
        };
        let name = FileIdentity::Name(Some("a"));
        assert_eq!(tag(1, 1, 1, name), tag(1, 1, 1, name));
        let mut tags = vec![
            tag(1, 1, 1, name),
            tag(2, 1, 1, name),
            tag(1, 2, 1, name),
            tag(1, 1, 2, name),
            tag(1, 1, 1, FileIdentity::Name(Some("b"))),
            tag(1, 1, 1, FileIdentity::Name(None)),
            tag(1, 1, 1, FileIdentity::Tag(b"a")),
            tag(1, 1, 1, FileIdentity::Sha256(b"a")),
        ];
        let count = tags.len();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), count);
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for tag in [FileTag(0), FileTag(0xabc), FileTag(u64::MAX)] {
            assert_eq!(FileTag::parse(tag.to_string().as_bytes()), Some(tag));
        }
        for other in [
            "",
            "\"\"",
            "*",
            "0000000000000abc",
            "\"0000000000000ABC\"",
            "\"000000000000abc\"",
            "W/\"0000000000000abc\"",
            "\"+000000000000abc\"",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(FileTag::parse(other.as_bytes()), None, "{other}");
        }
    }
}
