//! Any bytes as a chunked body: the same payload, end or fault however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http::{Dechunker, Fault, chunk_line};

/// More than an input has, so only the size in a chunk line can exceed it.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Returns the payload, the bytes read, and whether the body has ended.
fn decode(
    body: &[u8],
    pieces: impl Iterator<Item = usize>,
) -> Result<(Vec<u8>, usize, bool), Fault> {
    let mut decoder = Dechunker::new(64, 128, BODY_BYTES_MAX);
    let (mut payload, mut at) = (Vec::new(), 0);
    for size in pieces {
        let end = (at + size).min(body.len());
        let mut piece = body[at..end].to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.payload <= decoded.consumed && decoded.done == decoder.is_done());
        assert!(decoded.done || decoded.consumed == piece.len());
        assert_eq!(piece[decoded.consumed..], body[at + decoded.consumed..end]);
        payload.extend_from_slice(&piece[..decoded.payload]);
        assert!(payload.len() as u64 <= BODY_BYTES_MAX);
        at += decoded.consumed;
        if decoded.done || at == body.len() {
            break;
        }
    }
    Ok((payload, at, decoder.is_done()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[cut], body)) = data.split_first_chunk::<1>() else { return };
    let whole = decode(body, std::iter::once(body.len()));
    let cut = usize::from(cut);
    assert_eq!(decode(body, [cut, body.len()].into_iter()), whole);
    assert_eq!(decode(body, std::iter::repeat(cut.max(1))), whole);
    assert_eq!(decode(body, std::iter::repeat(1)), whole);

    let mut sent = Vec::new();
    for chunk in body.chunks(cut.max(1)) {
        sent.extend_from_slice(chunk_line(chunk.len() as u64).as_bytes());
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(decode(&sent, std::iter::repeat(61)), Ok((body.to_vec(), sent.len(), true)));
});
