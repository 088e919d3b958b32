//! The ways in which bytes can fail to be a message.
//!
//! The worker tells a client with `ERROR`, and a client tells its user.

use core::fmt;

use super::{MessageType, VALUE_BYTES_MAX};

/// The reason why bytes are no message, or why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No type has this number.
    UnknownType {
        /// The first byte.
        byte: u8,
    },
    /// A client said what only the relay says, or the reverse.
    WrongDirection {
        /// The type that was said.
        kind: MessageType,
    },
    /// No message has so long a value.
    TooLong {
        /// The length in the header, or of the value that was to be written.
        value_bytes: u32,
    },
    /// A message of this type cannot have a value of this length.
    WrongLength {
        /// The type in the header.
        kind: MessageType,
        /// The length in the header.
        value_bytes: u32,
    },
    /// The code is not visible ASCII, or the text of an error is not UTF-8.
    NotText {
        /// The type in the header.
        kind: MessageType,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownType { byte } => write!(f, "no message has the type {byte:#04x}"),
            Self::WrongDirection { kind } if kind.is_request() => {
                write!(f, "only a client says {kind}")
            }
            Self::WrongDirection { kind } => write!(f, "only a relay says {kind}"),
            Self::TooLong { value_bytes } => {
                write!(f, "a value of {value_bytes} bytes: the longest has {VALUE_BYTES_MAX}")
            }
            Self::WrongLength { kind, value_bytes } => {
                write!(f, "{kind} cannot have a value of {value_bytes} bytes")
            }
            Self::NotText { kind: kind @ MessageType::Error } => {
                write!(f, "the text of {kind} is not UTF-8")
            }
            Self::NotText { kind } => write!(f, "the code of {kind} is not visible ASCII"),
        }
    }
}

impl std::error::Error for Fault {}
