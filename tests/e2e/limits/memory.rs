//! User memory: the same for every size of file, and little for a receiver that waits.
//!
//! Not run again over HTTPS: HTTPS has limits and a test of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Payload, Pid, Relay, Shape, over_tls, stays};

fn processes(relay: &Relay) -> Vec<Pid> {
    [vec![relay.master()], relay.worker_pids()].concat()
}

fn pss_kib(pids: &[Pid]) -> u64 {
    pids.iter().map(|p| p.memory().pss_kib).sum()
}

#[test]
fn heavy_memory_does_not_grow_with_the_file() {
    let relay = Relay::with(2, &[]);
    let pids = processes(&relay);
    for _ in 0..4 {
        relay.session().transfer(&Payload::new(1, 10 << 20), Shape::Length);
    }
    let small = pss_kib(&pids);
    let done = AtomicBool::new(false);
    let large = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(pss_kib(&pids));
                thread::sleep(Duration::from_millis(50));
            }
            most.max(pss_kib(&pids))
        });
        relay.session().transfer(&Payload::new(2, 10 << 30), Shape::Length);
        done.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    println!("{small} KiB at 10 MiB, {large} KiB at 10 GiB");
    assert!(large * 100 <= small * 103, "{small} KiB at 10 MiB, {large} KiB at 10 GiB");
}

const WAITING: u64 = 2000;

#[test]
fn heavy_a_waiting_receiver_takes_at_most_two_kibibytes() {
    waiting_receivers_take_at_most(2);
}

#[test]
fn heavy_a_waiting_receiver_over_tls_takes_at_most_ten_kibibytes() {
    over_tls(|| waiting_receivers_take_at_most(10));
}

fn waiting_receivers_take_at_most(kib: u64) {
    let lines =
        ["limits.connections_per_address_max = 4096", "limits.sessions_per_address_max = 4096"];
    let relay = Relay::with(2, &lines);
    let segment = relay.segment();
    let sessions: Vec<_> = (0..WAITING).map(|_| relay.session()).collect();
    relay.session().transfer(&Payload::new(3, 10 << 20), Shape::Length);
    let workers = relay.worker_pids();
    let private_kib = || workers.iter().map(|p| p.memory().private_kib).sum::<u64>();
    let before = private_kib();
    let mut waiting = Vec::new();
    for session in &sessions {
        let mut raw = relay.connect();
        raw.get(&session.path);
        waiting.push(raw);
    }
    stays("all wait", Duration::from_millis(300), || segment.places_held());
    assert_eq!(segment.places_held(), WAITING);
    let grown = private_kib().saturating_sub(before);
    println!("{grown} KiB for {WAITING} waiting receivers");
    assert!(grown <= kib * WAITING, "{grown} KiB for {WAITING}");
    for (raw, session) in waiting.iter_mut().zip(&sessions).step_by(100) {
        let payload = Payload::new(4, 1000);
        let sender = session.sender(&payload, Shape::Length);
        raw.read_checked(&payload).expect_all(&payload);
        sender.join().unwrap().expect(200);
    }
}
