//! Ten thousand messages on one session over keep-alive connections: each comes once, in its turn, and unaltered.

use std::thread;

use protocols::{over_both, over_http};

use crate::harness::{MessageSession, Party, Payload, Placement, Relay, Role, Segment};

const MESSAGES: u64 = 10_000;
/// Bodies go up to this many bytes.
const BODY_BYTES_MAX: u64 = 64 << 10;
/// The number of different bodies; prime, so that it fits no period of the relay.
const BODIES: u64 = 251;

/// All bodies: sizes of every magnitude, the smallest and the largest among them. No two have the same bytes.
struct Bodies(Vec<Vec<u8>>);

impl Bodies {
    fn new() -> Self {
        let size = |i: u64| match i {
            0 => 0,
            1 => BODY_BYTES_MAX,
            _ => i * 2_654_435_761 % (1 << (1 + i % 17)).min(BODY_BYTES_MAX),
        };
        Self((0..BODIES).map(|i| Payload::new(i + 1, size(i)).bytes()).collect())
    }

    /// The body of a sender's message number `number`.
    fn of(&self, from: Role, number: u64) -> &[u8] {
        let turn = if from == Role::Host { number } else { number * 7 + 3 };
        &self.0[usize::try_from(turn % BODIES).unwrap()]
    }

    fn send(&self, sender: &mut Party, from: Role, number: u64) {
        sender.post(&kind(from, number), self.of(from, number));
    }

    /// Checks that message `number` comes, without a byte of another.
    #[track_caller]
    fn expect(&self, receiver: &mut Party, from: Role, number: u64) {
        let answer = receiver.read_response().expect(200);
        assert_eq!(answer.head.must("Content-Type"), kind(from, number), "another message");
        let want = self.of(from, number);
        assert_eq!(answer.head.must("Content-Length"), want.len().to_string());
        assert!(answer.body == want, "message {number} from {from:?} is altered");
        assert!(!answer.head.closes());
    }
}

/// The type that numbers a message, so that an empty one has a number too.
fn kind(from: Role, number: u64) -> String {
    format!("application/x-numbered; from={from:?}; number={number}")
}

/// Sends the messages of `from`, one after the other.
fn sends(mut sender: Party, from: Role, bodies: &Bodies, count: u64) {
    for number in 0..count {
        bodies.send(&mut sender, from, number);
        sender.expect_delivered(bodies.of(from, number).len());
    }
}

fn receives(mut receiver: Party, from: Role, bodies: &Bodies, count: u64) {
    for number in 0..count {
        receiver.poll();
        bodies.expect(&mut receiver, from, number);
    }
    // A surplus message would have come by now, or would come to this request.
    receiver.ask("GET", &[("X-Timeout", "1")]).read_response().expect_empty(504);
}

/// Both parties' senders on one worker and their receivers where the placement says.
fn parties(
    relay: &Relay,
    segment: &Segment,
    session: &MessageSession,
    placement: Placement,
) -> Vec<(Role, Party, Party)> {
    let (on_receiving, on_sending) = placement.workers();
    let on = |worker, role| relay.on_worker(worker, segment, || session.party(role));
    let pair = |from: Role| (from, on(on_sending, from), on(on_receiving, from.other()));
    Role::BOTH.map(pair).into()
}

#[over_both]
fn heavy_ten_thousand_messages_in_both_directions_at_once() {
    let bodies = Bodies::new();
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let session = relay.message_session();
        let before = segment.all();
        let parties = parties(&relay, &segment, &session, placement);
        thread::scope(|scope| {
            for (from, sender, receiver) in parties {
                let bodies = &bodies;
                scope.spawn(move || sends(sender, from, bodies, MESSAGES / 2));
                scope.spawn(move || receives(receiver, from, bodies, MESSAGES / 2));
            }
        });
        let bytes = Role::BOTH
            .map(|from| (0..MESSAGES / 2).map(|n| bodies.of(from, n).len() as u64).sum::<u64>());
        placement.expect_moved(&segment, &before, bytes.iter().sum());
        segment.wait_until_held(0);
    }
}

#[over_http("load is tested once")]
fn heavy_ten_thousand_messages_back_and_forth() {
    let bodies = Bodies::new();
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for workers in [(0, 0), (0, 1)] {
        let session = relay.message_session();
        let mut host = relay.on_worker(workers.0, &segment, || session.host());
        let mut guest = relay.on_worker(workers.1, &segment, || session.guest());
        let bodies = &bodies;
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..MESSAGES / 2 {
                    bodies.send(&mut host, Role::Host, number);
                    host.expect_delivered(bodies.of(Role::Host, number).len());
                    host.poll();
                    bodies.expect(&mut host, Role::Guest, number);
                }
            });
            scope.spawn(move || {
                for number in 0..MESSAGES / 2 {
                    guest.poll();
                    bodies.expect(&mut guest, Role::Host, number);
                    bodies.send(&mut guest, Role::Guest, number);
                    guest.expect_delivered(bodies.of(Role::Guest, number).len());
                }
            });
        });
    }
}

#[over_both]
fn a_hundred_messages_on_fresh_connections() {
    let relay = Relay::with(2, &[]);
    let bodies = Bodies::new();
    let session = relay.message_session();
    for number in 0..100 {
        for from in Role::BOTH {
            let (mut sender, mut receiver) = (session.party(from), session.party(from.other()));
            // The number decides whether the receiver or the sender comes first.
            if number % 2 == 0 {
                receiver.poll();
                bodies.send(&mut sender, from, number);
            } else {
                bodies.send(&mut sender, from, number);
                receiver.poll();
            }
            bodies.expect(&mut receiver, from, number);
            sender.expect_delivered(bodies.of(from, number).len());
        }
    }
}
