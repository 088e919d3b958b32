//! File names that strangers send: read from a field or a path, made harmless, written out.
//!
//! The routes read the sender's `Content-Disposition`, a form's part or the path of a `PUT`; the
//! receiver's head is written with the result. Invariant: a [`FileName`] is a plain name in one
//! directory of any system, not hidden, without invisible characters, at most [`FILE_NAME_BYTES_MAX`]
//! bytes.

mod harmless;

use std::borrow::Cow;
use std::fmt::{self, Display};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use super::params::{self, Value};
pub use harmless::is_invisible;
use harmless::{clean, without_escapes};

/// The longest name that common file systems take.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The most pieces of one name that are joined (RFC 2231, section 3). A piece holds some 60 bytes, so
/// together they hold more than the longest name, even if each byte is written as three.
const SECTIONS_MAX: usize = 64;

/// All characters but `attr-char` of RFC 8187.
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
    /// Makes a harmless name of any bytes. Takes what follows the last slash of either kind, leaves out
    /// invisible characters, and dots and white space at both ends, writes `_` for what Windows does
    /// not allow, and cuts a long name. Some clients percent-decode a name once too often: a name that
    /// would then be harmful loses its escapes. Returns `None` if nothing is left.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let name = clean(bytes)?;
        let mut decoded = name.clone();
        while let Cow::Owned(bytes) = percent_decode(decoded.as_bytes()).into() {
            match clean(&bytes).filter(|clean| clean.as_bytes() == bytes) {
                Some(clean) => decoded = clean,
                None => return Some(Self(without_escapes(&name))),
            }
        }
        Some(Self(name))
    }

    /// Reads the last segment of a path, still percent-encoded.
    #[must_use]
    pub fn from_path_segment(segment: &str) -> Option<Self> {
        Self::from_bytes(&Cow::from(percent_decode(segment.as_bytes())))
    }

    /// Reads a `Content-Disposition`: `filename*` if that is well-formed (RFC 6266), else `filename*0` and
    /// the pieces after it, else `filename`.
    #[must_use]
    pub fn from_disposition(value: &[u8]) -> Option<Self> {
        let parameter = |name| file_name_parameters(value).find(move |it| it.0 == name);
        let extended = || decode_extended(parameter(Parameter::Extended)?.1.bytes());
        let plain = || parameter(Parameter::Plain).map(|it| undo_escapes(it.1));
        let harmless = |bytes: Vec<u8>| Self::from_bytes(&bytes);
        let extended = extended().and_then(|bytes| Self::from_bytes(&bytes));
        extended
            .or_else(|| join_sections(value).and_then(harmless))
            .or_else(|| plain().and_then(harmless))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a `Content-Disposition` has a file name that is not empty, harmless or not.
pub(crate) fn names_a_file(disposition: &[u8]) -> bool {
    file_name_parameters(disposition).any(|(parameter, value)| {
        let has_charset = matches!(parameter, Parameter::Extended | Parameter::Section(0, true));
        let text = value.bytes().splitn(3, |&byte| has_charset && byte == b'\'').last();
        text.is_some_and(|text| !text.is_empty())
    })
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Parameter {
    Plain,
    Extended,
    /// A piece of a name: its number, and whether it is written as an extended value is.
    Section(usize, bool),
}

impl Parameter {
    fn of(name: &[u8]) -> Option<Self> {
        let (first, rest) = name.split_at_checked(b"filename".len())?;
        if !first.eq_ignore_ascii_case(b"filename") {
            return None;
        }
        match rest {
            b"" => Some(Self::Plain),
            b"*" => Some(Self::Extended),
            _ => {
                let number = rest.strip_prefix(b"*")?;
                let (number, extended) = match number.strip_suffix(b"*") {
                    Some(number) => (number, true),
                    None => (number, false),
                };
                let is_number = number.iter().all(u8::is_ascii_digit)
                    && (number == b"0" || !number.starts_with(b"0"));
                let number = is_number.then(|| str::from_utf8(number).ok()?.parse().ok());
                number.flatten().map(|number| Self::Section(number, extended))
            }
        }
    }
}

fn file_name_parameters(disposition: &[u8]) -> impl Iterator<Item = (Parameter, Value<'_>)> {
    params::split(disposition).1.filter_map(|(name, value)| Some((Parameter::of(name)?, value)))
}

/// Joins the pieces of a name, which may come in any order. The first names the character set of the
/// extended ones. Returns `None` if that is not UTF-8, or if there is no first piece.
fn join_sections(disposition: &[u8]) -> Option<Vec<u8>> {
    let mut sections = [None; SECTIONS_MAX];
    for (parameter, value) in file_name_parameters(disposition) {
        if let Parameter::Section(number, extended) = parameter
            && let Some(section) = sections.get_mut(number)
        {
            section.get_or_insert((extended, value));
        }
    }
    let mut name = Vec::new();
    for (number, &section) in sections.iter().enumerate() {
        match section {
            None if number == 0 => return None,
            None => break,
            Some((true, value)) if number == 0 => {
                name.extend_from_slice(&decode_extended(value.bytes())?);
            }
            Some((true, value)) => name.extend(percent_decode(value.bytes())),
            Some((false, value)) => name.extend_from_slice(&undo_escapes(value)),
        }
    }
    Some(name)
}

/// Decodes `UTF-8'language'percent-encoded` (RFC 8187). Some senders write `US-ASCII`, which is a subset;
/// no other character set is read.
fn decode_extended(value: &[u8]) -> Option<Vec<u8>> {
    let mut pieces = value.splitn(3, |&byte| byte == b'\'');
    let (charset, _language, text) = (pieces.next()?, pieces.next()?, pieces.next()?);
    let is_read = [&b"utf-8"[..], b"us-ascii"].iter().any(|it| charset.eq_ignore_ascii_case(it));
    is_read.then(|| percent_decode(text).collect())
}

/// Undoes what clients do to a quote or a line end in a quoted name: browsers and newer curl write
/// `%22`, older curl `\"` and `\\`. Any other backslash stays, as in `C:\a.txt`, and so does any other
/// percent sign: no client encodes it.
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
/// `filename` is for curl: its `-J` reads no other form and saves the bytes as they are, so it has the
/// name in UTF-8, as file systems have it. Browsers, wget and others prefer `filename*` (RFC 6266,
/// section 4.3). Some decode escapes in `filename`, so that form has none (appendix D). A [`FileName`]
/// has no quote, backslash or control character.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'n>(pub Option<&'n FileName>);

impl Display for Attachment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attachment")?;
        let Some(name) = self.0 else { return Ok(()) };
        let (plain, extended) =
            (without_escapes(name.as_str()), utf8_percent_encode(name.as_str(), NOT_ATTR_CHAR));
        write!(f, "; filename=\"{plain}\"; filename*=UTF-8''{extended}")
    }
}

#[cfg(test)]
mod tests;
