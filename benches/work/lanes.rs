//! A segment, and the steps of a lane and a session in it; for `ring.rs` and `counts.rs`.

use shm::{
    Direction, End, Geometry, Owner, ReceiverEnd, Segment, SenderEnd, SessionRef, Shared, Terms,
    WorkerId,
};

const SEGMENT_BYTES: u64 = 16 << 20;
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
pub(crate) const SENDER: usize = 0;
pub(crate) const RECEIVER: usize = 1;

pub(crate) fn segment(lane_chunks: usize) -> Segment {
    let geometry = Geometry::fit(SEGMENT_BYTES, Some(64), 64, CHUNK_BYTES, lane_chunks, 0).unwrap();
    Segment::create(&geometry).unwrap()
}

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

pub(crate) fn issue(shared: &Shared<'_>) -> SessionRef {
    let terms =
        Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: u64::MAX, account: None };
    shared.issue(owner(SENDER), &terms, 0).unwrap()
}

/// Both ends of an attempt that has begun.
pub(crate) fn pair(shared: &Shared<'_>, session: SessionRef) -> (SenderEnd, ReceiverEnd) {
    let receiver =
        shared.take_receiver(session.lane(Direction::Forth), owner(RECEIVER), false).unwrap();
    let sender = shared.take_sender(session.lane(Direction::Forth), owner(SENDER), false).unwrap();
    shared.begin(&sender, &[0; 32]).unwrap().unwrap();
    (sender, receiver)
}

/// `chunks` one after the other into the lane, then out of it, each handed back.
#[inline(never)]
pub(crate) fn pass(
    chunks: u64,
    shared: &Shared<'_>,
    sender: &mut SenderEnd,
    receiver: &mut ReceiverEnd,
) {
    for _ in 0..chunks {
        let filling = sender.reserve(shared).unwrap().unwrap();
        sender.publish(shared, filling, 0..CHUNK_BYTES).unwrap();
    }
    for _ in 0..chunks {
        receiver.next(shared).unwrap().unwrap().ack_recv(shared).unwrap();
    }
}

/// A session from its issue to its end, as a complete exchange takes it.
#[inline(never)]
pub(crate) fn exchange(shared: &Shared<'_>) {
    let session = issue(shared);
    let (sender, receiver) = pair(shared, session);
    shared.end(session, End::Complete, |_| {});
    shared.leave_receiver(receiver).unwrap();
    shared.leave_sender(sender, None).unwrap();
}
