//! Names: found, taken, free again; and real processes that race for a few of them and are killed at any moment.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;
#[path = "support/random.rs"]
mod random;

use process::{Exit, fork};
use random::Random;
use shm::{
    Census, End, Geometry, Life, Name, NameError, Named, Owner, Segment, SessionRef, Terms,
    WorkerId,
};
use std::time::Duration;

const GEOMETRY: Geometry = Geometry {
    sessions: 20,
    connections: 9,
    chunks: 1,
    chunk_bytes: 4096,
    lane_chunks: 1,
    pipes: 0,
};
/// Words of the directory that such a segment has, and of one set.
const WORDS: usize = 128;
const WAYS: usize = 16;
const LIFETIME_MS: u64 = 1000;

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

/// A name in the set of this number.
fn name_in(set: u64, number: u64) -> Name {
    Name::of([set, number])
}

/// Terms by which a session is known again.
fn terms(kind: u64) -> Terms {
    Terms { key: [1; 32], token: [2; 32], kind, lifetime_ms: LIFETIME_MS, account: None }
}

fn issue(
    segment: &Segment,
    worker: usize,
    name: Name,
    now_ms: u64,
) -> Result<SessionRef, NameError> {
    let named = Named { name, terms: &terms(0), first_ms: LIFETIME_MS };
    segment.directory().issue(segment.shared(), owner(worker), &named, now_ms)
}

fn found(segment: &Segment, name: Name) -> Option<SessionRef> {
    segment.directory().find(segment.shared(), name).map(|found| found.session)
}

#[test]
fn a_name_is_found_until_its_session_is_over() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (one, other) = (name_in(3, 1), name_in(3, 2));
    assert_eq!(found(&segment, one), None);
    let session = issue(&segment, 1, one, 0).unwrap();
    assert_eq!((found(&segment, one), found(&segment, other)), (Some(session), None));
    assert_eq!(issue(&segment, 2, one, 0), Err(NameError::Taken(session)));
    let second = issue(&segment, 2, other, 0).unwrap();
    assert_eq!((found(&segment, one), found(&segment, other)), (Some(session), Some(second)));
    assert!(segment.shared().end(session, End::Complete, |_| {}));
    assert_eq!((found(&segment, one), found(&segment, other)), (None, Some(second)));
    assert_ne!(issue(&segment, 1, one, 0).unwrap(), session);
}

#[test]
fn a_session_without_a_name_is_found_by_none() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let session = segment.shared().issue(owner(1), &terms(0), 0).unwrap();
    assert_eq!((session.slot, session.issue_number), (0, 0));
    assert_eq!((found(&segment, name_in(0, 0)), found(&segment, name_in(0, 1))), (None, None));
}

#[test]
fn a_name_is_free_once_its_lifetime_is_over_unless_somebody_waits_there() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, name) = (segment.shared(), name_in(0, 1));
    let named = Named { name, terms: &terms(0), first_ms: 10 };
    let session = segment.directory().issue(shared, owner(1), &named, 5).unwrap();
    assert_eq!(shared.find(session.slot).unwrap().expires_ms, 15);
    let lane = session.lane(shm::Direction::Forth);
    let receiver = shared.take_receiver(lane, owner(1), false).unwrap();
    assert_eq!(issue(&segment, 2, name, 15), Err(NameError::Taken(session)));
    shared.renew(&receiver, 15).unwrap();
    assert_eq!(shared.find(session.slot).unwrap().expires_ms, 15 + LIFETIME_MS);
    shared.leave_receiver(receiver).unwrap();
    assert_eq!(issue(&segment, 2, name, 16), Err(NameError::Taken(session)));
    assert!(issue(&segment, 2, name, 15 + LIFETIME_MS).is_ok());
}

#[test]
fn a_full_set_refuses_a_name_and_no_other_set_does() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let sets = (WORDS / WAYS) as u64;
    let names = (1..=WAYS as u64).map(|number| name_in(sets + 1, number));
    let sessions: Vec<_> = names.map(|name| issue(&segment, 1, name, 0).unwrap()).collect();
    let one_more = name_in(1, WAYS as u64 + 1);
    assert_eq!(issue(&segment, 1, one_more, 0), Err(NameError::NoPlace));
    assert!(issue(&segment, 1, name_in(2, 0), 0).is_ok());
    assert!(segment.shared().end(sessions[7], End::Deleted, |_| {}));
    assert!(issue(&segment, 1, one_more, 0).is_ok());
}

#[test]
fn without_a_free_slot_there_is_no_session_and_no_word() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let kept: Vec<_> = (0..20).map(|n| issue(&segment, 1, name_in(n, n), 0).unwrap()).collect();
    assert_eq!(issue(&segment, 1, name_in(20, 20), 0), Err(NameError::NoSlot));
    assert_eq!(found(&segment, name_in(20, 20)), None);
    assert_eq!(segment.shared().census().sessions_live, kept.len());
}

/// Workers issue and end sessions under a few names; any of them is killed at any moment and swept. No look ever finds
/// two living sessions with one name, and at the end each name can be had.
#[test]
fn two_living_sessions_never_have_one_name_though_workers_are_killed() {
    const NAMES: u64 = 3;
    const WORKERS: usize = 4;
    let mut random = Random::new(random::seed());
    let segment = Segment::create(&GEOMETRY).unwrap();
    let spawn = |worker: usize, mut random: Random| {
        let segment = &segment;
        fork(move || {
            let (shared, directory) = (segment.shared(), segment.directory());
            let record = shared.record(owner(worker).worker).unwrap();
            loop {
                let number = random.next() % NAMES;
                // Names of one set: places fall vacant while others look for them.
                let (name, terms) = (name_in(0, number), terms(number + 1));
                let named = Named { name, terms: &terms, first_ms: LIFETIME_MS };
                match directory.issue(shared, owner(worker), &named, 0) {
                    Ok(session) => {
                        record.add_bytes_out(1);
                        (0..random.below(200)).for_each(|_| std::hint::spin_loop());
                        if random.below(4) > 0 {
                            shared.end(session, End::Complete, |_| {});
                        }
                    }
                    Err(NameError::Taken(session)) => {
                        record.add_bytes_in(1);
                        shared.end(session, End::Deleted, |_| {});
                    }
                    Err(NameError::Contended) => record.add_bytes_skipped(1),
                    Err(error) => panic!("{error:?}"),
                }
            }
        })
    };
    let lives = |session| segment.shared().life(session) == Ok(Some(Life::Live));
    let look = || {
        let live: Vec<_> = segment.shared().slots().filter(|it| it.life == Life::Live).collect();
        for (index, one) in live.iter().enumerate() {
            let others = live.iter().skip(index + 1).filter(|other| other.kind == one.kind);
            for other in others.map(|other| other.session) {
                // A session that lives before and after lived meanwhile.
                let together = lives(other) && lives(one.session) && lives(other);
                assert!(!together, "{:?} and {other:?} have one name", one.session);
            }
        }
    };
    let mut children: Vec<_> =
        (0..WORKERS).map(|worker| Some(spawn(worker, Random::new(random.next())))).collect();
    for _ in 0..300 {
        (0..20).for_each(|_| look());
        std::thread::sleep(Duration::from_micros(random.next() >> 8 & 0x7ff));
        let worker = random.below(WORKERS);
        let victim = children[worker].take().unwrap();
        victim.kill();
        assert_eq!(victim.wait(), Exit::Signal(nix::sys::signal::Signal::SIGKILL));
        look();
        segment.shared().sweep(owner(worker).worker, |_, _| {});
        children[worker] = Some(spawn(worker, Random::new(random.next())));
    }
    for (worker, child) in children.into_iter().flatten().enumerate() {
        child.kill();
        child.wait();
        segment.shared().sweep(owner(worker).worker, |_, _| {});
    }
    look();
    let counters = (0..WORKERS)
        .map(|worker| segment.shared().record(owner(worker).worker).unwrap().counters());
    let (mut issued, mut taken, mut contended) = (0, 0, 0);
    for it in counters {
        (issued, taken) = (issued + it.bytes_out, taken + it.bytes_in);
        contended += it.bytes_skipped;
    }
    println!("{issued} issued, {taken} taken, {contended} contended");
    assert!(issued > 1000 && taken + contended > 0);
    for number in 0..NAMES {
        let session = issue(&segment, 0, name_in(0, number), 0);
        let session = session.or_else(|error| match error {
            NameError::Taken(session) => Ok(session),
            error => Err(error),
        });
        assert!(segment.shared().end(session.unwrap(), End::Deleted, |_| {}));
    }
    assert_eq!(segment.shared().census(), Census::default());
}
