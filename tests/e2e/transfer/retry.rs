//! Clients that come again at once after their worker died, before the master has cleaned up: they get their place, and
//! no client is paired with a dead one.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    Payload, Pid, Raw, Relay, Segment, Session, Shape, Stopped, eventually, eventually_within,
};

/// Cases of each kind for one death.
const EACH: usize = 5;
const DEATHS: usize = 5;
/// How long after the death a client comes again.
const AFTER: Duration = Duration::from_millis(2);
const PART: usize = 300_000;
/// The length of a body that no socket and no lane has room for.
const LONG_BYTES: u64 = 1 << 30;
/// The worker that dies.
const VICTIM: usize = 0;
const SURVIVOR: usize = 1;

const LINES: [&str; 2] =
    ["limits.connections_per_address_max = 4096", "limits.sessions_per_address_max = 4096"];

/// A session, the clients in it when the worker dies, and the connection that comes after.
struct Case {
    session: Session,
    there: Vec<Raw>,
    next: Raw,
}

/// A worker that was killed, and the master, which may not know yet.
struct Dead {
    victim: Pid,
    held: Option<Stopped>,
}

impl Dead {
    /// Checks that no client in `cases` hears anything before the master cleans up.
    fn expect_patience<'c>(&mut self, cases: impl Iterator<Item = &'c mut Case>) {
        if let Some(held) = self.held.take() {
            cases.for_each(|case| case.next.expect_silence(Duration::from_millis(10)));
            drop(held);
        }
    }
}

struct Stage<'r> {
    relay: &'r Relay,
    segment: &'r Segment,
    payload: &'r Payload,
}

impl Stage<'_> {
    fn connect(&self, worker: usize) -> Raw {
        self.relay.on_worker(worker, self.segment, || self.relay.connect())
    }

    /// Makes `EACH` sessions, with the clients that `enter` lets in.
    fn set(&self, enter: impl Fn(&Session) -> Vec<Raw>) -> Vec<Case> {
        let case = |_| {
            let session = self.relay.session();
            let there = enter(&session);
            Case { session, there, next: self.connect(SURVIVOR) }
        };
        (0..EACH).map(case).collect()
    }

    fn receiver(&self, session: &Session, worker: usize) -> Raw {
        let mut receiver = self.connect(worker);
        receiver.get(&session.path);
        receiver
    }

    /// A sender that has sent a part.
    fn sender(&self, session: &Session, worker: usize) -> Raw {
        let mut sender = self.connect(worker);
        let length = self.payload.len().to_string();
        sender.request("PUT", &session.path, &[("Content-Length", &length)]);
        sender.send(&self.payload.bytes()[..PART]);
        sender
    }

    /// A transfer that has begun.
    fn transfer(&self, session: &Session, receives: usize, sends: usize) -> Vec<Raw> {
        let mut receiver = self.receiver(session, receives);
        let sender = self.sender(session, sends);
        receiver.read_checked_part(self.payload, 1000);
        vec![receiver, sender]
    }

    /// A sender that has met a dead receiver, and waits for the next one with more of its body than its socket takes.
    fn sender_that_waits_again(&self) -> Case {
        let session = self.relay.session();
        let there = vec![self.receiver(&session, VICTIM)];
        let mut next = self.connect(SURVIVOR);
        let before = self.segment.sum().bytes_in;
        let mut dead = self.kill(true);
        next.request("PUT", &session.path, &[("Content-Length", &LONG_BYTES.to_string())]);
        next.patience(Duration::from_millis(300));
        let part = self.payload.bytes();
        while next.try_send(&part).is_ok() {}
        next.patience(Duration::from_secs(10));
        assert!(self.segment.sum().bytes_in > before, "nothing is in chunks");
        drop(dead.held.take());
        self.recover(&dead);
        Case { session, there, next }
    }

    /// Kills the worker. The master cleans up as soon as it can, or, if it is held, once it is let go.
    fn kill(&self, is_held: bool) -> Dead {
        let victim = self.relay.worker_pids()[VICTIM];
        let held = is_held.then(|| Stopped::hold(&[self.relay.master()]));
        victim.signal(Signal::SIGKILL);
        thread::sleep(AFTER);
        Dead { victim, held }
    }

    /// Waits until all workers are there again.
    fn recover(&self, dead: &Dead) {
        let dead = dead.victim;
        eventually_within(Duration::from_secs(60), "it is replaced", || {
            let pids = self.relay.worker_pids();
            let serves = |pid: &Pid| pid.fds().iter().any(|(_, link)| link.contains("eventpoll"));
            (pids.len() == 2 && !pids.contains(&dead) && pids.iter().all(serves)).then_some(())
        });
    }

    /// Checks that the receivers in `cases`, which come again, get a sender's whole payload.
    fn receive_again(&self, cases: Vec<Case>) {
        for Case { session, there, mut next } in cases {
            expect_gone(there);
            let sender = session.sender(self.payload, Shape::Length);
            next.read_checked(self.payload).expect_all(self.payload);
            sender.join().unwrap().expect(200);
        }
    }

    fn send_again(&self, cases: Vec<Case>) {
        for Case { session, there, mut next } in cases {
            expect_gone(there);
            let receiver = session.receiver(self.payload);
            next.send(&self.payload.bytes());
            next.read_response().expect(200);
            receiver.join().unwrap().expect_all(self.payload);
        }
    }
}

/// Checks that the dead worker's clients are gone, and their peers in a transfer.
fn expect_gone(there: Vec<Raw>) {
    for mut one in there {
        assert!(one.is_gone_within(Duration::from_secs(5)));
    }
}

fn ask_again(cases: &mut [Case]) {
    for Case { session, next, .. } in cases {
        next.get(&session.path);
    }
}

fn offer_again(cases: &mut [Case], payload: &Payload) {
    for Case { session, next, .. } in cases {
        let length = payload.len().to_string();
        next.request("PUT", &session.path, &[("Content-Length", &length)]);
    }
}

#[test]
fn heavy_who_comes_again_after_its_workers_death_is_never_told_409() {
    let relay = Relay::with(2, &LINES);
    let segment = relay.segment();
    let payload = Payload::new(3, PART as u64 + 100_000);
    let stage = Stage { relay: &relay, segment: &segment, payload: &payload };
    for round in 0..DEATHS {
        let mut receivers_waited = stage.set(|it| vec![stage.receiver(it, VICTIM)]);
        let mut senders_waited = stage.set(|it| vec![stage.sender(it, VICTIM)]);
        let mut receivers = stage.set(|it| stage.transfer(it, VICTIM, SURVIVOR));
        let mut senders = stage.set(|it| stage.transfer(it, SURVIVOR, VICTIM));
        let mut dead = stage.kill(round % 2 == 0);
        ask_again(&mut receivers);
        ask_again(&mut receivers_waited);
        offer_again(&mut senders, &payload);
        offer_again(&mut senders_waited, &payload);
        let all = [&mut receivers, &mut receivers_waited, &mut senders, &mut senders_waited];
        dead.expect_patience(all.into_iter().flatten());
        stage.receive_again(receivers);
        stage.receive_again(receivers_waited);
        stage.send_again(senders);
        stage.send_again(senders_waited);
        stage.recover(&dead);
    }
}

/// The sender's bytes are in chunks when the receiver turns out to be dead.
#[test]
fn heavy_who_meets_a_dead_receiver_that_waited_goes_on_waiting() {
    let relay = Relay::with(2, &LINES);
    let segment = relay.segment();
    let payload = Payload::new(4, PART as u64);
    let fds = relay.fd_counts();
    let stage = Stage { relay: &relay, segment: &segment, payload: &payload };
    for _ in 0..DEATHS {
        let mut cases = stage.set(|it| vec![stage.receiver(it, VICTIM)]);
        let before = segment.sum().bytes_in;
        let mut dead = stage.kill(true);
        offer_again(&mut cases, &payload);
        cases.iter_mut().for_each(|case| case.next.send(&payload.bytes()));
        eventually("all of it is in chunks", || {
            let came = segment.sum().bytes_in - before;
            (came == payload.len() * EACH as u64).then_some(())
        });
        dead.expect_patience(cases.iter_mut());
        stage.recover(&dead);
        for Case { session, mut next, .. } in cases {
            session.receiver(&payload).join().unwrap().expect_all(&payload);
            assert_eq!(next.read_response().expect(200).head.delivered_bytes(), payload.len());
        }
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn who_waits_again_after_a_dead_receiver_gives_way_to_a_rival_from_its_address() {
    let relay = Relay::with(2, &LINES);
    let (segment, payload) = (relay.segment(), Payload::new(5, PART as u64));
    let stage = Stage { relay: &relay, segment: &segment, payload: &payload };
    let Case { session, mut next, .. } = stage.sender_that_waits_again();
    let mut rival = stage.sender(&session, SURVIVOR);
    let answer = next.read_response().expect_error(409);
    assert!(answer.text().contains("another sender took the place"), "{}", answer.text());
    session.receiver(&payload).join().unwrap().expect_all(&payload);
    rival.read_response().expect(200);
}

#[test]
fn who_waits_again_after_a_dead_receiver_is_sent_away_by_a_stop() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"60s\""]);
    let (segment, payload) = (relay.segment(), Payload::new(6, PART as u64));
    let stage = Stage { relay: &relay, segment: &segment, payload: &payload };
    let Case { there, mut next, .. } = stage.sender_that_waits_again();
    relay.signal(Signal::SIGQUIT);
    let answer = next.read_response().expect_error(503);
    assert!(answer.text().contains("is being stopped"), "{}", answer.text());
    drop((next, there));
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
}
