//! What one worker tells the others of itself: its epoch, its phase, its counters, whether it sleeps.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
// Counters order nothing, so the models need not know of them.
use std::sync::atomic::{AtomicU32 as PlainU32, AtomicU64 as PlainU64};

/// Tallies in a record: words that the caller counts in as it likes.
pub const TALLIES: usize = 160;

/// One worker's record. Records are made once for [`crate::WORKER_RECORDS_MAX`], whatever the number
/// of workers, so that later generations of workers find theirs.
#[derive(Debug)]
#[repr(C)]
pub struct WorkerRecord {
    pub(crate) parked: CachePadded<AtomicU32>,
    epoch: AtomicU32,
    accepted: AtomicU64,
    open: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    phase: AtomicU32,
    /// 1: the master asks the worker to look around.
    asked: PlainU32,
    beats: PlainU64,
    reclaimed: PlainU64,
    displaced: PlainU64,
    tallies: [PlainU64; TALLIES],
}

/// What a worker is doing, as far as anybody can tell from its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No process has this record, or its process has not come to work yet.
    Absent,
    /// It takes new connections.
    Serving,
    /// It takes none any more, and ends what it has.
    Stopping,
}

/// A worker's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted, ever.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Payload bytes received from senders into chunks.
    pub bytes_in: u64,
    /// Payload bytes that receivers' kernel sockets took.
    pub bytes_out: u64,
}

impl WorkerRecord {
    /// A record of a worker that never lived, as zeroed memory is one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            parked: CachePadded::new(AtomicU32::new(0)),
            epoch: AtomicU32::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            phase: AtomicU32::new(0),
            asked: PlainU32::new(0),
            beats: PlainU64::new(0),
            reclaimed: PlainU64::new(0),
            displaced: PlainU64::new(0),
            tallies: [const { PlainU64::new(0) }; TALLIES],
        }
    }

    /// Lives that this record has seen the end of.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Closes the book on a life: for the master, once the worker's process is reaped. What it has
    /// counted stays.
    pub fn bump_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.open.store(0, Ordering::Relaxed);
        self.enter(Phase::Absent);
        self.parked.store(0, Ordering::SeqCst);
    }

    /// Reads the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            accepted: self.accepted.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// Says what the worker does from now on.
    pub fn enter(&self, phase: Phase) {
        let word = match phase {
            Phase::Absent => 0,
            Phase::Serving => 1,
            Phase::Stopping => 2,
        };
        self.phase.store(word, Ordering::Relaxed);
    }

    /// What the worker does. A word without a meaning is a worker that is not there.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Serving,
            2 => Phase::Stopping,
            _ => Phase::Absent,
        }
    }

    /// Reads the tally `index`; one beyond [`TALLIES`] is 0.
    #[must_use]
    pub fn tallied(&self, index: usize) -> u64 {
        self.tallies.get(index).map_or(0, |tally| tally.load(Ordering::Relaxed))
    }

    /// Says that the worker goes on: for each turn of its loop.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the worker to look around, for the master: what another worker was woken for may be left undone. The caller
    /// wakes it then.
    pub fn ask(&self) {
        self.asked.store(1, Ordering::Relaxed);
    }

    /// Whether the worker was asked since it last looked here. The wake-up orders the two.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == 1 && self.asked.swap(0, Ordering::Relaxed) == 1
    }

    /// How often the worker, and those before it, have said that they go on.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Adds one to the tally `index`; one beyond [`TALLIES`] is not counted.
    pub fn tally(&self, index: usize) {
        if let Some(tally) = self.tallies.get(index) {
            tally.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All tallies.
    #[must_use]
    pub fn tallies(&self) -> [u64; TALLIES] {
        self.tallies.each_ref().map(|tally| tally.load(Ordering::Relaxed))
    }

    /// Counts a session that was ended to make room, its lifetime over.
    pub(crate) fn reclaimed(&self) {
        self.reclaimed.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that were ended to make room, their lifetime over.
    #[must_use]
    pub fn sessions_reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    /// Counts a session that was ended to make room, before its time.
    pub(crate) fn displaced(&self) {
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that were ended to make room, before their time.
    #[must_use]
    pub fn sessions_displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Counts a connection that was accepted.
    pub fn opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was closed.
    pub fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts payload bytes received from a sender.
    pub fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts payload bytes that a receiver's socket took.
    pub fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Default for WorkerRecord {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_worker_counted_stays_and_what_it_held_does_not() {
        let record = WorkerRecord::new();
        assert_eq!(record.phase(), Phase::Absent);
        record.enter(Phase::Serving);
        record.opened();
        record.tally(0);
        record.tally(TALLIES - 1);
        record.tally(TALLIES);
        record.bump_epoch();
        assert_eq!((record.phase(), record.epoch()), (Phase::Absent, 1));
        assert_eq!(record.counters(), Counters { accepted: 1, ..Counters::default() });
        let tallies = record.tallies();
        assert_eq!((tallies.first(), tallies.last()), (Some(&1), Some(&1)));
        assert_eq!(tallies.iter().sum::<u64>(), 2);
    }
}
