//! Heads that may stand, and that cutting one up changes nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::super::Framing;
use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, header_fields_max: 16 };

fn complete<'b>(head: &'b [u8], room: &'b mut FieldRoom<'b>) -> Request<'b> {
    match parse(head, &LIMITS, room) {
        Ok(Parsed::Complete(request, bytes)) => {
            assert_eq!(bytes, head.len());
            request
        }
        other => panic!("{other:?}"),
    }
}

fn target(text: &str) -> Result<(String, Option<String>, String), Fault> {
    let head = format!("GET {text} HTTP/1.1\r\nHost: h\r\n\r\n");
    match parse(head.as_bytes(), &LIMITS, &mut FieldRoom::default())? {
        Parsed::Complete(is, _) => Ok((is.path.into(), is.query.map(String::from), is.host.into())),
        Parsed::Partial => panic!("partial"),
    }
}

#[test]
fn a_head_of_curl_is_understood() {
    let mut room = FieldRoom::default();
    let request = complete(
        b"POST /key?a=b?c HTTP/1.1\r\nHost: example.org:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
          Content-Length: 5\r\nX-Twice: 1\r\nx-twice: \t 2 \r\nExpect: 100-continue\r\n\r\n",
        &mut room,
    );
    assert_eq!((request.method, request.version), (Method::Post, Version::Http11));
    assert_eq!((request.path, request.query), ("/key", Some("a=b?c")));
    assert_eq!(request.host, "example.org:8080");
    assert_eq!(request.framing, Framing::Length(5));
    assert!(request.keep_alive && request.expects_continue);
    assert_eq!(request.field("accept"), Some(&b"*/*"[..]));
    assert_eq!(request.field("absent"), None);
    assert_eq!(request.fields("X-Twice").collect::<Vec<_>>(), [b"1", b"2"]);
}

#[test]
fn empty_lines_before_a_head_are_skipped() {
    let mut room = FieldRoom::default();
    let request = complete(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut room);
    assert_eq!(request.field("host"), Some(&b"a"[..]));
    assert!(matches!(
        parse(b"\r\n\r\n\r\n", &LIMITS, &mut FieldRoom::default()),
        Ok(Parsed::Partial)
    ));
    let bytes_max = LIMITS.head_bytes_max;
    let only_empty = "\r\n".repeat(512);
    let refused = parse(only_empty.as_bytes(), &LIMITS, &mut FieldRoom::default()).unwrap_err();
    assert_eq!(refused, Fault::TargetTooLong { bytes_max });
}

#[test]
fn a_head_request_is_known_by_its_method_alone() {
    for head in ["HEAD ", "HEAD / HTTP/9", "\r\n\r\nHEAD /\0"] {
        assert!(begins_head_request(head.as_bytes()), "{head:?}");
    }
    for other in ["", "HEAD", "HEADER / ", "head / ", " HEAD / ", "GET / HTTP/1.1\r\nHEAD "] {
        assert!(!begins_head_request(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn the_bytes_behind_a_head_are_not_looked_at() {
    let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\n\r bad";
    assert!(matches!(parse(two, &LIMITS, &mut FieldRoom::default()), Ok(Parsed::Complete(_, 27))));
}

#[test]
fn a_target_is_a_path_or_a_url() {
    let is = |path: &str, query: Option<&str>, host: &str| {
        Ok((path.to_owned(), query.map(str::to_owned), host.to_owned()))
    };
    assert_eq!(target("/"), is("/", None, "h"));
    assert_eq!(target("/a//b?"), is("/a//b", Some(""), "h"));
    assert_eq!(target("http://h/a?b"), is("/a", Some("b"), "h"));
    assert_eq!(target("HTTPS://H"), is("/", None, "H"));
    assert_eq!(target("http://h?q"), is("/", Some("q"), "h"));
    for bad in ["a", "*", "ftp://h/", "h:80", "/a#b", "/\u{e4}", "//"] {
        let wanted = if bad == "//" { is("//", None, "h") } else { Err(Fault::TargetMalformed) };
        assert_eq!(target(bad), wanted, "{bad}");
    }
    assert_eq!(
        complete(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", &mut FieldRoom::default()).path,
        "*"
    );
}

#[test]
fn an_old_client_is_understood_and_not_kept() {
    let mut room = FieldRoom::default();
    let request = complete(b"GET / HTTP/1.0\r\nExpect: anything\r\n\r\n", &mut room);
    assert_eq!((request.version, request.host), (Version::Http10, ""));
    assert!(!request.keep_alive && !request.expects_continue);
    assert!(
        complete(
            b"GET / HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n",
            &mut FieldRoom::default()
        )
        .keep_alive
    );
    let closing =
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: Close\r\n\r\n";
    assert!(!complete(closing, &mut FieldRoom::default()).keep_alive);
}

#[test]
fn a_head_beyond_its_limits_is_refused_at_the_limit() {
    let bytes_max = LIMITS.head_bytes_max;
    let mut head = b"GET / HTTP/1.1\r\nHost: h\r\nA: ".to_vec();
    head.resize(bytes_max - 4, b'a');
    head.extend_from_slice(b"\r\n\r\n");
    assert!(matches!(parse(&head, &LIMITS, &mut FieldRoom::default()), Ok(Parsed::Complete(..))));
    head.insert(40, b'a');
    assert!(matches!(
        parse(&head[..bytes_max - 1], &LIMITS, &mut FieldRoom::default()),
        Ok(Parsed::Partial)
    ));
    for cut in [bytes_max, bytes_max + 1] {
        let refused = parse(&head[..cut], &LIMITS, &mut FieldRoom::default()).unwrap_err();
        assert_eq!(refused, Fault::HeadTooLong { bytes_max });
    }
    let target = format!("GET /{}", "a".repeat(2000));
    let refused = parse(target.as_bytes(), &LIMITS, &mut FieldRoom::default()).unwrap_err();
    assert_eq!(refused, Fault::TargetTooLong { bytes_max });
    let fields = |count| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(parse(fields(15).as_bytes(), &LIMITS, &mut FieldRoom::default()).is_ok());
    let refused = parse(fields(16).as_bytes(), &LIMITS, &mut FieldRoom::default()).unwrap_err();
    assert_eq!(refused, Fault::TooManyFields { fields_max: 16 });
    let loose = HeadLimits { head_bytes_max: 4096, header_fields_max: usize::MAX };
    assert!(parse(fields(127).as_bytes(), &loose, &mut FieldRoom::default()).is_ok());
    assert!(parse(fields(128).as_bytes(), &loose, &mut FieldRoom::default()).is_err());
}

/// The outcome, as far as a caller can see it.
fn outcome(bytes: &[u8]) -> Result<Option<String>, Fault> {
    Ok(match parse(bytes, &LIMITS, &mut FieldRoom::default())? {
        Parsed::Partial => None,
        Parsed::Complete(request, used) => Some(format!("{request:?} {used}")),
    })
}

fn byte_by_byte(bytes: &[u8]) -> Result<Option<String>, Fault> {
    (0..=bytes.len()).find_map(|end| outcome(&bytes[..end]).transpose()).transpose()
}

/// Heads near the edge of what is allowed: valid pieces, and pieces that spoil them.
fn rough_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "GET ", "/", "/a", " HTTP/1.1", "\r\n", "\r\n", "\r\n\r\n", "Host: h\r\n", ": ", "a",
        ]),
        2 => prop::sample::select(vec![
            "\n", "\r", "\0", " ", "\t", ":", "\x7f", "\u{e4}", " HTTP/1.0", " HTTP/2", "HTTP/1.9",
            " HTTP/2.0", " HTTP/01.01", "CONNECT ", "Transfer-Encoding: ,gzip\r\n", "Expect: 100-continue\r\n",
            "Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n", "Host: i\r\n", "Expect: x\r\n",
        ]),
    ];
    (any::<bool>(), prop::collection::vec(piece, 0..12)).prop_map(|(begun, pieces)| {
        let begin = if begun { "GET / HTTP/1.1\r\nHost: h\r\n" } else { "" };
        (begin.to_owned() + &pieces.concat()).into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_head_is_judged_alike_whole_and_byte_by_byte(head in rough_head()) {
        prop_assert_eq!(outcome(&head), byte_by_byte(&head));
    }

    #[test]
    fn a_spoilt_head_is_judged_alike_whole_and_byte_by_byte(
        at in 0usize..60, byte in any::<u8>(), insert in any::<bool>(),
    ) {
        let mut head = b"\r\nPUT /k/f?q HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 3\r\n\r\n".to_vec();
        if insert { head.insert(at, byte) } else { head[at] = byte }
        prop_assert_eq!(outcome(&head), byte_by_byte(&head));
    }
}
