//! A party is lost in the midst of a message: the other gets an honest answer, and the lane is free again.

use std::ops::RangeInclusive;
use std::time::Duration;

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::harness::{Ending, Party, Raw, Relay, Role, Stopped, TRUNCATED, eventually};

/// The ways a party may go midway.
const DEPARTURES: [fn(Raw); 2] = [drop, Raw::reset];

#[over_both]
fn a_sender_lost_in_chunks_ends_the_message_marked_as_truncated() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    for from in Role::BOTH {
        for leave in DEPARTURES {
            let (mut receiver, mut sender) = (session.party(from.other()), session.party(from));
            receiver.poll();
            sender.post_in_chunks().send_chunk(b"hello");
            let mut message = receiver.read_coming();
            message.expect(&mut receiver, b"hello");
            leave(sender.into_raw());
            let (rest, ending, trailer) = message.rest(&mut receiver);
            assert_eq!((rest.len(), ending), (0, Ending::Complete));
            assert_eq!(trailer, [TRUNCATED.map(str::to_owned).into()]);
            session.pass(from, b"the lane is free");
        }
    }
}

#[over_http(
    "encrypted payload does not pass through pipes, and a TLS client that leaves tickets unread resets"
)]
fn a_whole_chunk_right_before_a_loss_arrives_though_it_passes_by_pipe() {
    // Long enough for a pipe, and short enough for the first window of a connection.
    static CHUNK: [u8; 48 << 10] = [7; 48 << 10];
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    for _ in 0..5 {
        let (mut receiver, mut sender) = (session.guest(), session.host());
        receiver.poll();
        sender.post_in_chunks().send_chunk(&CHUNK);
        let mut message = receiver.read_coming();
        message.expect(&mut receiver, &CHUNK);
        // The worker finds the chunk and the loss in one turn.
        let held = Stopped::hold(&relay.worker_pids());
        sender.send_chunk(&CHUNK);
        drop(sender);
        drop(held);
        let (rest, ending, trailer) = message.rest(&mut receiver);
        assert_eq!((rest.len(), ending), (CHUNK.len(), Ending::Complete));
        assert_eq!(trailer, [TRUNCATED.map(str::to_owned).into()]);
        session.pass(Role::Host, b"the lane is free");
    }
}

#[over_both]
fn a_malformed_chunk_is_told_to_both() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let (mut receiver, mut sender) = (session.host(), session.guest());
    receiver.poll();
    sender.post_in_chunks().send_chunk(b"hello");
    let mut message = receiver.read_coming();
    message.expect(&mut receiver, b"hello");
    sender.send(b"nonsense\r\n");
    assert!(sender.read_response().expect_error(400).head.delivered_bytes() <= 5);
    message.expect_cut(&mut receiver);
    session.pass(Role::Guest, b"the lane is free");
}

#[over_both]
fn a_sender_lost_short_of_its_length_cuts_the_message() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    for leave in DEPARTURES {
        let (mut receiver, mut sender) = (session.guest(), session.host());
        receiver.poll();
        sender.ask("POST", &[("Content-Length", "10")]).send(b"hello");
        let mut message = receiver.read_coming();
        message.expect(&mut receiver, b"hello");
        leave(sender.into_raw());
        let (rest, ending, _) = message.rest(&mut receiver);
        assert!(rest.is_empty() && ending != Ending::Complete, "{ending:?}");
        session.pass(Role::Host, b"the lane is free");
    }
}

#[over_both]
fn a_lost_receiver_is_502_with_the_count_and_the_lane_is_free() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.message_session();
    for (from, in_chunks) in Role::BOTH.into_iter().flat_map(|r| [(r, false), (r, true)]) {
        let (mut receiver, mut sender) = (session.party(from.other()), session.party(from));
        receiver.poll();
        if in_chunks {
            sender.post_in_chunks().send_chunk(b"hello");
        } else {
            sender.ask("POST", &[("Content-Length", "1000000000")]).send(b"hello");
        }
        receiver.read_coming().expect(&mut receiver, b"hello");
        receiver.wait_until_acknowledged();
        receiver.into_raw().reset();
        expect_lost(&mut sender, 5..=5);
        segment.wait_until_held(0);
        session.pass(from, b"the lane is free");
    }
}

/// The sender of a message whose receiver left is told how much of it was delivered.
#[track_caller]
fn expect_lost(sender: &mut Party, delivered: RangeInclusive<u64>) {
    let answer = sender.read_response().expect_error(502);
    assert!(delivered.contains(&answer.head.delivered_bytes()), "{:#?}", answer.head);
    assert_eq!(answer.head.must("X-Receipt"), "acked");
    assert!(answer.text().contains(answer.head.must("X-Bytes-Delivered")));
    assert!(answer.head.closes());
}

#[over_both]
fn a_receiver_that_closes_is_lost_with_the_next_bytes() {
    // A FIN alone may be a half-close: only bytes that cannot be delivered show that the client left.
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let (mut receiver, mut sender) = (session.guest(), session.host());
    receiver.poll();
    sender.ask("POST", &[("Content-Length", "1000000000")]).send(b"hello");
    receiver.read_coming().expect(&mut receiver, b"hello");
    drop(receiver);
    while !sender.has_news() && sender.try_send(&[b'x'; 1000]).is_ok() {}
    expect_lost(&mut sender, 5..=5);
    session.pass(Role::Host, b"the lane is free");
}

#[over_both]
fn a_worker_that_dies_ends_its_messages_and_harms_no_session() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let session = relay.message_session();
    for sender_dies in [true, false] {
        let mut receiver = relay.on_worker(0, &segment, || session.host());
        let mut sender = relay.on_worker(1, &segment, || session.guest());
        receiver.poll();
        sender.post_in_chunks().send_chunk(b"hello");
        let mut message = receiver.read_coming();
        message.expect(&mut receiver, b"hello");
        receiver.wait_until_acknowledged();
        relay.worker_pids()[usize::from(sender_dies)].signal(Signal::SIGKILL);
        if sender_dies {
            message.expect_cut(&mut receiver);
            assert!(sender.is_gone_within(Duration::from_secs(5)));
        } else {
            let answer = sender.read_response().expect_error(502);
            assert!(answer.text().contains("peer worker lost"), "{}", answer.text());
            assert!(answer.head.delivered_bytes() <= 5);
            assert!(receiver.is_gone_within(Duration::from_secs(5)));
        }
        eventually("the worker is back", || (relay.worker_pids().len() == 2).then_some(()));
        for from in Role::BOTH {
            session.pass(from, b"the lane is free");
        }
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[over_both]
fn a_poll_of_a_dead_worker_is_replaced() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.message_session();
    let mut poll = relay.on_worker(0, &segment, || session.host());
    poll.poll();
    segment.wait_until_held(1);
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    assert!(poll.is_gone_within(Duration::from_secs(5)));
    segment.wait_until_held(0);
    session.pass(Role::Guest, b"hello");
}
