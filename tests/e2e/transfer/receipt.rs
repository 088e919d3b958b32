//! The delivery report is honest: never more than the receiver's kernel acknowledged, exact when all arrived, and no
//! success for a receiver that took nothing.

use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{
    Ending, FIRM, Payload, Piece, Raw, Relay, Shape, eventually, send_payload, stays, tcp_queues,
};

#[over_both]
fn the_level_can_be_asked_for() {
    let relay = Relay::start();
    for (asked, want) in [(Some("sent"), "sent"), (Some("acked"), "acked"), (None, "acked")] {
        let session = relay.session();
        let payload = Payload::new(1, 1000);
        let receiver = session.receiver(&payload);
        let mut sender = relay.connect();
        let mut fields = vec![("Content-Length", "1000")];
        fields.extend(asked.map(|level| ("X-Receipt", level)));
        sender.request("PUT", &session.path, &fields).send(&payload.bytes());
        let answer = sender.read_response().expect(200);
        assert_eq!((answer.head.must("X-Receipt"), answer.head.delivered_bytes()), (want, 1000));
        receiver.join().unwrap();
    }
}

#[over_http("TLS does not change requests and answers")]
fn the_level_can_be_configured_and_a_wrong_one_is_refused() {
    let relay = Relay::with(1, &["exchange.receipt = \"sent\""]);
    let session = relay.session();
    let payload = Payload::new(2, 1000);
    let receiver = session.receiver(&payload);
    let mut wrong = relay.connect();
    wrong.request("PUT", &session.path, &[("Content-Length", "0"), ("X-Receipt", "maybe")]);
    wrong.read_response().expect_error(400);
    let answer = session.sender(&payload, Shape::Length).join().unwrap().expect(200);
    assert_eq!(answer.head.must("X-Receipt"), "sent");
    receiver.join().unwrap().expect_all(&payload);
}

/// Bytes that the receiver's kernel has taken in order, head included: read by the test, or still in its queue.
fn received_by_tcp(relay: &Relay, receiver: &Raw) -> u64 {
    receiver.taken_bytes()
        + tcp_queues(receiver.local_addr(), relay.address()).map_or(0, |(_, queued)| queued)
}

#[over_both]
fn a_receiver_that_reads_a_part_and_dies_is_reported_within_what_it_got() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let shapes = [Shape::Length, Shape::Length, Shape::Chunked(10_000), Shape::Form];
    for (i, (k, shape)) in [0, 1, 70_000, 5_000_000].into_iter().zip(shapes).enumerate() {
        let session = relay.session();
        let payload = Payload::new(3, 60 << 20);
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let sending = session.sender(&payload, shape);
        if k > 0 {
            receiver.read_checked_part(&payload, k);
        } else {
            eventually("something arrives", || {
                (received_by_tcp(&relay, &receiver) > 1000).then_some(())
            });
        }
        stays("the transfer stalls", Duration::from_millis(300), || {
            (received_by_tcp(&relay, &receiver), segment.sum().bytes_in)
        });
        receiver.take_no_more();
        let received = received_by_tcp(&relay, &receiver) - receiver.head_bytes;
        if i % 2 == 0 {
            drop(receiver)
        } else {
            receiver.reset()
        }
        let answer = sending.join().unwrap().expect_error(502);
        let n = answer.head.delivered_bytes();
        assert!(k <= n && n <= received, "k {k}, reported {n}, received {received}");
    }
}

#[over_both]
fn a_hundred_megabytes_to_a_receiver_that_reads_nothing_never_succeed() {
    let relay = Relay::with(2, &[FIRM, "timeouts.rate_window = \"2s\""]);
    let session = relay.session();
    let payload = Payload::new(4, 100 << 20);
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let queued = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sender = relay.connect();
            let _ = send_payload(&mut sender, &session.path, &payload, Shape::Length);
            sender.read_response()
        });
        let queued = stays("the queue is full", Duration::from_millis(500), || {
            received_by_tcp(&relay, &receiver)
        });
        let answer = sending.join().unwrap();
        assert!(answer.status() >= 400, "{:#?}", answer.head);
        assert!(
            answer.head.delivered_bytes() <= queued,
            "{} > {queued}",
            answer.head.delivered_bytes()
        );
        queued
    });
    assert!(queued < 40 << 20, "more than a socket buffer holds: {queued}");
}

#[over_http("a client of TLS sends no request before its handshake")]
fn bytes_that_are_never_acknowledged_are_no_success() {
    // The relay never sent the bytes that a closed window holds back, so the minimum rate ends the transfer, not the
    // missing acknowledgement.
    let relay =
        Relay::with(2, &[FIRM, "timeouts.ack_timeout = \"1s\"", "timeouts.rate_window = \"1s\""]);
    let session = relay.session();
    let payload = Payload::new(5, 200_000);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let answer = session.sender(&payload, Shape::Length).join().unwrap();
    assert!(answer.status() == 502, "{:#?}", answer.head);
    let delivered = answer.head.delivered_bytes();
    // A receiver that reads on now must not get a whole file that was reported as lost.
    let checked = receiver.read_checked(&payload);
    checked.expect_cut();
    assert!(delivered <= checked.bytes, "reported {delivered}, received {}", checked.bytes);
}

#[over_both]
fn sent_does_not_wait_for_the_acknowledgement() {
    let relay = Relay::with(2, &["timeouts.ack_timeout = \"60s\""]);
    let session = relay.session();
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let payload = Payload::new(6, 100_000);
    let mut sender = relay.connect();
    sender
        .request("PUT", &session.path, &[("Content-Length", "100000"), ("X-Receipt", "sent")])
        .send(&payload.bytes());
    sender.patience(Duration::from_secs(5));
    let answer = sender.read_response().expect(200);
    let received = received_by_tcp(&relay, &receiver);
    assert!(received < payload.len(), "{received} bytes were received already");
    assert_eq!(answer.head.delivered_bytes(), payload.len());
    assert_eq!(answer.head.must("X-Receipt"), "sent");
}

#[over_both]
fn a_reset_before_the_acknowledgement_is_502() {
    let relay = Relay::with(2, &["timeouts.ack_timeout = \"30s\""]);
    let session = relay.session();
    let payload = Payload::new(7, 100_000);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let sending = session.sender(&payload, Shape::Length);
    eventually("its queue fills", || (received_by_tcp(&relay, &receiver) > 500).then_some(()));
    stays("all stands still", Duration::from_millis(300), || received_by_tcp(&relay, &receiver));
    assert!(!sending.is_finished(), "no success without an acknowledgement");
    receiver.take_no_more();
    let before = received_by_tcp(&relay, &receiver);
    receiver.reset();
    let answer = sending.join().unwrap().expect_error(502);
    assert!(answer.head.delivered_bytes() <= before);
}

#[over_both]
fn a_slow_reader_is_waited_for_and_reported_exactly() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let payload = Payload::new(8, 600_000);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let sending = session.sender(&payload, Shape::Chunked(50_000));
    let head = receiver.read_head();
    let mut state = receiver.body_of(&head).unwrap();
    let mut buffer = vec![0; 20_000];
    let mut bytes = 0;
    while let crate::harness::Piece::Bytes(n) = receiver.read_piece(&mut state, &mut buffer) {
        assert_eq!(payload.first_difference(bytes, &buffer[..n]), None);
        bytes += n as u64;
        if bytes < 200_000 {
            assert!(!sending.is_finished(), "success after {bytes} bytes");
        }
    }
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), 600_000);
}

#[over_both]
fn a_slow_and_steady_receiver_is_not_cut() {
    // The worker's socket buffer for this receiver takes nothing for two rate windows on end. On loopback a closed TCP
    // window opens by 64 KiB at a time, which takes this receiver 1.6 s.
    let fields = [FIRM, "timeouts.rate_window = \"4s\"", "limits.rate_bytes_min = 1000"];
    let relay = Relay::with(2, &fields);
    let session = relay.session();
    let payload = Payload::new(8, 2_000_000);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 65536);
    receiver.get(&session.path);
    let sending = session.sender(&payload, Shape::Length);
    let head = receiver.read_head();
    let mut body = receiver.body_of(&head).unwrap();
    let mut pieces = 0;
    let ending = loop {
        match receiver.read_piece(&mut body, &mut [0; 4000]) {
            Piece::End(ending) => break ending,
            // The receiver reads 40 kB/s for ten seconds, then the rest at once.
            Piece::Bytes(_) if pieces < 100 => thread::sleep(Duration::from_millis(100)),
            Piece::Bytes(_) => {}
        }
        pieces += 1;
    };
    assert_eq!(ending, Ending::Complete);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

#[over_both]
fn a_failure_counts_what_was_acknowledged_whatever_level_was_asked_for() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(9, 3_000_000);
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 4096);
    receiver.get(&session.path);
    let mut sender = relay.connect();
    let fields = [("Content-Length", "3000000"), ("X-Receipt", "sent")];
    sender.request("PUT", &session.path, &fields);
    let sending = thread::spawn(move || {
        let _ = sender.try_send(&payload.bytes());
        sender.read_response()
    });
    stays("the transfer stalls", Duration::from_millis(300), || received_by_tcp(&relay, &receiver));
    receiver.take_no_more();
    let received = received_by_tcp(&relay, &receiver);
    receiver.reset();
    let answer = sending.join().unwrap().expect_error(502);
    assert!(
        answer.head.delivered_bytes() <= received,
        "{} > {received}",
        answer.head.delivered_bytes()
    );
    assert_eq!(answer.head.must("X-Receipt"), "acked");
}
