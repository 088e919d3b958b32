//! Fields that tell a receiver about the bytes: their type and their encoding, and the fields of a sender that the relay
//! does not pass on.
//!
//! Not run again over HTTPS: TLS does not change requests and answers.

use std::process::Command;

use crate::harness::{Curl, Head, Payload, Relay, Shape};

/// The head that a receiver gets if the sender sends these fields.
fn announced(relay: &Relay, fields: &[(&str, &str)]) -> Head {
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender
        .request("PUT", &session.path, &[&[("Content-Length", "2")], fields].concat())
        .send(b"hi");
    sender.read_response().expect(200);
    let answer = receiver.read_response().expect(200);
    assert_eq!(answer.body, b"hi");
    answer.head
}

#[test]
fn a_type_that_is_none_is_bytes_and_two_that_differ_are_refused() {
    let relay = Relay::start();
    let bytes = "application/octet-stream";
    for (kind, wanted) in [
        ("", bytes),
        ("text", bytes),
        ("text/plain, text/html", bytes),
        ("te\u{e4}xt/plain", bytes),
        ("text/plain; title=\u{e4}", bytes),
        ("Text/Plain ;charset=utf-8", "Text/Plain ;charset=utf-8"),
    ] {
        assert_eq!(
            announced(&relay, &[("Content-Type", kind)]).must("Content-Type"),
            wanted,
            "{kind}"
        );
    }
    let twice = announced(&relay, &[("Content-Type", "text/css"), ("content-type", "text/css")]);
    assert_eq!(twice.must("Content-Type"), "text/css");
    let session = relay.session();
    for fields in [
        [("Content-Type", "text/css"), ("Content-Type", "text/html")],
        [("Content-Type", ""), ("Content-Type", "text/html")],
        [("Content-Disposition", "inline"), ("Content-Disposition", "attachment; filename=a")],
        [("X-Receipt", "sent"), ("X-Receipt", "acked")],
    ] {
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[&[("Content-Length", "2")], &fields[..]].concat());
        sender.read_response().expect_error(400);
    }
    session.transfer(&Payload::new(1, 10), Shape::Length);
}

#[test]
fn the_encoding_reaches_the_receiver() {
    let relay = Relay::start();
    let of = |fields: &[(&str, &str)]| {
        announced(&relay, fields).field("Content-Encoding").map(str::to_owned)
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[("Content-Encoding", "")]), None);
    assert_eq!(of(&[("Content-Encoding", "GZIP")]).as_deref(), Some("GZIP"));
    assert_eq!(of(&[("Content-Encoding", "identity")]).as_deref(), Some("identity"));
    let two = [("Content-Encoding", "br"), ("content-encoding", "x-own,gzip")];
    assert_eq!(of(&two).as_deref(), Some("br, x-own,gzip"));
    let (long, longer) = ("a".repeat(64), "a".repeat(65));
    assert_eq!(of(&[("Content-Encoding", &long)]).as_deref(), Some(&*long));
    let session = relay.session();
    for bad in ["gzip;q=1", "gzip br", ",", "\u{e4}", &longer] {
        let mut sender = relay.connect();
        let fields = [("Content-Length", "2"), ("Content-Encoding", bad)];
        sender.request("PUT", &session.path, &fields).read_response().expect_error(400);
    }
    // A message has its encoding as well.
    let messages = relay.message_session();
    let mut guest = messages.guest();
    guest.poll();
    let fields = [("Content-Length", "2"), ("Content-Encoding", "gzip"), ("Content-Type", "none")];
    let mut host = messages.host();
    host.ask("POST", &fields).send(b"hi");
    let answer = guest.read_response().expect(200);
    assert_eq!(answer.head.must("Content-Encoding"), "gzip");
    assert_eq!(answer.head.must("Content-Type"), "application/octet-stream");
    host.read_response().expect(200);
    // The relay cannot unpack a form inside a coding, and does not try.
    let form = ("Content-Type", "multipart/form-data; boundary=XX");
    let fields = [("Content-Length", "2"), form, ("Content-Encoding", "gzip")];
    relay.connect().request("POST", &session.path, &fields).read_response().expect_error(400);
    session.transfer(&Payload::new(1, 10), Shape::Length);
}

#[test]
fn a_curl_unpacks_what_another_has_packed() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(8, 100_000);
    payload.write_file(&relay.path("file"));
    let packed = Command::new("gzip").arg("-k").arg(relay.path("file")).status().unwrap();
    assert!(packed.success());
    let receiving = Curl::new("-sSf --compressed -o got").arg(&session.url);
    let receiving = receiving.within(relay.directory()).start();
    let sent = Curl::new("-sS --fail-with-body -T file.gz -H Content-Encoding:gzip");
    sent.arg(&session.url).within(relay.directory()).run().expect(0);
    receiving.finish().expect(0);
    payload.assert_file(&relay.path("got"));
}
