//! The observer of the shared segment: reads what the processes under test count, through the `shm` crate itself and
//! a descriptor found in `/proc`. This file alone knows that crate's names.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::proc::Pid;

/// How the segment's file shows in `/proc/PID/fd` and `/proc/PID/maps`.
pub(crate) const MEMFD_NAME: &str = "memfd:idontstore";

#[derive(Debug)]
pub(crate) struct Segment {
    shared: shm::Segment,
    workers: usize,
}

/// One worker's counters, or the sum of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Connections accepted ever.
    pub(crate) accepted: u64,
    /// Client connections open now.
    pub(crate) open: u64,
    /// Payload bytes received from senders into chunks.
    pub(crate) bytes_in: u64,
    /// Payload bytes that receivers' sockets took.
    pub(crate) bytes_out: u64,
}

impl Segment {
    pub(crate) fn of(master: Pid, workers: usize) -> Self {
        let fds = master.fds();
        let (number, _) = fds.iter().find(|(_, link)| link.contains(MEMFD_NAME)).expect("the master holds a segment");
        let path = format!("/proc/{}/fd/{number}", master.0);
        let file = File::options().read(true).write(true).open(path).expect("opening the segment");
        Self { shared: shm::Segment::attach(OwnedFd::from(file)).expect("attaching to the segment"), workers }
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    pub(crate) fn counters(&self, worker: usize) -> Counters {
        let c = self.shared.worker(worker).counters();
        Counters { accepted: c.accepted, open: c.open, bytes_in: c.bytes_in, bytes_out: c.bytes_out }
    }

    pub(crate) fn all(&self) -> Vec<Counters> {
        (0..self.workers).map(|i| self.counters(i)).collect()
    }

    pub(crate) fn sum(&self) -> Counters {
        self.all().into_iter().fold(Counters::default(), |a, b| Counters {
            accepted: a.accepted + b.accepted,
            open: a.open + b.open,
            bytes_in: a.bytes_in + b.bytes_in,
            bytes_out: a.bytes_out + b.bytes_out,
        })
    }

    pub(crate) fn chunks_held(&self) -> u64 {
        self.shared.census().chunks_held as u64
    }

    pub(crate) fn places_held(&self) -> u64 {
        self.shared.census().places_held as u64
    }

    pub(crate) fn sessions_live(&self) -> u64 {
        self.shared.census().sessions_live as u64
    }

    /// A lane's capacity, chunks.
    pub(crate) fn lane_chunks(&self) -> u64 {
        self.shared.lane_chunks() as u64
    }

    /// Size of one chunk, bytes.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.shared.chunk_bytes() as u64
    }
}
