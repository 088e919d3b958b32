//! Caps on bandwidth: a transfer takes at least as long as they demand, and arrives. The longest time depends on the
//! machine, so no test checks it.

use std::time::{Duration, Instant};

use protocols::over_both;

use crate::harness::{Payload, Relay, Session, Shape};

/// Bytes a second.
const RATE: u64 = 512 << 10;
const PER_TRANSFER: &str = "limits.rate_bytes_max = \"512KiB\"";
const PER_ADDRESS: &str = "limits.rate_bytes_per_address_max = \"512KiB\"";
/// Bytes that a cap grants for the time before: two portions of a twentieth of a second, and a clock of milliseconds.
const AT_ONCE: Duration = Duration::from_millis(102);

/// The least time that so many bytes take.
fn least(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / RATE).saturating_sub(AT_ONCE)
}

#[track_caller]
fn expect_took(began: Instant, bytes: u64) {
    let took = began.elapsed();
    assert!(took >= least(bytes), "{bytes} bytes in {took:?}, and not in {:?}", least(bytes));
}

/// All of these transfers at once.
fn transfer_all(sessions: &[Session], payload: &Payload, shape: Shape) {
    let receivers: Vec<_> = sessions.iter().map(|it| it.receiver(payload)).collect();
    let senders: Vec<_> = sessions.iter().map(|it| it.sender(payload, shape)).collect();
    for receiver in receivers {
        receiver.join().unwrap().expect_all(payload);
    }
    for sender in senders {
        let answer = sender.join().unwrap().expect(200);
        assert_eq!(answer.head.delivered_bytes(), payload.len());
    }
}

#[over_both]
fn a_transfer_takes_the_time_that_its_cap_demands() {
    // Plain bodies of a known length go through pipes.
    let relay = Relay::with(2, &[PER_TRANSFER]);
    for shape in [Shape::Length, Shape::Chunked(10_000), Shape::Form] {
        let payload = Payload::new(1, 700_000);
        let session = relay.session();
        let began = Instant::now();
        session.transfer(&payload, shape);
        expect_took(began, payload.len());
    }
}

#[over_both]
fn each_transfer_has_a_cap_of_its_own_and_an_address_one_for_all_workers() {
    let payload = Payload::new(2, 200_000);
    let relay = Relay::with(2, &[PER_ADDRESS]);
    let sessions: Vec<_> = (0..4).map(|_| relay.session()).collect();
    let began = Instant::now();
    transfer_all(&sessions, &payload, Shape::Length);
    expect_took(began, 4 * payload.len());
    // The slower of the two decides.
    let relay = Relay::with(2, &["limits.rate_bytes_max = \"4MiB\"", PER_ADDRESS]);
    let sessions: Vec<_> = (0..2).map(|_| relay.session()).collect();
    let began = Instant::now();
    transfer_all(&sessions, &payload, Shape::Chunked(1000));
    expect_took(began, 2 * payload.len());
}

#[over_both]
fn who_is_held_back_is_not_cut_for_being_slow() {
    let lines = [
        "limits.rate_bytes_max = \"64KiB\"",
        "limits.rate_bytes_min = \"64KiB\"",
        "limits.stall_rate_bytes_min = \"1MiB\"",
        "timeouts.rate_window = \"100ms\"",
        "timeouts.stall_timeout = \"100ms\"",
    ];
    let relay = Relay::with(2, &lines);
    for shape in [Shape::Length, Shape::Chunked(10_000)] {
        relay.session().transfer(&Payload::new(3, 100_000), shape);
    }
}

#[over_both]
fn messages_have_a_cap_as_well() {
    let relay = Relay::with(1, &[PER_TRANSFER]);
    let session = relay.message_session();
    let body = vec![b'm'; 300_000];
    let (mut host, mut guest) = (session.host(), session.guest());
    let began = Instant::now();
    host.poll();
    guest.post("text/plain", &body);
    assert_eq!(host.read_response().expect(200).body, body);
    guest.expect_delivered(body.len());
    expect_took(began, body.len() as u64);
}

#[over_both]
fn a_sender_that_breaks_off_while_it_is_held_back_is_noticed() {
    let relay = Relay::with(2, &["limits.rate_bytes_max = \"1KiB\""]);
    let session = relay.session();
    let payload = Payload::new(4, 100_000);
    let receiver = session.receiver(&payload);
    let mut sender = session.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "200000")]);
    sender.send(&payload.bytes());
    relay.segment().wait_until_held(2);
    // The sent bytes would last for a hundred seconds at this rate.
    sender.reset();
    let received = receiver.join().unwrap();
    assert!(received.bytes < payload.len(), "{} bytes", received.bytes);
}
