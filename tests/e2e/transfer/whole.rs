//! A part is never taken for the whole: bodies that state no length, or a part that is no end of a file.

use protocols::{over_both, over_http};

use crate::harness::{ADMIN, Curl, Payload, Raw, Relay, Session, Shape};

const HINT: &str = "Content-Length";

#[over_both]
fn a_sender_that_states_no_length_is_told_and_its_session_stays() {
    let relay = Relay::start();
    let session = relay.session();
    let waiting = session.receiver(&Payload::new(1, 10));
    let form = "Content-Type: multipart/form-data; boundary=XX\r\n";
    for (method, suffix, version, fields) in [
        ("POST", "", "1.1", ""),
        ("PUT", "", "1.1", ""),
        ("PUT", "/name", "1.1", "Expect: 100-continue\r\n"),
        ("POST", "/", "1.1", form),
        ("POST", "", "1.0", "Connection: keep-alive\r\n"),
        ("PUT", "", "1.0", ""),
    ] {
        let path = &session.path;
        let mut sender = relay.connect();
        let head = format!("{method} {path}{suffix} HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        // A body that ends with the connection follows, and no request.
        let bearer = format!("Authorization: Bearer {}", session.token);
        let body = format!("DELETE {path} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n\r\n");
        sender.send((head + &body).as_bytes());
        let answer = sender.read_response();
        assert!(answer.text().contains(HINT), "{}", answer.text());
        assert!(answer.expect_error(411).head.closes());
        sender.finish();
        sender.expect_close();
    }
    let dead = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    relay.connect().request("POST", dead, &[]).read_response().expect_error(404);
    assert!(!waiting.is_finished(), "the receiver goes on waiting");
    session.sender(&Payload::new(1, 10), Shape::Length).join().unwrap().expect(200);
    waiting.join().unwrap().expect_all(&Payload::new(1, 10));
}

#[over_http("TLS does not change requests and answers")]
fn a_curl_that_states_no_length_can_send_again() {
    let relay = Relay::with(1, &[ADMIN]);
    let session = relay.session();
    for arguments in ["-sS --fail-with-body -X POST", "-sS --fail-with-body -0 -X PUT"] {
        let refused = Curl::new(arguments).arg(&session.url).run().expect(22);
        assert!(refused.text().contains(HINT), "{}", refused.text());
    }
    assert_eq!(relay.metrics().value("answers_total{code=\"411\"}"), 2);
    session.transfer(&Payload::new(2, 10), Shape::Length);
}

#[over_http("TLS does not change requests and answers")]
fn what_an_old_sender_sends_up_to_the_end_is_no_request() {
    let relay = Relay::start();
    let session = relay.session();
    for target in ["/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "/", "/session"] {
        let mut sender = relay.connect();
        let bearer = format!("Authorization: Bearer {}", session.token);
        let hidden = format!("DELETE {} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n\r\n", session.path);
        let head = format!("POST {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        sender.send((head + &hidden).as_bytes());
        assert!(sender.read_response().head.closes(), "{target}");
        sender.finish();
        sender.expect_close();
    }
    session.transfer(&Payload::new(6, 10), Shape::Length);
}

#[over_http("TLS does not change requests and answers")]
fn a_message_of_http_1_0_states_its_length() {
    let relay = Relay::start();
    let session = relay.message_session();
    let mut host = session.host();
    host.poll();
    let mut sender = relay.connect();
    sender.send(format!("POST {} HTTP/1.0\r\n\r\na body up to the end", session.path).as_bytes());
    sender.read_response().expect_error(411);
    // In HTTP/1.1 there is no body then, and an empty message is a message.
    session.guest().ask("POST", &[]).read_response().expect(200);
    assert_eq!(host.read_response().expect(200).body, b"");
}

fn ranged(session: &Session, method: &str, range: &str, body: &[u8]) -> Raw {
    let mut sender = session.connect();
    let length = body.len().to_string();
    let fields = [("Content-Range", range), ("Content-Length", &*length)];
    sender.request(method, &session.path, &fields).send(body);
    sender
}

#[over_http("TLS does not change requests and answers")]
fn a_part_that_ends_before_the_file_is_refused_and_the_whole_range_is_the_file() {
    let relay = Relay::start();
    let session = relay.session();
    for method in ["PUT", "POST"] {
        for part in [
            "bytes 3-8/10",
            "bytes 0-4/10",
            "bytes 0-4/*",
            "bytes 0-5/6",
            "bytes 2-/5",
            "bytes */5",
            "items 0-4/5",
            "",
            "nonsense",
        ] {
            let answer = ranged(&session, method, part, b"hello").read_response();
            assert!(answer.text().contains("Content-Range"), "{part}: {}", answer.text());
            answer.expect_error(400);
        }
    }
    let mut chunked = relay.connect();
    let fields = [("Content-Range", "bytes 0-4/5"), ("Transfer-Encoding", "chunked")];
    chunked.request("PUT", &session.path, &fields).read_response().expect_error(400);
    for (range, body) in [("bytes 0-4/5", &b"hello"[..]), ("bytes 0--1/0", b"")] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let mut sender = ranged(&session, "PUT", range, body);
        assert_eq!(receiver.read_response().expect(200).body, body);
        sender.read_response().expect(200);
    }
}

#[over_http("TLS does not change requests and answers")]
fn what_curl_makes_of_a_stream_or_a_range_is_refused() {
    let relay = Relay::start();
    let session = relay.session();
    Payload::new(3, 1000).write_file(&relay.path("file"));
    // The last of these names the rest and sends the beginning.
    for part in ["-r 3- -T file", "-C 3 -T -", "-C 3 --data-binary @file"] {
        let curl = Curl::new("-sS --fail-with-body").within(relay.directory());
        let curl = part.split(' ').fold(curl, |curl, option| curl.arg(option));
        let refused = curl.arg(&session.url).run().expect(22);
        assert!(refused.text().contains("Content-Range"), "{part}: {}", refused.text());
    }
    session.transfer(&Payload::new(5, 10), Shape::Length);
}
