//! The boundary of a form, from the request's `Content-Type`.

use crate::http::Fault;
use crate::http::params::{self, Value};

/// RFC 2046, section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary, if the body is a form: `None` for any other type.
///
/// # Errors
/// [`Fault::BoundaryMissing`], or [`Fault::BoundaryMalformed`] for one that RFC 2046 does not allow.
/// Characters that it wants quoted are taken bare too, as several clients send them.
pub fn boundary(content_type: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let (media_type, params) = params::split(content_type);
    if !media_type.eq_ignore_ascii_case(b"multipart/form-data") {
        return Ok(None);
    }
    let mut boundaries = params.filter(|(name, _)| name.eq_ignore_ascii_case(b"boundary"));
    let (_, value) = boundaries.next().ok_or(Fault::BoundaryMissing)?;
    if boundaries.next().is_some() || !is_boundary(value) {
        return Err(Fault::BoundaryMalformed);
    }
    Ok(Some(value.bytes().to_vec()))
}

fn is_boundary(value: Value<'_>) -> bool {
    let bytes = match value {
        Value::Bare(bytes) if bytes.contains(&b' ') => return false,
        Value::Bare(bytes) | Value::Quoted(bytes) => bytes,
        Value::Unclosed(_) => return false,
    };
    let is_bchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    (1..=BOUNDARY_BYTES_MAX).contains(&bytes.len())
        && bytes.iter().all(is_bchar)
        && !bytes.ends_with(b" ")
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
            "\"a \"",
            "\"a",
            "a\"b",
            "\"a\\b\"",
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
