//! Any bytes as the line of a transit client: the outcome is the same however they are cut, a line that is
//! not refused can still become good, and what was read gives the line again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::pair::Dialect;
use wire::pair::transit::{Handshake, LINE_BYTES_MAX, handshake};

fn written(found: &Handshake) -> Vec<u8> {
    let mut line = [b"please relay ", &found.token[..]].concat();
    if let Some(side) = found.side {
        line.extend_from_slice(b" for side ");
        line.extend_from_slice(&side);
    }
    line.push(b'\n');
    line
}

fn check_line(bytes: &[u8], cut: usize) {
    let whole = handshake(bytes);
    match whole {
        Ok(Some(found)) => {
            assert!(found.bytes <= bytes.len() && found.bytes <= LINE_BYTES_MAX);
            assert_eq!(written(&found), bytes[..found.bytes]);
        }
        Ok(None) => assert!(is_hopeful(bytes)),
        Err(_) => {}
    }
    let begun = handshake(&bytes[..cut]);
    assert!(begun == Ok(None) || begun == whole, "cut at {cut}: {begun:?}, whole: {whole:?}");
    if let Some(&first) = bytes.first() {
        let is_transit = Dialect::of(first) == Some(Dialect::Transit);
        assert!(is_transit || whole.is_err());
    }
}

/// Whether an end can be added that makes it a line.
fn is_hopeful(begun: &[u8]) -> bool {
    [None, Some([b'0'; 16])].into_iter().any(|side| {
        let line = written(&Handshake { token: [b'0'; 64], side, bytes: 0 });
        let end = line.get(begun.len()..).unwrap_or_default();
        matches!(handshake(&[begun, end].concat()), Ok(Some(found)) if found.bytes == line.len())
    })
}

/// A line made of any bytes is read back.
fn check_written(bytes: &[u8], cut: usize) {
    let mut digits =
        bytes.iter().cycle().map(|byte| b"0123456789abcdefABCDEF"[usize::from(byte % 22)]);
    let mut next = || digits.next().unwrap_or(b'0');
    let token = std::array::from_fn(|_| next());
    let side = cut.is_multiple_of(2).then(|| std::array::from_fn(|_| next()));
    let line = written(&Handshake { token, side, bytes: 0 });
    let expected = Handshake { token, side, bytes: line.len() };
    assert!(handshake(&[&line, bytes].concat()) == Ok(Some(expected)));
    check_line(&line, cut.min(line.len()));
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(*cut);
    check_line(bytes, cut.min(bytes.len()));
    check_written(bytes, cut);
});
