//! File names that strangers send: read from wherever they stand, made harmless, written out.
//!
//! Used for the sender's `Content-Disposition`, a form's part and the path of a `PUT`, and for the
//! receiver's head. What must always hold: a [`FileName`] is a plain name in one directory, not
//! hidden, without control characters, at most [`FILE_NAME_BYTES_MAX`] bytes.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::params::{self, Value};

/// What a file system takes for one name.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// All but `attr-char` of RFC 8187.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A name that may be given to a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileName(String);

impl FileName {
    /// Takes what is harmless of any bytes: what follows the last slash of either kind, without
    /// control characters and leading dots, cut to its limit. `None` if nothing is left.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let base = text.rsplit(['/', '\\']).next()?;
        let mut clean = base.replace(char::is_control, "");
        clean.drain(..clean.len() - clean.trim_start_matches('.').len());
        clean.truncate(clean.floor_char_boundary(FILE_NAME_BYTES_MAX));
        (!clean.is_empty()).then_some(Self(clean))
    }

    /// From the last segment of a path, still percent-encoded.
    #[must_use]
    pub fn from_path_segment(segment: &str) -> Option<Self> {
        Self::from_bytes(&Cow::from(percent_decode(segment.as_bytes())))
    }

    /// From a `Content-Disposition`: `filename*` if it can be read, else `filename` (RFC 6266).
    #[must_use]
    pub fn from_disposition(value: &[u8]) -> Option<Self> {
        let parameter = |name| file_name_parameters(value).find(move |it| it.0 == name);
        let extended = parameter(Parameter::Extended).and_then(|it| decode_extended(it.1.bytes()));
        let plain =
            || parameter(Parameter::Plain).and_then(|it| Self::from_bytes(&undo_escapes(it.1)));
        extended.and_then(|bytes| Self::from_bytes(&bytes)).or_else(plain)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a `Content-Disposition` has a file name that is not empty, harmless or not.
pub(crate) fn names_a_file(disposition: &[u8]) -> bool {
    file_name_parameters(disposition).any(|(_, value)| !value.bytes().is_empty())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Parameter {
    Plain,
    Extended,
}

fn file_name_parameters(disposition: &[u8]) -> impl Iterator<Item = (Parameter, Value<'_>)> {
    params::split(disposition).1.filter_map(|(name, value)| {
        if name.eq_ignore_ascii_case(b"filename") {
            Some((Parameter::Plain, value))
        } else if name.eq_ignore_ascii_case(b"filename*") {
            Some((Parameter::Extended, value))
        } else {
            None
        }
    })
}

/// `UTF-8'language'percent-encoded`; nothing else is told to be understood (RFC 8187).
fn decode_extended(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut pieces = value.splitn(3, |&byte| byte == b'\'');
    let (charset, _language, text) = (pieces.next()?, pieces.next()?, pieces.next()?);
    charset.eq_ignore_ascii_case(b"utf-8").then(|| Cow::from(percent_decode(text)))
}

/// Undoes what clients do to a quote or a line end in a quoted name: browsers and newer curl write
/// `%22`, older curl `\"` and `\\`. Any other backslash is one, as in `C:\a.txt`, and any other
/// percent sign too: no client encodes it.
fn undo_escapes(value: Value<'_>) -> Vec<u8> {
    let mut name = Vec::with_capacity(value.bytes().len());
    let mut rest = value.bytes();
    let escaped = !matches!(value, Value::Bare(_));
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'\\', next @ (b'"' | b'\\'), after @ ..] if escaped => (*next, after),
            [b'%', b'2', b'2', after @ ..] => (b'"', after),
            [b'%', b'0', b'D' | b'd' | b'A' | b'a', after @ ..] => (b'\n', after),
            _ => (byte, after),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// `Content-Disposition` for a receiver: `attachment`, with the name in both forms if there is one.
///
/// curl's `-J` reads only `filename`, and takes escapes for text, so that form has none.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'n>(pub Option<&'n FileName>);

impl Display for Attachment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attachment")?;
        let Some(name) = self.0 else { return Ok(()) };
        f.write_str("; filename=\"")?;
        for byte in name.as_str().bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"._ -".contains(&byte);
            f.write_char(if plain { char::from(byte) } else { '_' })?;
        }
        write!(f, "\"; filename*=UTF-8''{}", utf8_percent_encode(name.as_str(), NOT_ATTR_CHAR))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn disposition(value: &str) -> Option<String> {
        FileName::from_disposition(value.as_bytes()).map(|name| name.0)
    }

    fn bytes(name: &[u8]) -> Option<String> {
        FileName::from_bytes(name).map(|name| name.0)
    }

    #[test]
    fn a_name_is_made_harmless() {
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(bytes(b"report.pdf"), name("report.pdf"));
        assert_eq!(bytes(b"../../etc/passwd"), name("passwd"));
        assert_eq!(bytes(b"C:\\Users\\a b.txt"), name("a b.txt"));
        assert_eq!(bytes(b"a/b\\c"), name("c"));
        assert_eq!(bytes(b"...bashrc"), name("bashrc"));
        assert_eq!(bytes(b"\x01.\x7f.\0a\r\nb\xc2\x85"), name("ab"));
        assert_eq!(bytes(b"\xff\xc3\xa4"), name("\u{fffd}\u{e4}"));
        for nothing in [&b""[..], b"/", b"a/", b"..", b"\\", b"\r\n", b"a/.\0."] {
            assert_eq!(bytes(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = "a".repeat(254) + "\u{e4}\u{e4}";
        assert_eq!(bytes(long.as_bytes()), Some("a".repeat(254)));
        assert_eq!(bytes(&long.as_bytes()[1..]).unwrap().len(), 255);
        assert_eq!(bytes("\u{1f600}".repeat(100).as_bytes()).unwrap().len(), 252);
    }

    #[test]
    fn a_path_segment_is_decoded_first() {
        let path = |text| FileName::from_path_segment(text).map(|name| name.0);
        assert_eq!(path("a%20b.txt").as_deref(), Some("a b.txt"));
        assert_eq!(path("x%2Fy").as_deref(), Some("y"));
        assert_eq!(path("%2e%2E%2f.%2e").as_deref(), None);
        assert_eq!(path("100%").as_deref(), Some("100%"));
        assert_eq!(path("%C3%A4%zz").as_deref(), Some("\u{e4}%zz"));
        assert_eq!(path(""), None);
    }

    #[test]
    fn a_disposition_is_read_as_clients_write_it() {
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(disposition(r#"form-data; name="f"; filename="a b.txt""#), name("a b.txt"));
        assert_eq!(disposition("attachment;FileName=a.txt ; size=3"), name("a.txt"));
        assert_eq!(disposition(r#"x; filename="a\"b\\c.txt""#), name("c.txt"));
        assert_eq!(disposition(r#"x; filename="a\"b;c""#), name("a\"b;c"));
        assert_eq!(disposition(r#"x; filename="a%22b%0D%0A%41.txt""#), name("a\"b%41.txt"));
        assert_eq!(disposition(r#"x; filename="C:\dir\file.txt""#), name("file.txt"));
        assert_eq!(disposition("x; filename=\"\u{e4}.txt\""), name("\u{e4}.txt"));
        assert_eq!(disposition(r#"x; filename="open"#), name("open"));
        let both = "x; filename=\"e.txt\"; filename*=utf-8'en'%c3%a4%2F%20.txt";
        assert_eq!(disposition(both), name(" .txt"));
        let latin = "x; filename*=ISO-8859-1''%e4.txt; filename=a.txt";
        assert_eq!(disposition(latin), name("a.txt"));
        assert_eq!(disposition("x; filename*=UTF-8''..; filename=a.txt"), name("a.txt"));
        for nothing in
            ["", "filename=a", "x; filename=", "x; filename=\"\"", "x; name=\"filename=a\""]
        {
            assert_eq!(disposition(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_file_is_named_even_if_nothing_of_the_name_is_left() {
        assert!(names_a_file(b"form-data; filename=\"..\""));
        assert!(names_a_file(b"form-data; filename*=x"));
        assert!(!names_a_file(b"form-data; filename=\"\"; name=a"));
        assert!(!names_a_file(b"form-data"));
    }

    #[test]
    fn an_attachment_has_the_name_in_both_forms() {
        let of =
            |name: &str| Attachment(FileName::from_bytes(name.as_bytes()).as_ref()).to_string();
        assert_eq!(of(""), "attachment");
        let plain = "attachment; filename=\"a b-c_1.txt\"; filename*=UTF-8''a%20b-c_1.txt";
        assert_eq!(of("a b-c_1.txt"), plain);
        let rough = "attachment; filename=\"____________.x\"; filename*=UTF-8''%22%27%28%29%2A%25%3B%3D%C3%A4%3C~.x";
        assert_eq!(of("\"'()*%;=\u{e4}<~.x"), rough);
    }

    proptest::proptest! {
        #[test]
        fn any_name_comes_out_as_it_is_sent_on(name in "\\PC{1,80}", bytes in ".{0,300}") {
            for name in [name, bytes].into_iter().filter_map(|it| FileName::from_bytes(it.as_bytes())) {
                let text = name.as_str();
                assert!(text.len() <= FILE_NAME_BYTES_MAX && !text.starts_with('.'));
                assert!(!text.contains(|c: char| c.is_control() || c == '/' || c == '\\'));
                let sent = Attachment(Some(&name)).to_string();
                assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
                assert_eq!(FileName::from_disposition(sent.as_bytes()), Some(name.clone()));
                assert_eq!(FileName::from_bytes(text.as_bytes()), Some(name));
            }
        }
    }
}
