//! A worker that is killed in a pair: its clients and theirs are reset at once, nothing stays behind, and the name is free.
//!
//! Not run again over HTTPS: processes do not depend on TLS.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ending::is_cut;
use super::party::{ask, hears_ok, line, pair_on, passes, receive, register, say, token};
use crate::harness::{Raw, Relay, Segment, eventually, eventually_within};

/// How soon a survivor must know.
const NEWS_WITHIN: Duration = Duration::from_millis(100);

fn kill(relay: &Relay, worker: usize) {
    let pid = relay.worker_pids()[worker];
    pid.signal(Signal::SIGKILL);
}

/// Waits until all workers serve again, and nothing is left of what was.
#[track_caller]
fn recovers(relay: &Relay, segment: &Segment) {
    eventually("nothing is held", || {
        let held = (segment.sum().open, segment.chunks_held(), segment.places_held());
        (held == (0, 0, 0) && relay.worker_pids().len() == 2).then_some(())
    });
}

/// A client of `token` at this worker.
fn ask_at(relay: &Relay, segment: &Segment, worker: usize, token: &str, side: char) -> Raw {
    let raw = relay.on_worker(worker, segment, || relay.connect());
    say(raw, &line(token, Some(side)))
}

#[test]
fn the_survivor_of_a_running_pair_is_reset_within_100_ms() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for (dead, is_busy) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut parties = pair_on(&relay, &segment, [0, 1]);
        let [one, other] = &mut parties;
        passes(one, other, b"some bytes");
        passes(other, one, b"some bytes");
        let survivor = 1 - dead;
        let [one, other] = parties;
        let (mut lives, mut dies) = if survivor == 0 { (one, other) } else { (other, one) };
        let dying = thread::spawn(move || {
            if !is_busy {
                return is_cut(&mut dies);
            }
            while dies.try_send(&[3; 50_000]).is_ok() {}
        });
        if is_busy {
            lives.read_exactly(1 << 20);
        }
        let killed = Instant::now();
        kill(&relay, dead);
        is_cut(&mut lives);
        assert!(killed.elapsed() < NEWS_WITHIN, "{:?}", killed.elapsed());
        drop(lives);
        dying.join().unwrap();
        recovers(&relay, &segment);
        assert_eq!(segment.sessions_live(), 0);
    }
}

#[test]
fn the_name_of_a_client_that_waited_at_a_dead_worker_is_free() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for dead in [0, 1] {
        let token = token();
        let waits = ask_at(&relay, &segment, dead, &token, 'a');
        segment.wait_until_held(2);
        kill(&relay, dead);
        drop(waits);
        recovers(&relay, &segment);
        eventually("its session is over", || (segment.sessions_live() == 0).then_some(()));
        let mut one = ask_at(&relay, &segment, 0, &token, 'a');
        let mut other = ask_at(&relay, &segment, 1, &token, 'b');
        hears_ok(&mut one);
        hears_ok(&mut other);
        passes(&mut one, &mut other, b"hello");
        drop((one, other));
        recovers(&relay, &segment);
        assert_eq!(segment.sessions_live(), 0);
    }
}

#[test]
fn a_client_that_waits_outlives_its_peers_worker() {
    // The peer's worker dies at any time: before it takes a place, between, or as the two are paired.
    for delay_us in (0..1500).step_by(100) {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let token = token();
        let mut waits = ask_at(&relay, &segment, 0, &token, 'a');
        segment.wait_until_held(2);
        let peer = relay.on_worker(1, &segment, || relay.connect());
        let pid = relay.worker_pids()[1];
        let peer = say(peer, &line(&token, Some('b')));
        thread::sleep(Duration::from_micros(delay_us));
        pid.signal(Signal::SIGKILL);
        drop(peer);
        eventually("it is gone", || (segment.places_held() <= 2).then_some(()));
        // It was told that it is paired, and then cut, or it waits on for another.
        if waits.has_news() {
            is_cut(&mut waits);
        } else {
            let mut next = ask(&relay, &token, Some('c'));
            hears_ok(&mut next);
            hears_ok(&mut waits);
            passes(&mut next, &mut waits, b"hello");
        }
        drop(waits);
        eventually("nothing is left", || {
            let left = (segment.places_held(), segment.chunks_held(), segment.sessions_live());
            (left == (0, 0, 0)).then_some(())
        });
    }
}

#[test]
fn a_receiver_does_not_wait_for_a_sender_whose_worker_died() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let sender = relay.on_worker(0, &segment, || relay.connect());
    let sender = say(sender, &super::party::message(super::party::REGISTER_SENDER, b""));
    segment.wait_until_held(2);
    let mut sender = sender;
    let (_, value) = super::party::hear(&mut sender);
    let code = String::from_utf8(value[4..].to_vec()).unwrap();
    kill(&relay, 0);
    recovers(&relay, &segment);
    let mut receiver = receive(&relay, &code);
    let (kind, _) = super::party::hear(&mut receiver);
    assert_eq!(kind, super::party::ERROR);
    receiver.expect_close();
    drop(receiver);
    let (mut sender, code, _) = register(&relay);
    let mut receiver = receive(&relay, &code);
    super::party::hear(&mut receiver);
    super::party::hear(&mut sender);
    passes(&mut sender, &mut receiver, b"works again");
}

#[test]
fn all_survivors_of_a_crowd_of_pairs_are_reset() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let mut parties: Vec<_> = (0..60).flat_map(|_| super::party::pair(&relay)).collect();
    let killed = Instant::now();
    kill(&relay, 0);
    // Pairs that were at the other worker alone go on.
    let mut whole = 0;
    eventually_within(Duration::from_secs(2), "every pair is cut or goes on", || {
        let places = segment.places_held();
        whole = places / 4;
        (places.is_multiple_of(4) && segment.sum().open == 2 * whole && whole < 60).then_some(())
    });
    let took = killed.elapsed();
    let mut cut = 0;
    for pair in parties.chunks_mut(2) {
        let [one, other] = pair else { unreachable!() };
        if one.is_gone_within(Duration::from_millis(1)) {
            is_cut(other);
            cut += 1;
        } else {
            passes(one, other, b"unharmed");
        }
    }
    assert_eq!(cut + whole, 60, "after {took:?}");
}
