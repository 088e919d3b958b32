//! The ways in which a key, a header or a payload can be wrong.
//!
//! `send` and `receive` show them to their user. No text holds a byte of a file or of a key.

use core::fmt;

use super::crypto::LibraryFailed;

/// The reason why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// The text is not Bech32, or its checksum is wrong: a character was changed or lost.
    Checksum,
    /// The text is Bech32 of something else, or has letters in the wrong case.
    OtherKind,
    /// The cryptographic library failed.
    Library,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("the key is mistyped or cut: its checksum is wrong"),
            Self::OtherKind => f.write_str("this is a key of another kind"),
            Self::Library => LibraryFailed.fmt(f),
        }
    }
}

impl std::error::Error for KeyFault {}

impl From<LibraryFailed> for KeyFault {
    fn from(_: LibraryFailed) -> Self {
        Self::Library
    }
}

/// The reason why bytes are no header, or why a header does not open or cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// The file does not begin as age v1 does.
    Version,
    /// The header has more than [`super::HEADER_BYTES_MAX`] bytes.
    HeaderTooLong,
    /// A stanza has more than [`super::STANZA_BYTES_MAX`] bytes.
    StanzaTooLong,
    /// The header has more than [`super::STANZAS_MAX`] stanzas.
    TooManyStanzas,
    /// A line begins neither a stanza nor the MAC, or its words are empty or not visible ASCII.
    Line,
    /// The body of a stanza is not base64 in lines of 64 characters.
    Body,
    /// The line of the MAC holds no MAC, or comes before any stanza.
    MacLine,
    /// A stanza of the type X25519 holds no share, or no wrapped file key.
    X25519,
    /// A public key is weak: everybody could compute what it agrees on.
    WeakKey,
    /// No stanza opens with this identity: the file is for somebody else.
    NoMatch,
    /// The header was changed: its MAC is wrong.
    Mac,
    /// The cryptographic library failed.
    Library,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "not a binary age v1 file",
            Self::HeaderTooLong => "the header is too long",
            Self::StanzaTooLong => "a stanza of the header is too long",
            Self::TooManyStanzas => "the header has too many stanzas",
            Self::Line => "a line of the header is malformed",
            Self::Body => "the body of a stanza is malformed",
            Self::MacLine => "the line of the header's MAC is malformed",
            Self::X25519 => "a stanza of the type X25519 is malformed",
            Self::WeakKey => "a public key is weak",
            Self::NoMatch => "the file is not encrypted for this identity",
            Self::Mac => "the header was changed",
            Self::Library => return LibraryFailed.fmt(f),
        })
    }
}

impl std::error::Error for HeaderFault {}

impl From<LibraryFailed> for HeaderFault {
    fn from(_: LibraryFailed) -> Self {
        Self::Library
    }
}

/// The reason why a chunk of a payload cannot be sealed or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFault {
    /// Only the last chunk may have another length than a full chunk, and no chunk may be longer.
    Length {
        /// Bytes of the buffer.
        bytes: usize,
    },
    /// Only a payload without any plaintext may end in an empty chunk.
    EmptyLastChunk,
    /// The last chunk was there, and more came.
    BehindEnd,
    /// The payload ends before its last chunk.
    Truncated,
    /// A chunk was changed, moved, or cut, or it is another file's.
    Changed {
        /// The number of the chunk, counted from 0.
        chunk: u64,
    },
    /// The buffer for the plaintext is too short.
    NoRoom,
    /// No payload has so many chunks.
    TooManyChunks,
    /// The cryptographic library failed.
    Library,
}

impl fmt::Display for PayloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => write!(f, "no chunk at this place has {bytes} bytes"),
            Self::EmptyLastChunk => f.write_str("the last chunk is empty"),
            Self::BehindEnd => f.write_str("there is data behind the end of the file"),
            Self::Truncated => f.write_str("the end of the file is missing"),
            Self::Changed { chunk } => write!(f, "chunk {chunk} of the file was changed or cut"),
            Self::NoRoom => f.write_str("the buffer for the plaintext is too short"),
            Self::TooManyChunks => f.write_str("the file is too long"),
            Self::Library => LibraryFailed.fmt(f),
        }
    }
}

impl std::error::Error for PayloadFault {}

impl From<LibraryFailed> for PayloadFault {
    fn from(_: LibraryFailed) -> Self {
        Self::Library
    }
}
