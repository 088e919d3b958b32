//! What one worker tells the others of itself: its epoch, its counters, whether it sleeps.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

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
        }
    }

    /// Lives that this record has seen the end of.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Closes the book on a life: for the master, once the worker's process is reaped.
    pub fn bump_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.open.store(0, Ordering::Relaxed);
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
