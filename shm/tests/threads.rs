//! Both ends of a lane as threads of one process. ThreadSanitizer cannot watch processes, but it can watch threads:
//! `scripts/tsan` runs these tests under it, and it reports a chunk that is written while it may still be read.
#![allow(unsafe_code, clippy::unwrap_used, dead_code)]

#[path = "support/process.rs"]
mod process;
#[path = "support/random.rs"]
mod random;
#[path = "support/transfer.rs"]
mod transfer;

use shm::{Direction, Finish, Geometry, Role, Settled};
use std::thread;
use transfer::{Outcome, Worker, World};

const PIECES: u64 = 512;

fn geometry(pipes: u32) -> Geometry {
    Geometry { sessions: 1, connections: 9, chunks: 6, chunk_bytes: 4096, lane_chunks: 3, pipes }
}

/// Passes pieces in both directions at the same time, each by a sender's and a receiver's thread.
#[track_caller]
fn expect_all_to_pass(pipes: u32) {
    let seed = random::seed();
    let world = World::new(&geometry(pipes));
    let session = world.issue(world.owner(0));
    thread::scope(|scope| {
        let roles = [Role::Sender, Role::Receiver];
        let ends = [Direction::Forth, Direction::Back].map(|way| roles.map(|role| (way, role)));
        let transfers = (1..).zip(ends.into_iter().flatten()).map(|(worker, (direction, role))| {
            let (world, lane) = (&world, session.lane(direction));
            scope.spawn(move || {
                let worker = Worker { world, me: world.owner(worker), at: &|_, _| {} };
                worker.transfer(role, lane, seed, PIECES)
            })
        });
        let transfers: Vec<_> = transfers.collect();
        // Joined one by one: the sanitizer knows pthread_join, and not how a scope ends.
        for transfer in transfers {
            assert_eq!(transfer.join().unwrap(), Outcome::Complete);
        }
    });
}

#[test]
fn threads_pass_payload_by_chunks() {
    expect_all_to_pass(0);
}

#[test]
fn threads_pass_payload_by_chunks_and_pipes() {
    expect_all_to_pass(2);
}

/// Both ends look again and again, and no bell wakes them: only publish and AckRecv order what they do to a chunk.
#[test]
fn threads_pass_payload_ordered_by_publish_and_ack_recv_alone() {
    let world = World::new(&geometry(0));
    let lane = world.issue(world.owner(0)).lane(Direction::Forth);
    let shared = world.segment.shared();
    let value = |number: u64| number.to_le_bytes()[0];
    let send = || {
        let mut end = shared.take_sender(lane, world.owner(1), false).unwrap();
        until(|| shared.begin(&end, &[]).unwrap());
        for number in 0..PIECES {
            let mut reserved = until(|| end.attach(shared).unwrap().reserve().unwrap());
            let bytes = world.segment.bytes_mut(&mut reserved);
            bytes.fill(value(number));
            let whole = 0..bytes.len();
            let _ = end.attach(shared).unwrap().publish(reserved, whole);
        }
        let sender = end.attach(shared).unwrap();
        sender.set_finish(Finish::Whole(sender.published_bytes()));
        until(|| (end.attach(shared).unwrap().settled() == Settled::Acked).then_some(()));
        shared.leave_sender(end, None).unwrap();
    };
    let receive = || {
        let mut end = shared.take_receiver(lane, world.owner(2), false).unwrap();
        until(|| shared.look(&end).unwrap().begun.then_some(()));
        for number in 0..PIECES {
            until(|| {
                let mut receiver = end.attach(shared).unwrap();
                let piece = receiver.next_published().unwrap()?;
                let bytes = world.segment.bytes(&piece);
                assert!(bytes.iter().all(|byte| *byte == value(number)), "piece {number}");
                let _ = piece.ack_recv();
                Some(())
            });
        }
        end.attach(shared).unwrap().settle(Settled::Acked);
        shared.leave_receiver(end).unwrap();
    };
    thread::scope(|scope| {
        let (sender, receiver) = (scope.spawn(send), scope.spawn(receive));
        sender.join().unwrap();
        receiver.join().unwrap();
    });
}

/// Looks until there is something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        thread::yield_now();
    }
}
