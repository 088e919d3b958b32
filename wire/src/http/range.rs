//! Parts of a file: what a receiver asks for (`Range`), and what a sender brings (`Content-Range`, `Upload-Offset`).
//!
//! The routes call this. Invariant: a part is never taken for the whole file.

/// The part that a `Range` asks for, if it is one range that names its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte, counted from 0.
    pub first: u64,
    /// The last byte; `None` stands for the file's last.
    pub last: Option<u64>,
}

/// The part of a file that a sender brings: all that follows its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// How many bytes are left out.
    pub start: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Reads a `Range` field. Returns `None` for what the relay ignores: several ranges, a suffix, a unit
/// that is not bytes (RFC 9110, section 14.2).
#[must_use]
pub fn byte_range(field: &[u8]) -> Option<ByteRange> {
    let (unit, range) = split_once(field, b'=')?;
    if !unit.trim_ascii().eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let (first, last) = split_once(range.trim_ascii(), b'-')?;
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    last.is_none_or(|last| last >= first).then_some(ByteRange { first, last })
}

/// Reads a `Content-Range` that belongs to a body of `length` bytes. Returns `None` unless the part goes up
/// to the end of a file whose length the field tells.
///
/// An empty part has no last byte; curl writes `bytes 0--1/0` for an empty file.
#[must_use]
pub fn content_range(field: &[u8], length: u64) -> Option<Tail> {
    let (unit, range) = split_once(field, b' ')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    if (range, length) == (b"0--1/0", 0) {
        return Some(Tail { start: 0, total: 0 });
    }
    let (start, rest) = split_once(range, b'-')?;
    let (last, total) = split_once(rest, b'/')?;
    let (start, last, total) = (number(start)?, number(last)?, number(total)?);
    let is_tail = last.checked_add(1) == Some(total) && total.checked_sub(start) == Some(length);
    is_tail.then_some(Tail { start, total })
}

/// Reads an `Upload-Offset`: a number of at most 15 digits (RFC 9651, section 3.3.1).
#[must_use]
pub fn upload_offset(field: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 15;
    number(field).filter(|_| field.len() <= DIGITS_MAX)
}

fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr::memchr(byte, text)?)?;
    Some((before, after.get(1..)?))
}

/// Reads decimal digits, and refuses anything else.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_up_to_the_end_is_a_tail_and_nothing_else() {
        let tail = |field: &str, length| {
            content_range(field.as_bytes(), length).map(|tail| (tail.start, tail.total))
        };
        for (field, length, want) in [
            ("bytes 0-9/10", 10, (0, 10)),
            ("Bytes 0-0/1", 1, (0, 1)),
            ("bytes 3-9/10", 7, (3, 10)),
            ("bytes 9-9/10", 1, (9, 10)),
            ("bytes 10-9/10", 0, (10, 10)),
            ("bytes 0--1/0", 0, (0, 0)),
            ("bytes 0-18446744073709551614/18446744073709551615", u64::MAX, (0, u64::MAX)),
        ] {
            assert_eq!(tail(field, length), Some(want), "{field}");
        }
        for field in [
            "",
            "bytes",
            "bytes 0-9/10 ",
            "bytes 0-8/10",
            "bytes 1-9/10",
            "bytes 3-9/10",
            "bytes 0-9/11",
            "bytes 0-9/*",
            "bytes */10",
            "bytes 2-/10",
            "bytes 0-9",
            "bytes=0-9/10",
            "bytes +0-9/10",
            "bytes 0-9/10, 0-9/10",
            "bytes 0--2/-1",
            "bytes 0--1/0",
            "items 0-9/10",
            "bytes 11-9/10",
            "bytes 0-99999999999999999999/10",
            "bytes 0-18446744073709551615/0",
            // curl makes this of `-C 400000 -T -`.
            "bytes 400000-399998/399999",
        ] {
            assert_eq!(tail(field, 10), None, "{field:?}");
        }
        assert_eq!(tail("bytes 0-0/0", 0), None);
        assert_eq!(tail("bytes 0-9/10", 7), None);
    }

    #[test]
    fn one_range_that_names_its_first_byte_counts_and_all_others_are_ignored() {
        for (field, first, last) in [
            ("bytes=5-", 5, None),
            ("bytes=0-4", 0, Some(4)),
            ("BYTES = 1- ", 1, None),
            ("Bytes=000-", 0, None),
            ("bytes=7-7", 7, Some(7)),
        ] {
            assert_eq!(byte_range(field.as_bytes()), Some(ByteRange { first, last }), "{field}");
        }
        for field in [
            "bytes=-5",
            "bytes=0-,5-",
            "bytes=0-1,5-9",
            "bytes=",
            "bytes=-",
            "bytes=x",
            "bytes=5-4",
            "bytes=18446744073709551616-",
            "items=5-",
            "5-",
            "",
        ] {
            assert_eq!(byte_range(field.as_bytes()), None, "{field:?}");
        }
    }

    #[test]
    fn an_offset_is_a_number_and_nothing_else() {
        assert_eq!(upload_offset(b"0"), Some(0));
        assert_eq!(upload_offset(b"999999999999999"), Some(999_999_999_999_999));
        for field in ["", "-1", "+1", "1.0", "1;a", "1000000000000000", "0x1", " 1"] {
            assert_eq!(upload_offset(field.as_bytes()), None, "{field:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, length: u64) {
            let _ = (byte_range(&bytes), upload_offset(&bytes));
            if let Some(tail) = content_range(&bytes, length) {
                assert_eq!(tail.total - tail.start, length);
            }
        }
    }
}
