//! Many transfers at once: all right, shared fairly, and nothing left when they are over.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::harness::{Payload, Relay, Shape};

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

    /// 0 B to 64 MiB, every magnitude as likely as another, the ends for certain.
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

#[test]
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

#[test]
fn transfers_of_one_size_finish_together() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(7, 24 << 20);
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
    // Fair is when nobody is done while another has hardly begun: the first ends after a fifth of the last's time.
    let (first, last) = times.iter().fold((f64::MAX, 0.0_f64), |(a, b), t| (a.min(*t), b.max(*t)));
    assert!(first * 5.0 > last, "first {first:.3} s, last {last:.3} s");
}
