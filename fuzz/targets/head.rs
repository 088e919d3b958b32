//! Any bytes as a request head: the outcome is the same however they are cut, and what is accepted
//! has one meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http::{Fault, FieldRoom, Framing, HeadLimits, Method, Parsed, Request, parse};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, header_fields_max: 16 };

/// The outcome as a caller sees it; `None` while the head is incomplete.
fn outcome(bytes: &[u8]) -> Option<Result<String, Fault>> {
    match parse(bytes, &LIMITS, &mut FieldRoom::default()) {
        Ok(Parsed::Partial) => None,
        Ok(Parsed::Complete(request, used)) => {
            check(&request, &bytes[..used]);
            Some(Ok(format!("{request:?} {used}")))
        }
        Err(fault) => {
            assert!(matches!(fault.status().code(), 400..=599) && !fault.to_string().is_empty());
            Some(Err(fault))
        }
    }
}

fn check(request: &Request<'_>, head: &[u8]) {
    assert!(head.len() <= LIMITS.head_bytes_max && head.ends_with(b"\r\n\r\n"));
    assert!(!head.contains(&0));
    for (at, byte) in head.iter().enumerate() {
        assert!(*byte != b'\n' || head[at - 1] == b'\r', "bare line feed");
        assert!(*byte != b'\r' || head[at + 1] == b'\n', "bare carriage return");
    }
    let star = request.path == "*" && request.method == Method::Options;
    assert!(star || request.path.starts_with('/'));
    assert!(request.path.bytes().chain(request.host.bytes()).all(|it| it.is_ascii_graphic()));
    let (lengths, codings) =
        (request.fields("Content-Length").count(), request.fields("Transfer-Encoding").count());
    let wanted = match request.framing {
        Framing::None => (0, 0),
        Framing::Length(_) => (1, 0),
        Framing::Chunked => (0, 1),
    };
    assert_eq!((lengths, codings), wanted);
    assert!(request.fields("host").count() <= 1);
}

fuzz_target!(|data: &[u8]| {
    let Some((cuts, head)) = data.split_at_checked(2) else { return };
    let whole = outcome(head);
    for cut in cuts.iter().map(|&cut| usize::from(cut).min(head.len())) {
        for end in [cut, head.len() - cut] {
            let begun = outcome(&head[..end]);
            assert!(begun.is_none() || begun == whole, "cut at {end}: {begun:?}, whole: {whole:?}");
        }
    }
});
