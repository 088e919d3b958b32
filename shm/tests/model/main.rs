//! Random steps of several workers over one set of words, against a model that only counts.
//!
//! The workers live in one thread and their steps never overlap (the loom models are for that), but
//! they come in any order, and a worker may die between any two. The model says what every step must
//! answer and, after each, what every word must say. A failure prints its steps, and is replayed from
//! the seed that proptest writes down.
#![allow(clippy::unwrap_used)]

mod counts;
mod world;

use proptest::prelude::*;
use shm::{Parts, Pool, Shared, Slot};
use std::sync::atomic::AtomicU64;
use world::World;

const WORKERS: usize = 3;
const SLOTS: usize = 3;
const CHUNKS_MAX: usize = 12;
const LANE_CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 4096;

/// A step. Workers and slots are counted modulo what there is; a step that nobody can make now is
/// none.
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
        worker: usize,
        mark: bool,
    },
    TakeReceiver {
        session: usize,
        worker: usize,
        mark: bool,
    },
    Begin {
        slot: usize,
    },
    Reserve {
        slot: usize,
    },
    PutBack {
        slot: usize,
    },
    Publish {
        slot: usize,
        start: usize,
        bytes: usize,
    },
    WaitForRoom {
        slot: usize,
    },
    Shed {
        slot: usize,
    },
    Next {
        slot: usize,
    },
    AckRecv {
        slot: usize,
    },
    WaitForChunk {
        slot: usize,
    },
    Count {
        slot: usize,
    },
    Finish {
        slot: usize,
        whole: bool,
    },
    Settle {
        slot: usize,
    },
    LeaveSender {
        slot: usize,
    },
    LeaveReceiver {
        slot: usize,
    },
    End {
        session: usize,
    },
    Die {
        worker: usize,
    },
    /// A new session whose two ends have begun.
    Pair {
        sender: usize,
        receiver: usize,
    },
    /// A chunk reserved and published.
    Send {
        slot: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = || 0..SLOTS;
    let session = || 0..8usize;
    let worker = || 0..WORKERS;
    let step = prop_oneof![
        3 => (worker(), 1..20u64)
            .prop_map(|(worker, tens)| Step::Issue { worker, lifetime_ms: 10 * tens }),
        1 => (1..4u64).prop_map(|tens| Step::Pass { ms: 10 * tens }),
        5 => (session(), worker(), any::<bool>())
            .prop_map(|(session, worker, mark)| Step::TakeSender { session, worker, mark }),
        5 => (session(), worker(), any::<bool>())
            .prop_map(|(session, worker, mark)| Step::TakeReceiver { session, worker, mark }),
        6 => slot().prop_map(|slot| Step::Begin { slot }),
        4 => slot().prop_map(|slot| Step::Reserve { slot }),
        1 => slot().prop_map(|slot| Step::PutBack { slot }),
        4 => (slot(), 0..64usize, 1..=64usize)
            .prop_map(|(slot, start, bytes)| Step::Publish { slot, start, bytes }),
        2 => slot().prop_map(|slot| Step::WaitForRoom { slot }),
        1 => slot().prop_map(|slot| Step::Shed { slot }),
        8 => slot().prop_map(|slot| Step::Next { slot }),
        8 => slot().prop_map(|slot| Step::AckRecv { slot }),
        2 => slot().prop_map(|slot| Step::WaitForChunk { slot }),
        1 => slot().prop_map(|slot| Step::Count { slot }),
        1 => (slot(), any::<bool>()).prop_map(|(slot, whole)| Step::Finish { slot, whole }),
        1 => slot().prop_map(|slot| Step::Settle { slot }),
        2 => slot().prop_map(|slot| Step::LeaveSender { slot }),
        2 => slot().prop_map(|slot| Step::LeaveReceiver { slot }),
        1 => session().prop_map(|session| Step::End { session }),
        1 => worker().prop_map(|worker| Step::Die { worker }),
        5 => (worker(), worker()).prop_map(|(sender, receiver)| Step::Pair { sender, receiver }),
        30 => slot().prop_map(|slot| Step::Send { slot }),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_what_the_model_says(chunks in 2..=CHUNKS_MAX, steps in steps()) {
        let slots: Vec<Slot> = (0..SLOTS).map(|_| Slot::new()).collect();
        let tags: Vec<AtomicU64> = (0..chunks).map(|_| AtomicU64::new(0)).collect();
        let shared = Shared::new(Parts {
            slots: &slots,
            pool: Pool::new(&tags),
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
