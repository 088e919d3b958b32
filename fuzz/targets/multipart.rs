//! Any bytes as a form: the same file or fault however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http::Fault;
use wire::multipart::{FilePart, Multipart};

const OVERHEAD_BYTES_MAX: u64 = 512;

type Read = (Option<FilePart>, Vec<u8>, Result<(), Fault>);

fn read(boundary: &[u8], body: &[u8], pieces: impl Iterator<Item = usize>) -> Result<Read, Fault> {
    let mut form = Multipart::new(boundary, OVERHEAD_BYTES_MAX);
    let (mut payload, mut buffer, mut at) = (Vec::new(), Vec::new(), 0);
    for size in pieces {
        let end = (at + size).min(body.len());
        buffer.extend_from_slice(&body[at..end]);
        at = end;
        let fed = form.feed(&buffer)?;
        assert!(fed.carry <= boundary.len() + 5 && fed.payload.end <= buffer.len() - fed.carry);
        assert!(fed.payload.is_empty() || form.file().is_some());
        payload.extend_from_slice(&buffer[fed.payload.clone()]);
        buffer.drain(..buffer.len() - fed.carry);
        if at == body.len() {
            break;
        }
    }
    let overhead = (body.len() - payload.len() - buffer.len()) as u64;
    assert!(overhead <= OVERHEAD_BYTES_MAX);
    Ok((form.file().cloned(), payload, form.finish()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[cut, pick], body)) = data.split_first_chunk::<2>() else { return };
    let boundary: &[u8] = if pick & 1 == 0 { b"b" } else { b"----b-" };
    let whole = read(boundary, body, std::iter::once(body.len()));
    let cut = usize::from(cut);
    assert_eq!(read(boundary, body, [cut, body.len()].into_iter()), whole);
    assert_eq!(read(boundary, body, std::iter::repeat(cut.max(1))), whole);
    assert_eq!(read(boundary, body, std::iter::repeat(1)), whole);
});
