//! A sender that sends one byte at a time reaches its receiver one byte at a time: nothing between the two sides waits
//! for more.

use protocols::over_both;

use crate::harness::{Ending, Placement, Relay};

fn each_byte_arrives_before_the_next_is_sent(chunked: bool, placement: Placement) {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let (mut receiver, mut sender) = relay.pair(&segment, placement);
    let before = segment.all();
    receiver.get(&session.path);
    let text: Vec<u8> = (0..200).collect();
    let framing =
        if chunked { ("Transfer-Encoding", "chunked") } else { ("Content-Length", "200") };
    sender.request("POST", &session.path, &[framing]);
    let mut open = None;
    for byte in &text {
        if chunked {
            sender.send_chunk(&[*byte])
        } else {
            sender.send(&[*byte])
        }
        let (_, state) = open.get_or_insert_with(|| {
            let head = receiver.read_head();
            let state = receiver.body_of(&head).unwrap();
            (head, state)
        });
        let mut got = [0; 16];
        assert_eq!(receiver.read_piece(state, &mut got), crate::harness::Piece::Bytes(1));
        assert_eq!(got[0], *byte);
    }
    if chunked {
        sender.send_last_chunk();
    }
    let (_, mut state) = open.unwrap();
    assert_eq!(
        receiver.read_piece(&mut state, &mut [0; 16]),
        crate::harness::Piece::End(Ending::Complete)
    );
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 200);
    placement.expect_moved(&segment, &before, 200);
}

#[over_both]
fn chunked_across_workers() {
    each_byte_arrives_before_the_next_is_sent(true, Placement::TwoWorkers);
}

#[over_both]
fn chunked_on_one_worker() {
    each_byte_arrives_before_the_next_is_sent(true, Placement::SameWorker);
}

#[over_both]
fn of_known_length_across_workers() {
    each_byte_arrives_before_the_next_is_sent(false, Placement::TwoWorkers);
}

#[over_both]
fn a_head_and_a_body_in_pieces_of_one_byte() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    for byte in format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", session.path).bytes() {
        receiver.send(&[byte]);
    }
    let mut sender = relay.connect();
    let part = "Content-Disposition: form-data; name=f; filename=\"n\"";
    let body = format!("--b\r\n{part}\r\n\r\n\r\n--a\r\n-\r\n--b--\r\n");
    let form = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked";
    let head = format!("POST {} HTTP/1.1\r\nHost: a\r\n{form}\r\n\r\n", session.path);
    for byte in head.bytes() {
        sender.send(&[byte]);
    }
    for byte in body.bytes() {
        sender.send(b"1\r\n");
        sender.send(&[byte]);
        sender.send(b"\r\n");
    }
    sender.send_last_chunk();
    assert_eq!(receiver.read_response().expect(200).body, b"\r\n--a\r\n-");
    sender.read_response().expect(200);
}
