//! Payloads of every interesting length: whole, cut, changed, with data behind the end, and resumed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::super::{Header, Identity, file_bytes, payload_bytes};
use super::*;

const NONCE: [u8; NONCE_BYTES] = [3; NONCE_BYTES];
const LENGTHS: [usize; 7] = [0, 1, 65_535, 65_536, 65_537, 131_072, 200_003];

fn key() -> FileKey {
    FileKey::new([7; 16])
}

fn plaintext(bytes: usize) -> Vec<u8> {
    // The number of the chunk changes each byte, so that no two chunks are equal.
    (0..bytes).map(|index| (index % 251) ^ (index >> 16)).map(|it| it.to_le_bytes()[0]).collect()
}

/// The chunks of a payload, from a chunk on, without the nonce.
fn sealed_from(plaintext: &[u8], chunk: usize) -> Vec<u8> {
    let mut sealer = Sealer::at_chunk(&key(), &NONCE, chunk as u64).unwrap();
    let chunks = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
    let mut out = Vec::new();
    for index in chunk..chunks {
        assert_eq!(sealer.position(), 16 + 65_552 * index as u64);
        let text = plaintext[index * CHUNK_BYTES..].chunks(CHUNK_BYTES).next().unwrap_or_default();
        let mut buffer = [text, &[0; TAG_BYTES]].concat();
        sealer.seal(&mut buffer, index + 1 == chunks).unwrap();
        out.extend_from_slice(&buffer);
    }
    out
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    sealed_from(plaintext, 0)
}

/// The plaintext that comes out before a fault, and whether the file is whole.
fn opened_from(sealed: &[u8], chunk: u64) -> (Vec<u8>, Result<(), PayloadFault>) {
    let mut opener = Opener::at_chunk(&key(), &NONCE, chunk).unwrap();
    let mut plaintext = Vec::new();
    let mut out = vec![0xee; CHUNK_BYTES];
    for piece in sealed.chunks(SEALED_CHUNK_BYTES) {
        match opener.open(piece, &mut out) {
            Ok(text) => plaintext.extend_from_slice(text),
            Err(fault) => return (plaintext, Err(fault)),
        }
    }
    (plaintext, opener.finish())
}

fn opened(sealed: &[u8]) -> (Vec<u8>, Result<(), PayloadFault>) {
    opened_from(sealed, 0)
}

#[test]
fn what_was_sealed_opens() {
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        let sealed = sealed(&text);
        assert_eq!(Some(16 + sealed.len() as u64), payload_bytes(bytes as u64));
        assert!(opened(&sealed) == (text, Ok(())), "{bytes}");
    }
}

#[test]
fn equal_arguments_give_these_bytes() {
    // The tool `age` has opened this file. A sender of another version must be able to resume it.
    let identity = Identity::new(&[1; 32]).unwrap();
    let mut file = Header::write(&identity.recipient(), &key(), &[9; 32]).unwrap();
    file.extend_from_slice(&NONCE);
    file.extend_from_slice(&sealed(&plaintext(200_003)));
    assert_eq!(Some(file.len() as u64), file_bytes(200_003));
    let digest = digest::digest(&digest::SHA256, &file);
    let expected = "431340c9ab29637449db2b2793a49331861aa7898811b605c1eba734486f6409";
    assert_eq!(HEXLOWER.encode(digest.as_ref()), expected);
}

#[test]
fn a_file_of_the_tool_opens() {
    let file = include_bytes!("../vectors/several.age");
    let identity = "AGE-SECRET-KEY-15WFCXM0CWEDE36KRH7NDR4945SYZTGMTN5N7JZVQ3Y9Y3AQF967QYGGJ8F";
    let (header, taken) = Header::parse(file).unwrap().unwrap();
    let key = header.open(&identity.parse().unwrap()).unwrap();
    let (nonce, sealed) = file[taken..].split_first_chunk().unwrap();
    let mut opener = Opener::new(&key, nonce).unwrap();
    let mut out = [0; 18];
    assert_eq!(opener.open(sealed, &mut out), Ok(&b"Two parties meet.\n"[..]));
    assert_eq!(opener.finish(), Ok(()));
}

#[test]
fn both_start_at_any_chunk() {
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        let whole = sealed(&text);
        for chunk in 0..bytes.div_ceil(CHUNK_BYTES).max(1) {
            let rest = &whole[chunk * SEALED_CHUNK_BYTES..];
            assert!(sealed_from(&text, chunk) == rest, "{bytes} from {chunk}");
            let expected = (text[chunk * CHUNK_BYTES..].to_vec(), Ok(()));
            assert!(opened_from(rest, chunk as u64) == expected, "{bytes} from {chunk}");
            if chunk > 0 {
                let (nothing, fault) = opened(rest);
                assert!(nothing.is_empty() && fault == Err(PayloadFault::Changed { chunk: 0 }));
            }
        }
    }
}

#[test]
fn a_payload_that_is_cut_is_never_whole() {
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        let whole = sealed(&text);
        let near =
            [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 65_551, 65_552, 65_553, 65_568, 65_569];
        let ends = (1..=17).map(|behind| whole.len().saturating_sub(behind));
        for cut in near.into_iter().map(|it| it.min(whole.len().saturating_sub(1))).chain(ends) {
            let (begun, fault) = opened(&whole[..cut]);
            let chunk = (cut / SEALED_CHUNK_BYTES) as u64;
            let is_short = cut % SEALED_CHUNK_BYTES < TAG_BYTES;
            let expected =
                if is_short { PayloadFault::Truncated } else { PayloadFault::Changed { chunk } };
            assert_eq!(fault, Err(expected), "{bytes} cut at {cut}");
            assert!(text.starts_with(&begun) && begun.len() % CHUNK_BYTES == 0);
        }
    }
}

#[test]
fn data_behind_the_end_is_refused() {
    for bytes in LENGTHS {
        let text = plaintext(bytes);
        for more in [1, 16, 17, 65_552] {
            let behind = [sealed(&text), vec![0; more]].concat();
            let (begun, fault) = opened(&behind);
            // Data behind a last chunk that is not full becomes a part of it.
            let expected = if bytes > 0 && bytes % CHUNK_BYTES == 0 {
                assert!(begun == text);
                PayloadFault::BehindEnd
            } else {
                PayloadFault::Changed { chunk: (bytes / CHUNK_BYTES) as u64 }
            };
            assert_eq!(fault, Err(expected), "{more} behind {bytes}");
        }
    }
    let twice = sealed(&plaintext(65_536)).repeat(2);
    assert_eq!(opened(&twice).1, Err(PayloadFault::BehindEnd));
}

#[test]
fn a_changed_bit_is_found_and_nothing_of_its_chunk_comes_out() {
    for bytes in LENGTHS {
        let whole = sealed(&plaintext(bytes));
        let places =
            [0, 1, 40_000, 65_535, 65_536, 65_551, 65_552, 131_103, 131_104, whole.len() - 1];
        for (index, place) in places.into_iter().filter(|&it| it < whole.len()).enumerate() {
            let mut changed = whole.clone();
            changed[place] ^= 1 << (index % 8);
            let chunk = (place / SEALED_CHUNK_BYTES) as u64;
            let (begun, fault) = opened(&changed);
            assert_eq!(fault, Err(PayloadFault::Changed { chunk }), "{bytes} changed at {place}");
            assert_eq!(begun.len() as u64, chunk * CHUNK_BYTES as u64);
        }
    }
    let mut opener = Opener::new(&key(), &NONCE).unwrap();
    let mut out = [0xee; 64];
    assert!(opener.open(&[0; 80], &mut out).is_err());
    assert_eq!(out, [0; 64]);
    // The receiver may fetch the chunk again.
    assert_eq!(opener.open(&sealed(b"again"), &mut out), Ok(&b"again"[..]));
}

#[test]
fn chunks_that_change_places_are_refused() {
    let mut sealed = sealed(&plaintext(3 * CHUNK_BYTES));
    let (first, rest) = sealed.split_at_mut(SEALED_CHUNK_BYTES);
    first.swap_with_slice(&mut rest[..SEALED_CHUNK_BYTES]);
    assert_eq!(opened(&sealed), (vec![], Err(PayloadFault::Changed { chunk: 0 })));
}

#[test]
fn a_last_chunk_that_is_empty_is_refused_behind_others() {
    let cursor = Cursor::new(&key(), &NONCE, 1).unwrap();
    let mut first = [&plaintext(CHUNK_BYTES)[..], &[0; TAG_BYTES]].concat();
    let mut sealer = Sealer::new(&key(), &NONCE).unwrap();
    sealer.seal(&mut first, false).unwrap();
    let tag = cursor.cipher.seal(cursor.nonce(true).unwrap(), &mut []).unwrap();
    let (begun, fault) = opened(&[&first[..], &tag].concat());
    assert_eq!((begun.len(), fault), (CHUNK_BYTES, Err(PayloadFault::EmptyLastChunk)));
    assert_eq!(sealer.seal(&mut [0; TAG_BYTES], true), Err(PayloadFault::EmptyLastChunk));
    sealer.seal(&mut [0; TAG_BYTES + 1], true).unwrap();
}

#[test]
fn a_sealer_refuses_other_lengths_and_chunks_behind_the_end() {
    let mut sealer = Sealer::new(&key(), &NONCE).unwrap();
    let mut room = vec![0; SEALED_CHUNK_BYTES + 1];
    for (bytes, is_last) in
        [(0, true), (15, true), (65_553, true), (16, false), (65_551, false), (65_553, false)]
    {
        let outcome = sealer.seal(&mut room[..bytes], is_last);
        assert_eq!(outcome, Err(PayloadFault::Length { bytes }), "{bytes}, {is_last}");
    }
    assert!(room.iter().all(|&byte| byte == 0));
    assert_eq!(sealer.position(), 16);
    sealer.seal(&mut room[..16], true).unwrap();
    assert_eq!(sealer.seal(&mut room[..17], true), Err(PayloadFault::BehindEnd));
    assert_eq!(format!("{sealer:?}"), "Sealer { chunk: 1, is_over: true, .. }");
}

#[test]
fn an_opener_refuses_other_lengths_and_short_buffers() {
    let mut opener = Opener::new(&key(), &NONCE).unwrap();
    let bytes = SEALED_CHUNK_BYTES + 1;
    let mut out = vec![0; bytes];
    assert_eq!(opener.open(&vec![0; bytes], &mut out), Err(PayloadFault::Length { bytes }));
    assert_eq!(opener.open(&sealed(b"abc"), &mut [0; 2]), Err(PayloadFault::NoRoom));
    assert_eq!(opener.open(b"", &mut out), Err(PayloadFault::Truncated));
    assert!(!opener.is_over());
    assert_eq!(opener.open(&sealed(b"abc"), &mut [0; 3]), Ok(&b"abc"[..]));
    assert!(opener.is_over());
    assert_eq!(opener.open(b"", &mut out), Err(PayloadFault::BehindEnd));
}

#[test]
fn the_last_number_is_used_once() {
    let too_many = PayloadFault::TooManyChunks;
    assert_eq!(Sealer::at_chunk(&key(), &NONCE, CHUNKS_MAX).unwrap_err(), too_many);
    assert_eq!(Opener::at_chunk(&key(), &NONCE, u64::MAX).unwrap_err(), too_many);
    let mut sealer = Sealer::at_chunk(&key(), &NONCE, CHUNKS_MAX - 1).unwrap();
    let mut buffer = vec![0; SEALED_CHUNK_BYTES];
    sealer.seal(&mut buffer, false).unwrap();
    assert_eq!(sealer.seal(&mut buffer, true), Err(too_many));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_file_opens_and_no_changed_file_does(
        bytes in 0_usize..150_000, place in any::<proptest::sample::Index>(), bit in 0..8_u8,
    ) {
        let text = plaintext(bytes);
        let mut sealed = sealed(&text);
        prop_assert!(opened(&sealed) == (text, Ok(())));
        let place = place.index(sealed.len());
        sealed[place] ^= 1_u8 << bit;
        prop_assert!(opened(&sealed).1.is_err());
        sealed[place] ^= 1_u8 << bit;
        prop_assert!(opened(&sealed[..place]).1.is_err());
    }
}
