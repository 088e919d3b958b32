//! Any bytes as a TLV message of a client or of the relay: the outcome is the same however they are cut, and
//! what was read is written as it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::pair::Dialect;
use wire::pair::tlv::{Code, Fault, HEADER_BYTES, Reply, Request, VALUE_BYTES_MAX};

type Outcome<M> = Result<Option<(M, usize)>, Fault>;

/// Checks what both directions have in common.
fn check<M: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    whole: &Outcome<M>,
    begun: &Outcome<M>,
    encode: impl Fn(&M, &mut Vec<u8>) -> Result<(), Fault>,
) {
    assert!(*begun == Ok(None) || begun == whole, "begun: {begun:?}, whole: {whole:?}");
    match whole {
        Ok(Some((message, taken))) => {
            assert!((HEADER_BYTES..=HEADER_BYTES + VALUE_BYTES_MAX).contains(taken));
            let mut out = Vec::new();
            assert_eq!(encode(message, &mut out), Ok(()));
            assert_eq!(out, bytes[..*taken]);
        }
        Ok(None) => assert!(bytes.len() < HEADER_BYTES + VALUE_BYTES_MAX),
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

fn check_read(bytes: &[u8], cut: usize) {
    let begun = &bytes[..cut];
    let request = Request::parse(bytes);
    check(bytes, &request, &Request::parse(begun), |it, out| it.encode(out));
    let reply = Reply::parse(bytes);
    check(bytes, &reply, &Reply::parse(begun), |it, out| it.encode(out));
    // A message has one direction.
    assert!(bytes.is_empty() || request.is_err() || reply.is_err());
    if let Some(&first) = bytes.first() {
        assert!(Dialect::of(first) == Some(Dialect::Tlv) || request.is_err());
    }
}

/// Messages made of any bytes are read back, with any bytes behind them.
fn check_written(bytes: &[u8], cut: usize) {
    let text = String::from_utf8_lossy(bytes);
    let number = u16::try_from(cut).unwrap_or_default();
    let mut out = Vec::new();
    let error = Reply::Error { status: number, text: &text };
    if error.encode(&mut out).is_ok() {
        let taken = out.len();
        out.extend_from_slice(bytes);
        assert_eq!(Reply::parse(&out), Ok(Some((error, taken))));
    }
    let Some(code) = Code::new(&text) else { return };
    let (request, reply) =
        (Request::RegisterReceiver(code), Reply::Code { lifetime_s: number.into(), code });
    let (mut said, mut answered) = (Vec::new(), Vec::new());
    if request.encode(&mut said).is_ok() {
        assert_eq!(Request::parse(&said), Ok(Some((request, said.len()))));
    }
    if reply.encode(&mut answered).is_ok() {
        assert_eq!(Reply::parse(&answered), Ok(Some((reply, answered.len()))));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(*cut);
    check_read(bytes, cut.min(bytes.len()));
    check_written(bytes, cut);
});
