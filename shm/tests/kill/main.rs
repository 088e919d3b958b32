//! Real processes over a real segment, killed at every step: what survives them is whole.
//!
//! Two workers relay in a session; one or both die at a named step, before or after it. The test is
//! their master: it reaps, sweeps, wakes and forks the next life, until the session's transfer is
//! complete. Whoever survives hears of the loss by its bell alone, for nothing here ticks.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod hammer;
mod process;
mod script;

use process::{Child, wait_any};
use script::{Actor, COMPLETE, Death, PEER_LEFT, PEER_LOST, SESSION_ENDED, Step, World};
use shm::{Census, End, Geometry, Life, SessionRef};
use std::time::Duration;

const SENDER: usize = 1;
const RECEIVER: usize = 2;
const SEATS: [usize; 2] = [SENDER, RECEIVER];

/// The pieces of a trial: more than its lane has chunks, of different sizes, one of them empty.
const PIECES: [usize; 5] = [4096, 24, 0, 4096, 8];

const SENDER_STEPS: [Step; 9] = [
    Step::Claim,
    Step::Begin,
    Step::Reserve,
    Step::Fill,
    Step::Publish,
    Step::Ring,
    Step::Wake,
    Step::Finish,
    Step::Release,
];
const RECEIVER_STEPS: [Step; 7] =
    [Step::Claim, Step::Send, Step::Ack, Step::Ring, Step::Wake, Step::Settle, Step::Release];

fn small(sessions: u32) -> World {
    World::new(&Geometry { sessions, chunks: 6, chunk_bytes: 4096, lane_chunks: 2 })
}

fn issue(world: &World) -> SessionRef {
    world.shared().issue(world.owner(0), &[1; 32], &[2; 32], 0, u64::MAX).unwrap()
}

/// Every way to die in one of `steps`.
fn deaths(steps: &[Step], survives: usize) -> impl Iterator<Item = Death> + use<'_> {
    let twice = steps.iter().flat_map(|step| [(*step, false), (*step, true)]);
    twice.map(move |(step, after)| Death { step, after, survives })
}

/// How the first life of each worker went: its exit code, or `None` if it was killed.
type FirstLives = [Option<i32>; 2];

/// Runs a transfer until the session is complete, whoever dies on the way.
fn run(deaths: [Option<Death>; 2]) -> FirstLives {
    let world = small(2);
    let session = issue(&world);
    let spawn = |seat: usize, death: Option<Death>| {
        Child::spawn(|| {
            let actor = Actor::new(&world, session, SEATS[seat], death);
            if seat == 0 { actor.send(PIECES.into_iter()) } else { actor.receive() }
        })
    };
    let mut children = [0, 1].map(|seat| Some(spawn(seat, deaths[seat])));
    let mut firsts = [None, None];
    while children.iter().any(Option::is_some) {
        let running = [children[0].as_ref(), children[1].as_ref()];
        let seat = wait_any(&running).unwrap_or_else(|| panic!("{deaths:?} hangs"));
        let code = children[seat].take().unwrap().reap();
        match code {
            None => world.bury(SEATS[seat]),
            Some(COMPLETE | PEER_LEFT | PEER_LOST | SESSION_ENDED) => {}
            Some(other) => panic!("{deaths:?}: seat {seat} exits with {other}"),
        }
        firsts[seat].get_or_insert(code);
        if world.shared().life(session) == Ok(Some(Life::Live)) {
            children[seat] = Some(spawn(seat, None));
        }
    }
    assert_eq!(world.shared().census(), Census::default(), "{deaths:?}");
    firsts.map(Option::flatten)
}

#[test]
fn a_transfer_without_deaths_is_complete() {
    assert_eq!(run([None, None])[0], Some(COMPLETE));
}

#[test]
fn a_sender_may_die_at_any_step() {
    for death in [0, 1].into_iter().flat_map(|survives| deaths(&SENDER_STEPS, survives)) {
        let [sender, receiver] = run([Some(death), None]);
        let Death { step, after, survives } = death;
        let once = [Step::Claim, Step::Finish, Step::Release].contains(&step);
        let reached = survives == 0 || matches!(step, Step::Reserve | Step::Fill | Step::Publish);
        assert!(!reached || sender.is_none(), "{death:?}: {sender:?}");
        let in_attempt = matches!(step, Step::Reserve | Step::Fill | Step::Publish)
            || (step == Step::Begin && after)
            || (step == Step::Finish && !after);
        if sender.is_none() && in_attempt {
            assert_eq!(receiver, Some(PEER_LOST), "{death:?}");
        }
        assert!(survives == 0 || !once || sender.is_some(), "{death:?} came twice");
    }
}

#[test]
fn a_receiver_may_die_at_any_step() {
    for death in [0, 1].into_iter().flat_map(|survives| deaths(&RECEIVER_STEPS, survives)) {
        let [sender, receiver] = run([None, Some(death)]);
        let Death { step, after, survives } = death;
        let reached = survives == 0 && step != Step::Wake || matches!(step, Step::Send | Step::Ack);
        assert!(!reached || receiver.is_none(), "{death:?}: {receiver:?}");
        let in_attempt = matches!(step, Step::Send | Step::Ack) || (step == Step::Settle && !after);
        if receiver.is_none() && in_attempt {
            assert_eq!(sender, Some(PEER_LOST), "{death:?}");
        }
        if step == Step::Release && survives == 0 {
            assert_eq!(sender, Some(COMPLETE), "{death:?}");
        }
    }
}

#[test]
fn both_may_die_at_any_steps() {
    for sender in deaths(&SENDER_STEPS, 0) {
        for receiver in deaths(&RECEIVER_STEPS, 0) {
            run([Some(sender), Some(receiver)]);
        }
    }
}

/// Two processes, many chunks' worth of bytes, four chunks: each byte is where it belongs.
#[test]
fn many_bytes_go_through_few_chunks() {
    const CHUNK_BYTES: usize = 65536;
    const TOTAL_BYTES: usize = 64 << 20;
    let world =
        World::new(&Geometry { sessions: 1, chunks: 8, chunk_bytes: CHUNK_BYTES, lane_chunks: 4 });
    let session = issue(&world);
    // Pieces of all sizes, as sockets that run dry make them.
    let mut size = 8usize;
    let mut left = TOTAL_BYTES;
    let pieces = std::iter::from_fn(|| {
        size = ((size * 5 + 8) % CHUNK_BYTES) & !7;
        let piece = if size.is_multiple_of(3) { CHUNK_BYTES } else { size }.min(left);
        left -= piece;
        (piece > 0 || left > 0).then_some(piece)
    });
    let receiver = Child::spawn(|| Actor::new(&world, session, RECEIVER, None).receive());
    let sender = Child::spawn(|| Actor::new(&world, session, SENDER, None).send(pieces));
    assert_eq!((sender.reap(), receiver.reap()), (Some(COMPLETE), Some(COMPLETE)));
    assert_eq!(world.shared().census(), Census::default());
}

/// A worker that is killed while it writes a new session into a slot leaves the slot free.
#[test]
fn an_issue_may_be_killed_at_any_moment() {
    const ROUNDS: usize = 200;
    let mut random = hammer::Random::from_environment();
    let world = small(1);
    let (shared, mut halfway) = (world.shared(), 0);
    for _ in 0..ROUNDS {
        let child = Child::spawn(|| {
            loop {
                let session = issue(&world);
                assert!(world.shared().end(session, End::Deleted, |_| {}));
            }
        });
        std::thread::sleep(Duration::from_micros(random.below(600) as u64));
        child.kill();
        assert_eq!(child.reap(), None);
        halfway += shared.census().slots_between;
        world.bury(0);
        assert_eq!(shared.census().slots_between, 0);
        if let Some(found) = shared.find(0) {
            assert!(shared.end(found.session, End::Deleted, |_| {}));
        }
        assert_eq!(shared.census(), Census::default());
        assert!(shared.end(issue(&world), End::Deleted, |_| {}));
    }
    assert!(halfway > 0, "no kill came while a slot was being filled");
}

/// Three workers issue, meet, relay, leave and end without a pause; every few hundred microseconds
/// one of them is killed, wherever it is.
#[test]
fn workers_may_be_killed_at_any_moment() {
    const ROUNDS: usize = 200;
    let mut random = hammer::Random::from_environment();
    let world = World::new(&Geometry { sessions: 3, chunks: 8, chunk_bytes: 4096, lane_chunks: 3 });
    let spawn = |worker: usize, seed: u64| {
        Some(Child::spawn(|| hammer::run(&world, worker, hammer::Random(seed))))
    };
    let mut workers = [0, 1, 2].map(|worker| spawn(worker, random.next()));
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_micros(random.below(2000) as u64));
        let victim = random.below(workers.len());
        bury(&world, &mut workers, victim);
        workers[victim] = spawn(victim, random.next());
    }
    (0..workers.len()).for_each(|worker| bury(&world, &mut workers, worker));
    let Census { chunks_held, places_held, slots_between, .. } = world.shared().census();
    assert_eq!((chunks_held, places_held, slots_between), (0, 0, 0));
    for slot in 0..3 {
        if let Some(found) = world.shared().find(slot) {
            assert!(world.shared().end(found.session, End::Deleted, |_| {}));
        }
    }
    assert_eq!(world.shared().census(), Census::default());
    assert!(hammer::transfers(&world) > 100, "{} transfers", hammer::transfers(&world));
}

fn bury(world: &World, workers: &mut [Option<Child>], victim: usize) {
    let child = workers[victim].take().unwrap();
    child.kill();
    // It ends by the kill alone: an exit of its own is an assertion that failed.
    assert_eq!(child.reap(), None, "worker {victim} found what must not be");
    world.bury(victim);
}
