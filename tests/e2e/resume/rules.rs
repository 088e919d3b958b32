//! Each rule of the contract of resuming, over bare sockets: the sender sends again, and the receiver gets the rest.

use std::thread;

use protocols::over_both;

use super::attempts::{
    HAS, TOTAL, broken, expect_rest, expect_told_to_resume, expect_whole_report, get, get_rest,
    put, put_all, sending,
};
use crate::harness::{ADMIN, AccessLog, Ending, Head, Payload, Placement, Relay, Session};

#[over_both]
fn a_file_of_known_length_says_that_it_can_go_on() {
    let relay = Relay::start();
    let head_of = |fields: &[(&str, &str)], body: &[u8], session: &Session| -> Head {
        let mut receiver = get(session, &[]);
        let mut sender = session.connect();
        sender.request("PUT", &session.path, fields).send(body);
        let head = receiver.read_head();
        assert_eq!(receiver.read_body(&head, |_| ()), Ending::Complete);
        sender.read_response().expect(200);
        head
    };
    let head = head_of(&[("Content-Length", "5")], b"hello", &relay.session());
    assert_eq!(head.must("Accept-Ranges"), "bytes");
    let tag = head.must("ETag");
    assert!(tag.len() == 18 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let chunked = (&[("Transfer-Encoding", "chunked")], &b"5\r\nhello\r\n0\r\n\r\n"[..]);
    let form =
        "--b\r\nContent-Disposition: form-data; name=f; filename=g\r\n\r\nhello\r\n--b--\r\n";
    let form_length = form.len().to_string();
    let form_fields =
        [("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", &*form_length)];
    for head in [
        head_of(chunked.0, chunked.1, &relay.session()),
        head_of(&form_fields, form.as_bytes(), &relay.session()),
    ] {
        assert_eq!((head.field("Accept-Ranges"), head.field("ETag")), (None, None));
    }
}

#[over_both]
fn a_tag_is_one_files_for_all_attempts_of_its_session() {
    let relay = Relay::with(2, &[]);
    let tag = |session: &Session, total, fields: &[(&str, &str)]| {
        broken(session, total, b"hel", fields).0
    };
    let session = relay.session();
    let first = tag(&session, 10, &[]);
    assert_eq!(tag(&session, 10, &[]), first);
    assert_ne!(tag(&session, 11, &[]), first, "another length");
    assert_ne!(tag(&relay.session(), 10, &[]), first, "another session");
    let named = [("Content-Disposition", "attachment; filename=a")];
    assert_ne!(tag(&session, 10, &named), first, "another name");
    let digest = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    let digests = format!("md5=:x:, {digest}");
    for (one, other) in [
        (("ETag", "\"a\""), ("ETag", "\"b\"")),
        (
            ("Repr-Digest", digest),
            ("Repr-Digest", "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCR=:"),
        ),
    ] {
        let ours = tag(&session, 10, &[one]);
        assert_eq!(tag(&session, 10, &[one, named[0]]), ours, "its own name counts no more");
        assert_ne!(tag(&session, 10, &[other]), ours);
        assert_ne!(ours, first);
    }
    let by_digest = tag(&session, 10, &[("Repr-Digest", digest)]);
    assert_eq!(tag(&session, 10, &[("Repr-Digest", &digests), ("ETag", "\"a\"")]), by_digest);
    assert_eq!(tag(&session, 10, &[("ETag", "W/\"a\"")]), first, "a weak one says nothing");
    for bad in [("ETag", "a"), ("ETag", "\"a"), ("ETag", "\"a\"b\""), ("Repr-Digest", "sha-256=x")]
    {
        put(&session, 0, 10, b"", &[bad]).read_response().expect_error(400);
    }
}

#[over_both]
fn the_rest_is_passed_and_what_the_receiver_has_is_dropped() {
    let ways = [("memory.pipes = 0", false), ("memory.pipes = 8", true)];
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        for ((pipes, sender_first), start) in ways
            .into_iter()
            .zip([0, HAS])
            .chain([(("memory.pipes = 8", false), 1), (("memory.pipes = 0", true), 0)])
        {
            the_rest_is_passed(placement, pipes, sender_first, start);
        }
    }
}

fn the_rest_is_passed(placement: Placement, pipes: &str, sender_first: bool, start: u64) {
    let relay = Relay::with(2, &[ADMIN, pipes]);
    let (segment, session) = (relay.segment(), relay.session());
    let payload = Payload::new(start, TOTAL);
    let whole = payload.bytes();
    let has = usize::try_from(HAS).unwrap();
    let (tag, told) = broken(&session, TOTAL, &whole[..has], &[]);
    expect_told_to_resume(&told, HAS);
    let before = relay.metrics();

    let (mut receiver, mut sender) = relay.pair(&segment, placement);
    let range = format!("bytes={HAS}-");
    let length = (TOTAL - start).to_string();
    let tail = format!("bytes {start}-{}/{TOTAL}", TOTAL - 1);
    let mut ask = || {
        receiver.request("GET", &session.path, &[("Range", &range), ("If-Range", &tag)]);
    };
    if !sender_first {
        ask();
        segment.wait_until_held(1);
    }
    sender.request("PUT", &session.path, &[("Content-Length", &length), ("Content-Range", &tail)]);
    if sender_first {
        segment.wait_until_held(1);
        ask();
    }
    let sent = whole[usize::try_from(start).unwrap()..].to_vec();
    let answer = thread::spawn(move || {
        sender.send(&sent);
        sender.read_response()
    });
    let response = receiver.read_response();
    assert_eq!(response.head.must("ETag"), tag);
    assert_eq!(response.head.must("Accept-Ranges"), "bytes");
    expect_rest(response, HAS, &whole);
    expect_whole_report(answer.join().unwrap(), TOTAL, TOTAL - HAS);

    let now = relay.metrics();
    let moved = |name: &str| now.value(name) - before.value(name);
    assert_eq!(moved("transfers_resumed_total"), 1);
    assert_eq!(moved("answers_total{code=\"206\"}"), 1);
    assert_eq!(moved("payload_skipped_bytes_total"), HAS - start);
    assert_eq!(moved("payload_received_bytes_total"), TOTAL - HAS);
    assert_eq!(moved("payload_sent_bytes_total"), TOTAL - HAS);
}

#[over_both]
fn every_boundary_of_a_small_file_is_right() {
    let relay = Relay::start();
    let whole = b"0123456789";
    for from in 1..10 {
        for start in 0..=from {
            let session = relay.session();
            let mut receiver = get_rest(&session, from);
            let at = usize::try_from(start).unwrap();
            let mut sender = put(&session, start, 10, &whole[at..], &[]);
            expect_rest(receiver.read_response(), from, whole);
            expect_whole_report(sender.read_response(), 10, 10 - from);
        }
    }
    let session = relay.session();
    let mut receiver = get_rest(&session, 0);
    put_all(&session, whole).read_response().expect(200);
    expect_rest(receiver.read_response(), 0, whole);
    let session = relay.session();
    let mut receiver = get_rest(&session, 0);
    put_all(&session, b"").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).body, b"", "of nothing there is no part");
}

#[over_both]
fn a_sender_that_starts_too_late_is_told_where_and_the_receiver_waits_on() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let whole = b"0123456789";
    let mut receiver = get_rest(&session, 4);
    for start in [5, 9] {
        let at = usize::try_from(start).unwrap();
        let answer = put(&session, start, 10, &whole[at..], &[]).read_response();
        expect_told_to_resume(&answer.expect_error(503), 4);
    }
    put(&session, 4, 10, &whole[4..], &[]).read_response().expect(200);
    expect_rest(receiver.read_response(), 4, whole);

    let session = relay.session();
    let mut receiver = get(&session, &[]);
    let answer = put(&session, 1, 10, &whole[1..], &[]).read_response().expect_error(503);
    expect_told_to_resume(&answer, 0);
    let fields = [("Transfer-Encoding", "chunked"), ("Upload-Offset", "7")];
    let mut stream = session.connect();
    let answer = stream.request("PUT", &session.path, &fields).read_response().expect_error(503);
    expect_told_to_resume(&answer, 0);
    put_all(&session, whole).read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).body, whole);
}

#[over_both]
fn an_offset_says_where_a_body_begins() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = get_rest(&session, 4);
    let mut sender = session.connect();
    let fields = [("Content-Length", "7"), ("Upload-Offset", "3")];
    sender.request("PUT", &session.path, &fields).send(b"3456789");
    expect_rest(receiver.read_response(), 4, b"0123456789");
    expect_whole_report(sender.read_response(), 10, 6);
}

#[over_both]
fn another_file_is_not_joined_to_what_a_receiver_has() {
    let relay = Relay::with(2, &[]);
    let ten = "10".to_owned();
    let length = |n: &str| vec![("Content-Length".to_owned(), n.to_owned())];
    let and = |mut fields: Vec<(String, String)>, name: &str, value: &str| {
        fields.push((name.to_owned(), value.to_owned()));
        fields
    };
    let named = |name: &str| and(length(&ten), "Content-Disposition", name);
    for (what, from, fields) in [
        ("another length", 5, length("11")),
        ("a stream", 5, vec![("Transfer-Encoding".into(), "chunked".into())]),
        ("a form", 5, and(length(&ten), "Content-Type", "multipart/form-data; boundary=b")),
        ("another name", 5, named("attachment; filename=other")),
        ("another tag", 5, and(length(&ten), "ETag", "\"x\"")),
        ("all of it, of which not all was delivered", 10, length(&ten)),
        ("more than there is", 11, length(&ten)),
    ] {
        let session = relay.session();
        broken(&session, 10, b"01234", &[]);
        let mut receiver = get_rest(&session, from);
        let mut sender = session.connect();
        let fields = and(fields, "Expect", "100-continue");
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        sender.request("PUT", &session.path, &fields);
        let told = sender.read_response();
        assert!(told.interim.is_empty(), "nothing of {what} is consumed");
        told.expect_error(409);
        assert!(!receiver.read_response().expect_error(409).head.closes(), "{what}");
        // Both places are free.
        let mut receiver = get_rest(&session, 5);
        put_all(&session, b"0123456789").read_response().expect(200);
        expect_rest(receiver.read_response(), 5, b"0123456789");
    }
}

#[over_both]
fn what_a_receiver_has_may_be_of_any_file_that_has_passed() {
    let relay = Relay::start();
    let session = relay.session();
    let (tag, _) = broken(&session, 10, b"01234", &[]);
    broken(&session, 20, b"abc", &[]);
    let mut receiver = get_rest(&session, 5);
    put(&session, 0, 20, b"", &[]).read_response().expect_error(409);
    receiver.read_response().expect_error(409);
    // A receiver that names its file gets the rest of that file.
    let mut receiver = get(&session, &[("Range", "bytes=5-"), ("If-Range", &tag)]);
    put_all(&session, b"0123456789").read_response().expect(200);
    expect_rest(receiver.read_response(), 5, b"0123456789");
}

#[over_both]
fn a_file_is_not_joined_to_a_stream() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = get(&session, &[]);
    let mut sender = session.connect();
    sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]).send_chunk(b"01234");
    let head = receiver.read_head();
    assert_eq!(head.field("ETag"), None);
    receiver.reset();
    let told = sender.read_response().expect_error(502);
    assert_eq!(told.head.field("Upload-Offset"), None, "a stream cannot go on");
    let mut receiver = get_rest(&session, 5);
    put_all(&session, b"0123456789").read_response().expect_error(409);
    receiver.read_response().expect_error(409);
}

#[over_both]
fn a_receiver_that_names_its_file_gets_the_rest_of_that_or_another_whole() {
    let relay = Relay::start();
    let whole = b"0123456789";
    let session = relay.session();
    let (tag, _) = broken(&session, 10, b"01234", &[]);
    // Meanwhile another file passes.
    broken(&session, 12, b"abc", &[]);
    let mut receiver = get(&session, &[("Range", "bytes=5-"), ("If-Range", &tag)]);
    put_all(&session, whole).read_response().expect(200);
    expect_rest(receiver.read_response(), 5, whole);
    for other in ["\"0123456789abcdef\"", "\"x\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let session = relay.session();
        broken(&session, 10, b"01234", &[]);
        let mut receiver = get(&session, &[("Range", "bytes=5-"), ("If-Range", other)]);
        put_all(&session, whole).read_response().expect(200);
        assert_eq!(receiver.read_response().expect(200).body, whole, "{other}");
    }
}

#[over_both]
fn a_range_that_is_not_up_to_the_end_is_ignored() {
    let relay = Relay::start();
    let whole = b"0123456789";
    let beyond_all = "bytes=5-18446744073709551615";
    for range in
        [beyond_all, "bytes=0-4", "bytes=2-8", "bytes=-5", "bytes=0-,5-", "items=5-", "bytes=5-4"]
    {
        let session = relay.session();
        let mut receiver = get(&session, &[("Range", range)]);
        put_all(&session, whole).read_response().expect(200);
        assert_eq!(receiver.read_response().expect(200).body, whole, "{range}");
    }
    let session = relay.session();
    let mut receiver = get(&session, &[("Range", "bytes=5-"), ("Range", "bytes=6-")]);
    put_all(&session, whole).read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).body, whole);
    // aria2c names the last byte.
    let session = relay.session();
    let mut receiver = get(&session, &[("Range", "bytes=5-9")]);
    put_all(&session, whole).read_response().expect(200);
    expect_rest(receiver.read_response(), 5, whole);
}

#[over_both]
fn what_is_no_part_of_a_file_is_refused() {
    let relay = Relay::start();
    let session = relay.session();
    for fields in [
        &[("Content-Length", "5"), ("Upload-Offset", "-1")][..],
        &[("Content-Length", "5"), ("Upload-Offset", "x")],
        &[("Content-Length", "5"), ("Upload-Offset", "3"), ("Content-Range", "bytes 4-8/9")],
        &[
            ("Content-Length", "5"),
            ("Content-Type", "multipart/form-data; boundary=b"),
            ("Upload-Offset", "3"),
        ],
        &[
            ("Content-Length", "5"),
            ("Content-Type", "multipart/form-data; boundary=b"),
            ("Content-Range", "bytes 4-8/9"),
        ],
    ] {
        let mut sender = session.connect();
        sender.request("PUT", &session.path, fields).read_response().expect_error(400);
    }
    let mut sender = session.connect();
    let fields = [("Content-Length", "5"), ("Upload-Offset", "999999999999999")];
    sender.request("PUT", &session.path, &fields).read_response().expect_error(413);
    session.transfer(&Payload::new(1, 10), crate::harness::Shape::Length);
}

#[over_both]
fn a_message_is_not_resumed_and_says_so() {
    let relay = Relay::start();
    let session = relay.message_session();
    let mut guest = session.guest();
    for part in [("Content-Range", "bytes 3-7/8"), ("Upload-Offset", "3")] {
        let fields = [("Content-Length", "5"), part];
        guest.ask("POST", &fields).read_response().expect_error(400);
        guest = session.guest();
    }
    let mut host = session.host();
    let answer = host.ask("GET", &[("Range", "bytes=3-")]).read_response().expect_error(409);
    assert!(answer.text().contains("Range"), "{}", answer.text());
    host.ask("GET", &[("Range", "bytes=0-")]);
    guest.post("text/plain", b"hello").read_response().expect(200);
    let message = host.read_response().expect(200);
    assert_eq!(message.body, b"hello");
    assert_eq!((message.head.field("ETag"), message.head.field("Accept-Ranges")), (None, None));
}

#[over_both]
fn head_tells_where_to_go_on() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let look = || {
        let answer = session.connect().request("HEAD", &session.path, &[]).read_response();
        let head = answer.expect(200).head;
        assert_eq!(head.must("Cache-Control"), "no-store");
        (
            head.must("X-Waiting").to_owned(),
            head.must("Upload-Offset").to_owned(),
            head.field("Upload-Length").map(str::to_owned),
        )
    };
    let said = |waiting: &str, offset: &str, length: Option<&str>| {
        (waiting.to_owned(), offset.to_owned(), length.map(str::to_owned))
    };
    assert_eq!(look(), said("none", "0", None));
    broken(&session, 10, b"01234", &[]);
    assert_eq!(look(), said("none", "5", Some("10")));
    let segment = relay.segment();
    let receiver = get_rest(&session, 3);
    segment.wait_until_held(1);
    assert_eq!(look(), said("receiver", "3", Some("10")));
    drop(receiver);
    segment.wait_until_held(0);
    // `HEAD` tells a sender to begin at byte 0 if the receiver cannot get the rest.
    let other = [("Range", "bytes=3-"), ("If-Range", "\"0123456789abcdef\"")];
    for fields in [&[][..], &other, &[("Range", "bytes=3-4")], &[("Range", "bytes=12-")]] {
        let receiver = get(&session, fields);
        segment.wait_until_held(1);
        assert_eq!(look(), said("receiver", "0", Some("10")), "{fields:?}");
        drop(receiver);
        segment.wait_until_held(0);
    }
    let mut receiver = get(&session, &[]);
    segment.wait_until_held(1);
    put_all(&session, b"0123456789").read_response().expect(200);
    receiver.read_response().expect(200);
}

#[over_both]
fn what_went_on_is_written_down() {
    let log = AccessLog::json();
    let relay = Relay::with(1, &log.keys().each_ref().map(String::as_str));
    let session = relay.session();
    let mut receiver = get_rest(&session, 7);
    put(&session, 3, 10, b"3456789", &[]).read_response().expect(200);
    receiver.read_response().expect(206);
    let entries = log.entries(3);
    let of = |role: &str| entries.iter().find(|it| it.role.as_deref() == Some(role)).unwrap();
    let (sender, receiver) = (of("sender"), of("receiver"));
    assert_eq!((sender.status, sender.payload), (200, Some(10)));
    assert_eq!((sender.offset, sender.skipped), (Some(7), Some(4)));
    assert_eq!((receiver.status, receiver.payload), (206, Some(3)));
    assert_eq!((receiver.offset, receiver.skipped), (Some(7), Some(0)));
}

#[over_both]
fn it_goes_on_across_a_reload_and_an_upgrade() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(11, TOTAL);
    let whole = payload.bytes();
    let changes: [fn(&Relay); 2] = [|relay| relay.reload(2, &[]), |relay| relay.upgrade(2, &[])];
    for change in changes {
        // The new workers know which bytes have passed.
        let session = relay.session();
        let (tag, _) = broken(&session, TOTAL, &whole[..1000], &[]);
        // This receiver waits at a worker that drains.
        let other = relay.session();
        let mut waiting = get_rest(&other, HAS);
        relay.segment().wait_until_held(1);
        change(&relay);
        let mut receiver = get(&session, &[("Range", "bytes=1000-"), ("If-Range", &tag)]);
        let answers = [sending(&session, 0, &payload), sending(&other, 0, &payload)];
        expect_rest(receiver.read_response(), 1000, &whole);
        expect_rest(waiting.read_response(), HAS, &whole);
        for (answer, from) in answers.into_iter().zip([1000, HAS]) {
            expect_whole_report(answer.join().unwrap(), TOTAL, TOTAL - from);
        }
    }
}
