//! Keys of the real tool, and each way to misspell a key.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bech32::Fe32;
use proptest::prelude::*;

use super::*;

/// A pair of keys that `age-keygen` has drawn.
const SECRET: &str = "AGE-SECRET-KEY-15WFCXM0CWEDE36KRH7NDR4945SYZTGMTN5N7JZVQ3Y9Y3AQF967QYGGJ8F";
const PUBLIC: &str = "age17wf0hd2srpgvuhlshz7p3masr3rukellcg49jr6qhgze2hmf5y5se0cd75";

fn recipient_fault(text: &str) -> KeyFault {
    text.parse::<Recipient>().unwrap_err()
}

fn identity_fault(text: &str) -> KeyFault {
    text.parse::<Identity>().unwrap_err()
}

#[test]
fn the_tools_keys_are_read_and_written() {
    let identity: Identity = SECRET.parse().unwrap();
    assert_eq!(identity.to_string(), SECRET);
    assert_eq!(identity.recipient().to_string(), PUBLIC);
    assert_eq!(PUBLIC.parse(), Ok(identity.recipient()));
}

#[test]
fn no_debug_text_shows_a_secret() {
    let identity: Identity = SECRET.parse().unwrap();
    assert_eq!(
        format!("{identity:?}"),
        format!("Identity {{ recipient: Recipient({PUBLIC}), .. }}")
    );
}

#[test]
fn a_changed_character_is_found() {
    for index in 0..PUBLIC.len() {
        let mut text = PUBLIC.to_owned().into_bytes();
        text[index] = if text[index] == b'q' { b'p' } else { b'q' };
        recipient_fault(&String::from_utf8(text).unwrap());
    }
    for index in 0..SECRET.len() {
        let mut text = SECRET.to_owned().into_bytes();
        text[index] = if text[index] == b'Q' { b'P' } else { b'Q' };
        identity_fault(&String::from_utf8(text).unwrap());
    }
}

#[test]
fn other_texts_are_refused() {
    for text in ["", "1", "age1", "age", " ", "\u{fc}", "AGE-SECRET-KEY-1", &"q".repeat(5000)] {
        assert_eq!(recipient_fault(text), KeyFault::Checksum, "{text}");
        assert_eq!(identity_fault(text), KeyFault::Checksum, "{text}");
    }
    for cut in 0..PUBLIC.len() {
        recipient_fault(&PUBLIC[..cut]);
    }
    assert_eq!(recipient_fault(SECRET), KeyFault::OtherKind);
    assert_eq!(identity_fault(PUBLIC), KeyFault::OtherKind);
    assert_eq!(recipient_fault(&PUBLIC.to_uppercase()), KeyFault::OtherKind);
    assert_eq!(identity_fault(&SECRET.to_lowercase()), KeyFault::OtherKind);
    let mixed = format!("{}{}", &PUBLIC[..20], PUBLIC[20..].to_uppercase());
    assert_eq!(recipient_fault(&mixed), KeyFault::Checksum);
    assert_eq!(recipient_fault(&format!("{PUBLIC} ")), KeyFault::Checksum);
}

/// A text with a right checksum, of any number of bytes, with `last` added to the last character.
fn spelled(bytes: &[u8], last: u8) -> String {
    let mut fields: Vec<Fe32> = bytes.iter().copied().bytes_to_fes().collect();
    let end = fields.last_mut().unwrap();
    *end = Fe32::try_from(end.to_u8() | last).unwrap();
    fields.into_iter().with_checksum::<Bech32>(&RECIPIENT.prefix).chars().collect()
}

#[test]
fn a_key_of_another_length_or_with_spare_bits_is_refused() {
    let key = *PUBLIC.parse::<Recipient>().unwrap().bytes();
    assert_eq!(spelled(&key, 0), PUBLIC);
    // The last of 52 characters has four bits that no byte needs.
    for spare in 1..16 {
        assert_eq!(recipient_fault(&spelled(&key, spare)), KeyFault::OtherKind);
    }
    for bytes in [1, 31, 33, 64] {
        assert_eq!(recipient_fault(&spelled(&vec![7; bytes], 0)), KeyFault::OtherKind);
    }
}

proptest! {
    #[test]
    fn keys_are_read_back(secret in any::<[u8; 32]>(), public in any::<[u8; 32]>()) {
        let identity = Identity::new(&secret).unwrap();
        let back: Identity = identity.to_string().parse().unwrap();
        prop_assert_eq!(*back.secret, secret);
        prop_assert_eq!(back.recipient(), identity.recipient());
        let recipient = Recipient::new(public);
        prop_assert_eq!(recipient.to_string().parse(), Ok(recipient));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*", tail in "[a-z0-9]*") {
        let _ = text.parse::<Recipient>();
        let _ = text.to_uppercase().parse::<Identity>();
        let _ = format!("age1{tail}").parse::<Recipient>();
    }
}
