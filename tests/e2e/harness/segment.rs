//! The observer of the shared segment: reads what the processes under test count, through the `shm` crate itself and
//! a descriptor found in `/proc`. This file alone knows that crate's names.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

pub(crate) use shm::Counters;
use shm::{Census, Direction, Geometry, Owner, Terms, WorkerId};

use super::patience::eventually;
use super::proc::Pid;

/// How the segment's file shows in `/proc/PID/fd` and `/proc/PID/maps`.
pub(crate) const MEMFD_NAME: &str = "memfd:idontstore";

#[derive(Debug)]
pub(crate) struct Segment {
    mapped: shm::Segment,
    workers: usize,
    master: Pid,
}

/// The master's memfd, opened anew.
fn open(master: Pid) -> File {
    let fds = master.fds();
    let (number, _) = fds.iter().find(|(_, link)| link.contains(MEMFD_NAME)).expect("a segment");
    let path = format!("/proc/{}/fd/{number}", master.0);
    File::options().read(true).write(true).open(path).expect("opening the segment")
}

impl Segment {
    /// The segment as a file: its bytes, for tests that look for some or change some.
    pub(crate) fn file(&self) -> File {
        open(self.master)
    }

    pub(crate) fn of(master: Pid, workers: usize) -> Self {
        let file = open(master);
        let mapped = shm::Segment::attach(OwnedFd::from(file)).expect("attaching to the segment");
        Self { mapped, workers, master }
    }

    pub(crate) fn counters(&self, worker: usize) -> Counters {
        let id = shm::WorkerId::new(worker).expect("a worker's number");
        self.mapped.shared().record(id).expect("a worker's record").counters()
    }

    pub(crate) fn all(&self) -> Vec<Counters> {
        (0..self.workers).map(|i| self.counters(i)).collect()
    }

    pub(crate) fn sum(&self) -> Counters {
        let all = (0..shm::WORKER_RECORDS_MAX).map(|worker| self.counters(worker));
        all.fold(Counters::default(), |a, b| Counters {
            accepted: a.accepted + b.accepted,
            open: a.open + b.open,
            bytes_in: a.bytes_in + b.bytes_in,
            bytes_out: a.bytes_out + b.bytes_out,
            bytes_skipped: a.bytes_skipped + b.bytes_skipped,
        })
    }

    /// The number of the key that tickets are sealed under.
    pub(crate) fn ticket_key(&self) -> u64 {
        self.mapped.ticket_keys().current()
    }

    /// Puts another key in place, as the master does every six hours.
    pub(crate) fn put_ticket_key(&self, byte: u8) {
        self.mapped.ticket_keys().put(&[byte; shm::TICKET_KEY_BYTES], 0);
    }

    fn census(&self) -> Census {
        self.mapped.shared().census()
    }

    /// Returns which worker has the place of `role` in a transfer that is running.
    pub(crate) fn worker_of(&self, role: shm::Role) -> Option<usize> {
        let slots = self.mapped.shared().slots().flat_map(|slot| slot.lanes).flatten();
        let mut running = slots.filter(|lane| lane.word.begun);
        running.next().map(|lane| lane.word.place(role).owner.worker.index())
    }

    /// Chunks that lanes hold.
    pub(crate) fn chunks_held(&self) -> u64 {
        self.census().chunks_held as u64
    }

    /// Pipes that lanes hold, and pipes that have to be emptied before they serve again.
    pub(crate) fn pipes(&self) -> (usize, usize) {
        let pool = self.mapped.shared().pool();
        (pool.pipes_held(), pool.pipes_dirty())
    }

    /// Places that are not free.
    pub(crate) fn places_held(&self) -> u64 {
        self.census().places_held as u64
    }

    /// Waits until exactly so many places are held.
    #[track_caller]
    pub(crate) fn wait_until_held(&self, places: u64) {
        eventually(&format!("{places} places are held"), || {
            (self.places_held() == places).then_some(())
        });
    }

    /// Payload bytes that are acknowledged in the transfers that run, as far as it was stored.
    pub(crate) fn delivered_bytes(&self) -> u64 {
        let slots = self.mapped.shared().slots();
        slots.flat_map(|slot| slot.lanes).flatten().map(|lane| lane.delivered_bytes).sum()
    }

    /// Receivers whose sockets have taken some payload in transfers that run.
    pub(crate) fn receiving(&self) -> usize {
        let lanes = self.mapped.shared().slots().flat_map(|slot| slot.lanes).flatten();
        lanes.filter(|lane| lane.taken_bytes > 0).count()
    }

    /// Sessions that live.
    pub(crate) fn sessions_live(&self) -> u64 {
        self.census().sessions_live as u64
    }

    /// Chunks in all.
    pub(crate) fn chunks(&self) -> u64 {
        self.mapped.shared().pool().len() as u64
    }

    /// A lane's capacity, chunks.
    pub(crate) fn lane_chunks(&self) -> u64 {
        self.mapped.geometry().lane_chunks as u64
    }

    /// Size of one chunk, bytes.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.mapped.geometry().chunk_bytes as u64
    }

    /// The words of the first lane of the first session that was issued. A segment of the same shape shows where they
    /// are: writes change them there.
    pub(crate) fn lane_words(&self) -> LaneWords {
        let shape = Geometry { chunks: 1, ..self.mapped.geometry() };
        let scratch = shm::Segment::create(&shape).unwrap();
        let (shared, file) =
            (scratch.shared(), File::from(scratch.fd().try_clone_to_owned().unwrap()));
        let snapshot = || {
            let mut bytes = vec![0; scratch.len() - shape.chunk_bytes];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let changed_since = |before: Vec<u8>| {
            let after = snapshot();
            let mut words = before.chunks(8).zip(after.chunks(8));
            8 * words.position(|(old, new)| old != new).expect("a word that changes") as u64
        };
        let owner = Owner::new(WorkerId::new(0).unwrap(), 0);
        let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1, account: None };
        let at = shared.issue(owner, &terms, 0).unwrap().lane(Direction::Forth);
        let mut receiver = shared.take_receiver(at, owner, false).unwrap();
        let mut sender = shared.take_sender(at, owner, false).unwrap();
        let mut sender = sender.attach(shared).unwrap();
        let reserved = sender.reserve().unwrap().unwrap();
        let _ = sender.publish(reserved, 0..1);
        let before = snapshot();
        sender.set_finish(shm::Finish::Aborted);
        let finish = changed_since(before);
        let mut receiver = receiver.attach(shared).unwrap();
        let before = snapshot();
        receiver.take_pipes();
        let takes_pipes = changed_since(before);
        let piece = receiver.next_published().unwrap().expect("what was published");
        let before = snapshot();
        let _ = piece.ack_recv();
        LaneWords { takes_pipes, released: changed_since(before), finish }
    }

    /// Adds to a word of the segment, as a process does that heeds no protocol.
    pub(crate) fn forge(&self, word: u64, added: u64) {
        let (file, mut bytes) = (self.file(), [0; 8]);
        file.read_exact_at(&mut bytes, word).unwrap();
        let forged = u64::from_ne_bytes(bytes) + added;
        file.write_all_at(&forged.to_ne_bytes(), word).unwrap();
    }
}

/// Words of a lane, by where they are in the segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneWords {
    /// 1: the receiver says that it takes pipes.
    pub(crate) takes_pipes: u64,
    /// Chunks that the receiver has released by AckRecv.
    pub(crate) released: u64,
    /// How the sender's bytes ended.
    pub(crate) finish: u64,
}
