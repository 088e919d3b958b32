//! The relay drops the part of a file that the receiver has already. Waits, lifetimes and departures while it does.

use std::thread;
use std::time::Duration;

use protocols::over_both;

use super::attempts::{
    HAS, TOTAL, expect_rest, expect_told_to_resume, expect_whole_report, get_rest, put, put_all,
    sending,
};
use crate::harness::{Payload, Raw, Relay, Session, eventually};

#[over_both]
fn a_receiver_waits_as_long_as_its_sender_brings_what_it_has() {
    let relay = Relay::with(2, &["timeouts.wait_timeout = \"1s\""]);
    let session = relay.session();
    let whole = b"0123456789";
    let mut receiver = get_rest(&session, 8);
    let mut sender = begin_to_put(&session);
    for byte in &whole[..8] {
        thread::sleep(Duration::from_millis(250));
        sender.send(&[*byte]);
    }
    // The receiver's wait does not end between the dropped bytes and the missing ones either.
    thread::sleep(Duration::from_millis(1500));
    sender.send(&whole[8..]);
    expect_rest(receiver.read_response(), 8, whole);
    expect_whole_report(sender.read_response(), 10, 2);
    // The relay keeps nothing of the dropped part for the next session.
    let session = relay.session();
    let mut receiver = get_rest(&session, 8);
    let mut sender = begin_to_put(&session);
    let (segment, before) = (relay.segment(), relay.segment().sum().bytes_skipped);
    sender.send(b"0123");
    eventually("all that has come is dropped", || {
        (segment.sum().bytes_skipped == before + 4).then_some(())
    });
    sender.reset();
    receiver.read_response().expect_error(504);
}

fn begin_to_put(session: &Session) -> Raw {
    put(session, 0, 10, b"", &[])
}

#[over_both]
fn a_sender_that_falls_silent_while_a_part_is_dropped_is_sent_away() {
    let relay = Relay::with(2, &["timeouts.silence_timeout = \"1s\""]);
    let session = relay.session();
    let mut receiver = get_rest(&session, 8);
    let mut sender = begin_to_put(&session);
    sender.send(b"0123");
    sender.read_response().expect_error(408);
    // The receiver waits on.
    put_all(&session, b"0123456789").read_response().expect(200);
    expect_rest(receiver.read_response(), 8, b"0123456789");
}

#[over_both]
fn a_session_does_not_end_while_a_part_is_dropped() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"1s\""]);
    let session = relay.session();
    let mut receiver = get_rest(&session, 8);
    let mut sender = begin_to_put(&session);
    for byte in b"01234567" {
        thread::sleep(Duration::from_millis(250));
        sender.send(&[*byte]);
    }
    session.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
    sender.send(b"89");
    expect_rest(receiver.read_response(), 8, b"0123456789");
    expect_whole_report(sender.read_response(), 10, 2);
}

#[over_both]
fn a_party_that_leaves_while_a_part_is_dropped_leaves_the_other_waiting() {
    let relay = Relay::with(2, &[]);
    let (segment, session) = (relay.segment(), relay.session());
    let payload = Payload::new(9, TOTAL);
    let mut receiver = get_rest(&session, HAS);
    let mut sender = put(&session, 0, TOTAL, &payload.bytes()[..1000], &[]);
    eventually("a part is dropped", || (segment.sum().bytes_skipped == 1000).then_some(()));
    sender.finish();
    drop(sender);
    let answer = sending(&session, 0, &payload);
    expect_rest(receiver.read_response(), HAS, &payload.bytes());
    expect_whole_report(answer.join().unwrap(), TOTAL, TOTAL - HAS);

    // A receiver that comes in the other's place may have more bytes than were dropped, or fewer.
    for (next, status) in [(HAS, 200), (HAS + 5, 200), (10, 503)] {
        let session = relay.session();
        let receiver = get_rest(&session, HAS);
        let before = segment.sum().bytes_skipped;
        let mut sender = put(&session, 0, TOTAL, &payload.bytes()[..1000], &[]);
        eventually("a part is dropped", || {
            (segment.sum().bytes_skipped == before + 1000).then_some(())
        });
        drop(receiver);
        segment.wait_until_held(1);
        let mut receiver = get_rest(&session, next);
        if status == 503 {
            expect_told_to_resume(&sender.read_response().expect_error(503), next);
            continue;
        }
        let bytes = payload.bytes();
        let answer = thread::spawn(move || {
            sender.send(&bytes[1000..]);
            sender.read_response()
        });
        expect_rest(receiver.read_response(), next, &payload.bytes());
        expect_whole_report(answer.join().unwrap(), TOTAL, TOTAL - next);
    }
}
