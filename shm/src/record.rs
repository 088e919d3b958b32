//! A worker's record, which tells other processes about it: its epoch, its phase, its counters, and whether it
//! sleeps.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;
// Counters order no other word, so the models need not know of them.
use std::sync::atomic::{AtomicU32 as PlainU32, AtomicU64 as PlainU64};

/// Tallies in a record: words that the caller counts in as it likes.
pub const TALLIES: usize = 240;

/// The record of a worker. The segment has [`crate::WORKER_RECORDS_MAX`] records, whatever the number of workers, so
/// that later generations of workers find theirs.
#[derive(Debug)]
#[repr(C)]
pub struct WorkerRecord {
    pub(crate) parked: CachePadded<AtomicU32>,
    epoch: AtomicU32,
    accepted: AtomicU64,
    open: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_skipped: PlainU64,
    phase: AtomicU32,
    /// 1: the master asks the worker to look around.
    asked: PlainU32,
    heartbeats: PlainU64,
    reclaimed: PlainU64,
    displaced: PlainU64,
    tallies: [PlainU64; TALLIES],
}

#[cfg(not(loom))]
crate::fields::fields!(WorkerRecord {
    parked,
    epoch,
    accepted,
    open,
    bytes_in,
    bytes_out,
    bytes_skipped,
    phase,
    asked,
    heartbeats,
    reclaimed,
    displaced,
    tallies
});

/// The phase of a worker, as its record tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No process has this record, or its process does not work yet.
    Absent,
    /// The worker takes new connections.
    Serving,
    /// The worker takes no more connections, and ends those it has.
    Draining,
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
    /// Payload bytes that were read from senders and dropped, as their receivers had them already.
    pub bytes_skipped: u64,
}

impl WorkerRecord {
    /// A record of a worker that never lived: zeroed memory is one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            parked: CachePadded::new(AtomicU32::new(0)),
            epoch: AtomicU32::new(0),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            bytes_skipped: PlainU64::new(0),
            phase: AtomicU32::new(0),
            asked: PlainU32::new(0),
            heartbeats: PlainU64::new(0),
            reclaimed: PlainU64::new(0),
            displaced: PlainU64::new(0),
            tallies: [const { PlainU64::new(0) }; TALLIES],
        }
    }

    /// The number of lives of this record that have ended.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Ends a life of the record: the master calls this once it has reaped the worker's process. The record keeps the
    /// totals.
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
            bytes_skipped: self.bytes_skipped.load(Ordering::Relaxed),
        }
    }

    /// Records the worker's phase from now on.
    pub fn enter(&self, phase: Phase) {
        let word = match phase {
            Phase::Absent => 0,
            Phase::Serving => 1,
            Phase::Draining => 2,
        };
        self.phase.store(word, Ordering::Relaxed);
    }

    /// The worker's phase. A word without a meaning reads as `Absent`.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Serving,
            2 => Phase::Draining,
            _ => Phase::Absent,
        }
    }

    /// Reads the tally `index`; one beyond [`TALLIES`] is 0.
    #[must_use]
    pub fn tally(&self, index: usize) -> u64 {
        self.tallies.get(index).map_or(0, |tally| tally.load(Ordering::Relaxed))
    }

    /// Tells the master that the worker goes on. The worker does so in each turn of its loop.
    pub fn heartbeat(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the worker to look around: another worker that was woken for some news may have died before it acted.
    /// Only the master asks, and wakes the worker then.
    pub fn ask_to_look_around(&self) {
        self.asked.store(1, Ordering::Relaxed);
    }

    /// Whether the master asked since the worker last looked here. The wake-up orders the two.
    #[must_use]
    pub fn take_request_to_look_around(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == 1 && self.asked.swap(0, Ordering::Relaxed) == 1
    }

    /// How often this worker, and those before it in this record, have told that they go on.
    #[must_use]
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    /// Adds one to the tally `index`; one beyond [`TALLIES`] is not counted.
    pub fn count_tally(&self, index: usize) {
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
    pub(crate) fn count_reclaimed(&self) {
        self.reclaimed.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that were ended to make room, their lifetime over.
    #[must_use]
    pub fn sessions_reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    /// Counts a session that was ended to make room, before its time.
    pub(crate) fn count_displaced(&self) {
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that were ended to make room, before their time.
    #[must_use]
    pub fn sessions_displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Counts a connection that was accepted.
    pub fn count_opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was closed.
    pub fn count_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts payload bytes received from a sender.
    pub fn add_bytes_in(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts payload bytes that were read from a sender and dropped, as its receiver has them.
    pub fn add_bytes_skipped(&self, bytes: u64) {
        self.bytes_skipped.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts payload bytes that a receiver's socket took.
    pub fn add_bytes_out(&self, bytes: usize) {
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
        record.count_opened();
        record.count_tally(0);
        record.count_tally(TALLIES - 1);
        record.count_tally(TALLIES);
        record.bump_epoch();
        assert_eq!((record.phase(), record.epoch()), (Phase::Absent, 1));
        assert_eq!(record.counters(), Counters { accepted: 1, ..Counters::default() });
        let tallies = record.tallies();
        assert_eq!((tallies.first(), tallies.last()), (Some(&1), Some(&1)));
        assert_eq!(tallies.iter().sum::<u64>(), 2);
    }
}
