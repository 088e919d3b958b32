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
    let wanted = shm::Wanted {
        sessions: Some(64),
        connections: 64,
        chunk_bytes: CHUNK_BYTES,
        lane_chunks,
        pipes: 0,
    };
    let geometry = Geometry::fit(SEGMENT_BYTES, wanted).unwrap();
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

/// `chunks` one after the other into the lane, then out of it, each handed back: a turn of each end.
#[inline(never)]
pub(crate) fn pass(
    chunks: u64,
    shared: &Shared<'_>,
    sender: &mut SenderEnd,
    receiver: &mut ReceiverEnd,
) {
    let mut sender = sender.attach(shared).unwrap();
    for _ in 0..chunks {
        let reserved = sender.reserve().unwrap().unwrap();
        sender.publish(reserved, 0..CHUNK_BYTES);
    }
    let mut receiver = receiver.attach(shared).unwrap();
    for _ in 0..chunks {
        receiver.next_published().unwrap().unwrap().ack_recv();
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
