//! The boundary of a form, from the request's `Content-Type`.

use crate::http::Fault;
use crate::http::params::{self, Value};

/// RFC 2046 (section 5.1.1) allows 70; the common parsers take more.
const BOUNDARY_BYTES_MAX: usize = 200;

/// The boundary, if the body is a form: `None` for any other type.
///
/// Clients send more than RFC 2046 allows, and other parsers take it. This one does too, as long as the
/// boundary is printable ASCII that cannot be understood in two ways.
///
/// # Errors
/// [`Fault::BoundaryMissing`], or [`Fault::BoundaryMalformed`].
pub fn boundary(content_type: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let (media_type, params) = params::split(content_type);
    if !media_type.eq_ignore_ascii_case(b"multipart/form-data") {
        return Ok(None);
    }
    let mut boundaries = params.filter(|(name, _)| name.eq_ignore_ascii_case(b"boundary"));
    let (_, value) = boundaries.next().ok_or(Fault::BoundaryMissing)?;
    let boundary = match value {
        Value::Bare(bytes) if !bytes.iter().any(|byte| b" \t\"".contains(byte)) => bytes.to_vec(),
        Value::Quoted(bytes) => unescape(bytes).ok_or(Fault::BoundaryMalformed)?,
        Value::Bare(_) | Value::Unclosed(_) => return Err(Fault::BoundaryMalformed),
    };
    let is_boundary = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if boundaries.next().is_some() || !is_boundary {
        return Err(Fault::BoundaryMalformed);
    }
    Ok(Some(boundary))
}

/// Removes the escapes. Returns `None` for the escape of a character that needs none: parsers differ in
/// whether the backslash stays.
fn unescape(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = quoted.iter();
    let mut boundary = Vec::with_capacity(quoted.len());
    while let Some(&byte) = bytes.next() {
        boundary.push(match byte {
            b'\\' => bytes.next().copied().filter(|next| b"\"\\".contains(next))?,
            _ => byte,
        });
    }
    Some(boundary)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_boundary_is_read_quoted_or_bare() {
        let of = |text: &str| {
            boundary(text.as_bytes()).unwrap().map(|it| String::from_utf8(it).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of("multipart/form-data; boundary=------------------------a1"),
            some("------------------------a1")
        );
        assert_eq!(of("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b:c\" ; x=y"), some("a b:c"));
        assert_eq!(of("multipart/form-data; boundary=a:b=?"), some("a:b=?"));
        for rough in ["*****", "!#$%&^|~*@`{}", "----WebKit[x]<y>", "a\\b", "a,b", "'x'"] {
            assert_eq!(of(&format!("multipart/form-data; boundary={rough}")), some(rough));
            let quoted = rough.replace('\\', "\\\\");
            assert_eq!(of(&format!("multipart/form-data; boundary=\"{quoted}\"")), some(rough));
        }
        for spaced in [" a", "a ", "a b", "a\tb"] {
            assert_eq!(of(&format!("multipart/form-data; boundary=\"{spaced}\"")), some(spaced));
        }
        let quoted = r#"multipart/form-data; boundary=" a;\"b\\" ;x=y"#;
        assert_eq!(of(quoted), some(r#" a;"b\"#));
        let long = "-".repeat(BOUNDARY_BYTES_MAX);
        assert_eq!(of(&format!("multipart/form-data; boundary={long}")), some(&long));
        for other in [
            "multipart/mixed; boundary=a",
            "multipart/form-datax; boundary=a",
            "text/plain",
            "",
            ";boundary=a",
        ] {
            assert_eq!(of(other), None);
        }
    }

    #[test]
    fn a_boundary_that_is_none_is_refused() {
        let long = "a".repeat(BOUNDARY_BYTES_MAX + 1);
        assert_eq!(boundary(b"multipart/form-data"), Err(Fault::BoundaryMissing));
        assert_eq!(boundary(b"multipart/form-data; bound=a"), Err(Fault::BoundaryMissing));
        for bad in [
            "",
            "\"\"",
            "a b",
            "\"a",
            "a\"b",
            "\"a\\b\"",
            "\"a\u{1}\"",
            "\"a\\\"",
            "a; boundary=a",
            "\u{e4}",
            "a\tb",
            &long,
        ] {
            let refused = boundary(format!("multipart/form-data; boundary={bad}").as_bytes());
            assert_eq!(refused, Err(Fault::BoundaryMalformed), "{bad:?}");
        }
    }
}
