//! Any bytes as an age file: the header's outcome is the same however it is cut, no foreign bytes open, and what was
//! written and sealed opens, whole, from any chunk, and never once a bit was changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::age::{
    CHUNK_BYTES, FileKey, HEADER_BYTES, HEADER_BYTES_MAX, Header, HeaderFault, Identity,
    NONCE_BYTES, Opener, PayloadFault, Recipient, SEALED_CHUNK_BYTES, Sealer, TAG_BYTES,
    chunk_start, payload_bytes, plaintext_bytes,
};

const NONCE: [u8; NONCE_BYTES] = [3; NONCE_BYTES];

fn key() -> FileKey {
    FileKey::new([7; 16])
}

fn identity() -> Identity {
    Identity::new(&[1; 32]).unwrap()
}

/// Checks a header, and returns its length if it is good and opens.
fn check_header(bytes: &[u8], cut: usize) -> Option<usize> {
    let taken = |bytes: &[u8]| Header::parse(bytes).map(|it| it.map(|(_, taken)| taken));
    let (whole, begun) = (taken(bytes), taken(&bytes[..cut]));
    assert!(begun == Ok(None) || begun == whole, "cut at {cut}: {begun:?}, whole: {whole:?}");
    match Header::parse(bytes) {
        Ok(Some((header, taken))) => {
            assert!(taken <= bytes.len() && taken <= HEADER_BYTES_MAX);
            assert_eq!(bytes[taken - 1], b'\n');
            let fault = header.open(&identity()).err();
            assert!(fault.is_none_or(|it| !it.to_string().is_empty()));
            fault.is_none().then_some(taken)
        }
        Ok(None) => {
            assert!(bytes.len() < HEADER_BYTES_MAX);
            None
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            None
        }
    }
}

/// Bytes that stand where a header expects lines.
fn check_lines(bytes: &[u8], cut: usize) {
    let version = b"age-encryption.org/v1\n";
    let _ = check_header(&[version, bytes].concat(), version.len() + cut);
    let repeated = bytes.repeat(1 + 70_000 / bytes.len().max(1) * usize::from(cut % 16 == 0));
    let _ = check_header(&[version, &repeated[..]].concat(), version.len() + cut);
}

/// A header of our own in which a stranger has replaced some bytes.
fn check_changed_header(bytes: &[u8], cut: usize) {
    let ours = Header::write(&identity().recipient(), &key(), &[9; 32]).unwrap();
    assert_eq!(check_header(&ours, cut.min(HEADER_BYTES)), Some(HEADER_BYTES));
    let mut changed = ours.clone();
    changed.splice(cut.min(HEADER_BYTES).., bytes.iter().copied());
    let is_ours = changed.starts_with(&ours);
    assert_eq!(check_header(&changed, cut.min(changed.len())).is_some(), is_ours);
}

/// A chunk that nobody has sealed does not open, wherever it stands.
fn check_foreign_chunk(bytes: &[u8], cut: usize) {
    let chunk = u64::try_from(cut).unwrap();
    let mut opener = Opener::at_chunk(&key(), &NONCE, chunk).unwrap();
    let mut out = [0; 4096];
    match opener.open(bytes, &mut out) {
        Err(PayloadFault::Truncated) => assert!(bytes.len() < TAG_BYTES),
        Err(PayloadFault::Changed { chunk: found }) => assert_eq!(found, chunk),
        Err(PayloadFault::NoRoom) => assert!(bytes.len() > out.len() + TAG_BYTES),
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(opener.finish(), Err(PayloadFault::Truncated));
    assert_eq!(Some(opener.position()), chunk_start(chunk));
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(&key(), &NONCE).unwrap();
    let chunks = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
    let mut out = Vec::new();
    for index in 1..=chunks {
        let text = plaintext.chunks(CHUNK_BYTES).nth(index - 1).unwrap_or_default();
        let mut buffer = [text, &[0; TAG_BYTES]].concat();
        sealer.seal(&mut buffer, index == chunks).unwrap();
        out.extend_from_slice(&buffer);
    }
    out
}

fn opened(sealed: &[u8], chunk: u64) -> Result<Vec<u8>, PayloadFault> {
    let mut opener = Opener::at_chunk(&key(), &NONCE, chunk)?;
    let (mut plaintext, mut out) = (Vec::new(), vec![0; CHUNK_BYTES]);
    for piece in sealed.chunks(SEALED_CHUNK_BYTES) {
        plaintext.extend_from_slice(opener.open(piece, &mut out)?);
    }
    opener.finish().map(|()| plaintext)
}

/// A file of these bytes, long enough for `1 + cut % 3` chunks if `cut` is odd.
fn check_sealed(bytes: &[u8], cut: usize) {
    let copies = if cut % 2 == 0 { 1 } else { 1 + cut % 3 * CHUNK_BYTES / bytes.len().max(1) };
    let plaintext = bytes.repeat(copies);
    let mut sealed = sealed(&plaintext);
    let payload = NONCE_BYTES as u64 + sealed.len() as u64;
    assert_eq!(payload_bytes(plaintext.len() as u64), Some(payload));
    assert_eq!(plaintext_bytes(payload), Some(plaintext.len() as u64));
    assert_eq!(opened(&sealed, 0).as_ref(), Ok(&plaintext));
    let last = (plaintext.len().div_ceil(CHUNK_BYTES).max(1) - 1) as u64;
    let rest = &sealed[last as usize * SEALED_CHUNK_BYTES..];
    assert_eq!(opened(rest, last).as_deref(), Ok(&plaintext[last as usize * CHUNK_BYTES..]));
    let place = cut * 769 % sealed.len();
    assert!(opened(&sealed[..place], 0).is_err());
    sealed[place] ^= 1 << (cut % 8);
    assert!(opened(&sealed, 0).is_err());
}

/// Any text as a key: what is read has this one text.
fn check_keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert_eq!(recipient.to_string(), text);
    }
    if let Ok(identity) = text.parse::<Identity>() {
        assert_eq!(identity.to_string(), text);
    }
    if let Some(key) = bytes.first_chunk() {
        let recipient = Recipient::new(*key);
        assert_eq!(recipient.to_string().parse(), Ok(recipient));
        let outcome = Header::write(&recipient, &self::key(), &[9; 32]);
        assert!(outcome.is_ok() || outcome == Err(HeaderFault::WeakKey));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(*cut);
    let _ = check_header(bytes, cut.min(bytes.len()));
    check_lines(bytes, cut.min(bytes.len()));
    check_changed_header(bytes, cut);
    check_foreign_chunk(bytes, cut);
    check_sealed(bytes, cut);
    check_keys(bytes);
});
