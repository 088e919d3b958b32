//! Several workers issue sessions, and each finds slots from a place of its own.
#![allow(clippy::unwrap_used)]

use shm::{Geometry, Owner, Segment, Terms, WorkerId};

const SESSIONS: u32 = 8192;

#[test]
fn another_worker_finds_a_slot_at_once_as_long_as_some_are_free() {
    let geometry = Geometry {
        sessions: SESSIONS,
        connections: 1,
        chunks: 2,
        chunk_bytes: 4096,
        lane_chunks: 2,
        pipes: 0,
    };
    let ours = Segment::create(&geometry).unwrap();
    let theirs = Segment::attach(ours.fd().try_clone_to_owned().unwrap()).unwrap();
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 3, lifetime_ms: 99, account: None };
    let owner = |worker| Owner::new(WorkerId::new(worker).unwrap(), 0);
    // Fills all slots but a few, in a row.
    for _ in 0..SESSIONS / 10 * 9 {
        ours.shared().issue(owner(0), &terms, 1).unwrap();
    }
    assert!(theirs.shared().issue(owner(1), &terms, 1).is_some());
}
