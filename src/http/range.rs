//! `Content-Range` of a sender and `Range` of a receiver: only enough to tell a part from a whole.
//!
//! The routes call this. What must always hold: a part is never taken for the whole file.

/// Whether a sender's `Content-Range` says that the body, of `length` bytes, is the whole file.
///
/// An empty file has no last byte; curl writes `bytes 0--1/0` for it.
#[must_use]
pub fn is_whole(content_range: &[u8], length: Option<u64>) -> bool {
    let Some(length) = length else { return false };
    let Some((unit, range)) = split_once(content_range, b' ') else { return false };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return false;
    }
    if length == 0 {
        return range == b"0--1/0";
    }
    let numbers = split_once(range, b'-').and_then(|(first, rest)| {
        let (last, total) = split_once(rest, b'/')?;
        Some((number(first)?, number(last)?, number(total)?))
    });
    numbers == Some((0, length - 1, length))
}

/// Whether a receiver's `Range` asks for anything but the whole file. A unit other than bytes is
/// ignored (RFC 9110, section 14.2).
#[must_use]
pub fn asks_for_part(range: &[u8]) -> bool {
    let Some((unit, ranges)) = split_once(range, b'=') else { return false };
    let from_zero = ranges.trim_ascii().strip_suffix(b"-").and_then(number) == Some(0);
    unit.trim_ascii().eq_ignore_ascii_case(b"bytes") && !from_zero
}

fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr::memchr(byte, text)?)?;
    Some((before, after.get(1..)?))
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_that_is_the_whole_body_is_whole() {
        assert!(is_whole(b"bytes 0-9/10", Some(10)));
        assert!(is_whole(b"Bytes 0-0/1", Some(1)));
        assert!(is_whole(b"bytes 0--1/0", Some(0)));
        assert!(is_whole(b"bytes 0-18446744073709551614/18446744073709551615", Some(u64::MAX)));
        for part in [
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
            "bytes 0-99999999999999999999/10",
        ] {
            assert!(!is_whole(part.as_bytes(), Some(10)), "{part:?}");
            assert!(!is_whole(part.as_bytes(), None), "{part:?}");
        }
        assert!(!is_whole(b"bytes 0-0/0", Some(0)));
        assert!(!is_whole(b"bytes 0-9/10", Some(7)));
    }

    #[test]
    fn every_range_of_bytes_but_all_of_them_is_a_part() {
        for part in [
            "bytes=5-",
            "bytes=0-4",
            "bytes=-5",
            "BYTES = 1-",
            "bytes=0-,5-",
            "bytes=",
            "bytes=-",
            "bytes=x",
            "bytes=18446744073709551616-",
        ] {
            assert!(asks_for_part(part.as_bytes()), "{part:?}");
        }
        for whole in ["bytes=0-", "bytes= 0- ", "Bytes=000-", "items=5-", "5-", ""] {
            assert!(!asks_for_part(whole.as_bytes()), "{whole:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_part_or_the_whole(bytes: Vec<u8>, length: u64) {
            let _ = asks_for_part(&bytes);
            if is_whole(&bytes, Some(length)) {
                assert!(bytes.len() >= b"bytes 0-0/1".len());
            }
        }
    }
}
