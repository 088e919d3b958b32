//! The grammar of chunk extensions (RFC 9112, section 7.1.1): `;name`, `;name=token` or
//! `;name="text"`, with white space around `;` and `=`.
//!
//! The decoder calls this with each byte between a chunk's size and the end of its line.

use crate::http::Fault;
use crate::http::grammar::{is_token_byte, is_value_byte};

/// The state, named after what was read last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extension {
    Semicolon,
    Name,
    SpaceBehindName,
    Equals,
    Token,
    Quoted { escaped: bool },
    ClosingQuote,
    SpaceBehindValue,
}

impl Extension {
    /// Reads the next byte. Returns `None` for the carriage return that ends the line.
    pub(super) fn step(self, byte: u8) -> Result<Option<Self>, Fault> {
        if byte == b'\r' {
            return match self {
                Self::Name | Self::Token | Self::ClosingQuote => Ok(None),
                _ => Err(Fault::ChunkExtensionMalformed),
            };
        }
        if !is_value_byte(byte) {
            return Err(Fault::ChunkExtensionControl);
        }
        self.next(byte).map(Some).ok_or(Fault::ChunkExtensionMalformed)
    }

    fn next(self, byte: u8) -> Option<Self> {
        let is_space = matches!(byte, b' ' | b'\t');
        let is_token = is_token_byte(byte);
        Some(match self {
            Self::Semicolon if is_space => self,
            Self::Semicolon | Self::Name if is_token => Self::Name,
            Self::Name | Self::SpaceBehindName if is_space => Self::SpaceBehindName,
            Self::Name | Self::SpaceBehindName if byte == b'=' => Self::Equals,
            Self::Equals if is_space => self,
            Self::Equals if byte == b'"' => Self::Quoted { escaped: false },
            Self::Equals | Self::Token if is_token => Self::Token,
            Self::Quoted { escaped: false } if byte == b'"' => Self::ClosingQuote,
            Self::Quoted { escaped } => Self::Quoted { escaped: byte == b'\\' && !escaped },
            Self::Token | Self::ClosingQuote | Self::SpaceBehindValue if is_space => {
                Self::SpaceBehindValue
            }
            Self::Name
            | Self::SpaceBehindName
            | Self::Token
            | Self::ClosingQuote
            | Self::SpaceBehindValue
                if byte == b';' =>
            {
                Self::Semicolon
            }
            _ => return None,
        })
    }
}
