//! Multipart senders: which part is the file, exactly its bytes, and which side is at fault for a broken form.

use std::fs;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Curl, Ending, Head, Payload, Raw, Relay, Session};

fn form(session: &Session, body: &[u8]) -> Raw {
    let mut sender = session.connect();
    let fields = [
        ("Content-Type", "multipart/form-data; boundary=XX"),
        ("Content-Length", &body.len().to_string()),
    ];
    sender.request("POST", &session.path, &fields).send(body);
    sender
}

const FILE: &str =
    "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/csv\r\n";

#[over_both]
fn the_first_part_with_a_file_name_is_the_file() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let note = "Content-Disposition: form-data; name=\"note\"\r\n\r\nnot this";
    let none = "Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\nnor this";
    let second = "Content-Disposition: form-data; name=\"g\"\r\n\r\nnor the last";
    let body = format!(
        "preamble\r\n--XX\r\n{note}\r\n--XX\r\n{none}\r\n--XX\r\n{FILE}\r\n\
         this \r\n--X\r\n--\r\nand\n\r\n--XX\r\n{second}\r\n--XX--\r\nepilogue"
    );
    let mut sender = form(&session, body.as_bytes());
    let answer = receiver.read_response().expect(200);
    assert_eq!(String::from_utf8_lossy(&answer.body), "this \r\n--X\r\n--\r\nand\n");
    assert_eq!(answer.head.must("Content-Type"), "text/csv");
    assert_eq!(
        answer.head.must("Content-Disposition"),
        "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt"
    );
    let report = sender.read_response().expect(200);
    assert_eq!(report.head.delivered_bytes(), answer.body.len() as u64);
}

#[over_http("the kernel delays the acknowledgement that this test needs after a handshake")]
fn a_second_file_is_told_and_the_receiver_is_cut() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let (mut receiver, head, mut sender) = begun(&session, "");
    sender.send_chunk(format!("\r\n--XX\r\n{FILE}\r\nmore\r\n--XX--\r\n").as_bytes());
    sender.send_last_chunk();
    let answer = sender.read_response();
    assert!(answer.text().contains("a second file"), "{}", answer.text());
    assert_eq!(answer.expect_error(400).head.delivered_bytes(), 5);
    assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
    session.transfer(&Payload::new(5, 10), crate::harness::Shape::Form);
}

#[over_http("TLS does not change requests and answers")]
fn a_curl_with_two_files_is_told_and_its_receiver_has_no_file() {
    let relay = Relay::start();
    let session = relay.session();
    Payload::new(6, 3_000_000).write_file(&relay.path("a"));
    fs::write(relay.path("b"), "b").unwrap();
    let received = Curl::new("-sf -o got").arg(&session.url).within(relay.directory()).start();
    let sent = Curl::new("-sS --fail-with-body -F f=@a -F f=@b").arg(&session.url);
    let sent = sent.within(relay.directory()).run().expect(22);
    assert!(sent.text().contains("a second file"), "{}", sent.text());
    received.finish().expect(18);
}

#[over_http("TLS does not change requests and answers")]
fn a_form_by_put_is_a_form_under_each_path() {
    let relay = Relay::start();
    let unnamed = "Content-Disposition: form-data; name=\"f\"; filename=\"..\"\r\n";
    let of = |name| format!("attachment; filename=\"{name}\"; filename*=UTF-8''{name}");
    for (suffix, head, name) in [
        ("", FILE, of("a.txt")),
        ("/", FILE, of("a.txt")),
        ("/path.txt", FILE, of("a.txt")),
        ("/path.txt", unnamed, of("path.txt")),
        ("", unnamed, "attachment".to_owned()),
    ] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let body = format!("--XX\r\n{head}\r\nhello\r\n--XX--\r\n");
        let mut sender = relay.connect();
        let kind = ("Content-Type", "multipart/form-data; boundary=XX");
        let length = body.len().to_string();
        sender.request(
            "PUT",
            &format!("{}{suffix}", session.path),
            &[kind, ("Content-Length", &length)],
        );
        sender.send(body.as_bytes());
        let answer = receiver.read_response().expect(200);
        assert_eq!(answer.body, b"hello");
        assert_eq!(answer.head.must("Content-Disposition"), name);
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 5);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_form_of_curl_by_put_is_unpacked() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(7, 100_000);
    payload.write_file(&relay.path("data.bin"));
    let received = Curl::new("-sfOJ").arg(&session.url);
    fs::create_dir(relay.path("out")).unwrap();
    let received = received.within(&relay.path("out")).start();
    let sent = Curl::new("-sS --fail-with-body -X PUT -F file=@data.bin").arg(&session.url);
    sent.within(relay.directory()).run().expect(0);
    received.finish().expect(0);
    payload.assert_file(&relay.path("out").join("data.bin"));
}

#[over_http("TLS does not change requests and answers")]
fn forms_as_clients_write_them_are_read() {
    let relay = Relay::start();
    let long = "-".repeat(200);
    let folded = "Content-Disposition: form-data; name=\"f\";\r\n filename*0*=UTF-8''%C3%A4;\r\n\tfilename*1=\".txt\"\r\n";
    let odd = "Content-Disposition: form-data; name=\"f\"; filename=\"a\x01\0\u{202e}b\"\r\nContent-Type: none\r\n";
    for (boundary, written, head, name) in [
        ("*****", "*****", FILE, "a.txt"),
        ("!#$%&^|~*@", "!#$%&^|~*@", FILE, "a.txt"),
        ("a;b \"c\\", "\"a;b \\\"c\\\\\"", FILE, "a.txt"),
        (&*long, &*long, FILE, "a.txt"),
        ("XX", "XX", folded, "%C3%A4.txt"),
        ("XX", "XX", odd, "ab"),
    ] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let body = format!("--{boundary}\r\n{head}\r\nhello\r\n--{boundary}--\r\n");
        let kind = format!("multipart/form-data; boundary={written}");
        let fields = [("Content-Type", &*kind), ("Content-Length", &body.len().to_string())];
        let mut sender = relay.connect();
        sender.request("POST", &session.path, &fields).send(body.as_bytes());
        let answer = receiver.read_response().expect(200);
        assert_eq!(answer.body, b"hello", "{written}");
        let named = answer.head.must("Content-Disposition");
        assert!(named.ends_with(&format!("filename*=UTF-8''{name}")), "{named}");
        let wanted = if head == FILE { "text/csv" } else { "application/octet-stream" };
        assert_eq!(answer.head.must("Content-Type"), wanted);
        sender.read_response().expect(200);
    }
}

#[over_both]
fn an_empty_file_part_is_an_empty_file() {
    let relay = Relay::start();
    let session = relay.session();
    let receiver = session.receiver(&Payload::new(1, 0));
    let mut sender = form(&session, format!("--XX\r\n{FILE}\r\n\r\n--XX--\r\n").as_bytes());
    receiver.join().unwrap().expect_all(&Payload::new(1, 0));
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 0);
}

#[over_both]
fn faults_before_the_file_are_the_senders_alone() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let payload = Payload::new(2, 2000);
    let receiver = session.receiver(&payload);
    let no_file =
        "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--XX--\r\n".to_owned();
    let bad_head = "--XX\r\nContent-Disposition form-data\r\n\r\nx\r\n--XX--\r\n".to_owned();
    let nothing = "no delimiter at all".to_owned();
    let long = format!("--XX\r\nContent-Disposition: form-data; name=\"{}", "n".repeat(100_000));
    let much = format!("{}--XX\r\n{FILE}\r\nx\r\n--XX--\r\n", "preamble ".repeat(10_000));
    for (body, statuses) in [
        (no_file, vec![400]),
        (bad_head, vec![400]),
        (nothing, vec![400]),
        (String::new(), vec![400]),
        (long, vec![400, 413]),
        (much, vec![400, 413]),
    ] {
        let answer = form(&session, body.as_bytes()).read_response();
        assert!(statuses.contains(&answer.status()), "{:#?} {:?}", answer.head, body.get(..40));
        let status = answer.status();
        answer.expect_error(status);
        assert!(!receiver.is_finished(), "the receiver goes on waiting");
    }
    for kind in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=a\u{1}b",
    ] {
        let mut sender = relay.connect();
        sender
            .request("POST", &session.path, &[("Content-Type", kind), ("Content-Length", "3")])
            .send(b"abc");
        sender.read_response().expect_error(400);
    }
    session.sender(&payload, crate::harness::Shape::Length).join().unwrap().expect(200);
    receiver.join().unwrap().expect_all(&payload);
}

/// A receiver, and a sender that has sent the head of a chunked form.
fn chunked(session: &Session) -> (Raw, Raw) {
    let (mut receiver, mut sender) = (session.connect(), session.connect());
    receiver.get(&session.path);
    let kind = ("Content-Type", "multipart/form-data; boundary=XX");
    sender.request("POST", &session.path, &[kind, ("Transfer-Encoding", "chunked")]);
    (receiver, sender)
}

/// A form whose file part has begun, with `end` behind its bytes: the receiver has its head and these bytes.
fn begun(session: &Session, end: &str) -> (Raw, Head, Raw) {
    let (mut receiver, mut sender) = chunked(session);
    sender.send_chunk(format!("--XX\r\n{FILE}\r\nhello{end}").as_bytes());
    let head = receiver.read_head();
    assert_eq!(receiver.read_exactly(10), b"5\r\nhello\r\n");
    (receiver, head, sender)
}

#[over_http("the kernel delays the acknowledgement that this test needs after a handshake")]
fn faults_within_the_file_abort_the_receiver_visibly() {
    let relay = Relay::with(2, &[]);
    for rest in ["", "\r\n--XX\r\nContent-Disp", "\r\n--XX\r\n", "\r\n--XX"] {
        let session = relay.session();
        let (mut receiver, head, mut sender) = begun(&session, "");
        if !rest.is_empty() {
            sender.send_chunk(rest.as_bytes());
        }
        sender.send_last_chunk();
        let answer = sender.read_response().expect_error(400);
        assert_eq!(answer.head.delivered_bytes(), 5, "{rest:?}");
        assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete, "{rest:?}");
        session.transfer(&Payload::new(3, 10), crate::harness::Shape::Length);
    }
}

#[over_both]
fn a_broken_form_in_one_piece_is_never_complete() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    relay.segment().wait_until_held(1);
    form(&session, format!("--XX\r\n{FILE}\r\nhello").as_bytes()).read_response().expect_error(400);
    receiver.patience(Duration::from_millis(200));
    if let Ok(got) = receiver.try_read_response() {
        assert_ne!(got.ending, Ending::Complete, "{:?}", String::from_utf8_lossy(&got.body));
    }
}

#[over_http("the kernel delays the acknowledgement that this test needs after a handshake")]
fn too_much_after_the_file_aborts_the_receiver() {
    let relay = Relay::with(1, &["limits.form_overhead_bytes_max = \"4KiB\""]);
    let session = relay.session();
    let (mut receiver, head, mut sender) = begun(&session, "");
    sender.send_chunk(format!("\r\n--XX--\r\n{}", "epilogue".repeat(10_000)).as_bytes());
    sender.send_last_chunk();
    let answer = sender.read_response();
    assert!([400, 413].contains(&answer.status()), "{:#?}", answer.head);
    assert_eq!(answer.head.delivered_bytes(), 5);
    assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
}

#[over_both]
fn the_receivers_final_chunk_waits_for_the_end_of_the_form() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let (mut receiver, head, mut sender) = begun(&session, "\r\n--XX--");
    receiver.expect_silence(Duration::from_millis(100));
    sender.send_chunk(b"\r\n");
    receiver.expect_silence(Duration::from_millis(100));
    sender.send_last_chunk();
    assert_eq!(receiver.read_body(&head, |_| panic!("more bytes")), Ending::Complete);
    sender.read_response().expect(200);
}

#[over_both]
fn the_receivers_head_comes_once_the_parts_header_is_complete() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let (mut receiver, mut sender) = chunked(&session);
    sender.send_chunk(format!("--XX\r\n{FILE}").as_bytes());
    receiver.expect_silence(Duration::from_millis(100));
    sender.send_chunk(b"\r\nx");
    assert_eq!(receiver.read_head().status, 200);
}

#[over_both]
fn a_form_of_curl_with_several_fields() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(4, 3_000_000);
    payload.write_file(&relay.path("data.bin"));
    fs::write(relay.path("second.txt"), "second").unwrap();
    let received = Curl::new("-sfOJ").arg(&session.url).within(relay.directory()).start();
    let sent = Curl::new(
        "-sS --fail-with-body -F note=hello -F file=@data.bin;filename=re\u{e7}u.bin \
         -F more=<second.txt -w %header{x-bytes-delivered}",
    )
    .arg(&session.url)
    .within(relay.directory())
    .run()
    .expect(0);
    assert!(sent.text().ends_with("3000000"), "{}", sent.text());
    received.finish().expect(0);
    payload.assert_file(&relay.path("re\u{e7}u.bin"));
}

#[over_both]
fn what_follows_a_faulty_chunked_form_is_no_request() {
    let relay = Relay::start();
    let session = relay.session();
    let waiting = session.receiver(&Payload::new(3, 10));
    let body = "--XX\r\nContent-Disposition form-data\r\n\r\nx\r\n--XX--\r\n";
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let bearer = format!("Authorization: Bearer {}", session.token);
    let hidden = format!("DELETE {} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n\r\n", session.path);
    let mut sender = relay.connect();
    let kind = ("Content-Type", "multipart/form-data; boundary=XX");
    sender.request("POST", &session.path, &[kind, ("Transfer-Encoding", "chunked")]);
    sender.send(format!("{chunked}{hidden}").as_bytes());
    assert!(sender.read_response().expect_error(400).head.closes());
    sender.finish();
    sender.expect_close();
    assert!(!waiting.is_finished(), "the session still lives");
    let payload = Payload::new(3, 10);
    session.sender(&payload, crate::harness::Shape::Length).join().unwrap().expect(200);
    waiting.join().unwrap().expect_all(&payload);
}
