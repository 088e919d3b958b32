//! Each message written and read back, cut at every place, and each way to be malformed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const KEY: &str = "Zm9vYmFy-_0123";

fn key() -> Code<'static> {
    Code::new(KEY).unwrap()
}

fn requests() -> [Request<'static>; 2] {
    [Request::RegisterSender, Request::RegisterReceiver(key())]
}

fn replies() -> [Reply<'static>; 5] {
    [
        Reply::Code { lifetime_s: 3600, code: key() },
        Reply::Waiting,
        Reply::Paired,
        Reply::Error { status: 404, text: "kein solcher Schl\u{fc}ssel" },
        Reply::Error { status: 503, text: "" },
    ]
}

fn said(request: Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&mut out).unwrap();
    out
}

fn answered(reply: Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out).unwrap();
    out
}

/// A message as a stranger may write it: any type, any length, any value.
fn raw(number: u8, length: u32, value: &[u8]) -> Vec<u8> {
    [&[number][..], &length.to_be_bytes(), value].concat()
}

fn request_fault(bytes: &[u8]) -> Fault {
    Request::parse(bytes).unwrap_err()
}

fn reply_fault(bytes: &[u8]) -> Fault {
    Reply::parse(bytes).unwrap_err()
}

#[test]
fn messages_are_these_bytes() {
    assert_eq!(said(Request::RegisterSender), b"\x01\0\0\0\0");
    assert_eq!(said(requests()[1]), [b"\x02\0\0\0\x0e", KEY.as_bytes()].concat());
    let code = [b"\x81\0\0\0\x12\0\0\x0e\x10", KEY.as_bytes()].concat();
    assert_eq!(answered(replies()[0]), code);
    assert_eq!(answered(Reply::Waiting), b"\x82\0\0\0\0");
    assert_eq!(answered(Reply::Paired), b"\x83\0\0\0\0");
    assert_eq!(answered(Reply::Error { status: 404, text: "no" }), b"\x84\0\0\0\x04\x01\x94no");
}

#[test]
fn a_message_that_is_cut_anywhere_is_incomplete() {
    for request in requests() {
        let bytes = said(request);
        for cut in 0..bytes.len() {
            assert_eq!(Request::parse(&bytes[..cut]), Ok(None), "{request:?} cut at {cut}");
        }
        assert_eq!(Request::parse(&bytes), Ok(Some((request, bytes.len()))));
    }
    for reply in replies() {
        let bytes = answered(reply);
        for cut in 0..bytes.len() {
            assert_eq!(Reply::parse(&bytes[..cut]), Ok(None), "{reply:?} cut at {cut}");
        }
        assert_eq!(Reply::parse(&bytes), Ok(Some((reply, bytes.len()))));
    }
}

#[test]
fn messages_are_read_one_after_the_other_and_the_rest_is_left() {
    let mut bytes = Vec::new();
    replies().iter().for_each(|reply| reply.encode(&mut bytes).unwrap());
    bytes.extend_from_slice(b"\x7fpayload");
    let mut rest = &bytes[..];
    for expected in replies() {
        let (reply, taken) = Reply::parse(rest).unwrap().unwrap();
        assert_eq!(reply, expected);
        rest = &rest[taken..];
    }
    assert_eq!(rest, b"\x7fpayload");
    let behind = [said(Request::RegisterSender), b"\xff".to_vec()].concat();
    assert_eq!(Request::parse(&behind), Ok(Some((Request::RegisterSender, HEADER_BYTES))));
}

#[test]
fn a_type_that_is_unknown_is_refused_at_once() {
    for byte in (0..=u8::MAX).filter(|&byte| MessageType::of(byte).is_none()) {
        assert_eq!(request_fault(&[byte]), Fault::UnknownType { byte });
        assert_eq!(reply_fault(&[byte]), Fault::UnknownType { byte });
    }
}

#[test]
fn a_message_in_the_wrong_direction_is_refused_at_once() {
    for kind in (0..=u8::MAX).filter_map(MessageType::of) {
        let bytes = [kind.number()];
        let fault = if kind.is_request() { reply_fault(&bytes) } else { request_fault(&bytes) };
        assert_eq!(fault, Fault::WrongDirection { kind });
    }
}

#[test]
fn a_value_that_is_too_long_is_refused_from_its_header() {
    for value_bytes in [4097, 1 << 16, 1 << 31, u32::MAX] {
        let fault = Fault::TooLong { value_bytes };
        for number in [0x01, 0x02] {
            assert_eq!(request_fault(&raw(number, value_bytes, b"")), fault);
        }
        for number in 0x81..=0x84 {
            assert_eq!(reply_fault(&raw(number, value_bytes, b"")), fault);
        }
    }
    assert_eq!(Request::parse(&raw(0x02, 4096, b"")), Ok(None));
    assert_eq!(Reply::parse(&raw(0x84, 4096, b"")), Ok(None));
}

#[test]
fn a_length_that_its_type_cannot_have_is_refused_from_its_header() {
    for (number, value_bytes) in [(0x01, 1), (0x01, 4096), (0x02, 0)] {
        let kind = MessageType::of(number).unwrap();
        let fault = request_fault(&raw(number, value_bytes, b""));
        assert_eq!(fault, Fault::WrongLength { kind, value_bytes });
    }
    let lengths = [(0x81, 0), (0x81, 3), (0x81, 4), (0x82, 1), (0x83, 1), (0x84, 0), (0x84, 1)];
    for (number, value_bytes) in lengths {
        let kind = MessageType::of(number).unwrap();
        let fault = reply_fault(&raw(number, value_bytes, b""));
        assert_eq!(fault, Fault::WrongLength { kind, value_bytes });
    }
}

#[test]
fn a_code_is_visible_ascii() {
    for text in [&b" "[..], b"a b", b"a\n", b"a\0", b"\x7f", b"\xc3\xbc", b"\xff", b"\x1b[2J"] {
        let length = u32::try_from(text.len()).unwrap();
        let fault = Fault::NotText { kind: MessageType::RegisterReceiver };
        assert_eq!(request_fault(&raw(0x02, length, text)), fault, "{text:?}");
        let fault = Fault::NotText { kind: MessageType::Code };
        let value = [b"\0\0\0\x01", text].concat();
        assert_eq!(reply_fault(&raw(0x81, length + 4, &value)), fault, "{text:?}");
        assert_eq!(std::str::from_utf8(text).ok().and_then(Code::new), None);
    }
    assert_eq!(Code::new(""), None);
}

#[test]
fn the_text_of_an_error_is_utf8() {
    for text in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
        let value = [b"\x01\x90", text].concat();
        let length = u32::try_from(value.len()).unwrap();
        let fault = Fault::NotText { kind: MessageType::Error };
        assert_eq!(reply_fault(&raw(0x84, length, &value)), fault, "{text:?}");
    }
}

#[test]
fn the_longest_values_are_written_and_longer_ones_are_not() {
    let text = "x".repeat(VALUE_BYTES_MAX + 1);
    let code = |bytes: usize| Code::new(&text[..bytes]).unwrap();
    let mut out = b"before".to_vec();
    for bytes in [VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1] {
        let fits = bytes == VALUE_BYTES_MAX;
        let before = out.len();
        let outcomes = [
            Request::RegisterReceiver(code(bytes)).encode(&mut out),
            Reply::Code { lifetime_s: 1, code: code(bytes - 4) }.encode(&mut out),
            Reply::Error { status: 1, text: &text[..bytes - 2] }.encode(&mut out),
        ];
        let fault = Fault::TooLong { value_bytes: 4097 };
        assert!(outcomes.iter().all(|it| *it == if fits { Ok(()) } else { Err(fault) }));
        assert_eq!(out.len() - before, if fits { 3 * (HEADER_BYTES + bytes) } else { 0 });
    }
}

#[test]
fn faults_name_the_message() {
    let kind = MessageType::Code;
    for (fault, shown) in [
        (Fault::UnknownType { byte: 0x7f }, "no message has the type 0x7f"),
        (Fault::WrongDirection { kind }, "only a relay says CODE"),
        (
            Fault::WrongDirection { kind: MessageType::RegisterSender },
            "only a client says REGISTER_SENDER",
        ),
        (Fault::TooLong { value_bytes: 5000 }, "a value of 5000 bytes: the longest has 4096"),
        (Fault::WrongLength { kind, value_bytes: 4 }, "CODE cannot have a value of 4 bytes"),
        (Fault::NotText { kind }, "the code of CODE is not visible ASCII"),
        (Fault::NotText { kind: MessageType::Error }, "the text of ERROR is not UTF-8"),
    ] {
        assert_eq!(fault.to_string(), shown);
    }
}

#[test]
fn a_code_is_not_shown() {
    let shown = format!("{:?} {:?}", requests(), replies());
    assert!(shown.contains("Code(..)") && !shown.contains(KEY), "{shown}");
}

proptest! {
    #[test]
    fn every_message_is_read_back(
        text in "[!-~]{1,4092}", words in "\\PC{0,200}", lifetime_s: u32, status: u16, behind: Vec<u8>,
    ) {
        let code = Code::new(&text).unwrap();
        let request = Request::RegisterReceiver(code);
        let bytes = said(request);
        let read = [&bytes[..], &behind].concat();
        prop_assert_eq!(Request::parse(&read), Ok(Some((request, bytes.len()))));
        for reply in [Reply::Code { lifetime_s, code }, Reply::Error { status, text: &words }] {
            let bytes = answered(reply);
            let read = [&bytes[..], &behind].concat();
            prop_assert_eq!(Reply::parse(&read), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn a_verdict_stands_whatever_comes_behind(
        number in prop_oneof![Just(0x01_u8), Just(0x02), 0x80_u8..0x86, any::<u8>()],
        length in prop_oneof![0_u32..12, any::<u32>()],
        value: [u8; 12],
        cut in 0_usize..=17,
    ) {
        let bytes = raw(number, length, &value);
        let begun = &bytes[..cut];
        let (whole, early) = (Request::parse(&bytes), Request::parse(begun));
        prop_assert!(early == Ok(None) || early == whole);
        let (whole, early) = (Reply::parse(&bytes), Reply::parse(begun));
        prop_assert!(early == Ok(None) || early == whole);
    }
}
