//! Models of the steps that race: the very code that ships, under every order of events that loom's
//! memory model and a bound on preemptions allow.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p shm --release --test loom`, with a target directory
//! of its own. A wake-up that gets lost shows as a deadlock, a chunk that is written while somebody
//! reads it as a race on the cell that stands for its bytes.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod bell;
mod lanes;
mod permits;
mod pipes;
mod places;
mod rewind;
mod ring;
mod ticket_keys;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shm::{
    Census, Direction, Doorbell, End, Filling, Finish, LaneEnd, LaneRef, Life, Owner, Parts, Pool,
    PoolWords, ReceiverEnd, Role, SenderEnd, SessionRef, Shared, Slot, TakeError, Terms, Vessel,
    WorkerId,
};

const TERMS: Terms = Terms { key: [1; 32], token: [2; 32], kind: 3, lifetime_ms: 4, account: None };

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

/// The words of a segment on the heap, and a cell for the bytes in each chunk and pipe: in a pipe, 0 is nothing.
struct World {
    slots: Vec<Slot>,
    tags: Vec<AtomicU64>,
    pipes: Vec<AtomicU64>,
    accounts: Vec<std::sync::atomic::AtomicU64>,
    wishes: AtomicU64,
    bytes: Vec<UnsafeCell<u64>>,
    lane_chunks: usize,
}

impl World {
    fn new(slots: usize, chunks: usize, lane_chunks: usize) -> Arc<Self> {
        Self::with_pipes(slots, chunks, lane_chunks, 0)
    }

    fn with_pipes(slots: usize, chunks: usize, lane_chunks: usize, pipes: usize) -> Arc<Self> {
        let world = Self {
            slots: (0..slots).map(|_| Slot::new()).collect(),
            tags: (0..chunks).map(|_| AtomicU64::new(0)).collect(),
            pipes: (0..pipes).map(|_| AtomicU64::new(0)).collect(),
            accounts: (0..chunks + pipes).map(|_| Default::default()).collect(),
            wishes: AtomicU64::new(0),
            bytes: (0..chunks + pipes).map(|_| UnsafeCell::new(0)).collect(),
            lane_chunks,
        };
        world.shared().pool().clear();
        Arc::new(world)
    }

    /// One process's view, with private hints of its own.
    fn shared(&self) -> Shared<'_> {
        Shared::new(Parts {
            slots: &self.slots,
            pool: Pool::new(PoolWords {
                chunks: &self.tags,
                pipes: &self.pipes,
                accounts: &self.accounts,
                wishes: &self.wishes,
                board: &[],
            }),
            records: &[],
            bells: Vec::new(),
            lane_chunks: self.lane_chunks,
            chunk_bytes: 4096,
        })
    }

    fn issue(&self, worker: usize) -> SessionRef {
        self.shared().issue(owner(worker), &TERMS, 0).unwrap()
    }

    /// A session with both places held, by workers 1 and 2, and begun.
    fn begun(&self) -> (SenderEnd, ReceiverEnd) {
        let session = self.issue(0);
        let (sender, receiver) = self.paired(session.lane(Direction::Forth));
        assert_eq!(self.shared().begin(&sender, b""), Ok(Some(owner(2))));
        (sender, receiver)
    }

    fn paired(&self, at: LaneRef) -> (SenderEnd, ReceiverEnd) {
        let shared = self.shared();
        let sender = shared.take_sender(at, owner(1), false).unwrap();
        (sender, shared.take_receiver(at, owner(2), false).unwrap())
    }

    /// Writes a chunk's bytes: a race if anybody else touches them.
    fn write(&self, filling: &Filling, value: u64) {
        // SAFETY: loom checks that nobody else uses the cell meanwhile.
        #[allow(unsafe_code)]
        self.cell(filling.vessel()).with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, vessel: Vessel) -> u64 {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        self.cell(vessel).with(|cell| unsafe { *cell })
    }

    /// Takes what is in a pipe.
    fn pour(&self, vessel: Vessel) -> u64 {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        self.cell(vessel).with_mut(|cell| unsafe { std::mem::take(&mut *cell) })
    }

    fn cell(&self, vessel: Vessel) -> &UnsafeCell<u64> {
        match vessel {
            Vessel::Chunk(index) => &self.bytes[index],
            Vessel::Pipe(index) => &self.bytes[self.tags.len() + index],
        }
    }

    fn assert_left(&self, sessions_live: usize) {
        let census = Census { sessions_live, ..Census::default() };
        assert_eq!(self.shared().census(), census);
    }

    /// A transfer of one chunk in either lane of `session`, from nothing to nothing.
    fn assert_usable(&self, session: SessionRef) {
        Direction::ALL
            .into_iter()
            .for_each(|direction| self.assert_lane_usable(session.lane(direction)));
    }

    fn assert_lane_usable(&self, at: LaneRef) {
        let shared = self.shared();
        let (mut sender, mut receiver) = self.paired(at);
        assert_eq!(shared.begin(&sender, b""), Ok(Some(owner(2))));
        publish(self, &shared, &mut sender, 77);
        let piece = receiver.next(&shared).unwrap().unwrap();
        assert_eq!(self.read(piece.vessel()), 77);
        piece.ack_recv(&shared).unwrap();
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
