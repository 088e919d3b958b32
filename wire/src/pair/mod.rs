//! How two clients ask to be paired over bare TCP: two dialects beside HTTP, on the same port.
//!
//! The worker asks [`Dialect::of`] about the first byte of a connection, and then the dialect's own
//! parser about all it has read. Invariant: the first byte decides alone, and no outcome depends on
//! how the bytes were cut.

pub mod tlv;
pub mod transit;

use tlv::MessageType;

/// A language other than HTTP in which a client asks to be paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The line of Magic Wormhole's transit relay.
    Transit,
    /// Messages of type, length and value.
    Tlv,
}

impl Dialect {
    /// The dialect of a connection that begins with `first`; `None` for HTTP, for TLS, and for all else.
    ///
    /// A token may begin with `p`, and so may a method (RFC 9110, section 9.1). Methods are
    /// case-sensitive, and no registered method is in small letters, so transit takes no request that the
    /// relay could serve.
    #[must_use]
    pub fn of(first: u8) -> Option<Self> {
        match first {
            b'p' => Some(Self::Transit),
            _ => MessageType::of(first).filter(|it| it.is_request()).map(|_| Self::Tlv),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::is_token_byte;

    /// The content type of a TLS record that holds a handshake (RFC 8446, section 5.1).
    const TLS_HANDSHAKE: u8 = 0x16;

    #[test]
    fn the_first_byte_tells_the_dialect() {
        for first in 0..=u8::MAX {
            let expected = match first {
                b'p' => Some(Dialect::Transit),
                0x01 | 0x02 => Some(Dialect::Tlv),
                _ => None,
            };
            assert_eq!(Dialect::of(first), expected, "{first:#04x}");
        }
    }

    #[test]
    fn a_byte_that_may_begin_http_or_tls_begins_no_dialect() {
        // A request begins with a method, or with empty lines before it (RFC 9112, section 2.2).
        let begins_http = |byte: u8| is_token_byte(byte) || b"\r\n".contains(&byte);
        for first in (0..=u8::MAX).filter(|&it| begins_http(it) || it == TLS_HANDSHAKE) {
            assert!(first == b'p' || Dialect::of(first).is_none(), "{first:#04x}");
        }
    }

    #[test]
    fn each_dialect_reads_what_begins_with_its_byte() {
        for first in 0..=u8::MAX {
            let transit = transit::handshake(&[first]).is_ok();
            assert_eq!(transit, Dialect::of(first) == Some(Dialect::Transit));
            let tlv = tlv::Request::parse(&[first]).is_ok();
            assert_eq!(tlv, Dialect::of(first) == Some(Dialect::Tlv));
        }
    }
}
