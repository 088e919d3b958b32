//! Random steps of several workers over one set of words, against a model that only counts.
//!
//! The workers live in one thread and their steps never overlap (the loom models are for that), but
//! they come in any order, and a worker may die between any two. The model says what every step must
//! answer and, after each, what every word must say. A failure prints its steps, and is replayed from
//! the seed that proptest writes down.
#![allow(clippy::unwrap_used)]

mod checks;
mod counts;
mod transfer;
mod world;

use proptest::prelude::*;
use shm::{AddressTag, Direction, Parts, Pool, PoolWords, Role, Shared, Slot};
use std::sync::atomic::AtomicU64;
use world::World;

const WORKERS: usize = 3;
const SLOTS: usize = 3;
const CHUNKS_MAX: usize = 12;
const LANE_CHUNKS: usize = 4;
const PIPES_MAX: usize = 5;
const CHUNK_BYTES: usize = 4096;

/// A lane of a slot, whatever session lives there.
type Lane = (usize, Direction);

/// A step. Slots and workers are numbers below what there is; sessions are counted back from the latest issue, living
/// or not. A step that no worker can make now does nothing.
#[derive(Clone, Copy, Debug)]
enum Step {
    Issue {
        worker: usize,
        lifetime_ms: u64,
    },
    Pass {
        ms: u64,
    },
    TakeSender {
        session: usize,
        direction: Direction,
        worker: usize,
        incompatible: bool,
    },
    TakeReceiver {
        session: usize,
        direction: Direction,
        worker: usize,
        incompatible: bool,
    },
    RequestTakeover {
        session: usize,
        direction: Direction,
        role: Role,
        rival: AddressTag,
    },
    CancelTakeover {
        session: usize,
        direction: Direction,
        role: Role,
        rival: AddressTag,
    },
    Wait {
        session: usize,
        direction: Direction,
        role: Role,
        worker: usize,
    },
    SetGuest {
        session: usize,
        guest: AddressTag,
    },
    Begin {
        lane: Lane,
    },
    Reserve {
        lane: Lane,
        by_pipe: bool,
    },
    PutBack {
        lane: Lane,
    },
    Publish {
        lane: Lane,
        start: usize,
        bytes: usize,
    },
    WaitForRoom {
        lane: Lane,
    },
    Shed {
        lane: Lane,
    },
    Next {
        lane: Lane,
    },
    AckRecv {
        lane: Lane,
    },
    WaitForChunk {
        lane: Lane,
    },
    Count {
        lane: Lane,
    },
    Finish {
        lane: Lane,
        whole: bool,
    },
    Settle {
        lane: Lane,
    },
    Renew {
        lane: Lane,
    },
    LeaveSender {
        lane: Lane,
    },
    LeaveReceiver {
        lane: Lane,
    },
    End {
        session: usize,
    },
    Expire {
        session: usize,
    },
    Die {
        worker: usize,
    },
    /// A worker takes a dirty pipe.
    TakeDirty {
        worker: usize,
    },
    /// The worker has emptied the pipe that it took.
    Empty {
        worker: usize,
    },
    /// Two workers take a lane of a session and begin.
    Meet {
        session: usize,
        direction: Direction,
        sender: usize,
        receiver: usize,
    },
    /// Two workers begin in the first lane of a new session.
    Pair {
        sender: usize,
        receiver: usize,
    },
    /// A chunk or pipe reserved and published.
    Send {
        lane: Lane,
        by_pipe: bool,
    },
}

/// A step on a lane.
fn on(step: impl Fn(Lane) -> Step) -> impl Strategy<Value = Step> {
    (0..SLOTS, direction()).prop_map(step)
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(&Direction::ALL)
}

/// A session's lane.
fn place() -> impl Strategy<Value = (usize, Direction)> {
    (0..8usize, direction())
}

/// Steps that change which workers are in which session.
fn comings_and_goings() -> impl Strategy<Value = Step> {
    let session = || 0..8usize;
    let worker = || 0..WORKERS;
    let tag = || (1..4u64).prop_map(AddressTag::of);
    let role = || prop_oneof![Just(Role::Sender), Just(Role::Receiver)];
    prop_oneof![
        3 => (worker(), 1..20u64)
            .prop_map(|(worker, tens)| Step::Issue { worker, lifetime_ms: 10 * tens }),
        2 => (1..4u64).prop_map(|tens| Step::Pass { ms: 10 * tens }),
        5 => (place(), worker(), any::<bool>()).prop_map(|((session, direction), worker, incompatible)| {
            Step::TakeSender { session, direction, worker, incompatible }
        }),
        5 => (place(), worker(), any::<bool>()).prop_map(|((session, direction), worker, incompatible)| {
            Step::TakeReceiver { session, direction, worker, incompatible }
        }),
        3 => (place(), role(), tag()).prop_map(|((session, direction), role, rival)| {
            Step::RequestTakeover { session, direction, role, rival }
        }),
        2 => (place(), role(), tag()).prop_map(|((session, direction), role, rival)| {
            Step::CancelTakeover { session, direction, role, rival }
        }),
        3 => (place(), role(), worker()).prop_map(|((session, direction), role, worker)| {
            Step::Wait { session, direction, role, worker }
        }),
        2 => (session(), tag()).prop_map(|(session, guest)| Step::SetGuest { session, guest }),
        2 => on(|lane| Step::LeaveSender { lane }),
        2 => on(|lane| Step::LeaveReceiver { lane }),
        1 => session().prop_map(|session| Step::End { session }),
        2 => session().prop_map(|session| Step::Expire { session }),
        1 => worker().prop_map(|worker| Step::Die { worker }),
        2 => worker().prop_map(|worker| Step::TakeDirty { worker }),
        2 => worker().prop_map(|worker| Step::Empty { worker }),
        6 => (place(), worker(), worker()).prop_map(|((session, direction), sender, receiver)| {
            Step::Meet { session, direction, sender, receiver }
        }),
        4 => (worker(), worker()).prop_map(|(sender, receiver)| Step::Pair { sender, receiver }),
    ]
}

/// Steps of the workers that hold a place.
fn transfers() -> impl Strategy<Value = Step> {
    let range = (0..64usize, 1..=64usize);
    prop_oneof![
        6 => on(|lane| Step::Begin { lane }),
        2 => on(|lane| Step::Reserve { lane, by_pipe: false }),
        2 => on(|lane| Step::Reserve { lane, by_pipe: true }),
        1 => on(|lane| Step::PutBack { lane }),
        4 => (0..SLOTS, direction(), range).prop_map(|(slot, direction, (start, bytes))| {
            Step::Publish { lane: (slot, direction), start, bytes }
        }),
        2 => on(|lane| Step::WaitForRoom { lane }),
        1 => on(|lane| Step::Shed { lane }),
        8 => on(|lane| Step::Next { lane }),
        8 => on(|lane| Step::AckRecv { lane }),
        2 => on(|lane| Step::WaitForChunk { lane }),
        1 => on(|lane| Step::Count { lane }),
        1 => on(|lane| Step::Finish { lane, whole: true }),
        1 => on(|lane| Step::Finish { lane, whole: false }),
        1 => on(|lane| Step::Settle { lane }),
        1 => on(|lane| Step::Renew { lane }),
        15 => on(|lane| Step::Send { lane, by_pipe: false }),
        15 => on(|lane| Step::Send { lane, by_pipe: true }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(prop_oneof![3 => comings_and_goings(), 5 => transfers()], 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_what_the_model_says(
        chunks in 2..=CHUNKS_MAX,
        pipes in 0..=PIPES_MAX,
        steps in steps(),
    ) {
        let slots: Vec<Slot> = (0..SLOTS).map(|_| Slot::new()).collect();
        let [chunks, pipes] =
            [chunks, pipes].map(|n| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
        let accounts: Vec<_> = (0..chunks.len() + pipes.len()).map(|_| AtomicU64::new(0)).collect();
        let requests = AtomicU64::new(0);
        let shared = Shared::new(Parts {
            slots: &slots,
            pool: Pool::new(PoolWords {
                chunks: &chunks,
                pipes: &pipes,
                accounts: &accounts,
                requests: &requests,
                board: &[],
            }),
            records: &[],
            bells: Vec::new(),
            lane_chunks: LANE_CHUNKS,
            chunk_bytes: CHUNK_BYTES,
        });
        shared.pool().clear();
        let mut world = World::new(&shared);
        for step in steps {
            world.step(step);
            world.check_invariants();
        }
        world.close();
    }
}
