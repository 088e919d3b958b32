//! Answers, as a client reads them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn a_head_has_its_status_line_its_date_and_its_fields() {
    let mut out = b"before".to_vec();
    let mut head = ResponseHead::start(&mut out, Status::NotFound, at(784_111_777));
    head.field("X-Count", 7).field_bytes("X-Bytes", b"\xe4\t.").content_length(12).close().end();
    let wanted: &[u8] = b"beforeHTTP/1.1 404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Server: idontstore\r\nX-Count: 7\r\nX-Bytes: \xe4\t.\r\nContent-Length: 12\r\nConnection: close\r\n\r\n";
    assert_eq!(out, wanted);
    let mut out = Vec::new();
    ResponseHead::start(&mut out, Status::Ok, at(0)).chunked().keep_alive().end();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"));
}

#[test]
fn a_time_that_no_date_can_hold_does_not_panic() {
    let year_9999 = http_date(at(u64::from(u32::MAX) * 1000)).to_string();
    assert_eq!(year_9999, "Fri, 31 Dec 9999 23:59:59 GMT");
    let before = http_date(at(0) - Duration::from_secs(9)).to_string();
    assert_eq!(before, "Thu, 01 Jan 1970 00:00:00 GMT");
}

#[test]
fn a_document_has_the_time_that_the_fields_have() {
    let mut before = String::new();
    for month in 0..24 {
        // The third of each month, and a leap year among them.
        let time = at(1_704_067_200 + 2 * 86400 + month * 2_629_800);
        let text = iso_date_after(time, Duration::ZERO);
        let read = httpdate::parse_http_date(&http_date(time).to_string()).unwrap();
        assert_eq!(read, time);
        assert!(text > before, "{text} after {before}");
        before = text;
    }
    for (seconds, lifetime, want) in [
        (0, 0, "1970-01-01T00:00:00Z"),
        (784_111_777, 0, "1994-11-06T08:49:37Z"),
        (951_782_399, 1, "2000-02-29T00:00:00Z"),
        (1_798_761_599, 86400, "2027-01-01T23:59:59Z"),
        (0, u64::MAX, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(iso_date_after(at(seconds), Duration::from_secs(lifetime)), want);
    }
}

/// The bug is loud where debug assertions are on, and harmless where they are off.
#[test]
fn a_control_character_never_leaves_in_a_value() {
    for value in ["a\r\nSet-Cookie: b", "\0", "\x7f", "\x1b[2J"] {
        let built = std::panic::catch_unwind(|| {
            let mut out = Vec::new();
            let mut head = ResponseHead::start(&mut out, Status::Ok, at(0));
            head.field("X-Text", value).field_bytes("X-Bytes", value.as_bytes()).end();
            out
        });
        assert_eq!(built.is_err(), cfg!(debug_assertions));
        if let Ok(out) = built {
            assert_eq!(out.iter().filter(|&&byte| byte.is_ascii_control()).count(), 12);
        }
    }
}

#[test]
fn an_error_is_a_line_of_text_or_a_problem_document() {
    let (kind, body) = error_body(Status::Gone, "the \"key\" is dead", false);
    assert_eq!((kind, body.as_str()), ("text/plain; charset=utf-8", "the \"key\" is dead\n"));
    let (kind, body) = error_body(Status::Gone, "the \"key\" is dead", true);
    assert_eq!(kind, "application/problem+json");
    let wanted =
        r#"{"type":"about:blank","title":"Gone","status":410,"detail":"the \"key\" is dead"}"#;
    assert_eq!(body.trim_end(), wanted);
}

#[test]
fn only_a_named_media_type_is_accepted() {
    let json = |accept: &[u8]| accepts(Some(accept), "application/json");
    assert!(json(b"application/json"));
    assert!(json(b"text/html, Application/JSON;q=0.5, */*"));
    assert!(json(b"application/json;q=1.0"));
    assert!(!json(b"application/json;q=0"));
    assert!(!json(b"application/json ; Q=0.000"));
    assert!(!json(b"*/*"));
    assert!(!json(b"application/*"));
    assert!(!json(b"application/jsonx"));
    assert!(!accepts(None, "application/json"));
}

#[test]
fn every_status_has_three_digits_and_a_phrase() {
    assert_eq!((Status::Ok.code(), Status::VersionNotSupported.code()), (200, 505));
    assert_eq!(Status::BadGateway.reason(), "Bad Gateway");
}
