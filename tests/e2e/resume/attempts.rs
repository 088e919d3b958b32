//! Attempts to pass a file, as the tests of this folder make them: a sender or a receiver that begins somewhere in the
//! file, and the answer that each must get.

use std::thread;

use crate::harness::{Payload, Raw, Response, Session};

/// Bytes of a file that passes by several chunks, and by pipe where pipes are allowed.
pub(super) const TOTAL: u64 = 3_000_000;
/// Bytes of it that a receiver has.
pub(super) const HAS: u64 = 1_234_567;

pub(super) fn get(session: &Session, fields: &[(&str, &str)]) -> Raw {
    let mut receiver = session.connect();
    receiver.request("GET", &session.path, fields);
    receiver
}

pub(super) fn get_rest(session: &Session, from: u64) -> Raw {
    get(session, &[("Range", &format!("bytes={from}-"))])
}

/// Begins to send `bytes` of a file of `total`, from byte `start` on.
pub(super) fn put(
    session: &Session,
    start: u64,
    total: u64,
    bytes: &[u8],
    fields: &[(&str, &str)],
) -> Raw {
    let mut sender = session.connect();
    let (length, last) = ((total - start).to_string(), total.saturating_sub(1));
    let range = format!("bytes {start}-{last}/{total}");
    let mut all = vec![("Content-Length", &*length)];
    if start > 0 {
        all.push(("Content-Range", &range));
    }
    all.extend_from_slice(fields);
    sender.request("PUT", &session.path, &all).send(bytes);
    sender
}

pub(super) fn put_all(session: &Session, bytes: &[u8]) -> Raw {
    put(session, 0, bytes.len() as u64, bytes, &[])
}

/// Sends on a thread, as the bytes may not fit into the sockets; the thread returns the answer.
pub(super) fn sending(
    session: &Session,
    start: u64,
    payload: &Payload,
) -> thread::JoinHandle<Response> {
    let mut sender = put(session, start, payload.len(), &[], &[]);
    let bytes = payload.bytes();
    thread::spawn(move || {
        sender.send(&bytes[usize::try_from(start).unwrap()..]);
        sender.read_response()
    })
}

/// Makes a transfer of a file of `total` bytes whose receiver leaves once it has got `got`. Returns the file's tag, and
/// the sender's answer.
pub(super) fn broken(
    session: &Session,
    total: u64,
    got: &[u8],
    fields: &[(&str, &str)],
) -> (String, Response) {
    let mut receiver = get(session, &[]);
    let mut sender = put(session, 0, total, got, fields);
    let head = receiver.read_head();
    assert_eq!(receiver.read_exactly(got.len()), got);
    receiver.wait_until_acknowledged();
    receiver.reset();
    (head.must("ETag").to_owned(), sender.read_response().expect_error(502))
}

pub(super) fn expect_rest(response: Response, from: u64, whole: &[u8]) {
    let response = response.expect(206);
    let total = whole.len();
    let range = format!("bytes {from}-{}/{total}", total - 1);
    assert_eq!(response.head.must("Content-Range"), range);
    assert_eq!(response.body, &whole[usize::try_from(from).unwrap()..]);
}

pub(super) fn expect_whole_report(answer: Response, total: u64, relayed: u64) {
    let answer = answer.expect(200);
    assert_eq!(answer.text(), format!("delivered {total} bytes\n"));
    assert_eq!(answer.head.delivered_bytes(), total);
    assert_eq!(answer.head.must("X-Bytes-Relayed"), relayed.to_string());
}

pub(super) fn expect_told_to_resume(answer: &Response, offset: u64) {
    assert_eq!(answer.head.must("Retry-After"), "0");
    assert_eq!(answer.head.must("Upload-Offset"), offset.to_string());
}
