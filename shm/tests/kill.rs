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
    Census, Direction, End, Geometry, LaneEnd, LaneRef, Life, Owner, Reserved, Role, SenderEnd,
    SessionRef, Shared, State, Terms, WorkerId,
};
use std::cell::Cell;
use std::time::Duration;
use transfer::{Moment, Outcome, Step, Worker, World};

const GEOMETRY: Geometry = Geometry {
    sessions: 4,
    connections: 9,
    chunks: 6,
    chunk_bytes: 4096,
    lane_chunks: 2,
    pipes: 2,
};
const ROLES: [Role; 2] = [Role::Sender, Role::Receiver];
/// The worker that issues sessions, and has no part in their transfers.
const ISSUER: usize = 0;
/// The worker that holds all places, the worker that dies untold, and the worker that survives it.
const BUSTLER: usize = 1;
const DEAD: usize = 1;
const SURVIVOR: usize = 2;
const PIECES: u64 = 7;
/// The exit code of a worker whose peer was lost.
const LOST: i32 = 7;
const NOWHERE: &dyn Fn(Step, Moment) = &|_, _| {};

/// Where the transfer stops, who makes that step and who is killed there.
#[derive(Clone, Copy, Debug)]
struct Case {
    direction: Direction,
    role: Role,
    step: Step,
    moment: Moment,
    /// The number of the step among those of this kind, counted from one.
    turn: u32,
    victim: Role,
}

impl Case {
    /// Every step of both roles in either lane, before and after.
    fn all(victim: Role) -> impl Iterator<Item = Self> {
        use Step::{Ack, Begin, Claim, Drain, Fill, Pour, Publish, Release, Ring, Send, Wake};
        let sender = [Claim, Begin, Drain, Fill, Publish, Ring, Wake, Release];
        let sender = sender.map(|step| (Role::Sender, step));
        let receiver = [Claim, Send, Pour, Ack, Ring, Wake, Release];
        let receiver = receiver.map(|step| (Role::Receiver, step));
        let steps = move || sender.into_iter().chain(receiver);
        let lanes =
            Direction::ALL.into_iter().flat_map(move |d| steps().map(move |step| (d, step)));
        lanes.flat_map(move |(direction, (role, step))| {
            let turns = if matches!(step, Claim | Begin | Drain | Pour | Release) { 1 } else { 3 };
            let moments = [Moment::Before, Moment::After].into_iter();
            moments.flat_map(move |moment| {
                (1..=turns).map(move |turn| Self { direction, role, step, moment, turn, victim })
            })
        })
    }

    /// Whether the survivor must be told of a loss. `None`: it depends on how far the other process gets, which runs
    /// on.
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

/// The worker that holds a place: each place of a session has its own, none of them the issuer.
fn worker_of(role: Role, direction: Direction) -> usize {
    1 + 2 * direction as usize + role as usize
}

fn other(role: Role) -> Role {
    match role {
        Role::Sender => Role::Receiver,
        Role::Receiver => Role::Sender,
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Forth => Direction::Back,
        Direction::Back => Direction::Forth,
    }
}

fn spawn(world: &World, role: Role, lane: LaneRef, seed: u64, at: &dyn Fn(Step, Moment)) -> Child {
    let me = world.owner(worker_of(role, lane.direction));
    fork(|| match (Worker { world, me, at }).transfer(role, lane, seed, PIECES) {
        Outcome::Complete => 0,
        Outcome::Lost => LOST,
    })
}

/// Whole transfers in both lanes at once, between new processes.
fn transfer(world: &World, session: SessionRef, seed: u64) {
    let children = Direction::ALL.map(|direction| {
        let seed = seed + 1000 * direction as u64;
        ROLES.map(|role| spawn(world, role, session.lane(direction), seed, NOWHERE))
    });
    for child in children.into_iter().flatten() {
        assert_eq!(child.wait(), Exit::Code(0));
    }
}

/// Ends the session and looks for anything that is still held.
fn assert_nothing_remains(world: &World, session: SessionRef) {
    let shared = world.segment.shared();
    assert_eq!(shared.census(), Census { sessions_live: 1, ..Census::default() });
    // The pool knows which pipes are not empty.
    let left = world.pipes.iter().filter(|pipe| !pipe.take(1).is_empty()).count();
    assert!(left <= shared.pool().pipes_dirty(), "{left} pipes are not empty");
    assert!(shared.end(session, End::Complete, |owner| panic!("{owner:?} is still there")));
    assert_eq!(shared.census(), Census::default());
}

fn kill_at(case: Case, seed: u64) {
    println!("{case:?}");
    let world = World::new(&GEOMETRY);
    let session = world.issue(world.owner(ISSUER));
    let lane = session.lane(case.direction);
    // A bystander waits in the other lane meanwhile, and goes on waiting whatever happens in this one.
    let shared = world.segment.shared();
    let elsewhere = session.lane(opposite(case.direction));
    world.soil_pipes(lane, world.owner(ISSUER));
    let bystander = shared.take_receiver(elsewhere, world.owner(ISSUER), false).unwrap();
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
    let paused = spawn(&world, case.role, lane, seed, &stop);
    let running = spawn(&world, other(case.role), lane, seed, NOWHERE);
    assert!(wait_readable(&pause.reached), "the step is never made");

    let kills_paused = case.victim == case.role;
    let (victim, survivor) = if kills_paused { (paused, running) } else { (running, paused) };
    victim.kill();
    let exit = victim.wait();
    let done = !kills_paused && case.step == Step::Release && exit == Exit::Code(0);
    assert!(done || exit == Exit::Signal(Signal::SIGKILL), "the victim: {exit:?}");

    let told = world.clean_up_after(worker_of(case.victim, case.direction));
    let expected = world.owner(worker_of(other(case.victim), case.direction));
    assert!(told.is_empty() || told == [expected], "{told:?} were told");
    let loses = !told.is_empty();
    assert!(case.loses().is_none_or(|expected| expected == loses), "told: {told:?}");
    if !kills_paused {
        pause.go_on.write(1).unwrap();
    }

    let survived = if case.step == Step::Release {
        // All was sent and acknowledged, so the other's death harms nobody.
        survivor.wait() == Exit::Code(0)
    } else if loses {
        survivor.wait() == Exit::Code(LOST)
    } else {
        // The survivor still waits, and takes the next peer that comes.
        let next = spawn(&world, case.victim, lane, seed + 1, NOWHERE);
        survivor.wait() == Exit::Code(0) && next.wait() == Exit::Code(0)
    };
    assert!(survived, "the survivor saw something else");
    assert_eq!(shared.life(session), Ok(Some(Life::Live)));
    assert_eq!((shared.census().chunks_held, shared.census().pipes_held), (0, 0));
    assert_eq!(shared.leave_receiver(bystander), Ok(None));
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
    for direction in Direction::ALL {
        for first in ROLES {
            (1..=3).for_each(|turn| kill_both(direction, first, turn, seed));
        }
    }
}

/// Stops the sender after it filled a chunk for the `turn`th time, kills both, and sweeps `first`
/// first.
fn kill_both(direction: Direction, first: Role, turn: u32, seed: u64) {
    let world = World::new(&GEOMETRY);
    let session = world.issue(world.owner(ISSUER));
    let lane = session.lane(direction);
    let pause = Pause { reached: EventFd::new().unwrap(), go_on: EventFd::new().unwrap() };
    let fills = Cell::new(0);
    let stop = |step, moment| {
        fills.set(fills.get() + u32::from((step, moment) == (Step::Fill, Moment::After)));
        if fills.get() == turn {
            pause.stop();
        }
    };
    let sender = spawn(&world, Role::Sender, lane, seed, &stop);
    let receiver = spawn(&world, Role::Receiver, lane, seed, NOWHERE);
    assert!(wait_readable(&pause.reached));
    let census = world.segment.shared().census();
    assert!(census.chunks_held + census.pipes_held > 0);
    for child in [sender, receiver] {
        child.kill();
        assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
    }
    assert_eq!(world.clean_up_after(worker_of(first, direction)).len(), 1);
    assert_eq!(world.clean_up_after(worker_of(other(first), direction)).len(), 0);
    transfer(&world, session, seed + 1);
    assert_nothing_remains(&world, session);
}

/// Workers transfer without end in both lanes of one session; any of the four is killed at any
/// moment, and its successor goes on with the survivor.
#[test]
fn a_session_outlives_two_hundred_workers() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let world = World::new(&GEOMETRY);
    let session = world.issue(world.owner(ISSUER));
    let spawn = |(role, direction), seed| {
        let me = world.owner(worker_of(role, direction));
        let record = world.segment.shared().record(me.worker).unwrap();
        fork(|| {
            let worker = Worker { world: &world, me, at: NOWHERE };
            for turn in 0.. {
                let outcome = worker.transfer(role, session.lane(direction), seed + turn, PIECES);
                if outcome == Outcome::Complete {
                    record.add_bytes_out(1);
                }
            }
            unreachable!("it is killed long before")
        })
    };
    let [forth, back] = Direction::ALL.map(|direction| ROLES.map(|role| (role, direction)));
    let places = [forth[0], forth[1], back[0], back[1]];
    let mut children = places.map(|place| Some(spawn(place, seed)));
    for round in 0..200 {
        std::thread::sleep(Duration::from_micros(random.next() >> 8 & 0xfff));
        let index = random.below(places.len());
        let victim = children[index].take().unwrap();
        victim.kill();
        assert_eq!(victim.wait(), Exit::Signal(Signal::SIGKILL), "round {round}");
        let (role, direction) = places[index];
        let told = world.clean_up_after(worker_of(role, direction));
        let peer = world.owner(worker_of(other(role), direction));
        assert!(told.is_empty() || told == [peer], "{told:?} were told");
        children[index] = Some(spawn(places[index], random.next() >> 8));
    }
    for (child, (role, direction)) in children.into_iter().flatten().zip(places) {
        child.kill();
        assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
        world.clean_up_after(worker_of(role, direction));
    }
    let complete = places.map(|(role, direction)| {
        let worker = WorkerId::new(worker_of(role, direction)).unwrap();
        world.segment.shared().record(worker).unwrap().counters().bytes_out
    });
    println!("{complete:?} transfers were complete at the four places");
    assert!(complete.iter().all(|transfers| *transfers > 0));
    transfer(&world, session, seed);
    assert_nothing_remains(&world, session);
}

/// Issues sessions, takes places in both lanes, moves chunks and leaves, in any order, until it is
/// killed.
fn bustle(shared: &Shared<'_>, me: Owner, mut random: Random) -> i32 {
    loop {
        let n = u8::try_from(random.below(256)).unwrap();
        let terms = Terms {
            key: [n; 32],
            token: [!n; 32],
            kind: 0,
            lifetime_ms: random.next() % 2,
            account: None,
        };
        let Some(session) = shared.issue(me, &terms, 1) else {
            let slot = u32::try_from(random.below(shared.sessions())).unwrap();
            shared.find(slot).map(|found| shared.end(found.session, End::Deleted, |_| {}));
            continue;
        };
        let direction = Direction::ALL[random.below(2)];
        let (lane, elsewhere) = (session.lane(direction), session.lane(opposite(direction)));
        let mut sender = shared.take_sender(lane, me, n & 1 == 0).unwrap();
        let other_sender = shared.take_sender(elsewhere, me, false).unwrap();
        let reserved = sender.attach(shared).unwrap().reserve().unwrap();
        if n & 2 == 0 {
            let other_receiver = shared.take_receiver(elsewhere, me, false).unwrap();
            shared.begin(&other_sender, &[n]).unwrap().unwrap();
            shared.leave_receiver(other_receiver).unwrap();
            bustle_in(shared, sender, reserved, n, &mut random);
        } else {
            shared.leave_sender(sender, reserved).unwrap();
        }
        if n & 8 == 0 {
            shared.renew(&other_sender, 1).unwrap();
        }
        if n & 16 == 0 {
            shared.end(session, End::Complete, |_| {});
        }
        shared.leave_sender(other_sender, None).unwrap();
        if n & 24 == 16 {
            shared.end(session, End::Complete, |_| {});
        }
    }
}

/// A transfer between both ends of a lane, which one worker holds, until both have left it.
fn bustle_in(
    shared: &Shared<'_>,
    mut sender: SenderEnd,
    mut reserved: Option<Reserved>,
    n: u8,
    random: &mut Random,
) {
    let mut receiver = shared.take_receiver(sender.lane(), sender.owner(), false).unwrap();
    shared.begin(&sender, &[n]).unwrap().unwrap();
    for _ in 0..n % 8 {
        if let Some(reserved) = reserved.take() {
            sender.attach(shared).unwrap().publish(reserved, 0..1);
        }
        if random.below(2) == 0
            && let Some(piece) = receiver.attach(shared).unwrap().next_published().unwrap()
        {
            piece.ack_recv();
        }
        let by_pipe = random.below(2) == 0;
        let mut sender = sender.attach(shared).unwrap();
        reserved = if by_pipe { sender.reserve_pipe() } else { sender.reserve() }.unwrap();
    }
    if n & 4 == 0 {
        shared.leave_receiver(receiver).unwrap();
        shared.leave_sender(sender, reserved).unwrap();
    } else {
        shared.leave_sender(sender, reserved).unwrap();
        shared.leave_receiver(receiver).unwrap();
    }
}

#[test]
fn a_worker_killed_anywhere_leaves_no_slot_place_or_chunk() {
    let seed = random::seed();
    let mut random = Random::new(seed);
    let world = World::new(&GEOMETRY);
    let shared = world.segment.shared();
    for round in 0..200 {
        let me = world.owner(BUSTLER);
        let child = fork(|| bustle(shared, me, Random::new(seed + round)));
        std::thread::sleep(Duration::from_micros(100 + (random.next() >> 8 & 0x3ff)));
        child.kill();
        assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL), "round {round}");
        // The dead worker held both ends, so the sweep can only ring for the worker itself.
        let told = world.clean_up_after(BUSTLER);
        assert!(told.iter().all(|owner| *owner == me), "{told:?}");

        let live = (0..GEOMETRY.sessions).filter_map(|slot| shared.find(slot));
        let ended = live
            .map(|found| {
                let Terms { key, token, .. } = found.terms;
                assert!(key.iter().zip(token).all(|(k, t)| *k == key[0] && t == !k));
                assert!(shared.end(found.session, End::Deleted, |_| {}));
            })
            .count();
        assert_eq!(shared.census(), Census::default(), "round {round}, {ended} lived");
    }
    // No slot was lost either.
    let all: Vec<_> = (0..GEOMETRY.sessions).map(|_| world.issue(world.owner(ISSUER))).collect();
    assert!(all.into_iter().all(|session| shared.end(session, End::Complete, |_| {})));
    assert_eq!(shared.census(), Census::default());
}

/// A step that others must be told of, in either lane, whose maker dies before it tells them.
fn dies_untold(step: impl Fn(&Shared<'_>, LaneRef, Owner)) {
    Direction::ALL.into_iter().for_each(|direction| dies_untold_in(direction, &step));
}

fn dies_untold_in(direction: Direction, step: impl Fn(&Shared<'_>, LaneRef, Owner)) {
    let world = World::new(&GEOMETRY);
    let shared = world.segment.shared();
    let (dead, survivor) = (world.owner(DEAD), world.owner(SURVIVOR));
    let session = world.issue(dead);
    let lane = session.lane(direction);
    let receiver = shared.take_receiver(lane, survivor, false).unwrap();
    let child = fork(|| {
        step(shared, lane, dead);
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
    assert_eq!(world.clean_up_after(DEAD), [survivor]);
    shared.leave_receiver(receiver).unwrap();
    shared.end(session, End::Deleted, |_| {});
    assert_eq!(shared.census(), Census::default());
}

#[test]
fn a_departure_that_was_not_told_is_told_by_the_sweep() {
    dies_untold(|shared, lane, me| {
        let mut sender = shared.take_sender(lane, me, false).unwrap();
        shared.begin(&sender, b"").unwrap().unwrap();
        let reserved = sender.attach(shared).unwrap().reserve().unwrap().unwrap();
        sender.attach(shared).unwrap().publish(reserved, 0..1);
        shared.leave_sender(sender, None).unwrap();
    });
}

#[test]
fn an_end_that_was_not_told_is_told_by_the_sweep() {
    dies_untold(|shared, lane, _| {
        shared.end(lane.session, End::Deleted, |_| {
            loop {
                nix::unistd::pause();
            }
        });
    });
}

#[test]
fn sixty_four_mebibytes_pass_between_two_processes_through_four_chunks() {
    let seed = random::seed();
    let geometry = Geometry {
        sessions: 1,
        connections: 9,
        chunks: 8,
        chunk_bytes: 64 << 10,
        lane_chunks: 4,
        pipes: 2,
    };
    let world = World::new(&geometry);
    let session = world.issue(world.owner(ISSUER));
    let (world, lane) = (&world, session.lane(Direction::Forth));
    let children = ROLES.map(|role| {
        let me = world.owner(worker_of(role, lane.direction));
        let worker = Worker { world, me, at: NOWHERE };
        fork(move || i32::from(worker.transfer(role, lane, seed, 1024) != Outcome::Complete))
    });
    for child in children {
        assert_eq!(child.wait(), Exit::Code(0));
    }
    assert_nothing_remains(world, session);
}
