//! Models of the steps that race: the very code that ships, under every order of events that loom's
//! memory model and a bound on preemptions allow.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p shm --release --test loom`, with a target directory of its own. A
//! lost wake-up shows as a deadlock. A chunk that is written while another process reads it shows as a race on the
//! cell that stands for its bytes.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

mod bell;
mod directory;
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
    AddressTag, Buffer, Census, Direction, Doorbell, End, Finish, LaneEnd, LaneRef, Life, Owner,
    Parts, Pool, PoolWords, ReceiverEnd, Reserved, Role, SenderEnd, SessionRef, Shared, Slot,
    TakeError, Terms, WorkerId,
};

const TERMS: Terms = Terms { key: [1; 32], token: [2; 32], kind: 3, lifetime_ms: 4, account: None };

/// Runs `model` under every schedule, or under the schedules with at most so many preemptions: as many as take a few
/// seconds, where all schedules would take hours.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Stands for an eventfd: it remembers that it was written.
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
    requests: AtomicU64,
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
            requests: AtomicU64::new(0),
            bytes: (0..chunks + pipes).map(|_| UnsafeCell::new(0)).collect(),
            lane_chunks,
        };
        world.shared().pool().clear();
        Arc::new(world)
    }

    /// The view of one process, with private hints of its own.
    fn shared(&self) -> Shared<'_> {
        Shared::new(Parts {
            slots: &self.slots,
            pool: Pool::new(PoolWords {
                chunks: &self.tags,
                pipes: &self.pipes,
                accounts: &self.accounts,
                requests: &self.requests,
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

    /// Writes a chunk's bytes: loom reports a race if another thread touches them.
    fn write(&self, reserved: &Reserved, value: u64) {
        // SAFETY: loom checks that no other thread uses the cell meanwhile.
        #[allow(unsafe_code)]
        self.cell(reserved.buffer()).with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, buffer: Buffer) -> u64 {
        // SAFETY: loom checks that no other thread writes the cell meanwhile.
        #[allow(unsafe_code)]
        self.cell(buffer).with(|cell| unsafe { *cell })
    }

    /// Takes the bytes of a pipe.
    fn pour(&self, buffer: Buffer) -> u64 {
        // SAFETY: loom checks that no other thread uses the cell meanwhile.
        #[allow(unsafe_code)]
        self.cell(buffer).with_mut(|cell| unsafe { std::mem::take(&mut *cell) })
    }

    fn cell(&self, buffer: Buffer) -> &UnsafeCell<u64> {
        match buffer {
            Buffer::Chunk(index) => &self.bytes[index],
            Buffer::Pipe(index) => &self.bytes[self.tags.len() + index],
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
        let mut attached = receiver.attach(&shared).unwrap();
        let piece = attached.next_published().unwrap().unwrap();
        assert_eq!(self.read(piece.buffer()), 77);
        piece.ack_recv();
        shared.leave_receiver(receiver).unwrap();
        shared.leave_sender(sender, None).unwrap();
    }
}

fn owner(worker: usize) -> Owner {
    Owner::new(WorkerId::new(worker).unwrap(), 0)
}

fn publish(world: &World, shared: &Shared<'_>, sender: &mut SenderEnd, value: u64) -> bool {
    let reserved = sender.attach(shared).unwrap().reserve().unwrap().unwrap();
    world.write(&reserved, value);
    sender.attach(shared).unwrap().publish(reserved, 0..8)
}
