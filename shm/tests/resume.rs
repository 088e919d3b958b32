//! A session remembers what has passed from one attempt to the next, and a waiting receiver says what it asks for.
#![allow(clippy::unwrap_used)]

use shm::{
    Direction, End, Geometry, LaneRef, Owner, Passed, PassedFile, Passing, ReceiverEnd, Segment,
    SenderEnd, SessionRef, Settled, Shared, Terms, Told, Want, WorkerId,
};

const GEOMETRY: Geometry = Geometry {
    sessions: 1,
    connections: 1,
    chunks: 2,
    chunk_bytes: 4096,
    lane_chunks: 2,
    pipes: 0,
};
const TERMS: Terms =
    Terms { key: [1; 32], token: [2; 32], kind: 3, lifetime_ms: 99, account: None };
const FILE: Passing = Passing::File { total: 10, tag: 7, from: 4, sender: 5 };

fn me() -> Owner {
    Owner::new(WorkerId::new(1).unwrap(), 0)
}

fn session(segment: &Segment) -> (&Shared<'_>, SessionRef, LaneRef) {
    let session = segment.shared().issue(me(), &TERMS, 1).unwrap();
    (segment.shared(), session, session.lane(Direction::Forth))
}

fn begin(shared: &Shared<'_>, lane: LaneRef, passing: Passing) -> (SenderEnd, ReceiverEnd) {
    let sender = shared.take_sender(lane, me(), false).unwrap();
    let mut receiver = shared.take_receiver(lane, me(), false).unwrap();
    shared.begin(&sender, b"").unwrap().unwrap();
    receiver.attach(shared).unwrap().note_passing(passing);
    (sender, receiver)
}

fn file(delivered: u64, whole: Settled) -> Passed {
    Passed::File(PassedFile { total: 10, tag: 7, delivered, whole, sender: 5 })
}

#[test]
fn what_a_receiver_wants_is_known_as_long_as_it_waits() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, _, lane) = session(&segment);
    for want in [
        Want::Whole,
        Want::Rest { from: 0, last: None, of: None },
        Want::Rest { from: u64::MAX, last: Some(0), of: Some(0) },
        Want::Rest { from: 1, last: Some(u64::MAX - 1), of: Some(u64::MAX) },
    ] {
        assert_eq!(shared.wanted(lane), Ok(None));
        let mut receiver = shared.take_receiver(lane, me(), false).unwrap();
        assert_eq!(shared.wanted(lane), Ok(None), "it has not said yet");
        receiver.attach(shared).unwrap().want(want);
        assert_eq!(shared.wanted(lane), Ok(Some(want)));
        shared.leave_receiver(receiver).unwrap();
    }
    let (sender, mut receiver) = begin(shared, lane, FILE);
    receiver.attach(shared).unwrap().want(Want::Whole);
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.wanted(lane), Ok(None), "the attempt is over");

    let dead = Owner::new(WorkerId::new(2).unwrap(), 0);
    let mut receiver = shared.take_receiver(lane, dead, false).unwrap();
    receiver.attach(shared).unwrap().want(Want::Whole);
    shared.sweep(dead.worker, |_, _| {});
    assert_eq!(shared.wanted(lane), Ok(None), "its worker is dead");
}

#[test]
fn what_has_passed_is_known_until_the_slot_is_issued_anew() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, old, lane) = session(&segment);
    assert_eq!(shared.passed(lane), Ok(Passed::Nothing));
    let (sender, mut receiver) = begin(shared, lane, FILE);
    assert_eq!(shared.passed(lane), Ok(file(4, Settled::No)));
    receiver.attach(shared).unwrap().count(5, 3);
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.passed(lane), Ok(file(7, Settled::No)), "of the whole file");
    assert_eq!(shared.passed(old.lane(Direction::Back)), Ok(Passed::Nothing));

    let (sender, mut receiver) = begin(shared, lane, Passing::Stream);
    receiver.attach(shared).unwrap().count(5, 3);
    receiver.attach(shared).unwrap().note_whole(Settled::Acked);
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.passed(lane), Ok(Passed::Stream), "no stream is whole");
    let (sender, receiver) = begin(shared, lane, FILE);
    let after_others = file(4, Settled::No).file().map(Passed::FileAfterOthers).unwrap();
    assert_eq!(shared.passed(lane), Ok(after_others));
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();

    assert!(shared.end(old, End::Deleted, |_| {}));
    assert_eq!(shared.passed(lane), Ok(Passed::Nothing), "the session is over");
    let (_, next, lane) = session(&segment);
    assert_eq!(next.slot, old.slot);
    assert_eq!(shared.passed(lane), Ok(Passed::Nothing));
}

#[test]
fn a_complete_session_is_known_until_its_slot_is_issued_anew() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, old, lane) = session(&segment);
    for settled in [Settled::Sent, Settled::Acked] {
        let (sender, mut receiver) = begin(shared, lane, FILE);
        receiver.attach(shared).unwrap().count(6, 2);
        receiver.attach(shared).unwrap().note_whole(settled);
        let delivered = if settled == Settled::Acked { 10 } else { 6 };
        assert_eq!(shared.passed(lane), Ok(file(delivered, settled)));
        shared.leave_receiver(receiver).unwrap();
        shared.leave_sender(sender, None).unwrap();
    }
    shared.begin_telling(old, Told::Telling, me()).unwrap();
    shared.begin_telling(old, Told::Untold, me()).unwrap();
    assert!(shared.find_past(old.slot).is_none(), "it lives");
    assert!(shared.end(old, End::Complete, |_| {}));
    let past = shared.find_past(old.slot).unwrap();
    assert_eq!((past.session, past.key, past.kind, past.expires_ms), (old, [1; 32], 3, 100));
    assert_eq!((past.passed, past.told), (file(10, Settled::Acked), Told::Telling));
    let other = Owner::new(WorkerId::new(2).unwrap(), 0);
    shared.end_telling(old, Told::Told, other);
    assert_eq!(shared.find_past(old.slot).unwrap().told, Told::Telling, "that was another's");
    shared.end_telling(old, Told::Untold, me());
    let past = shared.find_past(old.slot).unwrap();
    assert_eq!(past.told, Told::Untold);
    assert!(shared.tell_again(&past, other));
    assert!(!shared.tell_again(&past, me()), "one tells at a time");
    assert_eq!(shared.find_past(old.slot).unwrap().told, Told::Telling);
    shared.record(other.worker).unwrap().bump_epoch();
    assert_eq!(shared.find_past(old.slot).unwrap().told, Told::Untold, "its worker has died");
    assert!(shared.find_past(1).is_none(), "there is no such slot");

    let (_, next, _) = session(&segment);
    assert!(shared.find_past(old.slot).is_none(), "another lives there");
    assert!(shared.end(next, End::Complete, |_| {}));
    assert!(shared.find_past(old.slot).is_none(), "nothing was delivered in that");
}

#[test]
fn a_session_is_in_use_while_a_sender_brings_what_its_receiver_has() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let (shared, session, lane) = session(&segment);
    let mut sender = shared.take_sender(lane, me(), false).unwrap();
    sender.attach(shared).unwrap().note_skipping(true);
    assert_eq!(shared.is_running(session), Ok(false), "there is no receiver");
    let mut receiver = shared.take_receiver(lane, me(), false).unwrap();
    assert_eq!(shared.is_running(session), Ok(true));
    assert_eq!(receiver.attach(shared).unwrap().sender_skips(), Ok(true));
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.is_running(session), Ok(false));
    assert_eq!(receiver.attach(shared).unwrap().sender_skips(), Ok(false));
    let sender = shared.take_sender(lane, me(), false).unwrap();
    assert_eq!(shared.is_running(session), Ok(false), "the next one reads nothing yet");
    shared.leave_sender(sender, None).unwrap();
    shared.leave_receiver(receiver).unwrap();
}
