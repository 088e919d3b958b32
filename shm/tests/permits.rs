//! Permits: an address never has more than its quota, whatever processes ask, die or scribble, and gets all of it
//! again once it is given back.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/random.rs"]
mod random;

use nix::sys::signal::Signal;
use process::{Exit, fork, wait_readable};
use proptest::prelude::*;
use random::{Random, seed};
use shm::{
    Direction, End, Geometry, Guesses, Owner, Permit, Permits, Quota, Segment, SessionRef, Shared,
    Terms, WorkerId,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const GEOMETRY: Geometry = Geometry {
    sessions: 40,
    connections: 200,
    chunks: 2,
    chunk_bytes: 4096,
    lane_chunks: 1,
    pipes: 0,
};
const NOW_MS: u64 = 1_000;

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn quota(digest: u64, most: u32) -> Quota {
    Quota { digest, most }
}

fn issue(shared: &Shared<'_>, owner: Owner, expires_ms: u64) -> Option<SessionRef> {
    let lifetime_ms = expires_ms - NOW_MS;
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms, account: None };
    shared.issue(owner, &terms, NOW_MS)
}

/// Takes permits until there are none.
fn take_all(segment: &Segment, quota: Quota, owner: Owner) -> Vec<Permit> {
    let take = || segment.permits().take(segment.shared(), quota, owner, NOW_MS);
    std::iter::from_fn(take).collect()
}

#[test]
fn an_address_has_exactly_its_quota_over_all_workers() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    for (digest, most) in [(0, 1), (1, 2), (u64::MAX, 7), (0x0123_4567_89ab_cdef, 60)] {
        let mut held = Vec::new();
        while let Some(permit) =
            segment.permits().take(shared, quota(digest, most), owner(held.len() % 4), NOW_MS)
        {
            held.push(permit);
        }
        assert_eq!(held.len(), most as usize, "{digest:#x}");
        segment.permits().give_back(held.pop().unwrap()).unwrap();
        assert_eq!(take_all(&segment, quota(digest, most), owner(9)).len(), 1);
        held.into_iter().for_each(|permit| segment.permits().give_back(permit).unwrap());
        segment.permits().sweep(owner(9).worker);
    }
    assert_eq!(take_all(&segment, quota(5, 0), owner(0)).len(), 0);
}

#[test]
fn a_quota_beyond_the_table_ends_at_the_table() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let seats = (8_usize * 240).next_power_of_two();
    assert_eq!(take_all(&segment, quota(77, u32::MAX), owner(0)).len(), seats);
    segment.permits().sweep(owner(0).worker);
    assert_eq!(take_all(&segment, quota(78, u32::MAX), owner(0)).len(), seats);
}

#[test]
fn no_table_means_no_permit() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let none = Permits::new(&[]);
    assert!(none.take(segment.shared(), quota(1, 10), owner(0), NOW_MS).is_none());
}

/// As many holders as the segment is made for, of as many addresses.
#[test]
fn on_a_full_relay_an_address_gets_most_of_its_quota() {
    let segment = Segment::create(&Geometry { connections: 8192, ..GEOMETRY }).unwrap();
    let mut random = Random::new(1);
    for _ in 0..8192 + 40 {
        let one = quota(random.next() ^ random.next() << 24, 1024);
        let _held = segment.permits().take(segment.shared(), one, owner(1), NOW_MS).unwrap();
    }
    for _ in 0..20 {
        let ours = quota(random.next() ^ random.next() << 24, 256);
        let held = take_all(&segment, ours, owner(2)).len();
        assert!(held >= 256 * 7 / 8 - 24, "{held} of 256");
        segment.permits().sweep(owner(2).worker);
    }
}

#[test]
fn a_session_has_its_permit_until_its_slot_is_free() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, permits, two) = (segment.shared(), segment.permits(), quota(3, 2));
    let start = |expires_ms| {
        let permit = permits.take(shared, two, owner(1), NOW_MS).unwrap();
        let session = issue(shared, owner(1), expires_ms).unwrap();
        permits.give_to(permit, session).unwrap();
        session
    };
    for end in [End::Complete, End::Deleted, End::Expired] {
        let sessions = [start(u64::MAX), start(u64::MAX)];
        // The sessions hold the permits, not the worker, so the sweep frees none.
        permits.sweep(owner(1).worker);
        assert!(permits.take(shared, two, owner(2), NOW_MS).is_none());
        let receiver =
            shared.take_receiver(sessions[0].lane(Direction::Forth), owner(3), false).unwrap();
        sessions.iter().for_each(|session| assert!(shared.end(*session, end, |_| {})));
        assert_eq!(take_all(&segment, two, owner(2)).len(), 1, "one is not left yet");
        shared.leave_receiver(receiver).unwrap();
        assert_eq!(take_all(&segment, two, owner(2)).len(), 1);
        permits.sweep(owner(2).worker);
    }
    // A session whose lifetime is over makes room, before any worker has expired it.
    let _sessions = [start(NOW_MS + 5), start(NOW_MS + 6)];
    assert!(permits.take(shared, two, owner(2), NOW_MS + 4).is_none());
    let _held = permits.take(shared, two, owner(2), NOW_MS + 5).unwrap();
    assert!(permits.take(shared, two, owner(2), NOW_MS + 5).is_none());
}

#[test]
fn a_killed_worker_leaves_no_permit() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let ten = quota(11, 10);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let child = fork(|| {
        assert_eq!(take_all(&segment, ten, owner(1)).len(), 10);
        nix::unistd::write(&writer, b"!").unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    assert!(wait_readable(&reader));
    assert!(take_all(&segment, ten, owner(2)).is_empty());
    child.kill();
    assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL));
    segment.permits().sweep(owner(2).worker);
    assert!(take_all(&segment, ten, owner(2)).is_empty(), "another's death frees nothing");
    segment.permits().sweep(owner(1).worker);
    assert_eq!(take_all(&segment, ten, owner(2)).len(), 10);
}

/// Takes permits, gives them back, hands them over, ends sessions, until it is killed.
fn bustle(segment: &Segment, me: Owner, quotas: &[Quota; 3], mut random: Random) -> i32 {
    let (shared, permits) = (segment.shared(), segment.permits());
    loop {
        let quota = quotas[random.below(3)];
        let Some(permit) = permits.take(shared, quota, me, NOW_MS) else { continue };
        match issue(shared, me, u64::MAX) {
            Some(session) if random.below(2) == 0 => {
                permits.give_to(permit, session).unwrap();
                if random.below(2) == 0 {
                    shared.end(session, End::Deleted, |_| {});
                }
            }
            Some(session) => {
                shared.end(session, End::Complete, |_| {});
                permits.give_back(permit).unwrap();
            }
            None => {
                permits.give_back(permit).unwrap();
                let slot = u32::try_from(random.below(shared.sessions())).unwrap();
                shared.find(slot).map(|found| shared.end(found.session, End::Deleted, |_| {}));
            }
        }
    }
}

#[test]
fn workers_killed_anywhere_leave_the_quotas_whole() {
    let seed = seed();
    let mut random = Random::new(seed);
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let quotas = [quota(random.next(), 4), quota(random.next(), 9), quota(random.next(), 30)];
    for round in 0..100 {
        let children = [1, 2].map(|worker| {
            let random = Random::new(seed + 2 * round + worker as u64);
            fork(|| bustle(&segment, owner(worker), &quotas, random))
        });
        std::thread::sleep(Duration::from_micros(100 + (random.next() >> 8 & 0x3ff)));
        for child in children {
            child.kill();
            assert_eq!(child.wait(), Exit::Signal(Signal::SIGKILL), "round {round}");
        }
        for worker in [owner(1).worker, owner(2).worker] {
            shared.sweep(worker, |_, _| {});
            segment.permits().sweep(worker);
        }
        let live = (0..GEOMETRY.sessions).filter_map(|slot| shared.find(slot));
        live.for_each(|found| assert!(shared.end(found.session, End::Deleted, |_| {})));
        for quota in quotas {
            assert_eq!(
                take_all(&segment, quota, owner(3)).len(),
                quota.most as usize,
                "round {round}"
            );
            segment.permits().sweep(owner(3).worker);
        }
    }
}

/// The holder of a permit in the model.
#[derive(Debug)]
enum Has {
    Worker(usize, Permit),
    Session(SessionRef),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps in any order: no address has more than its quota, and a refused taker has met as many holders as it may
    /// have permits.
    #[test]
    fn every_step_is_what_a_list_of_holders_says(
        digests in any::<[u64; 3]>(),
        steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>(), 0..3_usize), 1..200),
    ) {
        let segment = Segment::create(&Geometry { sessions: 6, connections: 1, ..GEOMETRY }).unwrap();
        let (shared, permits) = (segment.shared(), segment.permits());
        let mosts = [1, 3, 8];
        let mut holders: Vec<(usize, Has)> = Vec::new();
        for (step, which, worker) in steps {
            let at = (!holders.is_empty()).then(|| which.index(holders.len()));
            match (step, at.map(|at| &holders[at].1)) {
                (0..=2, _) => {
                    let address = usize::from(step);
                    let quota = quota(digests[address], mosts[address]);
                    let has = holders.iter().filter(|(other, _)| *other == address).count();
                    match permits.take(shared, quota, owner(worker), NOW_MS) {
                        Some(permit) => {
                            prop_assert!(has < mosts[address] as usize);
                            holders.push((address, Has::Worker(worker, permit)));
                        }
                        None => prop_assert!(holders.len() >= mosts[address] as usize),
                    }
                }
                (3, Some(Has::Worker(..))) => {
                    let (_, Has::Worker(_, permit)) = holders.swap_remove(at.unwrap()) else {
                        unreachable!()
                    };
                    prop_assert_eq!(permits.give_back(permit), Ok(()));
                }
                (3 | 4, Some(Has::Session(session))) => {
                    let ended = shared.end(*session, End::Complete, |_| {});
                    prop_assert!(ended);
                    holders.swap_remove(at.unwrap());
                }
                (4, Some(Has::Worker(..))) => {
                    let Some(session) = issue(shared, owner(worker), u64::MAX) else { continue };
                    let (address, Has::Worker(_, permit)) = holders.swap_remove(at.unwrap()) else {
                        unreachable!()
                    };
                    prop_assert_eq!(permits.give_to(permit, session), Ok(()));
                    holders.push((address, Has::Session(session)));
                }
                _ => {
                    permits.sweep(owner(worker).worker);
                    holders.retain(|(_, has)| !matches!(has, Has::Worker(w, _) if *w == worker));
                }
            }
        }
    }

    /// Noise in the table is void and keeps no seat. A scribble over a seat loses that seat.
    #[test]
    fn noise_in_the_table_is_void_and_harms_seat_by_seat(
        noise in prop::collection::vec(any::<u64>(), 256),
        scribbled in prop::collection::vec((0..256_usize, any::<u64>()), 0..20),
        digest: u64,
    ) {
        let segment = Segment::create(&GEOMETRY).unwrap();
        let words: Vec<_> = noise.into_iter().map(AtomicU64::new).collect();
        let permits = Permits::new(&words);
        let take = || permits.take(segment.shared(), quota(digest, 64), owner(1), NOW_MS);
        let mut held: Vec<_> = std::iter::from_fn(take).collect();
        prop_assert!((60..=64).contains(&held.len()), "{} of 64", held.len());
        for (at, word) in &scribbled {
            words[*at].store(*word, Ordering::Relaxed);
        }
        let more: Vec<_> = std::iter::from_fn(take).collect();
        prop_assert!(more.len() <= scribbled.len(), "{} more by {scribbled:?}", more.len());
        held.extend(more);
        let refused = held.into_iter().filter_map(|permit| permits.give_back(permit).err()).count();
        prop_assert!(refused <= scribbled.len());
    }

    /// The counting of guesses ends whatever stands in a word, and no budget is exceeded afterwards.
    #[test]
    fn any_word_of_guesses_comes_right(word: u64, most in 0..50_u32, second in 0..10_u64) {
        let words = [AtomicU64::new(word)];
        let guesses = Guesses::new(&words);
        let count = |now_ms| (0..100).filter(|_| guesses.count(1, most, now_ms)).count();
        prop_assert!(count(second * 1000) <= most as usize);
        prop_assert_eq!(count(second * 1000 + 2000), most as usize);
    }
}

#[test]
fn guesses_are_counted_by_address_and_second() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let count =
        |digest, now_ms| (0..50).filter(|_| segment.guesses().count(digest, 20, now_ms)).count();
    assert_eq!((count(1, 5000), count(1, 5999), count(2, 5999)), (20, 0, 20));
    assert_eq!(count(1, 6000), 20);
    // A worker whose clock was read a moment ago is still in the last second.
    assert_eq!((count(1, 5999), count(2, 5999)), (0, 0));
    assert_eq!(count(1, 1 << 50), 20, "the clock never stops");
}

#[test]
fn guesses_are_spent_when_one_more_would_not_be_counted() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let guesses = segment.guesses();
    for second in [7, 9] {
        let now_ms = second * 1000;
        for _ in 0..3 {
            assert!(!guesses.is_spent(5, 3, now_ms) && guesses.count(5, 3, now_ms));
        }
        assert!(guesses.is_spent(5, 3, now_ms) && !guesses.count(5, 3, now_ms));
        assert!(!guesses.is_spent(6, 3, now_ms), "another address");
    }
}

#[test]
fn guesses_that_come_at_the_same_time_have_one_budget() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let counted: usize = std::thread::scope(|scope| {
        let count = || (0..10_000).filter(|_| segment.guesses().count(9, 20_000, 1)).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(counted, 20_000);
}
