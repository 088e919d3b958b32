//! A sender whose receiver's worker died before it took anything begins again, with the same bytes, with another
//! receiver.
#![allow(clippy::unwrap_used)]

use shm::{
    Census, Direction, Geometry, LaneRef, Owner, ReceiverEnd, Segment, SenderEnd, Shared,
    TakenBack, Terms, WorkerId,
};

const GEOMETRY: Geometry = Geometry {
    sessions: 2,
    connections: 2,
    chunks: 6,
    chunk_bytes: 4096,
    lane_chunks: 4,
    pipes: 1,
};
const PIECES: [&[u8]; 2] = [b"first", b"second"];
const NOTHING_HELD: Census =
    Census { chunks_held: 0, pipes_held: 0, places_held: 0, sessions_live: 1, slots_between: 0 };

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn issue(shared: &Shared<'_>) -> LaneRef {
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1000, account: None };
    shared.issue(owner(0), &terms, 0).unwrap().lane(Direction::Forth)
}

fn publish(segment: &Segment, sender: &mut SenderEnd, bytes: &[u8]) {
    let mut reserved = sender.attach(segment.shared()).unwrap().reserve().unwrap().unwrap();
    segment.bytes_mut(&mut reserved)[..bytes.len()].copy_from_slice(bytes);
    let _ = sender.attach(segment.shared()).unwrap().publish(reserved, 0..bytes.len());
}

/// A sender that has begun with a receiver, and has published everything.
fn begin(segment: &Segment, at: LaneRef) -> (SenderEnd, ReceiverEnd) {
    let shared = segment.shared();
    let receiver = shared.take_receiver(at, owner(1), false).unwrap();
    let mut sender = shared.take_sender(at, owner(2), false).unwrap();
    shared.begin(&sender, b"").unwrap().unwrap();
    PIECES.iter().for_each(|piece| publish(segment, &mut sender, piece));
    (sender, receiver)
}

fn expect_pieces(segment: &Segment, receiver: &mut ReceiverEnd) {
    for expected in PIECES {
        let mut receiver = receiver.attach(segment.shared()).unwrap();
        let piece = receiver.next_published().unwrap().expect("it was published");
        assert_eq!(segment.bytes(&piece), expected);
        piece.ack_recv();
    }
    assert!(receiver.attach(segment.shared()).unwrap().next_published().unwrap().is_none());
}

fn sweep(shared: &Shared<'_>, worker: usize) {
    shared.sweep(owner(worker).worker, |_, _| {});
}

fn take_back(shared: &Shared<'_>, sender: &mut SenderEnd) -> Vec<TakenBack> {
    let taken_back = sender.attach(shared).unwrap().rewind().unwrap().expect("nothing was taken");
    assert!(!shared.look(sender).unwrap().begun);
    assert_eq!(taken_back.len(), PIECES.len());
    taken_back
}

#[test]
fn what_a_lost_receiver_has_not_taken_goes_to_the_next_one() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    let (mut sender, _dead) = begin(&segment, at);
    assert!(sender.attach(shared).unwrap().rewind().unwrap().is_none(), "its receiver lives");
    sweep(shared, 1);
    let taken_back = take_back(shared, &mut sender);
    let mut receiver = shared.take_receiver(at, owner(3), false).unwrap();
    assert!(
        receiver.attach(shared).unwrap().next_published().unwrap().is_none(),
        "nothing has begun"
    );
    shared.begin(&sender, b"").unwrap().unwrap();
    for (chunk, payload) in taken_back {
        let _ = sender.attach(shared).unwrap().publish(chunk, payload);
    }
    expect_pieces(&segment, &mut receiver);
    assert_eq!(sender.published_bytes(), 11);
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.census(), NOTHING_HELD);
}

#[test]
fn what_was_taken_in_part_is_not_taken_back() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    for step in 0..3 {
        let at = issue(shared);
        let (mut sender, mut receiver) = begin(&segment, at);
        match step {
            0 => receiver.attach(shared).unwrap().count_taken(1),
            1 => {
                receiver.attach(shared).unwrap().next_published().unwrap().unwrap().ack_recv();
            }
            _ => {
                receiver.attach(shared).unwrap().take_pipes();
                let pipe = sender.attach(shared).unwrap().reserve_pipe().unwrap().unwrap();
                let _ = sender.attach(shared).unwrap().publish(pipe, 0..1);
            }
        }
        sweep(shared, 1);
        assert!(sender.attach(shared).unwrap().rewind().unwrap().is_none(), "{step}");
        shared.leave_sender(sender, None).unwrap();
        assert!(shared.end(at.session, shm::End::Deleted, |_| {}));
    }
}

#[test]
fn a_sender_that_dies_with_what_it_took_back_leaves_nothing() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    let (mut sender, _dead) = begin(&segment, at);
    sweep(shared, 1);
    let taken_back = take_back(shared, &mut sender);
    sweep(shared, 2);
    drop((sender, taken_back));
    assert_eq!(shared.census(), NOTHING_HELD);
    let (_sender, mut receiver) = begin(&segment, at);
    expect_pieces(&segment, &mut receiver);
}

#[test]
fn a_sender_that_leaves_with_what_it_took_back_gives_it_up() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let shared = segment.shared();
    let at = issue(shared);
    let (mut sender, _dead) = begin(&segment, at);
    sweep(shared, 1);
    for (chunk, _) in take_back(shared, &mut sender) {
        sender.attach(shared).unwrap().give_back(chunk).unwrap();
    }
    shared.leave_sender(sender, None).unwrap();
    assert_eq!(shared.census(), NOTHING_HELD);
    // The next two find nothing of it.
    let mut receiver = shared.take_receiver(at, owner(3), false).unwrap();
    let sender = shared.take_sender(at, owner(2), false).unwrap();
    shared.begin(&sender, b"").unwrap().unwrap();
    assert!(receiver.attach(shared).unwrap().next_published().unwrap().is_none());
}
