//! Honest ends over a mapping that another process scribbles on. No end panics or leaves the mapping, every step
//! comes to an end, and no lane's bytes show in another lane, be it of another session or of the same one.
//!
//! A run is one episode after another, each on a new segment. `SHM_TEST_SEED` repeats a run.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "support/party.rs"]
mod party;
#[path = "support/process.rs"]
mod process;
#[path = "support/random.rs"]
mod random;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use party::{Party, Tally};
use process::{Exit, fork};
use proptest::prelude::*;
use random::{Random, seed};
use shm::{
    Buffer, Direction, End, Geometry, LaneRef, Name, Named, Owner, Segment, SenderEnd, Terms,
    WorkerId,
};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

const GEOMETRY: Geometry = Geometry {
    sessions: 4,
    connections: 9,
    chunks: 12,
    chunk_bytes: 4096,
    lane_chunks: 4,
    pipes: 3,
};
const STEPS: usize = 600;

/// A second mapping of a segment, of somebody who heeds no protocol.
struct Scribbler {
    map: MmapRaw,
    words: usize,
    payload_at: usize,
    /// Words in use, when last looked for.
    used: RefCell<Vec<usize>>,
}

impl Scribbler {
    fn new(segment: &Segment) -> Self {
        let map = MmapOptions::new().len(segment.len()).map_raw(&segment.fd()).unwrap();
        let geometry = segment.geometry();
        let payload = geometry.chunks as usize * geometry.chunk_bytes;
        let payload_at = (segment.len() - payload) / 8;
        Self { map, words: segment.len() / 8, payload_at, used: RefCell::default() }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words);
        // SAFETY: inside the mapping, which is page-aligned, lives as long as `self` and is only ever
        // accessed as atomics through this mapping.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// A word beside the payload; rather one in use, for most are not.
    fn any(&self, random: &mut Random) -> usize {
        if random.below(4) == 0 {
            return random.below(self.payload_at);
        }
        let mut used = self.used.borrow_mut();
        // Now and then: it is a long look.
        if used.is_empty() || random.below(16) == 0 {
            *used = (0..self.payload_at).filter(|index| self.get(*index) != 0).collect();
        }
        used[random.below(used.len())]
    }

    /// Writes a word at random, or a word that names a range of a chunk, or a pipe, as descriptors do.
    fn noise(&self, random: &mut Random) {
        let buffers = GEOMETRY.chunks + GEOMETRY.pipes;
        let chunk = random.below(buffers as usize) as u64;
        let descriptor = (chunk << 42) | (8 * random.below(512) as u64);
        let word = if random.below(2) == 0 { descriptor } else { random.next() };
        self.set(self.any(random), word);
    }

    /// Writes a small number, as cursors are, or what `noise` writes.
    fn guess(&self, random: &mut Random) {
        match random.below(2) {
            0 => self.set(self.any(random), random.next() % 32),
            _ => self.noise(random),
        }
    }

    /// Writes a word that may mean something.
    fn malice(&self, random: &mut Random) {
        let at = self.any(random);
        let old = self.get(at);
        let new = match random.below(7) {
            0 => random.next(),
            1 => 0,
            2 => random.next() % 32,
            3 => old ^ 1 << random.below(64),
            4 => old.wrapping_add(1),
            5 => old.wrapping_sub(1),
            _ => self.get(self.any(random)),
        };
        self.set(at, new);
    }

    /// Writes anything anywhere, payload and whole stretches among it.
    fn havoc(&self, random: &mut Random) {
        match random.below(8) {
            0 => self.set(random.below(self.words), random.next()),
            1 => {
                let words = 1 + random.below(300);
                let from = random.below(self.payload_at - words);
                let to = random.below(self.payload_at - words);
                (0..words).for_each(|i| self.set(to + i, self.get(from + i)));
            }
            _ => self.malice(random),
        }
    }
}

/// Steps honest ends on one new segment after another, and `scribble`s now and then.
fn run(episodes: u64, foreign_matters: bool, scribble: impl Fn(&Scribbler, &mut Random)) -> Tally {
    let seed = seed();
    let mut tally = Tally::default();
    for episode in seed..seed + episodes {
        let mut random = Random::new(episode);
        let segment = Segment::create(&GEOMETRY).unwrap();
        let scribbler = Scribbler::new(&segment);
        let mut party = Party::new(&segment, foreign_matters);
        let steps = AssertUnwindSafe(|| {
            for step in 0..STEPS {
                party.step(&mut random);
                // Let them get under way first.
                if step > 60 && random.below(6) == 0 {
                    scribble(&scribbler, &mut random);
                }
            }
        });
        if let Err(panic) = catch_unwind(steps) {
            println!("it was with SHM_TEST_SEED={episode}");
            resume_unwind(panic);
        }
        tally += party.tally;
    }
    println!("{tally:?}");
    tally
}

#[test]
fn without_a_scribbler_nothing_is_refused() {
    let tally = run(60, true, |_, _| {});
    assert!(tally.pieces > 1000, "{tally:?}");
    assert_eq!(tally.refusals, 0);
}

#[test]
fn noise_makes_no_bytes_of_another_session_appear() {
    let tally = run(300, true, Scribbler::noise);
    assert!(tally.pieces > 1000 && tally.refusals > 300, "{tally:?}");
}

#[test]
fn guessed_cursors_make_no_bytes_of_another_session_appear() {
    let tally = run(300, true, Scribbler::guess);
    assert!(tally.pieces > 1000 && tally.refusals > 300, "{tally:?}");
}

#[test]
fn malice_beside_the_payload_neither_crashes_nor_hangs() {
    let tally = run(300, false, Scribbler::malice);
    assert!(tally.pieces > 1000 && tally.refusals > 300, "{tally:?}");
}

#[test]
fn havoc_everywhere_neither_crashes_nor_hangs() {
    let tally = run(300, false, Scribbler::havoc);
    assert!(tally.pieces > 1000 && tally.refusals > 300, "{tally:?}");
}

#[test]
fn a_process_that_scribbles_all_the_time_shows_nobody_another_sessions_bytes() {
    let seed = seed();
    let mut tally = Tally::default();
    for episode in seed..seed + 40 {
        let segment = Segment::create(&GEOMETRY).unwrap();
        let scribbler = Scribbler::new(&segment);
        let mut party = Party::new(&segment, true);
        let mut random = Random::new(episode);
        (0..100).for_each(|_| party.step(&mut random));
        let child = fork(|| {
            let mut random = Random::new(!episode);
            for _ in 0..200 {
                scribbler.noise(&mut random);
                // Now and then only, or nothing would be left to be read after a moment.
                (0..random.below(2_000)).for_each(|_| std::hint::spin_loop());
            }
            0
        });
        while !child.is_over() {
            party.step(&mut random);
        }
        assert_eq!(child.wait(), Exit::Code(0));
        tally += party.tally;
    }
    println!("{tally:?}");
    assert!(tally.pieces > 1000 && tally.refusals > 50, "{tally:?}");
}

#[test]
fn malice_in_the_directory_neither_crashes_nor_hangs() {
    let (mut issued, mut found) = (0, 0);
    let seed = seed();
    for episode in seed..seed + 300 {
        let mut random = Random::new(episode);
        let segment = Segment::create(&GEOMETRY).unwrap();
        let (scribbler, shared) = (Scribbler::new(&segment), segment.shared());
        let owner = |worker| Owner::new(WorkerId::new(worker).unwrap(), 0);
        let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 9, account: None };
        for now_ms in 0..STEPS as u64 {
            let name = Name::of([1, 1 + random.below(6) as u64]);
            let named = Named { name, terms: &terms, first_ms: 5 };
            let worker = owner(random.below(3));
            match random.below(5) {
                // The worker dies with a tentative word.
                0 => drop(segment.directory().enter(shared, worker, &named, now_ms)),
                1 => shared.sweep(worker.worker, |_, _| {}),
                2 => {
                    if let Some(it) = segment.directory().find(shared, name) {
                        found += 1;
                        shared.end(it.session, End::Deleted, |_| {});
                    }
                }
                _ => {
                    let it = segment.directory().issue(shared, worker, &named, now_ms);
                    issued += usize::from(it.is_ok());
                }
            }
            if random.below(3) == 0 {
                scribbler.malice(&mut random);
            }
        }
    }
    assert!(issued > 1000 && found > 100, "{issued} issued, {found} found");
}

#[test]
fn a_forged_ack_recv_shows_no_bytes_of_another_session() {
    forge_ack_recv(false, false);
    forge_ack_recv(true, false);
}

#[test]
fn a_forged_ack_recv_shows_no_bytes_of_the_other_lane() {
    forge_ack_recv(false, true);
    forge_ack_recv(true, true);
}

/// The sender is led to believe that AckRecv was set; its chunk, or its pipe, serves another lane and comes back to
/// it before the receiver looks.
fn forge_ack_recv(by_pipe: bool, in_the_same_session: bool) {
    let geometry = Geometry { chunks: 1, pipes: u32::from(by_pipe), ..GEOMETRY };
    let segment = Segment::create(&geometry).unwrap();
    let shared = segment.shared();
    let owner = Owner::new(WorkerId::new(1).unwrap(), 0);
    let mark = |at: LaneRef| u8::try_from(2 * at.session.slot).unwrap() + at.direction as u8 + 1;
    let reserve = |sender: &mut SenderEnd| match by_pipe {
        true => sender.attach(shared).unwrap().reserve_pipe().unwrap().unwrap(),
        false => sender.attach(shared).unwrap().reserve().unwrap().unwrap(),
    };
    let in_pipe = RefCell::new(Vec::new());
    let enter = |at: LaneRef| {
        let mut sender = shared.take_sender(at, owner, false).unwrap();
        let receiver = shared.take_receiver(at, owner, false).unwrap();
        shared.begin(&sender, b"").unwrap().unwrap();
        let mut reserved = reserve(&mut sender);
        match reserved.buffer() {
            Buffer::Chunk(_) => segment.bytes_mut(&mut reserved).fill(mark(at)),
            // The test drops the bytes that were left in the pipe before.
            Buffer::Pipe(_) => drop(in_pipe.replace(vec![mark(at); 4096])),
        }
        let _ = sender.attach(shared).unwrap().publish(reserved, 0..4096);
        (sender, receiver)
    };
    let empty_pipes = || {
        while let Some(index) = shared.pool().take_dirty(owner.worker) {
            shared.pool().give_back_emptied(index, owner.worker).unwrap();
        }
    };
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 99, account: None };
    let issue = || shared.issue(owner, &terms, 0).unwrap();
    let ours = issue().lane(Direction::Forth);
    let other = if in_the_same_session { ours.session } else { issue() };
    let other = other.lane(if in_the_same_session { Direction::Back } else { Direction::Forth });

    // Finds the word of AckRecv: it changes when AckRecv is set.
    let scribbler = Scribbler::new(&segment);
    let snapshot = || (0..segment.len() / 8 - 512).map(|i| scribbler.get(i)).collect::<Vec<_>>();
    let (sender, mut receiver) = enter(ours);
    let mut attached = receiver.attach(shared).unwrap();
    let piece = attached.next_published().unwrap().unwrap();
    let before = snapshot();
    let _ = piece.ack_recv();
    let changed = before.iter().zip(snapshot()).position(|(old, new)| *old != new).unwrap();
    shared.leave_sender(sender, None).unwrap();
    shared.leave_receiver(receiver).unwrap();
    empty_pipes();

    let (mut sender, mut receiver) = enter(ours);
    scribbler.set(changed, 1);
    sender.attach(shared).unwrap().shed().unwrap();
    let (theirs, their_receiver) = enter(other);
    shared.leave_sender(theirs, None).unwrap();
    shared.leave_receiver(their_receiver).unwrap();
    empty_pipes();
    let unfilled = reserve(&mut sender);
    assert_eq!(matches!(unfilled.buffer(), Buffer::Pipe(_)), by_pipe);
    if let Ok(Some(piece)) = receiver.attach(shared).unwrap().next_published() {
        let in_pipe = in_pipe.into_inner();
        let bytes = match piece.buffer() {
            Buffer::Chunk(_) => segment.bytes(&piece),
            Buffer::Pipe(_) => &in_pipe,
        };
        assert!(bytes.iter().all(|byte| *byte == mark(ours)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with any header, of any size, is a segment or it is refused.
    #[test]
    fn attaching_never_panics(
        header in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, Just(4096)], 8),
        genuine in any::<[bool; 9]>(),
        other_bytes in 0..160_000u64,
    ) {
        let segment = Segment::create(&GEOMETRY).unwrap();
        let original = File::from(segment.fd().try_clone_to_owned().unwrap());
        let mut bytes = [0; 64];
        original.read_exact_at(&mut bytes, 0).unwrap();
        let words = bytes.chunks_mut(8).zip(&header).zip(genuine);
        for ((bytes, word), _) in words.filter(|(_, genuine)| !genuine) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let length = if genuine[8] { segment.len() as u64 } else { other_bytes };
        let file = File::from(memfd_create("any", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(length).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        if let Ok(attached) = Segment::attach(file.into()) {
            prop_assert_eq!(attached.geometry(), GEOMETRY);
            prop_assert_eq!(attached.len() as u64, length);
        }
    }
}
