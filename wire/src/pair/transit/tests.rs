//! Lines that are good, cut at every place, and every byte that is not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIDE: &str = "fedcba9876543210";

fn without_side() -> String {
    format!("please relay {TOKEN}\n")
}

fn with_side() -> String {
    format!("please relay {TOKEN} for side {SIDE}\n")
}

fn read(line: &str) -> Result<Option<Handshake>, BadHandshake> {
    handshake(line.as_bytes())
}

/// Whether a good line may have `byte` at `at`, if it is the line with a side up to there.
fn is_good(at: usize, byte: u8) -> bool {
    match at {
        13..77 | 87..103 => byte.is_ascii_hexdigit(),
        77 => byte == b' ' || byte == b'\n',
        _ => with_side().as_bytes()[at] == byte,
    }
}

#[test]
fn a_line_has_a_token_and_may_have_a_side() {
    let token = TOKEN.as_bytes().try_into().unwrap();
    let bare = Handshake { token, side: None, bytes: 78 };
    assert!(read(&without_side()) == Ok(Some(bare)));
    let side = Some(SIDE.as_bytes().try_into().unwrap());
    let sided = Handshake { token, side, bytes: LINE_BYTES_MAX };
    assert!(read(&with_side()) == Ok(Some(sided)));
    assert_eq!(LINE_BYTES_MAX, 104);
}

#[test]
fn a_line_that_is_cut_anywhere_is_incomplete() {
    for line in [without_side(), with_side()] {
        for cut in 0..line.len() {
            assert_eq!(read(&line[..cut]), Ok(None), "cut at {cut}");
        }
    }
}

#[test]
fn bytes_behind_a_line_are_left_to_the_caller() {
    for line in [without_side(), with_side()] {
        for behind in ["x", "\n", "please relay", "transit receiver 00 ready\n\n"] {
            let found = read(&format!("{line}{behind}")).unwrap().unwrap();
            assert_eq!(found.bytes, line.len());
        }
    }
}

#[test]
fn a_wrong_byte_is_refused_at_once() {
    let line = with_side();
    for at in 0..line.len() {
        for byte in 0..=u8::MAX {
            let begun = [&line.as_bytes()[..at], &[byte]].concat();
            assert_eq!(handshake(&begun).is_ok(), is_good(at, byte), "{byte:#04x} at {at}");
        }
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let upper = with_side().to_ascii_uppercase();
    let crlf = without_side().replace('\n', "\r\n");
    let short = without_side().replacen('0', "", 1);
    let long = without_side().replacen('0', "00", 1);
    let word = without_side().replacen('f', "_", 1);
    let letter = with_side().replacen('f', "g", 1);
    let short_side = with_side().replace("fedc", "fed");
    let long_side = with_side().replace("fedc", "fedcc");
    let no_side = with_side().replace(SIDE, "");
    let spaced = with_side().replace("for side", "for  side");
    let late = without_side().replace('\n', " \n");
    for line in [
        &upper,
        &crlf,
        &short,
        &long,
        &word,
        &letter,
        &short_side,
        &long_side,
        &no_side,
        &spaced,
        &late,
        "\n",
        "please relay \n",
        "please DELAY ",
        "pass",
        "put / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        assert_eq!(read(line), Err(BadHandshake), "{line:?}");
    }
}

#[test]
fn letters_of_either_case_are_read_and_kept() {
    let large = without_side().replace(TOKEN, &TOKEN.to_ascii_uppercase());
    let large = read(&large).unwrap().unwrap();
    let small = read(&without_side()).unwrap().unwrap();
    assert!(large.token != small.token);
    assert_eq!(large.token.to_ascii_lowercase(), small.token);
}

#[test]
fn a_token_is_not_shown() {
    let shown = format!("{:?}", read(&with_side()));
    assert!(!shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
    assert!(shown.contains(SIDE) && shown.contains("bytes: 104"), "{shown}");
}

#[test]
fn answers_end_their_line() {
    for answer in [OK, BAD_HANDSHAKE, IMPATIENT] {
        assert!(answer.ends_with(b"\n"));
    }
}

proptest! {
    #[test]
    fn every_handshake_is_read_back(
        token in "[0-9a-fA-F]{64}", side in prop::option::of("[0-9a-fA-F]{16}"), behind: Vec<u8>,
    ) {
        let side = side.as_deref();
        let end = side.map(|side| format!(" for side {side}")).unwrap_or_default();
        let line = format!("please relay {token}{end}\n");
        let found = handshake(&[line.as_bytes(), &behind].concat()).unwrap().unwrap();
        prop_assert_eq!(&found.token[..], token.as_bytes());
        prop_assert_eq!(found.side.as_ref().map(|it| &it[..]), side.map(str::as_bytes));
        prop_assert_eq!(found.bytes, line.len());
    }

    #[test]
    fn a_verdict_stands_whatever_comes_behind(
        text in "(please relay )?([0-9a-f]{60,66})?( for side )?[ 0-9a-f\r\n]{0,20}", cut in 0_usize..130,
    ) {
        let whole = read(&text);
        let begun = handshake(text.as_bytes().get(..cut).unwrap_or(text.as_bytes()));
        prop_assert!(begun == Ok(None) || begun == whole);
    }

    #[test]
    fn what_is_not_refused_can_still_become_a_line(
        text in "please relay [0-9a-f]{0,66}( ?f?o?r? ?s?i?d?e? ?[0-9a-f]{0,17})?",
    ) {
        if read(&text) == Ok(None) {
            let added = |line: String| format!("{text}{}", line.get(text.len()..).unwrap_or_default());
            let ends = [added(without_side()), added(with_side())];
            prop_assert!(ends.iter().any(|line| matches!(read(line), Ok(Some(_)))));
        }
    }
}
