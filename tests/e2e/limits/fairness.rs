//! No address takes the chunks and pipes that others need: how many one address may hold, which transfers are given up
//! when others request them, and which never are.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use protocols::over_both;

use crate::harness::{ADMIN, Payload, Raw, Relay, Session, Shape, send_payload, stays};

const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Some thirty chunks and no pipes, so all payload passes by chunk.
const FEW_CHUNKS: [&str; 4] = [
    "memory.segment_bytes = \"8MiB\"",
    "memory.lane_bytes_max = \"1MiB\"",
    "memory.pipes = 0",
    "limits.sessions_per_address_max = 0",
];
/// No receiver is given up within a test.
const PATIENT: &str = "timeouts.stall_timeout = \"1h\"";
/// A stalled receiver is given up soon, but not before an honest one has had its chance.
const IMPATIENT: [&str; 2] =
    ["timeouts.stall_timeout = \"1s\"", "limits.stall_rate_bytes_min = \"32KiB\""];

const BIG: u64 = 300 << 20;

/// A relay with few chunks, and `lines`.
fn relay_with(lines: &[&str]) -> Relay {
    Relay::with(2, &[&FEW_CHUNKS, lines].concat())
}

/// A transfer whose receiver stands still, so that its lane holds all that it may.
struct Stalled {
    receiver: Raw,
    _sender: Raw,
}

impl Stalled {
    /// Starts the transfer of a client that `connect` connects, which sends `fields` with each request.
    fn new(session: &Session, connect: impl Fn() -> Raw, fields: &[(&str, &str)]) -> Self {
        let (mut receiver, mut sender) = (connect(), connect());
        receiver.request("GET", &session.path, fields);
        let length = BIG.to_string();
        let fields = [&[("Content-Length", length.as_str())], fields].concat();
        sender.request("PUT", &session.path, &fields);
        sender.patience(Duration::from_millis(200));
        let bytes = vec![b'x'; 1 << 16];
        while sender.try_send(&bytes).is_ok() {}
        Self { receiver, _sender: sender }
    }

    fn from(relay: &Relay, source: IpAddr) -> Self {
        Self::new(&relay.session(), || Raw::connect_from(source, relay.address()), &[])
    }
}

/// Starts stalled transfers until the pool has no more chunks for them.
fn stall_all(
    relay: &Relay,
    count: usize,
    stalled: impl Fn(usize) -> Stalled + Sync,
) -> Vec<Stalled> {
    let held = thread::scope(|scope| {
        let stalled = &stalled;
        let all: Vec<_> = (0..count).map(|i| scope.spawn(move || stalled(i))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let segment = relay.segment();
    stays("all stands still", Duration::from_millis(500), || segment.chunks_held());
    held
}

#[over_both]
fn stalled_receivers_of_one_address_leave_chunks_to_others() {
    let relay = relay_with(&[PATIENT]);
    let segment = relay.segment();
    let _stalled = stall_all(&relay, 40, |_| Stalled::from(&relay, GREEDY));
    let (held, all) = (segment.chunks_held(), segment.chunks());
    assert!(held <= all * 2 / 3 + 1, "{held} of {all}");
    thread::scope(|scope| {
        for seed in 1..=8 {
            let relay = &relay;
            scope.spawn(move || {
                let shape = [Shape::Length, Shape::Form, Shape::Chunked(9000)]
                    [usize::try_from(seed % 3).unwrap()];
                relay.session().transfer(&Payload::new(seed, 3 << 20), shape);
            });
        }
    });
}

#[over_both]
fn a_number_of_chunks_is_what_an_address_may_hold() {
    let relay = relay_with(&[PATIENT, "limits.chunks_per_address_max = 5"]);
    let _stalled = stall_all(&relay, 12, |_| Stalled::from(&relay, GREEDY));
    assert_eq!(relay.segment().chunks_held(), 5);
    relay.session().transfer(&Payload::new(1, 3 << 20), Shape::Form);
}

#[over_both]
fn stalled_receivers_of_many_networks_of_one_site_leave_chunks_to_others() {
    let relay = relay_with(&[PATIENT, "trusted_proxies = [\"127.0.0.0/8\"]"]);
    let segment = relay.segment();
    let _stalled = stall_all(&relay, 40, |i| {
        let client = format!("2001:db8:7:{i:x}::1");
        let fields = [("X-Forwarded-For", client.as_str())];
        Stalled::new(&relay.session(), || relay.connect(), &fields)
    });
    let (held, all) = (segment.chunks_held(), segment.chunks());
    assert!(held <= all * 4 / 5 + 1, "{held} of {all}");
    relay.session().transfer(&Payload::new(1, 3 << 20), Shape::Length);
}

#[over_both]
fn stalled_receivers_of_one_address_leave_pipes_to_others() {
    let relay = Relay::with(2, &["memory.pipes = 12", PATIENT]);
    let segment = relay.segment();
    let _stalled = stall_all(&relay, 12, |_| Stalled::from(&relay, GREEDY));
    let held = segment.pipes().0;
    // TLS uses no pipes.
    assert!(held <= 8, "{held} of 12 pipes");
    relay.session().transfer(&Payload::new(1, 8 << 20), Shape::Length);
}

#[over_both]
fn a_receiver_that_stands_still_keeps_its_chunks_while_nobody_requests_them() {
    let relay = relay_with(&IMPATIENT);
    let payload = Payload::new(3, 40 << 20);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let sending = session.sender(&payload, Shape::Length);
    let mut reading = receiver.reading(&payload);
    reading.read_to(1 << 20);
    let held = stays("it stands still", Duration::from_secs(4), || relay.segment().chunks_held());
    assert!(held > 0);
    relay.session().transfer(&Payload::new(4, 3 << 20), Shape::Form);
    reading.rest().expect_all(&payload);
    sending.join().unwrap().expect(200);
}

#[over_both]
fn stalled_receivers_give_way_to_others_of_their_address_and_slow_ones_do_not() {
    let relay = relay_with(&[&IMPATIENT[..], &[ADMIN]].concat());
    let segment = relay.segment();
    // The receiver reads many times as fast as the minimum rate.
    let slow = Payload::new(5, 1 << 30);
    let session = relay.session();
    let mut receiver = Raw::connect_with_receive_buffer(relay.address(), 8 << 10);
    receiver.get(&session.path);
    let mut sender = session.connect();
    let sending = thread::spawn({
        let (path, slow) = (session.path.clone(), slow.clone());
        move || send_payload(&mut sender, &path, &slow, Shape::Length)
    });
    let mut reading = receiver.reading(&slow);
    let (mut before, done) = (0, AtomicBool::new(false));
    thread::scope(|scope| {
        let (reading, done) = (&mut reading, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let next = reading.bytes() + (26 << 10);
                reading.read_to(next);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let mut work = || {
            let connect = || relay.connect();
            let stalled = stall_all(&relay, 40, |_| Stalled::new(&relay.session(), connect, &[]));
            before = segment.chunks_held();
            for seed in 10..14 {
                relay.session().transfer(&Payload::new(seed, 3 << 20), Shape::Form);
            }
            drop(stalled);
        };
        let outcome = catch_unwind(AssertUnwindSafe(&mut work));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    assert!(before >= segment.chunks() / 2, "{before} were held");
    let given_up = relay.metrics().value("limits_hit_total{limit=\"stall_rate_bytes_min\"}");
    assert!(given_up > 0);
    // The transfer still runs: the bytes that come next are right.
    let next = reading.bytes() + (1 << 20);
    reading.read_to(next);
    drop(reading);
    let _ = sending.join();
}

#[over_both]
fn receivers_that_trickle_are_given_up_as_well() {
    let relay = relay_with(&IMPATIENT);
    let mut stalled =
        stall_all(&relay, 30, |_| Stalled::new(&relay.session(), || relay.connect(), &[]));
    let since = Instant::now();
    thread::scope(|scope| {
        let honest = scope.spawn(|| {
            for seed in 10..13 {
                relay.session().transfer(&Payload::new(seed, 3 << 20), Shape::Form);
            }
        });
        // The stalled receivers read at a fifth of the minimum rate.
        while !honest.is_finished() && since.elapsed() < Duration::from_secs(60) {
            for Stalled { receiver, .. } in &mut stalled {
                let mut bytes = [0; 600];
                let _ = std::io::Read::read(&mut receiver.line(), &mut bytes);
            }
            thread::sleep(Duration::from_millis(100));
        }
        honest.join().unwrap();
    });
}

#[over_both]
fn a_running_transfer_is_not_cut_for_chunk_requests_of_an_address_that_holds_more() {
    let relay = relay_with(&[PATIENT, "timeouts.chunk_wait = \"1s\""]);
    let (session, payload) = (relay.session(), Payload::new(6, 12 << 20));
    let receiver = session.receiver(&payload);
    let mut sender = session.connect();
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    // Each of these lanes requests a chunk, again and again.
    let _stalled = stall_all(&relay, 60, |_| Stalled::from(&relay, GREEDY));
    for piece in payload.bytes().chunks(64 << 10) {
        sender.send(piece);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    receiver.join().unwrap().expect_all(&payload);
}
