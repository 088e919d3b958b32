//! Messages from one party to the other: bodies and their type unaltered, pieces passed on at once, and an honest end.

use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Ending, Payload, Relay, Role, TRUNCATED};

#[over_both]
fn type_and_length_pass_as_they_are() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let kinds = ["text/plain", "application/json; charset=\"utf-8\"", "image/png", "x/y;a=b , c"];
    for kind in kinds {
        let (mut guest, mut host) = (session.guest(), session.host());
        guest.poll();
        host.post(kind, b"body").expect_delivered(4);
        let head = guest.read_response().expect(200).head;
        assert_eq!((head.must("Content-Type"), head.must("Content-Length")), (kind, "4"));
        assert_eq!(head.field("Content-Disposition"), None);
    }
    let (mut guest, mut host) = (session.guest(), session.host());
    guest.poll();
    host.ask("POST", &[("Content-Length", "4")]).send(b"body");
    let head = guest.read_response().expect(200).head;
    assert_eq!(head.must("Content-Type"), "application/octet-stream");
    host.expect_delivered(4);
}

#[over_http("TLS does not change requests and answers")]
fn a_relayed_answer_is_not_run_cached_or_sniffed() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut guest = session.guest();
    guest.poll();
    session.host().post("text/html", b"<script>").expect_delivered(8);
    let head = guest.read_response().expect(200).head;
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "sandbox; default-src 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("X-Robots-Tag", "none"),
    ] {
        assert_eq!(head.must(name), value);
    }
}

#[over_both]
fn an_empty_message_is_a_message() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    for from in Role::BOTH {
        session.pass(from, b"");
        let (mut receiver, mut sender) = (session.party(from.other()), session.party(from));
        receiver.ask("GET", &[("Content-Length", "0")]);
        sender.post_in_chunks().send_last_chunk();
        assert_eq!(receiver.read_response().expect(200).body, b"");
        assert_eq!(sender.expect_delivered(0).head.must("X-Bytes-Relayed"), "0");
    }
}

#[over_both]
fn a_form_passes_as_it_is() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let kind = "multipart/form-data; boundary=b";
    let form =
        b"--b\r\nContent-Disposition: form-data; name=f; filename=n\r\n\r\nhello\r\n--b--\r\n";
    let mut guest = session.guest();
    guest.poll();
    session.host().post(kind, form).expect_delivered(form.len());
    let answer = guest.read_response().expect(200);
    assert_eq!((answer.head.must("Content-Type"), answer.body.as_slice()), (kind, &form[..]));
    assert_eq!(answer.head.field("Content-Disposition"), None);
}

#[over_both]
fn pieces_pass_at_once() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for (receiving, sending) in [(0, 0), (0, 1)] {
        let session = relay.message_session();
        let mut receiver = relay.on_worker(receiving, &segment, || session.guest());
        let mut sender = relay.on_worker(sending, &segment, || session.host());
        receiver.poll();
        sender.post_in_chunks().send_chunk(b"piece 0");
        let mut message = receiver.read_coming();
        assert_eq!(message.head.must("Transfer-Encoding"), "chunked");
        assert_eq!(message.head.must("Content-Type"), "text/plain");
        assert_eq!(message.head.must("Trailer"), TRUNCATED[0]);
        message.expect(&mut receiver, b"piece 0");
        for number in 1..50 {
            // Each is sent only after the one before it was seen.
            let piece = format!("piece {number}").repeat(number * number).into_bytes();
            sender.send_chunk(&piece);
            message.expect(&mut receiver, &piece);
        }
        sender.send_last_chunk();
        let (rest, ending, trailer) = message.rest(&mut receiver);
        assert_eq!((rest.len(), ending, trailer.len()), (0, Ending::Complete, 0));
        let head = sender.read_response().expect_empty(200).head;
        assert_eq!(head.must("X-Bytes-Relayed"), head.must("X-Bytes-Delivered"));
        assert!(!head.closes());
    }
}

#[over_both]
fn only_a_chunked_message_is_told_what_was_relayed() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut guest = session.guest();
    guest.poll();
    let head = session.host().post("text/plain", b"hello").expect_delivered(5).head;
    assert_eq!(head.field("X-Bytes-Relayed"), None);
    assert_eq!(guest.read_response().expect(200).head.field("Trailer"), None);
}

#[over_both]
fn a_large_message_passes_in_either_shape() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let body = Payload::new(1, 20 << 20).bytes();
    for (from, in_chunks) in [Role::Host, Role::Guest].into_iter().zip([false, true]) {
        let (mut receiver, mut sender) = (session.party(from.other()), session.party(from));
        receiver.poll();
        thread::scope(|scope| {
            let reading = scope.spawn(move || receiver.read_response().expect(200).body);
            if in_chunks {
                sender.post_in_chunks();
                body.chunks(100_000).for_each(|piece| sender.send_chunk(piece));
                sender.send_last_chunk();
            } else {
                sender.post("application/octet-stream", &body);
            }
            sender.expect_delivered(body.len());
            assert!(reading.join().unwrap() == body, "altered");
        });
    }
}

#[over_both]
fn an_old_receiver_of_a_chunked_message_is_told_505_and_the_sender_waits_on() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut sender = session.host();
    sender.post_in_chunks().send_chunk(b"hello");
    let mut old = relay.connect();
    old.send(format!("GET {} HTTP/1.0\r\n\r\n", session.path).as_bytes());
    old.read_response().expect_error(505);
    sender.expect_silence(Duration::from_millis(100));
    sender.send_last_chunk();
    assert_eq!(session.guest().poll().read_response().expect(200).body, b"hello");
    sender.expect_delivered(5);
}

#[over_both]
fn an_old_receiver_gets_a_message_of_known_length() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut old = relay.connect();
    old.send(format!("GET {} HTTP/1.0\r\n\r\n", session.path).as_bytes());
    session.host().post("text/plain", b"hello").expect_delivered(5);
    let answer = old.read_response().expect(200);
    assert_eq!((answer.body.as_slice(), answer.head.must("Content-Length")), (&b"hello"[..], "5"));
    old.expect_close();
}

#[over_both]
fn a_sender_that_asks_first_is_answered_100_once_somebody_listens() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let (mut receiver, mut sender) = (session.guest(), session.host());
    sender.ask("POST", &[("Content-Length", "5"), ("Expect", "100-continue")]);
    sender.expect_silence(Duration::from_millis(100));
    receiver.poll();
    sender.read_continue();
    sender.send(b"hello");
    assert_eq!(receiver.read_response().expect(200).body, b"hello");
    sender.expect_delivered(5);
}

#[over_http("TLS does not change requests and answers")]
fn a_service_worker_is_not_served() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    session.guest().ask("GET", &[("Service-Worker", "script")]).read_response().expect_error(403);
}
