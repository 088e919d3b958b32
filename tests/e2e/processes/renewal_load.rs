//! Renewals under load: a hundred reloads and twenty upgrades, with transfers that outlast them all, exchanges and
//! messages meanwhile; over HTTPS with an exchange of the certificate in the middle. No client fails, and no memory grows.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use protocols::over_both;

use crate::harness::{Checked, MessageSession, Payload, Raw, Relay, Shape, eventually};
use crate::processes::reload::expect_children;
use crate::processes::upgrade::{install, installed};

const TRANSFERS: u64 = 200;
/// Workers of one generation after the other.
const WORKERS: [usize; 3] = [2, 3, 1];
/// Small chunks, so that all transfers together have some to spare.
const LINES: [&str; 2] = ["memory.chunk_bytes = \"64KiB\"", "memory.lane_bytes_max = \"1MiB\""];

/// Exchanges, each on connections of its own.
fn exchanges(relay: &Relay, over: &AtomicBool, done: &AtomicUsize) {
    let payload = Payload::new(2, 300_000);
    while !over.load(Ordering::Relaxed) {
        relay.session().transfer(&payload, Shape::Chunked(20_000));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Messages of one session, on connections that are kept for as long as the relay lets them.
fn messages(relay: &Relay, over: &AtomicBool, done: &AtomicUsize) {
    let MessageSession { path, token, .. } = relay.message_session();
    let (location, cookie) = (&*path, &*format!("token=\"{token}\""));
    let (mut host, mut guest) = (relay.connect(), relay.connect());
    while !over.load(Ordering::Relaxed) {
        host.request("GET", location, &[("Cookie", cookie)]);
        guest.request("POST", location, &[("Content-Length", "5")]).send(b"hello");
        let answer = host.read_response().expect(200);
        assert_eq!(answer.text(), "hello");
        if answer.head.closes() {
            host = relay.connect();
        }
        if guest.read_response().expect(200).head.closes() {
            guest = relay.connect();
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A transfer that has begun, and gets no further until the test gives its sender more bytes.
fn begun(relay: &Relay, payload: &Payload) -> (JoinHandle<Checked>, Raw, Vec<u8>) {
    let session = relay.session();
    let receiving = session.receiver(payload);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    (receiving, sender, payload.bytes())
}

/// A flag that is raised on drop: otherwise a failing test would wait for its load for ever.
struct Raised<'f>(&'f AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[over_both]
fn heavy_a_hundred_reloads_under_load_lose_nothing_and_leave_nothing() {
    under_load(&Relay::with(2, &LINES), 100, |relay, workers| relay.reload(workers, &LINES));
}

#[over_both]
fn heavy_twenty_upgrades_under_load_lose_nothing_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    under_load(&Relay::of(&program, 2, &LINES), 20, |relay, workers| {
        install(&program, |bytes| bytes.push(0));
        relay.upgrade(workers, &LINES);
    });
}

/// Renews `relay` so many times, to so many workers each time.
fn under_load(relay: &Relay, rounds: usize, renew: impl Fn(&Relay, usize)) {
    let segment = relay.segment();
    let master = relay.master();
    let state = || (master.fds().len(), master.memory().anonymous_kib);
    let long: Vec<_> = (0..TRANSFERS).map(|seed| Payload::new(seed, 2 << 20)).collect();
    let mut transfers: Vec<_> = long.iter().map(|payload| begun(relay, payload)).collect();
    let (over, dones) = (&AtomicBool::new(false), [const { AtomicUsize::new(0) }; 4]);
    let mut early = (0, 0);
    thread::scope(|scope| {
        let _end = Raised(over);
        for (number, done) in dones.iter().enumerate() {
            let load = if number % 2 == 0 { exchanges } else { messages };
            scope.spawn(move || load(relay, over, done));
        }
        for round in 0..rounds {
            let count = || dones.each_ref().map(|done| done.load(Ordering::Relaxed));
            let before = count();
            if round == rounds / 2 {
                relay.exchange_certificate();
            }
            renew(relay, WORKERS[round % 3]);
            for (_, sender, bytes) in &mut transfers {
                let slice = bytes.len() / rounds;
                sender.send(&bytes[slice * round..][..slice]);
            }
            eventually("all of the load goes on", || {
                count().iter().zip(before).all(|(now, before)| *now >= before + 2).then_some(())
            });
            if round == rounds / 3 {
                early = state();
            }
        }
    });
    for ((receiving, mut sender, bytes), payload) in transfers.into_iter().zip(&long) {
        sender.send(&bytes[bytes.len() / rounds * rounds..]);
        sender.read_response().expect(200);
        receiving.join().unwrap().expect_all(payload);
    }
    expect_children(relay, WORKERS[(rounds - 1) % 3]);
    let (fds, kib) = state();
    assert!(fds <= early.0, "{fds} descriptors, {} after {} reloads", early.0, rounds / 3);
    assert!(kib <= early.1 + 256, "{kib} KiB, {} after {} reloads", early.1, rounds / 3);
    let fds = relay.fd_counts();
    relay.expect_nothing_held(&segment, &fds);
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
    println!("done meanwhile: {dones:?}");
}
