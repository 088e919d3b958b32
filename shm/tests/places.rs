//! A look at the places of one lane tells who is there, and never tells of the session that comes after.
#![allow(clippy::unwrap_used)]

use shm::{Direction, End, Geometry, LaneRef, Owner, Segment, Shared, State, Terms, WorkerId};

const GEOMETRY: Geometry = Geometry {
    sessions: 1,
    connections: 2,
    chunks: 2,
    chunk_bytes: 4096,
    lane_chunks: 1,
    pipes: 0,
};

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn issue(shared: &Shared<'_>) -> LaneRef {
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1000, account: None };
    shared.issue(owner(0), &terms, 0).unwrap().lane(Direction::Back)
}

fn states(shared: &Shared<'_>, at: LaneRef) -> Option<(State, State)> {
    shared.places(at).unwrap().map(|word| (word.sender.state, word.receiver.state))
}

#[test]
fn places_are_seen_as_they_are_taken_and_left() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    assert_eq!(states(shared, at), Some((State::Empty, State::Empty)));
    let receiver = shared.take_receiver(at, owner(1), false).unwrap();
    assert_eq!(states(shared, at), Some((State::Empty, State::Held)));
    let sender = shared.take_sender(at, owner(2), false).unwrap();
    assert_eq!(states(shared, at), Some((State::Held, State::Held)));
    shared.leave_receiver(receiver).unwrap();
    assert_eq!(states(shared, at), Some((State::Held, State::Empty)));
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(states(shared, at), Some((State::Empty, State::Empty)));
}

#[test]
fn nothing_is_seen_of_a_session_that_is_over_nor_of_the_next() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    assert!(shared.end(at.session, End::Deleted, |_| ()));
    assert_eq!(states(shared, at), None);
    let next = issue(shared);
    assert_eq!(next.session.slot, at.session.slot);
    let _receiver = shared.take_receiver(next, owner(1), false).unwrap();
    assert_eq!(states(shared, at), None);
    assert_eq!(states(shared, next), Some((State::Empty, State::Held)));
    let nowhere = LaneRef { session: shm::SessionRef { slot: 7, issue_number: 0 }, ..at };
    assert!(shared.places(nowhere).is_err());
}

#[test]
fn a_receiver_that_comes_is_not_taken_for_the_one_before_it() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    let mark = shm::AddressTag::of(7);
    let is_marked = || shared.receiver_guest(at).unwrap() == Some(mark);
    // One leaves, one dies.
    for dies in [false, true] {
        let mut receiver = shared.take_receiver(at, owner(1), false).unwrap();
        assert!(!is_marked());
        receiver.attach(shared).unwrap().record_guest(Some(mark));
        assert!(is_marked());
        if dies {
            shared.sweep(owner(1).worker, |_, _| ());
        } else {
            shared.leave_receiver(receiver).unwrap();
        }
        assert_eq!(shared.receiver_guest(at).unwrap(), None);
    }
}
