//! Real processes over a real segment, and what remains when one of them is killed: the other end
//! hears of it, and after the sweep nothing is held and the session serves the next attempt.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/random.rs"]
mod random;
#[path = "support/transfer.rs"]
mod transfer;

use nix::sys::eventfd::EventFd;
use nix::sys::signal::Signal;
use process::{Child, Exit, fork, wait_readable};
use random::Random;
use shm::{
    Census, Direction, End, Geometry, Life, Owner, Role, SessionRef, Shared, State, Terms, WorkerId,
};
use std::cell::Cell;
use std::time::Duration;
use transfer::{Moment, Outcome, Step, Worker, World};

const GEOMETRY: Geometry =
    Geometry { sessions: 4, connections: 9, chunks: 6, chunk_bytes: 4096, lane_chunks: 2 };
const SENDER: usize = 1;
const RECEIVER: usize = 2;
const PIECES: u64 = 7;
/// The exit code of a worker whose peer was lost.
const LOST: i32 = 7;
const NOWHERE: &dyn Fn(Step, Moment) = &|_, _| {};

/// Where the transfer stops, who makes that step and who is killed there.
#[derive(Clone, Copy, Debug)]
struct Case {
    role: Role,
    step: Step,
    moment: Moment,
    /// At which of the steps of this kind, counted from one.
    turn: u32,
    victim: Role,
}

impl Case {
    /// Every step of both roles, before and after.
    fn all(victim: Role) -> impl Iterator<Item = Self> {
        use Step::{Ack, Begin, Claim, Fill, Publish, Release, Ring, Send, Wake};
        let sender = [Claim, Begin, Fill, Publish, Ring, Wake, Release].map(|s| (Role::Sender, s));
        let receiver = [Claim, Send, Ack, Ring, Wake, Release].map(|s| (Role::Receiver, s));
        let steps = sender.into_iter().chain(receiver);
        steps.flat_map(move |(role, step)| {
            let turns = if matches!(step, Claim | Begin | Release) { 1 } else { 3 };
            let moments = [Moment::Before, Moment::After].into_iter();
            moments.flat_map(move |moment| {
                (1..=turns).map(move |turn| Self { role, step, moment, turn, victim })
            })
        })
    }

    /// Whether the survivor must be told of a loss. `None`: it depends on what the other process,
    /// which runs on, comes to do.
    fn loses(self) -> Option<bool> {
        match (self.role, self.step, self.moment) {
            (_, Step::Release, _) | (Role::Receiver, Step::Claim, Moment::After) => None,
            (_, Step::Claim, _) | (_, Step::Begin, Moment::Before) => Some(false),
            _ => Some(true),
        }
    }
}

/// Stops a process at a step until the master lets it go on.
struct Pause {
    reached: EventFd,
    go_on: EventFd,
}

impl Pause {
    fn stop(&self) {
        self.reached.write(1).unwrap();
        self.go_on.read().unwrap();
    }
}

fn worker_of(role: Role) -> usize {
    match role {
        Role::Sender => SENDER,
        Role::Receiver => RECEIVER,
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Sender => Role::Receiver,
        Role::Receiver => Role::Sender,
    }
}

fn spawn(
    world: &World,
    role: Role,
    session: SessionRef,
    seed: u64,
    at: &dyn Fn(Step, Moment),
) -> Child {
    let me = world.owner(worker_of(role));
    fork(|| {
        match (Worker { world, me, at }).transfer(
            role,
            session.lane(Direction::Forth),
            seed,
            PIECES,
        ) {
            Outcome::Complete => 0,
            Outcome::Lost => LOST,
        }
    })
}

/// A whole transfer between two new processes.
fn transfer(world: &World, session: SessionRef, seed: u64) {
    let children =
        [Role::Sender, Role::Receiver].map(|role| spawn(world, role, session, seed, NOWHERE));
    for child in children {
        assert_eq!(child.wait(), Exit::Code(0));
    }
}

/// Ends the session and looks for anything that is still held.
fn assert_nothing_remains(world: &World, session: SessionRef) {
    let shared = world.segment.shared();
    assert_eq!(shared.census(), Census { sessions_live: 1, ..Census::default() });
    assert!(shared.end(session, End::Complete, |owner| panic!("{owner:?} is still there")));
    assert_eq!(shared.census(), Census::default());
}

fn kill_at(case: Case, seed: u64) {
    println!("{case:?}");
    let world = World::new(&GEOMETRY);
    let session = world.issue(world.owner(0));
    let pause = Pause { reached: EventFd::new().unwrap(), go_on: EventFd::new().unwrap() };
    let passed = Cell::new(0);
    let stop = |step, moment| {
        if (step, moment) == (case.step, case.moment) {
            passed.set(passed.get() + 1);
            if passed.get() == case.turn {
                pause.stop();
            }
        }
    };
    let paused = spawn(&world, case.role, session, seed, &stop);
    let running = spawn(&world, other(case.role), session, seed, NOWHERE);
    assert!(wait_readable(&pause.reached), "the step is never made");

    let kills_paused = case.victim == case.role;
    let (victim, survivor) = if kills_paused { (paused, running) } else { (running, paused) };
    victim.kill();
    let exit = victim.wait();
    let done = !kills_paused && case.step == Step::Release && exit == Exit::Code(0);
    assert!(done || exit == Exit::Signal(Signal::SIGKILL), "the victim: {exit:?}");

    let told = world.clean_up_after(worker_of(case.victim));
    let expected = world.owner(worker_of(other(case.victim)));
    assert!(told.is_empty() || told == [expected], "{told:?} were told");
    let loses = !told.is_empty();
    assert!(case.loses().is_none_or(|expected| expected == loses), "told: {told:?}");
    if !kills_paused {
        pause.go_on.write(1).unwrap();
    }

    let survived = if case.step == Step::Release {
        // All was sent and acknowledged: the other's death harms nobody.
        survivor.wait() == Exit::Code(0)
    } else if loses {
        survivor.wait() == Exit::Code(LOST)
    } else {
        // It still waits, and takes the next that comes.
        let next = spawn(&world, case.victim, session, seed + 1, NOWHERE);
        survivor.wait() == Exit::Code(0) && next.wait() == Exit::Code(0)
    };
    assert!(survived, "the survivor saw something else");
    assert_eq!(world.segment.shared().life(session), Ok(Some(Life::Live)));
    assert_eq!(world.segment.shared().census().chunks_held, 0);
    transfer(&world, session, seed + 2);
    assert_nothing_remains(&world, session);
}

#[test]
fn a_sender_killed_at_any_step_frees_its_receiver() {
    let seed = random::seed();
    Case::all(Role::Sender).for_each(|case| kill_at(case, seed));
}

#[test]
fn a_receiver_killed_at_any_step_frees_its_sender() {
    let seed = random::seed();
    Case::all(Role::Receiver).for_each(|case| kill_at(case, seed));
}

#[test]
fn both_killed_in_the_same_attempt_leave_nothing() {
    let seed = random::seed();
    for first in [Role::Sender, Role::Receiver] {
        for turn in 1..=3 {
            let world = World::new(&GEOMETRY);
            let session = world.issue(world.owner(0));
            let pause = Pause { reached: EventFd::new().unwrap(), go_on: EventFd::new().unwrap() };
            let fills = Cell::new(0);
            let stop = |step, moment| {
                fills.set(fills.get() + u32::from((step, moment) == (Step::Fill, Moment::After)));
                if fills.get() == turn {
                    pause.stop();
                }
            };
            let sender = spawn(&world, Role::Sender, session, seed, &stop);
            let receiver = spawn(&world, Role::Receiver, session, seed, NOWHERE);
            assert!(wait_readable(&pause.reached));
            assert!(world.segment.shared().census().chunks_held > 0);
            for child in [sender, receiver] {
                child.kill();
                assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
            }
            assert_eq!(world.clean_up_after(worker_of(first)).len(), 1);
            assert_eq!(world.clean_up_after(worker_of(other(first))).len(), 0);
            transfer(&world, session, seed + 1);
            assert_nothing_remains(&world, session);
        }
    }
}

/// Workers transfer without end in one session; one or the other is killed at any moment, and its
/// successor goes on with the survivor.
#[test]
fn a_session_outlives_two_hundred_workers() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let world = World::new(&GEOMETRY);
    let session = world.issue(world.owner(0));
    let spawn = |role, seed| {
        let me = world.owner(worker_of(role));
        let record = world.segment.shared().record(me.worker).unwrap();
        fork(|| {
            let worker = Worker { world: &world, me, at: NOWHERE };
            for turn in 0.. {
                if worker.transfer(role, session.lane(Direction::Forth), seed + turn, PIECES)
                    == Outcome::Complete
                {
                    record.sent(1);
                }
            }
            unreachable!("it is killed long before")
        })
    };
    let roles = [Role::Sender, Role::Receiver];
    let mut children = roles.map(|role| Some(spawn(role, seed)));
    for round in 0..200 {
        std::thread::sleep(Duration::from_micros(random.next() >> 8 & 0xfff));
        let index = random.below(2);
        let victim = children[index].take().unwrap();
        victim.kill();
        assert_eq!(victim.wait(), Exit::Signal(Signal::SIGKILL), "round {round}");
        let told = world.clean_up_after(worker_of(roles[index]));
        assert!(told.len() < 2, "{told:?}");
        children[index] = Some(spawn(roles[index], random.next() >> 8));
    }
    for (child, role) in children.into_iter().flatten().zip(roles) {
        child.kill();
        assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
        world.clean_up_after(worker_of(role));
    }
    let complete = roles.map(|role| {
        let worker = WorkerId::new(worker_of(role)).unwrap();
        world.segment.shared().record(worker).unwrap().counters().bytes_out
    });
    println!("{complete:?} transfers were complete at the sender and the receiver");
    assert!(complete.iter().all(|transfers| *transfers > 20));
    transfer(&world, session, seed);
    assert_nothing_remains(&world, session);
}

/// Issues sessions, takes places, moves chunks and leaves, in any order, until it is killed.
fn bustle(shared: &Shared<'_>, me: Owner, mut random: Random) -> i32 {
    loop {
        let n = u8::try_from(random.below(256)).unwrap();
        let terms =
            Terms { key: [n; 32], token: [!n; 32], kind: 0, lifetime_ms: random.next() % 2 };
        let Some(session) = shared.issue(me, &terms, 1) else {
            let slot = u32::try_from(random.below(shared.sessions())).unwrap();
            shared.find(slot).map(|found| shared.end(found.session, End::Deleted, |_| {}));
            continue;
        };
        let mut sender =
            shared.take_sender(session.lane(Direction::Forth), me, n & 1 == 0).unwrap();
        let mut filling = sender.reserve(shared).unwrap();
        if n & 2 == 0 {
            let mut receiver =
                shared.take_receiver(session.lane(Direction::Forth), me, false).unwrap();
            shared.begin(&sender, &[n]).unwrap().unwrap();
            for _ in 0..n % 8 {
                if let Some(filling) = filling.take() {
                    sender.publish(shared, filling, 0..1).unwrap();
                }
                if random.below(2) == 0 && receiver.next(shared).unwrap().is_some() {
                    receiver.ack_recv(shared).unwrap();
                }
                filling = sender.reserve(shared).unwrap();
            }
            if n & 4 == 0 {
                shared.leave_receiver(receiver).unwrap();
                shared.leave_sender(sender, filling).unwrap();
            } else {
                shared.leave_sender(sender, filling).unwrap();
                shared.leave_receiver(receiver).unwrap();
            }
        } else {
            shared.leave_sender(sender, filling).unwrap();
        }
        if n & 8 == 0 {
            shared.end(session, End::Complete, |_| {});
        }
    }
}

#[test]
fn a_worker_killed_anywhere_leaves_no_slot_place_or_chunk() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let world = World::new(&GEOMETRY);
    let shared = world.segment.shared();
    for round in 0..200 {
        let me = world.owner(SENDER);
        let child = fork(|| bustle(shared, me, Random::new(seed + round)));
        std::thread::sleep(Duration::from_micros(100 + (random.next() >> 8 & 0x3ff)));
        child.kill();
        assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL), "round {round}");
        // It held both ends, so it can only be told of itself.
        let told = world.clean_up_after(SENDER);
        assert!(told.iter().all(|owner| *owner == me), "{told:?}");

        let live = (0..GEOMETRY.sessions).filter_map(|slot| shared.find(slot));
        let ended = live
            .map(|found| {
                assert!(
                    found
                        .terms
                        .key
                        .iter()
                        .zip(found.terms.token)
                        .all(|(k, t)| *k == found.terms.key[0] && t == !k)
                );
                assert!(shared.end(found.session, End::Deleted, |_| {}));
            })
            .count();
        assert_eq!(shared.census(), Census::default(), "round {round}, {ended} lived");
    }
    // No slot was lost either.
    let all: Vec<_> = (0..GEOMETRY.sessions).map(|_| world.issue(world.owner(0))).collect();
    assert!(all.into_iter().all(|session| shared.end(session, End::Complete, |_| {})));
    assert_eq!(shared.census(), Census::default());
}

/// A step that others must be told of, whose maker dies before it tells them.
fn dies_untold(step: impl Fn(&Shared<'_>, SessionRef, Owner)) {
    let world = World::new(&GEOMETRY);
    let shared = world.segment.shared();
    let (dead, survivor) = (world.owner(SENDER), world.owner(RECEIVER));
    let session = world.issue(dead);
    let receiver = shared.take_receiver(session.lane(Direction::Forth), survivor, false).unwrap();
    let child = fork(|| {
        step(shared, session, dead);
        loop {
            nix::unistd::pause();
        }
    });
    // The child stops in `step` or after it; what it did there is seen from outside.
    let since = std::time::Instant::now();
    let untouched = || {
        let sender = shared.look(&receiver).unwrap().sender.state;
        sender != State::Gone && shared.life(session) == Ok(Some(Life::Live))
    };
    while untouched() {
        assert!(since.elapsed() < process::DEADLINE, "the step is never made");
        std::thread::yield_now();
    }
    child.kill();
    assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
    assert_eq!(world.clean_up_after(SENDER), [survivor]);
    shared.leave_receiver(receiver).unwrap();
    shared.end(session, End::Deleted, |_| {});
    assert_eq!(shared.census(), Census::default());
}

#[test]
fn a_departure_that_was_not_told_is_told_by_the_sweep() {
    dies_untold(|shared, session, me| {
        let mut sender = shared.take_sender(session.lane(Direction::Forth), me, false).unwrap();
        shared.begin(&sender, b"").unwrap().unwrap();
        let filling = sender.reserve(shared).unwrap().unwrap();
        sender.publish(shared, filling, 0..1).unwrap();
        shared.leave_sender(sender, None).unwrap();
    });
}

#[test]
fn an_end_that_was_not_told_is_told_by_the_sweep() {
    dies_untold(|shared, session, _| {
        shared.end(session, End::Deleted, |_| {
            loop {
                nix::unistd::pause();
            }
        });
    });
}

#[test]
fn sixty_four_mebibytes_pass_between_two_processes_through_four_chunks() {
    let seed = random::seed();
    let geometry =
        Geometry { sessions: 1, connections: 9, chunks: 8, chunk_bytes: 64 << 10, lane_chunks: 4 };
    let world = World::new(&geometry);
    let session = world.issue(world.owner(0));
    let world = &world;
    let children = [Role::Sender, Role::Receiver].map(|role| {
        let worker = Worker { world, me: world.owner(worker_of(role)), at: NOWHERE };
        fork(move || {
            i32::from(
                worker.transfer(role, session.lane(Direction::Forth), seed, 1024)
                    != Outcome::Complete,
            )
        })
    });
    for child in children {
        assert_eq!(child.wait(), Exit::Code(0));
    }
    assert_nothing_remains(world, session);
}
