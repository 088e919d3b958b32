//! Every way to smuggle a request past its framing, over a bare socket: what is sent, and the status that must come.

use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Ending, Payload, Relay, Shape};

/// `KEY` stands for a session's path, `^` for CR and LF, so that a bare LF or CR can be seen in the row.
type Row = (&'static str, &'static str, u16);

const HEADS: &[Row] = &[
    (
        "duplicate Content-Length",
        "PUT KEY HTTP/1.1^Host: a^Content-Length: 5^Content-Length: 6^^hello",
        400,
    ),
    (
        "the same Content-Length twice",
        "PUT KEY HTTP/1.1^Host: a^Content-Length: 5^Content-Length: 5^^hello",
        400,
    ),
    ("plus sign", "PUT KEY HTTP/1.1^Host: a^Content-Length: +5^^hello", 400),
    ("minus sign", "PUT KEY HTTP/1.1^Host: a^Content-Length: -5^^hello", 400),
    ("empty Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length:^^hello", 400),
    ("blank Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length:  \t ^^hello", 400),
    ("listed Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length: 5, 5^^hello", 400),
    ("hexadecimal Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length: 0x5^^hello", 400),
    ("fractional Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length: 5.0^^hello", 400),
    ("words in Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length: five^^hello", 400),
    ("inner blank in Content-Length", "PUT KEY HTTP/1.1^Host: a^Content-Length: 5 5^^hello", 400),
    (
        "overflowing Content-Length",
        "PUT KEY HTTP/1.1^Host: a^Content-Length: 18446744073709551616^^hello",
        400,
    ),
    (
        "length and coding",
        "PUT KEY HTTP/1.1^Host: a^Content-Length: 5^Transfer-Encoding: chunked^^0^^",
        400,
    ),
    (
        "coding and length",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunked^Content-Length: 5^^0^^",
        400,
    ),
    ("unknown coding", "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: gzip^^0^^", 400),
    (
        "unknown coding behind chunked",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunked, gzip^^0^^",
        400,
    ),
    ("empty coding", "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding:^^0^^", 400),
    ("empty element", "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: , chunked^^0^^", 400),
    (
        "identity and length",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: identity^Content-Length: 5^^hello",
        400,
    ),
    (
        "unknown coding before chunked",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: gzip, chunked^^0^^",
        501,
    ),
    ("identity", "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: identity^^0^^", 400),
    (
        "a coding that begins like chunked",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunkedx^^0^^",
        400,
    ),
    (
        "chunked with vertical tab",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: \x0bchunked^^0^^",
        400,
    ),
    (
        "chunked twice in one field",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunked, chunked^^0^^",
        400,
    ),
    (
        "chunked in two fields",
        "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunked^Transfer-Encoding: chunked^^0^^",
        400,
    ),
    ("coding in HTTP/1.0", "PUT KEY HTTP/1.0^Host: a^Transfer-Encoding: chunked^^0^^", 400),
    ("bare LF after the request line", "GET KEY HTTP/1.1\nHost: a^^", 400),
    ("bare LF after a field", "GET KEY HTTP/1.1^Host: a\nX: y^^", 400),
    ("bare LF at the end", "GET KEY HTTP/1.1^Host: a\n\n", 400),
    ("bare LF before CRLF", "GET KEY HTTP/1.1^Host: a^\n^", 400),
    ("bare CR in a value", "GET KEY HTTP/1.1^Host: a^X: y\rz^^", 400),
    ("bare CR at the end of a line", "GET KEY HTTP/1.1^Host: a^X: y\r^^", 400),
    ("no Host", "GET KEY HTTP/1.1^X: y^^", 400),
    ("two Hosts", "GET KEY HTTP/1.1^Host: a^Host: a^^", 400),
    ("empty Host", "GET KEY HTTP/1.1^Host:^^", 400),
    ("Host with a path", "GET KEY HTTP/1.1^Host: a/b^^", 400),
    ("Host with user information", "GET KEY HTTP/1.1^Host: u@a^^", 400),
    ("Host with a blank", "GET KEY HTTP/1.1^Host: a b^^", 400),
    ("Host with a wrong port", "GET KEY HTTP/1.1^Host: a:8x^^", 400),
    ("Host as a list", "GET KEY HTTP/1.1^Host: a, b^^", 400),
    ("Host with an open bracket", "GET KEY HTTP/1.1^Host: [::1^^", 400),
    ("Host that the target contradicts", "GET http://aKEY HTTP/1.1^Host: b^^", 400),
    ("folded line by blank", "GET KEY HTTP/1.1^Host: a^X: y^ z^^", 400),
    ("folded line by tab", "GET KEY HTTP/1.1^Host: a^X: y^\tz^^", 400),
    ("folded first line", "GET KEY HTTP/1.1^ Host: a^^", 400),
    ("blank before the colon", "GET KEY HTTP/1.1^Host : a^^", 400),
    ("tab before the colon", "PUT KEY HTTP/1.1^Host: a^Content-Length\t: 5^^hello", 400),
    ("blank in a name", "GET KEY HTTP/1.1^Host: a^X y: z^^", 400),
    ("no name", "GET KEY HTTP/1.1^Host: a^: z^^", 400),
    ("no colon", "GET KEY HTTP/1.1^Host: a^nothing^^", 400),
    ("NUL in a value", "GET KEY HTTP/1.1^Host: a^X: y\0z^^", 400),
    ("NUL in a name", "GET KEY HTTP/1.1^Host: a^X\0: y^^", 400),
    ("NUL in the target", "GET KEY\0 HTTP/1.1^Host: a^^", 400),
    ("NUL in the method", "G\0ET KEY HTTP/1.1^Host: a^^", 400),
    ("NUL first of all", "\0GET KEY HTTP/1.1^Host: a^^", 400),
    ("control character in a value", "GET KEY HTTP/1.1^Host: a^X: y\x01z^^", 400),
    ("DEL in a value", "GET KEY HTTP/1.1^Host: a^X: y\x7fz^^", 400),
    ("two blanks in the request line", "GET  KEY HTTP/1.1^Host: a^^", 400),
    ("tab in the request line", "GET\tKEY HTTP/1.1^Host: a^^", 400),
    ("no version", "GET KEY^Host: a^^", 400),
    ("target without slash", "GET x HTTP/1.1^Host: a^^", 400),
    ("version 2.0", "GET KEY HTTP/2.0^Host: a^^", 505),
    ("version 1.2", "GET KEY HTTP/1.2^Host: a^^", 505),
    ("version 01.01", "GET KEY HTTP/01.01^Host: a^^", 400),
    ("version 1", "GET KEY HTTP/1^Host: a^^", 400),
    ("CONNECT", "CONNECT a:443 HTTP/1.1^Host: a:443^^", 501),
    ("lower-case version", "GET KEY http/1.1^Host: a^^", 400),
    ("a TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\x1c\x03\x03aaaaaaaa^^", 400),
];

const CHUNKS: &[Row] = &[
    ("empty size", "5^hello^^^", 400),
    ("empty first size", "^hello^0^^", 400),
    ("extension without size", ";a=b^hello^0^^", 400),
    ("size with sign", "+5^hello^0^^", 400),
    ("size with prefix", "0x5^hello^0^^", 400),
    ("size with blank first", " 5^hello^0^^", 400),
    ("size in words", "five^hello^0^^", 400),
    ("overlong size", "00000000000000005^hello^0^^", 400),
    ("overflowing size", "10000000000000000^hello^0^^", 400),
    ("bare LF after the size", "5\nhello^0^^", 400),
    ("bare LF after the data", "5^hello\n0^^", 400),
    ("bare CR after the size", "5\rhello^0^^", 400),
    ("data longer than its size", "3^hello^0^^", 400),
    ("nothing after the data", "5^hello0^^", 400),
    ("NUL in an extension", "5;a=\0^hello^0^^", 400),
    ("LF in an extension", "5;a=b\nc^hello^0^^", 400),
    ("CR in an extension", "5;a=b\rc^hello^0^^", 400),
    ("control character in an extension", "5;a=\x02^hello^0^^", 400),
    ("empty extension", "5;^hello^0^^", 400),
    ("extension that is no token", "5;bad[=x^hello^0^^", 400),
    ("extension without value", "5;a=^hello^0^^", 400),
    ("extension with an open quote", "5;a=\"b^hello^0^^", 400),
    ("size beyond what may come", "ffffffffffffffff^hello", 413),
    ("NUL in a trailer", "0^X: \0^^", 400),
    ("bare LF in a trailer", "0^X: y\nZ: z^^", 400),
    ("bare LF for the end", "0^\n", 400),
    ("folded trailer", "0^X: y^ z^^", 400),
    ("trailer without colon", "0^nothing^^", 400),
];

fn wire(text: &str, path: &str) -> Vec<u8> {
    text.replace("KEY", path).replace('^', "\r\n").into_bytes()
}

#[over_http("TLS does not change requests and answers")]
fn no_head_is_understood_in_two_ways() {
    let relay = Relay::start();
    let session = relay.session();
    for (what, head, status) in HEADS {
        let mut raw = relay.connect();
        raw.patience(Duration::from_secs(4));
        raw.send(&wire(head, &session.path));
        let answer = raw.try_read_response().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(answer.status(), *status, "{what}: {:#?}", answer.head);
        assert!(answer.head.closes(), "{what}: the connection cannot be trusted any more");
        answer.expect_error(*status);
        raw.finish();
        raw.expect_close();
    }
    session.transfer(&Payload::new(1, 10), Shape::Length);
}

#[over_http("TLS does not change requests and answers")]
fn a_fault_is_told_before_the_head_is_complete() {
    let relay = Relay::start();
    for start in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost : a\r\n", "GET / HTTP/1.1\r\nX: \0"] {
        let mut raw = relay.connect();
        raw.send(start.as_bytes());
        raw.patience(Duration::from_secs(4));
        raw.read_response().expect_error(400);
    }
}

#[over_http("TLS does not change requests and answers")]
fn no_chunk_is_understood_in_two_ways() {
    let relay = Relay::start();
    for (what, body, status) in CHUNKS {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
        sender.send(&wire(body, ""));
        let answer = sender.try_read_response().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(answer.status(), *status, "{what}: {:#?}", answer.head);
        assert!(answer.head.closes(), "{what}");
        // The receiver either has had no answer and goes on waiting, or sees that its answer is cut.
        receiver.patience(Duration::from_millis(100));
        if let Ok(got) = receiver.try_read_response() {
            let cut = got.status() == 200 && got.ending != Ending::Complete;
            assert!(
                cut || got.status() >= 400,
                "{what}: {:#?} {:?}",
                got.head,
                String::from_utf8_lossy(&got.body)
            );
        }
    }
}

#[over_http("TLS does not change requests and answers")]
fn chunk_lines_and_trailers_are_bounded() {
    let relay =
        Relay::with(1, &["limits.chunk_line_bytes_max = 64", "limits.trailer_bytes_max = 256"]);
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(100));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(100));
    let trailer = format!("0\r\n{}\r\n", "X: y\r\n".repeat(100));
    for body in [extension, zeros, trailer] {
        let session = relay.session();
        let _receiver = {
            let mut raw = relay.connect();
            raw.get(&session.path);
            raw
        };
        let mut sender = relay.connect();
        sender
            .request("PUT", &session.path, &[("Transfer-Encoding", "chunked")])
            .send(body.as_bytes());
        let answer = sender.read_response();
        assert!(
            [400, 413, 431].contains(&answer.status()),
            "{:?}: {:#?}",
            body.get(..20),
            answer.head
        );
    }
}

#[over_both]
fn what_is_allowed_is_understood() {
    let relay = Relay::start();
    for (head, body) in [
        ("^^PUT KEY HTTP/1.1^host:a^content-length:\t 5 ^^", "hello"),
        ("PUT KEY HTTP/1.1^Host: a:80^Content-Length: 0000005^^", "hello"),
        ("PUT http://aKEY HTTP/1.1^Host: a^Content-Length: 5^^", "hello"),
        ("PUT KEY?query=x HTTP/1.1^Host: [::1]:80^Content-Length: 5^^", "hello"),
        (
            "PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: CHUNKED^^",
            "5 ; name = \"quoted;\\\"value\" ;flag^hello^0^X: trailer^^",
        ),
        ("PUT KEY HTTP/1.1^Host: a^Transfer-Encoding: chunked^^", "1^h^0004^ello^000^^"),
        ("PUT KEY HTTP/1.0^Content-Length: 5^^", "hello"),
    ] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = relay.connect();
        sender.send(&wire(head, &session.path));
        sender.send(&wire(body, ""));
        let got = receiver.read_response().expect(200);
        assert_eq!(String::from_utf8_lossy(&got.body), "hello", "{head}");
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 5, "{head}");
    }
}

#[over_both]
fn a_body_on_get_or_delete_is_not_taken_for_a_request() {
    let relay = Relay::start();
    let session = relay.session();
    for method in ["GET", "HEAD", "DELETE"] {
        let mut raw = relay.connect();
        let hidden = format!(
            "DELETE {} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
            session.path, session.token
        );
        raw.request(
            method,
            "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &[("Content-Length", &hidden.len().to_string())],
        );
        raw.send(hidden.as_bytes());
        let answer = raw.read_response();
        assert!((400..500).contains(&answer.status()), "{:#?}", answer.head);
        raw.finish();
        assert!(raw.is_gone_within(Duration::from_secs(4)));
    }
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
}
