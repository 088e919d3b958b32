//! The decoder against a plain reading of the grammar, however the bytes are cut.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn decoder() -> Dechunker {
    Dechunker::new(256, 1024, u64::MAX)
}

/// Decodes in pieces of the given sizes (the last one repeats), and returns payload and the bytes
/// left over.
fn decode_cut(body: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), Fault> {
    let mut decoder = decoder();
    let mut payload = Vec::new();
    let mut at = 0;
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(*cuts.last().unwrap()));
    while at < body.len() && !decoder.is_done() {
        let end = (at + cuts.next().unwrap().max(1)).min(body.len());
        let mut piece = body[at..end].to_vec();
        let decoded = decoder.decode(&mut piece)?;
        assert!(decoded.payload <= decoded.consumed && decoded.consumed <= piece.len());
        assert!(decoded.done || decoded.consumed == piece.len());
        assert_eq!(piece[decoded.consumed..], body[at + decoded.consumed..end], "touched the rest");
        payload.extend_from_slice(&piece[..decoded.payload]);
        at += decoded.consumed;
    }
    Ok((payload, at, decoder.is_done()))
}

/// Decodes with the framing between chunks read by itself and their payload passed by, where the decoder says what comes.
/// Returns payload and the bytes left over.
fn decode_passing(body: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), Fault> {
    let mut decoder = decoder();
    let (mut payload, mut at) = (Vec::new(), 0);
    let mut cuts = cuts.iter().copied().cycle();
    while at < body.len() && !decoder.is_done() {
        let bytes = (body.len() - at).min(cuts.next().unwrap());
        if let Some(framing) = decoder.framing_bytes() {
            let read = decoder.read_framing(&body[at..at + bytes.min(framing)])?;
            assert!(read > 0);
            at += read;
        } else if decoder.run_bytes() > 0 {
            let run = bytes.min(usize::try_from(decoder.run_bytes()).unwrap());
            decoder.pass(run as u64);
            payload.extend_from_slice(&body[at..at + run]);
            at += run;
        } else {
            let mut piece = body[at..at + bytes].to_vec();
            let decoded = decoder.decode(&mut piece)?;
            payload.extend_from_slice(&piece[..decoded.payload]);
            at += decoded.consumed;
        }
    }
    Ok((payload, at, decoder.is_done()))
}

fn encode(chunks: &[(Vec<u8>, String)], trailers: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (payload, extension) in chunks {
        body.extend_from_slice(format!("{:x}{extension}\r\n", payload.len()).as_bytes());
        body.extend_from_slice(payload);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("000\r\n{trailers}\r\n").as_bytes());
    body
}

/// Matches up to two extensions: a name alone, with a quoted text, or with a token.
const EXTENSION: &str = concat!(
    "([ \t]?;[ \t]?[a-z]{1,4}([ \t]?=[ \t]?",
    "(\"([ !#-\\[^-~]|\\\\[ -~]){0,5}\"|[!#$%&'*+.^_`|~0-9A-Z-]{1,4}))?){0,2}",
);

prop_compose! {
    fn chunk()(
        payload in prop::collection::vec(any::<u8>(), 1..300),
        extension in EXTENSION,
    ) -> (Vec<u8>, String) {
        (payload, extension)
    }
}

proptest! {
    #[test]
    fn payload_is_what_was_encoded_for_every_cut(
        chunks in prop::collection::vec(chunk(), 0..12),
        trailers in "([A-Za-z-]{1,8}:[ -~\t]{0,20}\r\n){0,3}",
        next in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut body = encode(&chunks, &trailers);
        let ends = body.len();
        body.extend_from_slice(&next);
        let payload: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.0.clone()).collect();
        for cuts in [&cuts[..], &[1], &[body.len()]] {
            prop_assert_eq!(decode_cut(&body, cuts), Ok((payload.clone(), ends, true)));
            prop_assert_eq!(decode_passing(&body, cuts), Ok((payload.clone(), ends, true)));
        }
    }

    #[test]
    fn a_fault_is_found_though_payload_passes_by(
        mut body in prop::collection::vec(chunk(), 1..4).prop_map(|chunks| encode(&chunks, "A: b\r\n")),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(1usize..50, 1..20),
    ) {
        let at = at.index(body.len());
        body[at] = byte;
        prop_assert_eq!(decode_passing(&body, &cuts), decode_cut(&body, &[1]));
    }

    #[test]
    fn a_fault_is_the_same_for_every_cut(
        mut body in prop::collection::vec(chunk(), 1..4).prop_map(|chunks| encode(&chunks, "A: b\r\n")),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(1usize..50, 1..20),
    ) {
        let at = at.index(body.len());
        body[at] = byte;
        let whole = decode_cut(&body, &[body.len()]);
        prop_assert_eq!(&decode_cut(&body, &cuts), &whole);
        prop_assert_eq!(&decode_cut(&body, &[1]), &whole);
    }
}

#[test]
fn a_size_of_sixteen_digits_is_read_and_a_seventeenth_refused() {
    let mut decoder = decoder();
    let mut body = *b"fffffffffffffffe\r\nabc";
    assert_eq!(decoder.decode(&mut body).unwrap().payload, 3);
    assert_eq!(decoder.state, State::Payload { left: u64::MAX - 4 });
    let seventeen = decode_cut(b"00000000000000001\r\na\r\n", &[99]);
    assert_eq!(seventeen, Err(Fault::ChunkSizeOverflow));
}

#[test]
fn no_chunk_begins_that_is_larger_than_what_may_come() {
    let refused = Err(Fault::BodyTooLarge { bytes_max: 10 });
    for body in
        ["ffffffffffffffff\r\n", "b\r\n", "6\r\nabcdef\r\n5\r\n", "a\r\n0123456789\r\n1\r\n"]
    {
        for cut in [1, 4, 99] {
            let mut decoder = Dechunker::new(256, 1024, 10);
            let outcome = body
                .as_bytes()
                .chunks(cut)
                .try_for_each(|piece| decoder.decode(&mut piece.to_vec()).map(|_| ()));
            assert_eq!(outcome, refused, "{body:?}");
        }
        let but_for_its_end = &mut body.as_bytes()[..body.len() - 1].to_vec();
        assert!(Dechunker::new(256, 1024, 10).decode(but_for_its_end).is_ok(), "{body:?}");
    }
    let mut whole = b"6;a\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n".to_vec();
    assert!(Dechunker::new(256, 1024, 10).decode(&mut whole).unwrap().done);
}

#[test]
fn extensions_must_stand_in_proportion_to_the_payload() {
    let signed = format!("1000;chunk-signature={}", "0".repeat(64));
    let mut body = Vec::new();
    for _ in 0..400 {
        body.extend_from_slice(signed.as_bytes());
        body.extend_from_slice(b"\r\n");
        body.resize(body.len() + 0x1000, b'x');
        body.extend_from_slice(b"\r\n");
    }
    assert!(decode_cut(&body, &[70_000]).is_ok());
    let padded =
        "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1000);
    let bytes_max = EXTENSION_EXCESS_BYTES_MAX;
    let refused = decode_cut(padded.as_bytes(), &[999]);
    assert_eq!(refused, Err(Fault::ChunkExtensionExcess { bytes_max }));
    let plain = "1\r\nx\r\n".repeat(100_000);
    assert!(decode_cut(plain.as_bytes(), &[4096]).is_ok());
}

#[test]
fn trailers_are_bounded_and_dropped() {
    let body = format!("1\r\na\r\n0\r\n{}\r\nGET", "A: b\r\n".repeat(170));
    let trailed = decode_cut(body.as_bytes(), &[7]);
    assert_eq!(trailed, Ok((b"a".to_vec(), body.len() - 3, true)));
    let body = format!("0\r\n{}\r\n", "A: b\r\n".repeat(171));
    let refused = decode_cut(body.as_bytes(), &[7]);
    assert_eq!(refused, Err(Fault::TrailerTooLong { bytes_max: 1024 }));
}

#[test]
fn the_framing_between_chunks_is_as_long_as_before() {
    let mut decoder = decoder();
    assert_eq!(decoder.framing_bytes(), None, "no line has come yet");
    decoder.decode(&mut b"5\r\nhello".to_vec()).unwrap();
    assert_eq!(decoder.framing_bytes(), Some(5));
    assert_eq!(decoder.read_framing(b"\r"), Ok(1));
    assert_eq!(decoder.framing_bytes(), Some(4));
    assert_eq!(decoder.read_framing(b"\n"), Ok(1));
    assert_eq!(decoder.framing_bytes(), Some(3));
    assert_eq!(decoder.read_framing(b"7\r\nhello"), Ok(3), "payload is left alone");
    assert_eq!((decoder.framing_bytes(), decoder.run_bytes()), (None, 7));
    decoder.pass(7);
    assert_eq!(decoder.read_framing(b"\r\n10"), Ok(4));
    assert_eq!(decoder.framing_bytes(), None, "the line is longer than the last one");
    assert_eq!(decoder.read_framing(b"\r\n"), Ok(2));
    assert_eq!(decoder.run_bytes(), 16);
}
