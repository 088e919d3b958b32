//! A worker that is killed in a pair: its clients and theirs are reset at once, nothing stays behind, and the name is free.
//!
//! Not run again over HTTPS: processes do not depend on TLS.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ending::is_cut;
use super::party::{
    ERROR, REGISTER_RECEIVER, REGISTER_SENDER, ask, hear, hears_ok, line, message, pair, pair_on,
    passes, receive, register, say, token,
};
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
fn a_client_outlives_its_peers_worker_whenever_that_dies() {
    // At any time: before the one takes a place, between, or as the two are paired; the first or the second to come.
    for (delay_us, dies_first) in (0..1500).step_by(150).flat_map(|it| [(it, true), (it, false)]) {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let token = token();
        let [mut lives, dies] =
            [0, 1].map(|worker| relay.on_worker(worker, &segment, || relay.connect()));
        let pid = relay.worker_pids()[1];
        let (first, second) = (line(&token, Some('a')), line(&token, Some('b')));
        let dies = if dies_first {
            let dies = say(dies, &first);
            lives.send(&second);
            dies
        } else {
            lives.send(&first);
            segment.wait_until_held(2);
            say(dies, &second)
        };
        thread::sleep(Duration::from_micros(delay_us));
        pid.signal(Signal::SIGKILL);
        drop(dies);
        eventually("it is gone", || (segment.places_held() <= 2).then_some(()));
        // It was told that it is paired, and then cut, or it waits on for another.
        if lives.has_news() {
            is_cut(&mut lives);
        } else {
            let mut next = ask(&relay, &token, Some('c'));
            hears_ok(&mut next);
            hears_ok(&mut lives);
            passes(&mut next, &mut lives, b"hello");
        }
        drop(lives);
        eventually("nothing is left", || {
            let left = (segment.places_held(), segment.chunks_held(), segment.sessions_live());
            (left == (0, 0, 0)).then_some(())
        });
    }
}

#[test]
fn a_running_tlv_pair_is_cut_whichever_worker_dies() {
    for dead in [0, 1] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let sender = relay.on_worker(0, &segment, || relay.connect());
        let mut sender = say(sender, &message(REGISTER_SENDER, b""));
        let (_, value) = hear(&mut sender);
        let receiver = relay.on_worker(1, &segment, || relay.connect());
        let mut receiver = say(receiver, &message(REGISTER_RECEIVER, &value[4..]));
        hear(&mut receiver);
        hear(&mut sender);
        passes(&mut sender, &mut receiver, b"some bytes");
        let killed = Instant::now();
        kill(&relay, dead);
        is_cut(&mut sender);
        is_cut(&mut receiver);
        assert!(killed.elapsed() < NEWS_WITHIN, "{:?}", killed.elapsed());
        drop((sender, receiver));
        recovers(&relay, &segment);
        assert_eq!(segment.sessions_live(), 0);
    }
}

#[test]
fn a_receiver_does_not_wait_for_a_sender_whose_worker_died() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let sender = relay.on_worker(0, &segment, || relay.connect());
    let mut sender = say(sender, &message(REGISTER_SENDER, b""));
    let (_, value) = hear(&mut sender);
    let code = String::from_utf8(value[4..].to_vec()).unwrap();
    kill(&relay, 0);
    recovers(&relay, &segment);
    let mut receiver = receive(&relay, &code);
    let (kind, _) = hear(&mut receiver);
    assert_eq!(kind, ERROR);
    receiver.expect_close();
    drop(receiver);
    let (mut sender, code, _) = register(&relay);
    let mut receiver = receive(&relay, &code);
    hear(&mut receiver);
    hear(&mut sender);
    passes(&mut sender, &mut receiver, b"works again");
}

#[test]
fn all_survivors_of_a_crowd_of_pairs_are_reset() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let mut parties: Vec<_> = (0..60).flat_map(|_| pair(&relay)).collect();
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
