//! The parameters of `Content-Type` and `Content-Disposition`: `; name=value; name="value"`.
//!
//! `filename` and `multipart` read them. The reader is lenient, since clients differ in how they write
//! parameters: it skips what is no parameter, and the callers judge the values. Invariant: each byte
//! is read once or twice, whatever the text.

/// The value of a parameter, as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Value<'b> {
    /// A bare value: up to the next `;`, without white space around it.
    Bare(&'b [u8]),
    /// The text between the quotes, with its escapes.
    Quoted(&'b [u8]),
    /// A quote was opened and never closed.
    Unclosed(&'b [u8]),
}

impl<'b> Value<'b> {
    /// The bytes, whatever the form.
    pub(crate) fn bytes(self) -> &'b [u8] {
        match self {
            Self::Bare(bytes) | Self::Quoted(bytes) | Self::Unclosed(bytes) => bytes,
        }
    }
}

/// Walks over the parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Params<'b> {
    rest: &'b [u8],
}

/// Splits a field value into what comes before the first `;`, and the parameters.
pub(crate) fn split(value: &[u8]) -> (&[u8], Params<'_>) {
    let (first, rest) = split_at_byte(value, b';');
    (first.trim_ascii(), Params { rest })
}

impl<'b> Iterator for Params<'b> {
    type Item = (&'b [u8], Value<'b>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let ends = memchr::memchr2(b'=', b';', self.rest).unwrap_or(self.rest.len());
            let (name, after) = self.rest.split_at_checked(ends)?;
            let Some(after) = after.strip_prefix(b"=") else {
                self.rest = after.get(1..).unwrap_or_default();
                continue;
            };
            let (value, rest) = value(after.trim_ascii_start());
            self.rest = rest;
            return Some((name.trim_ascii(), value));
        }
        None
    }
}

fn value(text: &[u8]) -> (Value<'_>, &[u8]) {
    let Some(inside) = text.strip_prefix(b"\"") else {
        let (bare, rest) = split_at_byte(text, b';');
        return (Value::Bare(bare.trim_ascii()), rest);
    };
    let Some((quoted, after)) = closing_quote(inside).and_then(|at| inside.split_at_checked(at))
    else {
        return (Value::Unclosed(inside), &[]);
    };
    (Value::Quoted(quoted), split_at_byte(after, b';').1)
}

fn closing_quote(inside: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inside.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Splits `text` at the first such byte, which is in neither half.
fn split_at_byte(text: &[u8], byte: u8) -> (&[u8], &[u8]) {
    let at = memchr::memchr(byte, text).unwrap_or(text.len());
    let (before, after) = text.split_at_checked(at).unwrap_or((text, &[]));
    (before, after.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn parameters_are_found_in_every_form() {
        let value = br#"form-data; a=b ; C="d;\"e" junk; nothing; =f;g="h"#;
        let (first, params) = split(value);
        assert_eq!(first, b"form-data");
        let wanted: [(&[u8], Value<'_>); 4] = [
            (b"a", Value::Bare(b"b")),
            (b"C", Value::Quoted(br#"d;\"e"#)),
            (b"", Value::Bare(b"f")),
            (b"g", Value::Unclosed(b"h")),
        ];
        assert_eq!(params.collect::<Vec<_>>(), wanted);
        let escaped = split(br#"x; a="b\\"; c=d"#).1.map(|(name, _)| name);
        assert_eq!(escaped.collect::<Vec<_>>(), [b"a", b"c"]);
        assert_eq!(split(b"").1.count(), 0);
        assert_eq!(split(b" a ;;; ").0, b"a");
    }
}
