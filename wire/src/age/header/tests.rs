//! Headers of the real tool and our own, cut and changed at every place, and each limit.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::super::stanza::STANZA_BYTES_MAX;
use super::*;

const SECRET: &str = "AGE-SECRET-KEY-15WFCXM0CWEDE36KRH7NDR4945SYZTGMTN5N7JZVQ3Y9Y3AQF967QYGGJ8F";

/// Files that the tool `age` has written: for this identity alone; for two SSH keys, another identity and this one; for
/// another identity.
const EMPTY: &[u8] = include_bytes!("../vectors/empty.age");
const SEVERAL: &[u8] = include_bytes!("../vectors/several.age");
const OTHER: &[u8] = include_bytes!("../vectors/other.age");

fn identity() -> Identity {
    SECRET.parse().unwrap()
}

fn file_key() -> FileKey {
    FileKey::new([7; 16])
}

fn written() -> Vec<u8> {
    Header::write(&identity().recipient(), &file_key(), &[9; 32]).unwrap()
}

/// The lines between the first and the last.
fn stanza() -> String {
    let text = String::from_utf8(written()).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    rest.split_once("---").unwrap().0.to_owned()
}

/// A header of these stanzas whose MAC is right.
fn header(stanzas: &str) -> Vec<u8> {
    let mut text = format!("age-encryption.org/v1\n{stanzas}---");
    let mac = file_key().mac(text.as_bytes()).unwrap();
    text.push(' ');
    encode(&mac, &mut text);
    text.push('\n');
    text.into_bytes()
}

/// The MAC of the file key that comes out tells file keys apart.
fn opened(bytes: &[u8]) -> Result<Option<[u8; 32]>, HeaderFault> {
    let Some((header, _)) = Header::parse(bytes)? else { return Ok(None) };
    Ok(Some(header.open(&identity())?.mac(b"").unwrap()))
}

fn parse_fault(bytes: &[u8]) -> HeaderFault {
    Header::parse(bytes).unwrap_err()
}

/// Checks that a cut header is incomplete or has the whole one's outcome, and returns that outcome.
fn checked(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Option<usize>, HeaderFault> {
    let taken = |bytes: &[u8]| Ok(Header::parse(bytes)?.map(|(_, taken)| taken));
    let whole = taken(bytes);
    for cut in cuts.filter(|&cut| cut <= bytes.len()) {
        let begun = taken(&bytes[..cut]);
        assert!(begun == Ok(None) || begun == whole, "{begun:?} at {cut}, whole {whole:?}");
    }
    whole
}

#[test]
fn headers_of_the_tool_open() {
    let (header, taken) = Header::parse(EMPTY).unwrap().unwrap();
    assert_eq!(taken, HEADER_BYTES);
    header.open(&identity()).unwrap();
    let (header, taken) = Header::parse(SEVERAL).unwrap().unwrap();
    assert_eq!(SEVERAL.len() - taken, 16 + 18 + 16);
    header.open(&identity()).unwrap();
    let (header, _) = Header::parse(OTHER).unwrap().unwrap();
    assert_eq!(header.open(&identity()).unwrap_err(), HeaderFault::NoMatch);
}

#[test]
fn a_header_is_written_and_opens() {
    let bytes = written();
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(bytes, written());
    assert_eq!(bytes, header(&stanza()));
    assert_eq!(opened(&bytes), Ok(Some(file_key().mac(b"").unwrap())));
    let behind = [&bytes[..], b"behind"].concat();
    assert_eq!(Header::parse(&behind).unwrap().unwrap().1, HEADER_BYTES);
    let other = Identity::new(&[1; 32]).unwrap();
    let (header, _) = Header::parse(&bytes).unwrap().unwrap();
    assert_eq!(header.open(&other).unwrap_err(), HeaderFault::NoMatch);
    assert_eq!(format!("{header:?}"), "Header { bytes: 123, .. }");
    assert_eq!(format!("{:?}", file_key()), "FileKey(..)");
}

#[test]
fn a_header_that_is_cut_anywhere_is_incomplete() {
    for bytes in [&written()[..], SEVERAL] {
        let (_, taken) = Header::parse(bytes).unwrap().unwrap();
        for cut in 0..taken {
            assert!(Header::parse(&bytes[..cut]).unwrap().is_none(), "cut at {cut}");
        }
    }
}

#[test]
fn a_header_with_a_changed_bit_does_not_open() {
    for bytes in [&written()[..], SEVERAL] {
        let (_, taken) = Header::parse(bytes).unwrap().unwrap();
        for bit in 0..taken * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(opened(&changed), Ok(Some(_))), "bit {bit}");
        }
    }
}

#[test]
fn stanzas_of_other_types_and_for_others_are_skipped() {
    let line = "A".repeat(64);
    let grease = format!("-> grease-42 a1 ~!\n{line}\n{line}\n\n-> empty\n\n-> a b\nAA\n");
    let others = String::from_utf8(OTHER[22..120].to_vec()).unwrap();
    for stanzas in [
        format!("{grease}{}", stanza()),
        format!("{}{grease}", stanza()),
        format!("{others}{grease}{}", stanza()),
        // The reader looks at no stanza behind the first that opens.
        format!("{}-> X25519\n\n", stanza()),
    ] {
        assert_eq!(opened(&header(&stanzas)), Ok(Some(file_key().mac(b"").unwrap())), "{stanzas}");
    }
    assert_eq!(opened(&header(&grease)), Err(HeaderFault::NoMatch));
}

#[test]
fn a_header_is_bound_to_its_stanzas() {
    let bytes = String::from_utf8(written()).unwrap();
    let more = bytes.replace("---", "-> more\n\n---");
    assert_eq!(opened(more.as_bytes()), Err(HeaderFault::Mac));
}

#[test]
fn another_file_is_refused_at_its_first_strange_byte() {
    for bytes in
        [&b"A"[..], b"age-encryption.org/v2", b"age-encryption.org/v1\r", b"\n", b"-----BEGIN"]
    {
        assert_eq!(parse_fault(bytes), HeaderFault::Version);
    }
}

#[test]
fn malformed_lines_are_refused() {
    let mac = "A".repeat(43);
    let full = "A".repeat(64);
    for (rest, fault) in [
        (format!("--- {mac}\n"), HeaderFault::MacLine),
        ("\n".to_owned(), HeaderFault::Line),
        ("->\n".to_owned(), HeaderFault::Line),
        ("-> \n".to_owned(), HeaderFault::Line),
        ("-> a  b\n".to_owned(), HeaderFault::Line),
        ("-> a \n".to_owned(), HeaderFault::Line),
        ("-> a\r\n".to_owned(), HeaderFault::Line),
        ("-> \u{fc}\n".to_owned(), HeaderFault::Line),
        ("-> a\nA\n".to_owned(), HeaderFault::Body),
        ("-> a\nAB\n".to_owned(), HeaderFault::Body),
        ("-> a\nAA==\n".to_owned(), HeaderFault::Body),
        ("-> a\nA A\n".to_owned(), HeaderFault::Body),
        ("-> a\nAA\r\n".to_owned(), HeaderFault::Body),
        ("-> a\n_-__\n".to_owned(), HeaderFault::Body),
        (format!("-> a\n{full}AA\n"), HeaderFault::Body),
        (format!("-> a\n{full}\n--- {mac}\n"), HeaderFault::Body),
        ("-> a\nAA\nAA\n".to_owned(), HeaderFault::Line),
        (format!("-> a\n\n---{mac}\n"), HeaderFault::MacLine),
        (format!("-> a\n\n---  {mac}\n"), HeaderFault::MacLine),
        (format!("-> a\n\n--- {mac}A\n"), HeaderFault::MacLine),
        (format!("-> a\n\n--- {mac} \n"), HeaderFault::MacLine),
        (format!("-> a\n\n--- {mac}\r\n"), HeaderFault::MacLine),
        (format!("-> a\n\n--- {}B\n", &mac[1..]), HeaderFault::MacLine),
        ("-> a\n\n---\n".to_owned(), HeaderFault::MacLine),
    ] {
        let bytes = format!("age-encryption.org/v1\n{rest}");
        let outcome = checked(bytes.as_bytes(), 0..bytes.len());
        assert_eq!(outcome, Err(fault), "{rest}");
    }
}

#[test]
fn malformed_stanzas_of_our_type_are_refused() {
    let right = stanza();
    let (line, body) = right.trim_end().split_once('\n').unwrap();
    let share = line.strip_prefix("-> X25519 ").unwrap();
    for (stanza, fault) in [
        (format!("-> X25519\n{body}\n"), HeaderFault::X25519),
        (format!("-> X25519 {share} {share}\n{body}\n"), HeaderFault::X25519),
        (format!("-> X25519 {}\n{body}\n", &share[1..]), HeaderFault::X25519),
        (format!("-> X25519 {share}=\n{body}\n"), HeaderFault::X25519),
        (format!("-> X25519 {}B\n{body}\n", &share[..42]), HeaderFault::X25519),
        (format!("-> X25519 {share}\n\n"), HeaderFault::X25519),
        (format!("-> X25519 {share}\n{}\n", "A".repeat(42)), HeaderFault::X25519),
        (format!("-> X25519 {share}\n{}\n\n", "A".repeat(64)), HeaderFault::X25519),
        (format!("-> X25519 {}\n{body}\n", "A".repeat(43)), HeaderFault::WeakKey),
        (format!("-> x25519 {share}\n{body}\n"), HeaderFault::NoMatch),
    ] {
        assert_eq!(opened(&header(&stanza)), Err(fault), "{stanza}");
        // The right stanza comes too late.
        if fault != HeaderFault::NoMatch {
            assert_eq!(opened(&header(&format!("{stanza}{right}"))), Err(fault), "{stanza}");
        }
    }
}

#[test]
fn nothing_is_written_for_a_weak_recipient() {
    for bytes in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let outcome = Header::write(&Recipient::new(bytes), &file_key(), &[9; 32]);
        assert_eq!(outcome, Err(HeaderFault::WeakKey));
    }
}

#[test]
fn the_longest_headers_are_read_and_longer_ones_are_not() {
    let around = |at: usize| at.saturating_sub(300)..at + 300;
    for (count, is_good) in [(STANZAS_MAX, true), (STANZAS_MAX + 1, false)] {
        let bytes = header(&"-> a\n\n".repeat(count));
        let fault = HeaderFault::TooManyStanzas;
        let expected = if is_good { Ok(Some(bytes.len())) } else { Err(fault) };
        assert_eq!(checked(&bytes, around(bytes.len())), expected);
    }
    let long = |bytes: usize| format!("-> {}\n\n", "a".repeat(bytes - 5));
    for (bytes, is_good) in [(STANZA_BYTES_MAX, true), (STANZA_BYTES_MAX + 1, false)] {
        let bytes = header(&long(bytes));
        let fault = HeaderFault::StanzaTooLong;
        let expected = if is_good { Ok(Some(bytes.len())) } else { Err(fault) };
        assert_eq!(checked(&bytes, around(bytes.len())), expected);
    }
    // The end of the header falls into its last stanza, or into the line of the MAC.
    for over in [-1, 0, 1, 2, 44, 45, 47, 48, 49, 50, 52, 60] {
        let bytes = HEADER_BYTES_MAX.strict_add_signed(over);
        let rest = bytes - 22 - 48 - 7 * STANZA_BYTES_MAX;
        let bytes = header(&format!("{}{}", long(STANZA_BYTES_MAX).repeat(7), long(rest)));
        let fault = HeaderFault::HeaderTooLong;
        let expected = if over <= 0 { Ok(Some(bytes.len())) } else { Err(fault) };
        let cuts = (HEADER_BYTES_MAX - 70..HEADER_BYTES_MAX + 70).step_by(3);
        assert_eq!(checked(&bytes, cuts.chain([HEADER_BYTES_MAX])), expected);
        let most = bytes.get(..HEADER_BYTES_MAX).unwrap_or(&bytes);
        assert_ne!(checked(most, 0..0), Ok(None));
    }
    // A body that never ends.
    let endless =
        format!("age-encryption.org/v1\n-> a\n{}", format!("{}\n", "A".repeat(64)).repeat(200));
    assert_eq!(checked(endless.as_bytes(), 8000..8400), Err(HeaderFault::StanzaTooLong));
}

proptest! {
    #[test]
    fn any_lines_have_one_outcome_however_they_are_cut(
        lines in proptest::collection::vec("(-> )?[ -~]{0,70}|[A-Za-z0-9+/]{64}|-> X25519 .*|---.*", 0..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let bytes = format!("age-encryption.org/v1\n{}\n", lines.join("\n"));
        let _ = checked(bytes.as_bytes(), [cut.index(bytes.len() + 1)].into_iter());
        let _ = opened(bytes.as_bytes());
    }

    #[test]
    fn any_arguments_open_for_their_recipient_alone(
        secret in any::<[u8; 32]>(), key in any::<[u8; 16]>(), ephemeral in any::<[u8; 32]>(),
    ) {
        let reader = Identity::new(&secret).unwrap();
        let bytes = Header::write(&reader.recipient(), &FileKey::new(key), &ephemeral).unwrap();
        prop_assert_eq!(bytes.len(), HEADER_BYTES);
        let (header, _) = Header::parse(&bytes).unwrap().unwrap();
        let found = header.open(&reader).unwrap();
        prop_assert_eq!(found.mac(b"x").unwrap(), FileKey::new(key).mac(b"x").unwrap());
        prop_assert_eq!(header.open(&identity()).unwrap_err(), HeaderFault::NoMatch);
    }
}
