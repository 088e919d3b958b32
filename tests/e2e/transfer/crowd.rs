//! Many transfers at once: all right, shared fairly, and nothing left when they are over.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{Payload, Relay, Shape};

/// A client that comes too late names a dead key, and dead keys count as guesses.
const NO_BUDGET: &str = "limits.unknown_keys_per_second_max = 0";

/// A small generator with its seed printed, so that a failing run can be repeated with `E2E_SEED`.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let given = std::env::var("E2E_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        });
        println!("E2E_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A size from 0 B to 64 MiB: every magnitude is as likely as another, and both ends come for certain.
    fn size(&mut self, round: usize) -> u64 {
        match round {
            0 => 0,
            1 => 64 << 20,
            _ => {
                let magnitude = self.below(27);
                self.below(1 << magnitude)
            }
        }
    }
}

#[over_http("load is tested once")]
fn heavy_two_hundred_transfers_over_four_workers_are_all_right() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let mut dice = Dice::new();
    let sessions: Vec<_> = (0..200).map(|_| relay.session()).collect();
    let plans: Vec<_> = (0..200)
        .map(|i| {
            let payload = Payload::new(1 + i as u64, dice.size(i));
            let shape = [Shape::Length, Shape::Chunked(30_000), Shape::Form][i % 3];
            let delays = [dice.below(300), dice.below(300)].map(Duration::from_millis);
            (payload, shape, delays)
        })
        .collect();
    let start = Barrier::new(400);
    thread::scope(|scope| {
        for (session, (payload, shape, [receive_after, send_after])) in sessions.iter().zip(&plans)
        {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                thread::sleep(*receive_after);
                session.receiver(payload).join().unwrap().expect_all(payload);
            });
            scope.spawn(move || {
                start.wait();
                thread::sleep(*send_after);
                let answer = session.sender(payload, *shape).join().unwrap().expect(200);
                assert_eq!(answer.head.delivered_bytes(), payload.len());
            });
        }
    });
    relay.expect_nothing_held(&segment, &fds);
    assert_eq!(segment.sessions_live(), 0);
    let total: u64 = plans.iter().map(|(p, _, _)| p.len()).sum();
    assert_eq!((segment.sum().bytes_in, segment.sum().bytes_out), (total, total));
}

#[over_both]
fn of_many_on_one_key_exactly_one_pair_wins() {
    let relay = Relay::with(4, &[NO_BUDGET]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    for round in 0..10 {
        let session = relay.session();
        let start = Barrier::new(24);
        let run = |receives: bool, number: u64| {
            let mut raw = session.connect();
            start.wait();
            let body = Payload::new(100 + number, 20_000).bytes();
            if receives {
                raw.get(&session.path);
            } else {
                raw.put(&session.path, &body);
            }
            let answer = raw.read_response();
            (receives, answer.status(), if receives { answer.body } else { body })
        };
        let answers: Vec<_> = thread::scope(|scope| {
            let run = &run;
            let runs: Vec<_> = (0..24).map(|i| scope.spawn(move || run(i % 2 == 0, i))).collect();
            runs.into_iter().map(|r| r.join().unwrap()).collect()
        });
        let winners: Vec<_> = answers.iter().filter(|(_, status, _)| *status == 200).collect();
        assert_eq!(winners.len(), 2, "round {round}");
        assert!(winners[0].0 != winners[1].0 && winners[0].2 == winners[1].2, "round {round}");
        let losers = answers.iter().filter(|(_, status, _)| matches!(status, 404 | 409)).count();
        assert_eq!(losers, 22, "round {round}");
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[over_both]
fn revoking_in_the_midst_of_arrivals_leaves_nothing() {
    let relay = Relay::with(4, &[NO_BUDGET]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let mut dice = Dice::new();
    for _ in 0..60 {
        let session = relay.session();
        let delays: Vec<_> = (0..3).map(|_| Duration::from_micros(dice.below(3000))).collect();
        let bearer = format!("Bearer {}", session.token);
        thread::scope(|scope| {
            let (session, bearer) = (&session, &bearer);
            scope.spawn(|| {
                thread::sleep(delays[0]);
                let status = session.connect().get(&session.path).read_response().status();
                assert!(matches!(status, 200 | 404 | 410), "receiver: {status}");
            });
            scope.spawn(|| {
                thread::sleep(delays[1]);
                let status =
                    session.connect().put(&session.path, &[7; 3000]).read_response().status();
                assert!(matches!(status, 200 | 404 | 410), "sender: {status}");
            });
            thread::sleep(delays[2]);
            let mut raw = session.connect();
            raw.request("DELETE", &session.path, &[("Authorization", bearer)]);
            let status = raw.read_response().status();
            assert!(matches!(status, 200 | 404), "host: {status}");
        });
    }
    relay.expect_nothing_held(&segment, &fds);
    assert_eq!(segment.sessions_live(), 0);
}

#[over_http("load is tested once")]
fn heavy_transfers_of_one_size_finish_together() {
    // The kernel deals connections to workers unevenly, so a pair that is alone on its worker is done long before others.
    let relay = Relay::with(1, &[]);
    let payload = Payload::new(7, 64 << 20);
    let sessions: Vec<_> = (0..20).map(|_| relay.session()).collect();
    let start = Barrier::new(20);
    let times: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (start, payload) = (&start, &payload);
                scope.spawn(move || {
                    let receiver = session.receiver(payload);
                    start.wait();
                    let begun = std::time::Instant::now();
                    session.sender(payload, Shape::Length).join().unwrap().expect(200);
                    receiver.join().unwrap().expect_all(payload);
                    begun.elapsed().as_secs_f64()
                })
            })
            .collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    });
    // A worker is fair if none of its transfers is done while another has hardly begun. Draining each socket to its end
    // would let the first be done at a twentieth of the last one's time.
    let (first, last) = times.iter().fold((f64::MAX, 0.0_f64), |(a, b), t| (a.min(*t), b.max(*t)));
    println!("first {first:.3} s, last {last:.3} s");
    assert!(first * 3.0 > last, "first {first:.3} s, last {last:.3} s");
}

#[over_http("load is tested once")]
fn lanes_that_trickle_hold_up_nobody_though_chunks_are_fewer() {
    // The pool has some thirty chunks, and no lane waits for one for long.
    let relay = Relay::with(
        2,
        &[
            "memory.segment_bytes = \"8MiB\"",
            "memory.lane_bytes_max = \"1MiB\"",
            "timeouts.chunk_wait = \"500ms\"",
        ],
    );
    const ROUNDS: usize = 50;
    let mut trickles: Vec<_> = (0..60)
        .map(|seed| {
            let payload = Payload::new(seed, ROUNDS as u64);
            let session = relay.session();
            let receiving = session.receiver(&payload);
            let mut sender = relay.connect();
            sender.request("PUT", &session.path, &[("Content-Length", &ROUNDS.to_string())]);
            (payload, receiving, sender)
        })
        .collect();
    for round in 0..ROUNDS {
        for (payload, _, sender) in &mut trickles {
            sender.send(&payload.bytes()[round..=round]);
        }
        if round % 10 == 5 {
            relay.session().transfer(&Payload::new(9, 4 << 20), Shape::Length);
        }
    }
    for (payload, receiving, mut sender) in trickles {
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
        receiving.join().unwrap().expect_all(&payload);
    }
}
