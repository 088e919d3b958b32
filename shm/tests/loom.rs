//! Models of the steps that race: the very code that ships, under every order of events that loom's
//! memory model and a bound on preemptions allow.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p shm --release --test loom`, with a target directory
//! of its own. A wake-up that gets lost shows as a deadlock, a chunk that is written while somebody
//! reads it as a race on the cell that stands for its bytes.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shm::{
    Census, Doorbell, End, Filling, Finish, Life, Owner, Parts, Pool, ReceiverEnd, SenderEnd,
    SessionRef, Shared, Slot, TakeError, WorkerId,
};

const KEY: [u8; 32] = [1; 32];
const TOKEN: [u8; 32] = [2; 32];

/// Runs `model` under every schedule, or under those with at most so many preemptions: as many as
/// take a few seconds, where all would take hours.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(model);
}

/// What stands for an eventfd: it remembers that it was written.
struct Waker {
    written: Mutex<bool>,
    readable: Condvar,
}

impl Waker {
    fn new() -> Self {
        Self { written: Mutex::new(false), readable: Condvar::new() }
    }

    fn write(&self) {
        *self.written.lock().unwrap() = true;
        self.readable.notify_one();
    }

    fn poll(&self) {
        let mut written = self.written.lock().unwrap();
        while !*written {
            written = self.readable.wait(written).unwrap();
        }
        *written = false;
    }
}

/// The words of a segment on the heap, and a cell for each chunk's bytes.
struct World {
    slots: Vec<Slot>,
    tags: Vec<AtomicU64>,
    bytes: Vec<UnsafeCell<u64>>,
    lane_chunks: usize,
}

impl World {
    fn new(slots: usize, chunks: usize, lane_chunks: usize) -> Arc<Self> {
        let world = Self {
            slots: (0..slots).map(|_| Slot::new()).collect(),
            tags: (0..chunks).map(|_| AtomicU64::new(0)).collect(),
            bytes: (0..chunks).map(|_| UnsafeCell::new(0)).collect(),
            lane_chunks,
        };
        world.shared().pool().clear();
        Arc::new(world)
    }

    /// One process's view, with private hints of its own.
    fn shared(&self) -> Shared<'_> {
        Shared::new(Parts {
            slots: &self.slots,
            pool: Pool::new(&self.tags),
            records: &[],
            bells: Vec::new(),
            lane_chunks: self.lane_chunks,
            chunk_bytes: 4096,
        })
    }

    fn issue(&self, worker: usize) -> SessionRef {
        self.shared().issue(owner(worker), &KEY, &TOKEN, 0, 1).unwrap()
    }

    /// A session with both places held, by workers 1 and 2, and begun.
    fn begun(&self) -> (SenderEnd, ReceiverEnd) {
        let session = self.issue(0);
        let (sender, receiver) = self.paired(session);
        assert_eq!(self.shared().begin(&sender, b""), Ok(Some(owner(2))));
        (sender, receiver)
    }

    fn paired(&self, session: SessionRef) -> (SenderEnd, ReceiverEnd) {
        let shared = self.shared();
        let sender = shared.take_sender(session, owner(1), false).unwrap();
        (sender, shared.take_receiver(session, owner(2), false).unwrap())
    }

    /// Writes a chunk's bytes: a race if anybody else touches them.
    fn write(&self, filling: &Filling, value: u64) {
        // SAFETY: loom checks that nobody else uses the cell meanwhile.
        #[allow(unsafe_code)]
        self.bytes[filling.chunk_index()].with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, chunk: usize) -> u64 {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        self.bytes[chunk].with(|cell| unsafe { *cell })
    }

    fn assert_left(&self, sessions_live: usize) {
        let census = Census { sessions_live, ..Census::default() };
        assert_eq!(self.shared().census(), census);
    }

    /// A transfer of one chunk in `session`, from nothing to nothing.
    fn assert_usable(&self, session: SessionRef) {
        let shared = self.shared();
        let (mut sender, mut receiver) = self.paired(session);
        assert_eq!(shared.begin(&sender, b""), Ok(Some(owner(2))));
        publish(self, &shared, &mut sender, 77);
        let piece = receiver.next(&shared).unwrap().unwrap();
        assert_eq!(self.read(piece.chunk_index()), 77);
        receiver.ack_recv(&shared).unwrap();
        shared.leave_receiver(receiver).unwrap();
        shared.leave_sender(sender, None).unwrap();
    }
}

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn publish(world: &World, shared: &Shared<'_>, sender: &mut SenderEnd, value: u64) -> bool {
    let filling = sender.reserve(shared).unwrap().unwrap();
    world.write(&filling, value);
    sender.publish(shared, filling, 0..8).unwrap()
}

/// Sends the numbers `0..count`, sleeping whenever there is no room.
fn send(world: &World, sender: &mut SenderEnd, count: u64, own: &Waker, peer: &Waker) {
    let shared = world.shared();
    for value in 0..count {
        let filling = loop {
            if let Some(filling) = sender.reserve(&shared).unwrap() {
                break filling;
            }
            if sender.wait_for_room(&shared).unwrap() {
                own.poll();
            }
        };
        world.write(&filling, value);
        if sender.publish(&shared, filling, 0..8).unwrap() {
            peer.write();
        }
    }
}

/// Receives the numbers `0..count`, sleeping whenever there is nothing.
fn receive(world: &World, receiver: &mut ReceiverEnd, count: u64, own: &Waker, peer: &Waker) {
    let shared = world.shared();
    let mut expected = 0;
    while expected < count {
        let Some(piece) = receiver.next(&shared).unwrap() else {
            if receiver.wait_for_chunk(&shared).unwrap() {
                own.poll();
            }
            continue;
        };
        assert_eq!(world.read(piece.chunk_index()), expected);
        expected += 1;
        if receiver.ack_recv(&shared).unwrap() {
            peer.write();
        }
    }
}

/// Relays the numbers `0..count` through a lane of `lane_chunks`.
fn relay_numbers(lane_chunks: usize, count: u64) {
    // A lane grows to its last chunk while the pool has as many again.
    let world = World::new(1, 2 * lane_chunks, lane_chunks);
    let (mut sender, mut receiver) = world.begun();
    let wakers = Arc::new((Waker::new(), Waker::new()));
    let thread = thread::spawn({
        let (world, wakers) = (world.clone(), wakers.clone());
        move || {
            receive(&world, &mut receiver, count, &wakers.1, &wakers.0);
            receiver
        }
    });
    send(&world, &mut sender, count, &wakers.0, &wakers.1);
    let receiver = thread.join().unwrap();
    let shared = world.shared();
    shared.leave_sender(sender, None).unwrap();
    shared.leave_receiver(receiver).unwrap();
    world.assert_left(1);
}

#[test]
fn one_chunk_is_rewritten_only_after_ack_recv() {
    check(Some(6), || relay_numbers(1, 2));
}

#[test]
fn two_chunks_are_rewritten_only_after_ack_recv() {
    check(Some(4), || relay_numbers(2, 3));
}

#[test]
fn a_finish_reaches_a_receiver_that_waits() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let (mut sender, mut receiver) = world.begun();
        let waker = Arc::new(Waker::new());
        let thread = thread::spawn({
            let (world, waker) = (world.clone(), waker.clone());
            move || {
                let shared = world.shared();
                let mut pieces = 0;
                loop {
                    let finish = receiver.finish(&shared).unwrap();
                    if let Some(piece) = receiver.next(&shared).unwrap() {
                        assert_eq!(world.read(piece.chunk_index()), 5);
                        receiver.ack_recv(&shared).unwrap();
                        pieces += 1;
                    } else if finish != Finish::Open {
                        // Whoever sees the finish first sees all that was published before it.
                        assert_eq!((finish, pieces), (Finish::Whole(8), 1));
                        return;
                    } else if receiver.wait_for_chunk(&shared).unwrap() {
                        waker.poll();
                    }
                }
            }
        });
        let shared = world.shared();
        if publish(&world, &shared, &mut sender, 5) {
            waker.write();
        }
        sender.finish(&shared, Finish::Whole(8)).unwrap();
        waker.write();
        thread.join().unwrap();
    });
}

/// The words of one worker's bell.
struct Bell {
    summary: Vec<AtomicU64>,
    sessions: Vec<AtomicU64>,
    parked: AtomicU32,
    waker: Waker,
}

impl Bell {
    fn new(sessions: usize) -> Arc<Self> {
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            summary: words(1),
            sessions: words(sessions / 64),
            parked: AtomicU32::new(0),
            waker: Waker::new(),
        })
    }

    fn bell(&self) -> Doorbell<'_> {
        Doorbell::new(&self.summary, &self.sessions, &self.parked)
    }

    fn ring(&self, session: u32) {
        if self.bell().ring(session) {
            self.waker.write();
        }
    }

    /// Sleeps until each of `awaited` was rung for.
    fn hear(&self, mut awaited: Vec<u32>) {
        loop {
            self.bell().take(|session| awaited.retain(|other| *other != session));
            if awaited.is_empty() {
                return;
            }
            if self.bell().park() {
                self.waker.poll();
                self.bell().unpark();
            }
        }
    }
}

#[test]
fn a_bell_wakes_its_sleeper() {
    check(None, || {
        let bell = Bell::new(64);
        let thread = thread::spawn({
            let bell = bell.clone();
            move || bell.ring(5)
        });
        bell.hear(vec![5]);
        thread.join().unwrap();
    });
}

#[test]
fn a_bell_rung_by_two_is_heard_twice() {
    check(Some(5), || {
        let bell = Bell::new(128);
        let threads = [3, 70].map(|session| {
            let bell = bell.clone();
            thread::spawn(move || bell.ring(session))
        });
        bell.hear(vec![3, 70]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn of_two_takers_one_has_the_place() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let threads = [1, 2].map(|worker| {
            let world = world.clone();
            thread::spawn(move || world.shared().take_sender(session, owner(worker), false))
        });
        let ends = threads.map(|thread| thread.join().unwrap());
        let taken = ends.iter().filter(|end| matches!(end, Err(TakeError::Taken))).count();
        assert_eq!(taken, 1);
        for end in ends.into_iter().flatten() {
            world.shared().leave_sender(end, None).unwrap();
        }
        world.assert_left(1);
    });
}

#[test]
fn one_of_a_taker_and_an_ender_sees_the_other() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(session, owner(2), false)
        });
        let mut rung = None;
        assert!(world.shared().end(session, End::Deleted, |owner| rung = Some(owner)));
        match thread.join().unwrap() {
            Ok(end) => {
                assert_eq!(rung, Some(owner(2)), "a receiver waits in a session that is over");
                world.shared().leave_receiver(end).unwrap();
            }
            Err(error) => assert_eq!(error, TakeError::Ended),
        }
        world.assert_left(0);
    });
}

/// A sender that begins with whoever comes, and leaves as soon as it sees that the session is over.
#[test]
fn a_taker_too_late_cleans_the_attempt_that_began_with_it() {
    check(Some(6), || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let sender = world.shared().take_sender(session, owner(1), false).unwrap();
        let taker = thread::spawn({
            let world = world.clone();
            move || world.shared().take_receiver(session, owner(2), false)
        });
        let begins = thread::spawn({
            let world = world.clone();
            move || {
                let (shared, mut sender) = (world.shared(), sender);
                let begun = shared.begin(&sender, b"").unwrap().is_some();
                if begun {
                    publish(&world, &shared, &mut sender, 1);
                }
                shared.leave_sender(sender, None).unwrap();
            }
        });
        assert!(world.shared().end(session, End::Deleted, |_| {}));
        begins.join().unwrap();
        if let Ok(receiver) = taker.join().unwrap() {
            world.shared().leave_receiver(receiver).unwrap();
        }
        world.assert_left(0);
    });
}

#[test]
fn of_two_leavers_one_cleans() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let (mut sender, mut receiver) = world.begun();
        let shared = world.shared();
        publish(&world, &shared, &mut sender, 1);
        publish(&world, &shared, &mut sender, 2);
        let thread = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                let piece = receiver.next(&shared).unwrap().unwrap();
                assert_eq!(world.read(piece.chunk_index()), 1);
                receiver.ack_recv(&shared).unwrap();
                shared.leave_receiver(receiver).unwrap()
            }
        });
        let session = sender.session();
        let filling = sender.reserve(&shared).unwrap();
        if let Some(filling) = &filling {
            world.write(filling, 3);
        }
        let peers = [shared.leave_sender(sender, filling).unwrap(), thread.join().unwrap()];
        assert_eq!(peers.iter().flatten().count(), 1, "one leaves the other behind: {peers:?}");
        world.assert_left(1);
        world.assert_usable(session);
    });
}

/// The one chunk there is goes from a lane that is being left to another, with or without AckRecv.
fn hand_on_a_chunk(acks: bool) {
    let world = World::new(2, 1, 1);
    let shared = world.shared();
    let (mut sender, mut receiver) = world.begun();
    publish(&world, &shared, &mut sender, 1);
    let (mut other, other_receiver) = world.begun();
    let reader = thread::spawn({
        let world = world.clone();
        move || {
            let shared = world.shared();
            let piece = receiver.next(&shared).unwrap().unwrap();
            assert_eq!(world.read(piece.chunk_index()), 1);
            if acks {
                receiver.ack_recv(&shared).unwrap();
            }
            shared.leave_receiver(receiver).unwrap();
        }
    });
    let taker = thread::spawn({
        let world = world.clone();
        move || {
            let shared = world.shared();
            let filling = other.reserve(&shared).unwrap();
            if let Some(filling) = &filling {
                world.write(filling, 2);
            }
            shared.leave_sender(other, filling).unwrap();
        }
    });
    shared.leave_sender(sender, None).unwrap();
    reader.join().unwrap();
    taker.join().unwrap();
    shared.leave_receiver(other_receiver).unwrap();
    world.assert_left(2);
}

#[test]
fn of_two_lanes_one_takes_the_last_chunk() {
    check(None, || {
        let world = World::new(2, 1, 1);
        let ends = [world.begun(), world.begun()];
        let threads = ends.map(|(mut sender, receiver)| {
            let world = world.clone();
            let taken = thread::spawn(move || {
                let filling = sender.reserve(&world.shared()).unwrap();
                if let Some(filling) = &filling {
                    world.write(filling, 1);
                }
                (sender, filling)
            });
            (taken, receiver)
        });
        let shared = world.shared();
        let mut taken = 0;
        // Both have tried before either leaves, or the chunk would be free again for the second.
        let ends = threads.map(|(thread, receiver)| (thread.join().unwrap(), receiver));
        for ((sender, filling), receiver) in ends {
            taken += usize::from(filling.is_some());
            shared.leave_receiver(receiver).unwrap();
            shared.leave_sender(sender, filling).unwrap();
        }
        assert_eq!(taken, 1);
        world.assert_left(2);
    });
}

#[test]
fn a_chunk_that_came_back_is_nobodys() {
    check(None, || hand_on_a_chunk(true));
}

#[test]
fn a_chunk_that_was_left_is_nobodys() {
    check(None, || hand_on_a_chunk(false));
}

#[test]
fn a_leaver_and_the_sweep_of_its_dead_sender_leave_nothing() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let shared = world.shared();
        let (mut dead, receiver) = world.begun();
        let session = dead.session();
        publish(&world, &shared, &mut dead, 1);
        let _in_hand = dead.reserve(&shared).unwrap().unwrap();
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_receiver(receiver).unwrap()
        });
        let mut rung = 0;
        shared.sweep(WorkerId::new(1).unwrap(), |slot, peer| {
            assert_eq!((slot, peer), (session.slot, owner(2)));
            rung += 1;
        });
        let left_behind = thread.join().unwrap();
        assert_eq!(rung == 1, left_behind.is_none(), "the first to go sees the other");
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_leaver_and_the_sweep_of_its_dead_receiver_leave_nothing() {
    check(None, || {
        let world = World::new(1, 4, 2);
        let shared = world.shared();
        let (mut sender, mut dead) = world.begun();
        let session = sender.session();
        publish(&world, &shared, &mut sender, 1);
        publish(&world, &shared, &mut sender, 2);
        dead.next(&shared).unwrap().unwrap();
        dead.ack_recv(&shared).unwrap();
        let filling = sender.reserve(&shared).unwrap();
        let thread = thread::spawn({
            let world = world.clone();
            move || world.shared().leave_sender(sender, filling).unwrap()
        });
        shared.sweep(WorkerId::new(2).unwrap(), |_, _| {});
        thread.join().unwrap();
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_sender_that_begins_with_the_dead_learns_of_it() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let session = world.issue(0);
        let (sender, _dead) = world.paired(session);
        let thread = thread::spawn({
            let world = world.clone();
            move || {
                let shared = world.shared();
                (shared.begin(&sender, b"").unwrap(), sender)
            }
        });
        let shared = world.shared();
        let mut rung = 0;
        shared.sweep(WorkerId::new(2).unwrap(), |_, _| rung += 1);
        let (begun, sender) = thread.join().unwrap();
        assert_eq!(rung == 1, begun.is_some(), "a sender in an attempt is rung for");
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(1);
        world.assert_usable(session);
    });
}

#[test]
fn a_slot_issued_again_keeps_its_places_from_a_stale_taker() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let stale = thread::spawn({
            let world = world.clone();
            move || world.shared().take_sender(old, owner(1), false)
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let new = shared.issue(owner(0), &KEY, &TOKEN, 0, 1);
        match stale.join().unwrap() {
            Ok(end) => {
                assert_eq!(new, None, "a slot with a held place is not free");
                shared.leave_sender(end, None).unwrap();
            }
            Err(error) => assert_eq!(error, TakeError::Ended),
        }
        world.assert_left(usize::from(new.is_some()));
        if let Some(new) = new {
            world.assert_usable(new);
        }
    });
}

/// Two leave a session that is over, both may free its slot, and a third waits to claim it.
#[test]
fn a_slot_freed_by_two_is_freed_once() {
    check(None, || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let (sender, receiver) = world.paired(old);
        assert!(world.shared().end(old, End::Deleted, |_| {}));
        let leavers = [
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_sender(sender, None).unwrap()
            }),
            thread::spawn({
                let world = world.clone();
                move || world.shared().leave_receiver(receiver).unwrap()
            }),
        ];
        let new = loop {
            if let Some(new) = world.shared().issue(owner(0), &KEY, &TOKEN, 0, 1) {
                break new;
            }
            thread::yield_now();
        };
        for leaver in leavers {
            leaver.join().unwrap();
        }
        world.assert_left(1);
        assert_eq!(new.generation, old.generation + 1);
        assert_eq!(world.shared().life(new), Ok(Some(Life::Live)));
        world.assert_usable(new);
    });
}

/// A sweep looks at a slot while a session goes through it.
#[test]
fn a_slot_is_not_freed_under_the_one_that_holds_a_place() {
    check(Some(5), || {
        let world = World::new(1, 1, 1);
        let sweeper = thread::spawn({
            let world = world.clone();
            move || world.shared().sweep(WorkerId::new(9).unwrap(), |_, _| {})
        });
        let shared = world.shared();
        let session = world.issue(0);
        let sender = shared.take_sender(session, owner(1), false).unwrap();
        assert!(shared.end(session, End::Deleted, |_| {}));
        sweeper.join().unwrap();
        assert_eq!(shared.life(session), Ok(Some(Life::Ended(End::Deleted))));
        shared.leave_sender(sender, None).unwrap();
        world.assert_left(0);
    });
}

#[test]
fn a_look_up_never_mixes_two_sessions() {
    check(Some(5), || {
        let world = World::new(1, 1, 1);
        let old = world.issue(0);
        let finder = thread::spawn({
            let world = world.clone();
            move || world.shared().find(0)
        });
        let shared = world.shared();
        assert!(shared.end(old, End::Deleted, |_| {}));
        let new = shared.issue(owner(0), &[3; 32], &[4; 32], 0, 9).unwrap();
        if let Some(found) = finder.join().unwrap() {
            let expected = if found.session == old {
                (old, KEY, TOKEN, 1)
            } else {
                (new, [3; 32], [4; 32], 9)
            };
            assert_eq!((found.session, found.key, found.token, found.expires_ms), expected);
        }
    });
}
