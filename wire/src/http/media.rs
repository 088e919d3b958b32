//! `Content-Type` and `Content-Encoding` as they are relayed.
//!
//! The routes check them in a sender's request, and the receiver's side checks them again when the
//! announcement comes out of shared memory. Invariant: a receiver gets no value that its browser may
//! understand differently from the relay.

use super::grammar::is_token_byte;

/// Bytes of a `Content-Encoding` that are relayed: room for several codings.
pub const ENCODING_BYTES_MAX: usize = 64;

/// Whether this is a media type: `type/subtype`, with or without parameters, in ASCII. The receiver
/// judges the parameters.
#[must_use]
pub fn is_media_type(value: &[u8]) -> bool {
    let mut pieces = value.splitn(2, |&byte| byte == b';');
    let name = pieces.next().unwrap_or_default().trim_ascii_end();
    let mut halves = name.split(|&byte| byte == b'/');
    let is_half = |half: Option<&[u8]>| half.is_some_and(is_token);
    let is_name = is_half(halves.next()) && is_half(halves.next()) && halves.next().is_none();
    is_name && is_plain(value)
}

/// Whether this is a list of content codings (RFC 9110, section 8.4) of a length that is relayed.
#[must_use]
pub fn is_encoding(value: &[u8]) -> bool {
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    value.len() <= ENCODING_BYTES_MAX && codings.all(is_token) && is_plain(value)
}

/// Whether this is ASCII without control characters; what passes for white space may hold some.
fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_two_tokens_and_is_ascii() {
        for good in [
            "text/plain",
            "Text/Plain;charset=utf-8",
            "text/plain ; title=\"a b\";\tx",
            "application/vnd.a-b+c",
            "multipart/form-data; boundary=a:b",
            "a/b;",
        ] {
            assert!(is_media_type(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain/x",
            "text /plain",
            "text/pl ain",
            "text/plain, text/html",
            "t\u{e4}xt/plain",
            "text/plain; title=\u{e4}",
            "text/plain; a=\x01",
            "text/plain\x0c; a=b",
            "text/plain\n",
            ";charset=utf-8",
            "text/pl(ain",
        ] {
            assert!(!is_media_type(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn an_encoding_is_a_short_list_of_tokens() {
        let long = "a".repeat(ENCODING_BYTES_MAX);
        for good in ["gzip", "br, gzip", "x-own,zstd", "identity", &long] {
            assert!(is_encoding(good.as_bytes()), "{good:?}");
        }
        let longer = "a".repeat(ENCODING_BYTES_MAX + 1);
        for bad in [
            "", ",", "gzip,", "gzip;q=1", "gzip br", "\u{e4}", "g\tz", "\x0cgzip", "gzip\n",
            &longer,
        ] {
            assert!(!is_encoding(bad.as_bytes()), "{bad:?}");
        }
    }
}
