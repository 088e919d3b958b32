//! Escapes a client's words, so that they stay in their field.
//!
//! Escapes as nginx does: a quote, a backslash, and every byte that is not printable ASCII become `\xHH`. In JSON the
//! backslash is doubled, so both formats say the same.

/// Stands where something was cut.
const CUT: &[u8] = b"...";

/// Adds `text`, in at most `bytes_max` bytes.
pub(super) fn text(out: &mut Vec<u8>, text: &[u8], bytes_max: usize, is_json: bool) {
    let room = bytes_max.saturating_sub(CUT.len());
    let mut used = 0;
    for &byte in text {
        let plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let bytes = if plain { 1 } else { 4 + usize::from(is_json) };
        used += bytes;
        if used > room {
            out.extend_from_slice(CUT);
            return;
        }
        if plain {
            out.push(byte);
        } else {
            out.extend_from_slice(if is_json { b"\\\\x" } else { b"\\x" });
            out.extend([byte >> 4, byte & 0xf].map(digit));
        }
    }
}

fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' - 10 + nibble,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn escaped(bytes: &[u8], bytes_max: usize, is_json: bool) -> String {
        let mut out = Vec::new();
        text(&mut out, bytes, bytes_max, is_json);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_could_end_a_word_or_a_line_is_escaped() {
        let odd = b"a \"b\"\\\r\n\x00\x7f\xff\xc3\xa9~";
        let wanted = r"a \x22b\x22\x5C\x0D\x0A\x00\x7F\xFF\xC3\xA9~";
        assert_eq!(escaped(odd, 100, false), wanted);
        let json: String =
            serde_json::from_str(&format!("\"{}\"", escaped(odd, 100, true))).unwrap();
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_is_too_long_is_cut_between_two_bytes() {
        assert_eq!(escaped(b"abcdefgh", 8, false), "abcde...");
        assert_eq!(escaped(b"ab\"", 8, false), "ab...");
        assert_eq!(escaped(b"abcde", 8, true), "abcde");
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_word_within_its_room(
            bytes in prop::collection::vec(any::<u8>(), 0..3000), most in 3..2000_usize
        ) {
            for is_json in [false, true] {
                let word = escaped(&bytes, most, is_json);
                prop_assert!(word.len() <= most);
                prop_assert!(word.bytes().all(|it| (b' '..=b'~').contains(&it) && it != b'"'));
                if is_json {
                    let quoted = format!("\"{word}\"");
                    prop_assert!(serde_json::from_str::<String>(&quoted).is_ok());
                }
            }
        }
    }
}
