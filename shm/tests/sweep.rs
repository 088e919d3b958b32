//! The sweep frees first what a dead worker noted, then what it did not note, and the free slots cost next to
//! nothing.
#![allow(clippy::unwrap_used)]

use shm::{Direction, Geometry, Owner, Segment, SenderEnd, SessionRef, Shared, Terms, WorkerId};

const SESSIONS: u32 = 2000;
const GEOMETRY: Geometry = Geometry {
    sessions: SESSIONS,
    connections: 1,
    chunks: 1,
    chunk_bytes: 4096,
    lane_chunks: 1,
    pipes: 0,
};

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn issue(shared: &Shared<'_>) -> SessionRef {
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1000, account: None };
    shared.issue(owner(0), &terms, 0).unwrap()
}

/// Begins a transfer from `sender` to `receiver` in the session.
fn begin(shared: &Shared<'_>, at: SessionRef, sender: Owner, receiver: Owner) -> SenderEnd {
    let at = at.lane(Direction::Forth);
    shared.take_receiver(at, receiver, false).unwrap();
    let end = shared.take_sender(at, sender, false).unwrap();
    shared.begin(&end, b"").unwrap().unwrap();
    end
}

#[test]
fn peers_of_the_dead_are_rung_before_the_others_are_looked_at() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| issue(shared)).collect();
    // A sweep rings for every owner in a session that ended, whichever worker died.
    let (ended, last) = (sessions[3], *sessions.last().unwrap());
    shared.take_receiver(ended.lane(Direction::Forth), owner(3), false).unwrap();
    assert!(shared.end(ended, shm::End::Deleted, |_| {}));
    begin(shared, last, owner(1), owner(2));
    let mut rung = Vec::new();
    shared.sweep(owner(1).worker, |slot, survivor| rung.push((slot, survivor)));
    assert_eq!(rung, [(last.slot, owner(2)), (ended.slot, owner(3))]);
}

#[test]
fn many_that_came_and_went_leave_no_notes() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let (us, peer) = (owner(1), owner(2));
    let held = issue(shared);
    begin(shared, held, us, peer);
    for _ in 0..10 * SESSIONS {
        let session = issue(shared);
        let end = shared.take_sender(session.lane(Direction::Back), us, false).unwrap();
        shared.leave_sender(end, None).unwrap();
        assert!(shared.end(session, shm::End::Complete, |_| {}));
        shared.tidy(us.worker);
    }
    let mut rung = Vec::new();
    shared.sweep(us.worker, |slot, survivor| rung.push((slot, survivor)));
    assert_eq!(rung, [(held.slot, peer)]);
    let places_held = shared.census().places_held;
    assert_eq!(places_held, 2, "the survivor's, and the one that it has to clean up");
}

#[test]
fn what_a_worker_takes_after_it_tidied_up_is_swept() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let us = owner(1);
    let sessions: Vec<_> = (0..SESSIONS).map(|_| issue(shared)).collect();
    for (index, session) in sessions.iter().enumerate() {
        let end = shared.take_sender(session.lane(Direction::Forth), us, false).unwrap();
        if index % 2 == 0 {
            shared.leave_sender(end, None).unwrap();
        }
        shared.tidy(us.worker);
    }
    assert_eq!(shared.census().places_held, SESSIONS as usize / 2);
    shared.sweep(us.worker, |_, _| {});
    assert_eq!(shared.census().places_held, 0);
}
