//! The parties of pairs, as they speak: lines of transit, and messages of TLV.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{Raw, Relay, Segment};

/// What a party hears once its peer is there.
pub(super) const OK: &[u8] = b"ok\n";

/// The types of TLV messages.
pub(super) const REGISTER_SENDER: u8 = 0x01;
pub(super) const REGISTER_RECEIVER: u8 = 0x02;
pub(super) const CODE: u8 = 0x81;
pub(super) const WAITING: u8 = 0x82;
pub(super) const PAIRED: u8 = 0x83;
pub(super) const ERROR: u8 = 0x84;

/// A token that no other test of this process has.
pub(super) fn token() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:064x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The line of a client whose side is sixteen times this digit.
pub(super) fn line(token: &str, side: Option<char>) -> Vec<u8> {
    let side = side.map(|digit| format!(" for side {}", digit.to_string().repeat(16)));
    format!("please relay {token}{}\n", side.unwrap_or_default()).into_bytes()
}

/// A client that has said its line.
pub(super) fn ask(relay: &Relay, token: &str, side: Option<char>) -> Raw {
    say(relay.connect(), &line(token, side))
}

pub(super) fn say(mut raw: Raw, bytes: &[u8]) -> Raw {
    raw.send(bytes);
    raw
}

/// Panics unless the client hears next that its peer is there.
#[track_caller]
pub(super) fn hears_ok(raw: &mut Raw) {
    let heard = raw.read_exactly(OK.len());
    assert_eq!(heard, OK, "{}", String::from_utf8_lossy(&heard));
}

/// Two parties that are paired.
pub(super) fn pair(relay: &Relay) -> [Raw; 2] {
    let token = token();
    let mut parties = ['a', 'b'].map(|side| ask(relay, &token, Some(side)));
    parties.iter_mut().for_each(hears_ok);
    parties
}

/// Two parties that are paired, at these workers.
pub(super) fn pair_on(relay: &Relay, segment: &Segment, workers: [usize; 2]) -> [Raw; 2] {
    let token = token();
    let connect = |worker| relay.on_worker(worker, segment, || relay.connect());
    let [one, other] = workers.map(connect);
    let mut parties = [say(one, &line(&token, Some('a'))), say(other, &line(&token, Some('b')))];
    parties.iter_mut().for_each(hears_ok);
    parties
}

/// Sends `bytes` from one to the other, and sees them arrive.
#[track_caller]
pub(super) fn passes(from: &mut Raw, to: &mut Raw, bytes: &[u8]) {
    from.send(bytes);
    assert_eq!(to.read_exactly(bytes.len()), bytes);
}

/// A message of TLV.
pub(super) fn message(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// The next message of TLV: its type and its value.
#[track_caller]
pub(super) fn hear(raw: &mut Raw) -> (u8, Vec<u8>) {
    let header = raw.read_exactly(5);
    let length = u32::from_be_bytes(header[1..].try_into().unwrap());
    assert!(length <= 4096, "{length}");
    (header[0], raw.read_exactly(length as usize))
}

/// Panics unless the relay says this error, and then closes.
#[track_caller]
pub(super) fn hears_error(mut raw: Raw, status: u16, word: &str) {
    let (kind, value) = hear(&mut raw);
    let text = String::from_utf8(value[2..].to_vec()).unwrap();
    let heard = u16::from_be_bytes([value[0], value[1]]);
    assert_eq!((kind, heard), (ERROR, status), "{text}");
    assert!(text.contains(word), "{text}");
    raw.expect_close();
}

/// A sender, its code, and the lifetime of that in seconds.
pub(super) fn register(relay: &Relay) -> (Raw, String, u32) {
    let mut sender = say(relay.connect(), &message(REGISTER_SENDER, b""));
    let (kind, value) = hear(&mut sender);
    assert_eq!(kind, CODE);
    let (lifetime, code) = value.split_at(4);
    let code = String::from_utf8(code.to_vec()).unwrap();
    (sender, code, u32::from_be_bytes(lifetime.try_into().unwrap()))
}

/// A receiver that has said this code.
pub(super) fn receive(relay: &Relay, code: &str) -> Raw {
    say(relay.connect(), &message(REGISTER_RECEIVER, code.as_bytes()))
}
