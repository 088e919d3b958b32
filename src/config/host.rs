//! The resources of this machine: CPUs, RAM and the control group's memory limit, and the values of `"auto"` that
//! follow from them. Probed once per load, by `super::parse`.
//!
//! Invariant: the rules are pure functions of a [`Host`]. Only [`Host::probe`] looks at the machine, and replaces
//! what it cannot find out by the most careful value, never by an error.

use super::cgroup;
use crate::sys::{memory, pipe, process};
use shm::{PIPE_BYTES_MAX, PIPES_MAX, WORKER_RECORDS_MAX};
use std::num::NonZeroUsize;
use std::time::Duration;

/// The most workers of a configuration: each has its record in the segment, and so has each worker of the draining
/// generations. The default number of generations fits, so no reload waits for a record.
pub const WORKERS_MAX: usize = shm::WORKER_RECORDS_MAX / 4;
/// The smallest segment: two lanes of the largest size.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 20;
/// `segment_bytes = "auto"` never exceeds this: room for 190 chunks of 512 KiB beside the sessions, so that a hundred
/// transfers at once find some.
pub(super) const SEGMENT_AUTO_BYTES_MAX: u64 = 128 << 20;
/// `segment_bytes = "auto"` takes this part of RAM or of the control group's limit at most.
const SEGMENT_AUTO_SHARE: u64 = 16;
/// Pipes may take one in this many of the files that a process may open: the others are for clients.
pub const PIPE_FILES_SHARE: u64 = 8;
/// The most that a worker opens beside connections, pipes and listeners: all eventfds, standard streams, its worker
/// channel, epoll, logs and the admin listener.
const WORKER_FILES: u64 = WORKER_RECORDS_MAX as u64 + 9;
const MIB: u64 = 1 << 20;
/// How long a lookup of a user may take: the program does nothing else meanwhile.
const LOOKUP_PATIENCE_MAX: Duration = Duration::from_secs(5);
/// The least time for a lookup: a busy machine needs as much.
const LOOKUP_PATIENCE_MIN: Duration = Duration::from_millis(500);

/// The facts from which `"auto"` is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    /// CPUs this process may use.
    pub(super) cpus: NonZeroUsize,
    /// RAM of the machine, in bytes.
    pub(super) ram_bytes: u64,
    /// The tightest memory limit among this process's control groups, in bytes.
    pub(super) cgroup_limit_bytes: Option<u64>,
    /// Pipes of full size that an unprivileged user may have, over all of its programs.
    pub(super) pipes_allowance: Option<u64>,
    /// How long to look for a user.
    pub(super) lookup_patience: Duration,
    /// The size that the running program has, if one runs: it cannot change.
    pub(super) segment_bytes: Option<u64>,
    /// How many pipes the running program was configured with.
    pub(super) pipes: Option<u32>,
    /// Files that a process may have open.
    pub(super) open_files: u64,
}

impl Host {
    /// Probes the machine: affinity, `/proc/meminfo` or the kernel's own count, and the memory limits of control
    /// groups.
    pub(super) fn probe() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            // A container may see less than the machine has.
            ram_bytes: ram_bytes(&meminfo).or_else(memory::total_bytes).unwrap_or(0),
            cgroup_limit_bytes: cgroup::memory_limit(),
            pipes_allowance: pipe::user_allowance(PIPE_BYTES_MAX),
            lookup_patience: lookup_patience(std::env::var("WATCHDOG_USEC").ok().as_deref()),
            segment_bytes: None,
            pipes: None,
            open_files: process::open_files_max(),
        }
    }

    /// The number behind `workers = "auto"`.
    pub(super) fn workers_auto(&self) -> NonZeroUsize {
        NonZeroUsize::new(WORKERS_MAX).map_or(self.cpus, |most| self.cpus.min(most))
    }

    /// The largest segment, in whole MiB: half of the memory that this process can have. The workers, the sockets'
    /// queues and the system need memory as well.
    pub(super) fn segment_bytes_max(&self) -> u64 {
        let limit = self.cgroup_limit_bytes.unwrap_or(u64::MAX);
        limit.min(self.ram_bytes) / 2 / MIB * MIB
    }

    /// The size behind `segment_bytes = "auto"`.
    pub(super) fn segment_bytes_auto(&self) -> u64 {
        let fresh = || segment_bytes_auto(self.ram_bytes, self.cgroup_limit_bytes);
        self.segment_bytes.unwrap_or_else(fresh)
    }

    /// The number behind `pipes = "auto"`, beside a segment of so many bytes.
    pub(super) fn pipes_auto(&self, segment_bytes: u64) -> u32 {
        self.pipes.unwrap_or_else(|| pipes_auto(segment_bytes, self.pipes_allowance))
    }

    /// Connections that so many workers can hold together, beside so many listeners and pipes. Each worker has files
    /// of its own, and leaves a connection to the others if it has none left.
    pub(super) fn connections(&self, workers: NonZeroUsize, listeners: usize, pipes: u32) -> usize {
        let pipe_ends = (2 * u64::from(pipes)).min(self.open_files / PIPE_FILES_SHARE);
        let others = pipe_ends.saturating_add(WORKER_FILES).saturating_add(listeners as u64);
        let of_one = usize::try_from(self.open_files.saturating_sub(others)).unwrap_or(usize::MAX);
        of_one.saturating_mul(workers.get())
    }
}

/// Two pipes for each of a hundred transfers; with fewer, chunks do a part of the work, at twice the cost (measured).
/// A pipe may keep 1 MiB of the kernel's memory: all pipes together keep at most twice the segment. Half of a user's
/// allowance is left to its other programs.
fn pipes_auto(segment_bytes: u64, allowance: Option<u64>) -> u32 {
    let share = allowance.map_or(u64::MAX, |allowance| allowance / 2);
    let pipes = (2 * segment_bytes / PIPE_BYTES_MAX as u64).min(share);
    u32::try_from(pipes).unwrap_or(PIPES_MAX).min(PIPES_MAX)
}

/// A service manager ends a master that is silent for `watchdog_us`. The master sends a notice right before a lookup.
fn lookup_patience(watchdog_us: Option<&str>) -> Duration {
    let watchdog_us = watchdog_us.and_then(|text| text.parse::<u64>().ok()).filter(|us| *us > 0);
    let share = watchdog_us.map(|us| Duration::from_micros(us / 2));
    share.map_or(LOOKUP_PATIENCE_MAX, |it| it.clamp(LOOKUP_PATIENCE_MIN, LOOKUP_PATIENCE_MAX))
}

/// The smallest of 128 MiB, 1/16 of RAM and 1/16 of the limit, in whole MiB, but at least 8 MiB.
fn segment_bytes_auto(ram_bytes: u64, cgroup_limit_bytes: Option<u64>) -> u64 {
    let usable_bytes = cgroup_limit_bytes.map_or(ram_bytes, |limit| limit.min(ram_bytes));
    let share_bytes = usable_bytes / SEGMENT_AUTO_SHARE / MIB * MIB;
    share_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_AUTO_BYTES_MAX)
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB (proc_meminfo(5)).
fn ram_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = line.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_segment_follows_the_scarcest() {
        const GIB: u64 = 1 << 30;
        assert_eq!(segment_bytes_auto(64 * GIB, None), 128 * MIB);
        assert_eq!(segment_bytes_auto(2 * GIB, None), 128 * MIB);
        assert_eq!(segment_bytes_auto(GIB, None), 64 * MIB);
        assert_eq!(segment_bytes_auto(GIB / 2, None), 32 * MIB);
        assert_eq!(segment_bytes_auto(64 * GIB, Some(256 * MIB)), 16 * MIB);
        assert_eq!(segment_bytes_auto(GIB / 2, Some(u64::MAX)), 32 * MIB);
        assert_eq!(segment_bytes_auto(64 * GIB, Some(16 * MIB)), 8 * MIB);
        assert_eq!(segment_bytes_auto(0, None), 8 * MIB);
        assert_eq!(segment_bytes_auto(497 * MIB, None), 31 * MIB, "whole MiB");
    }

    #[test]
    fn half_of_a_users_pipes_are_left_to_others() {
        assert_eq!(pipes_auto(128 * MIB, None), 256);
        assert_eq!(pipes_auto(128 * MIB, Some(64)), 32);
        assert_eq!(pipes_auto(128 * MIB, Some(1024)), 256);
        assert_eq!(pipes_auto(8 * MIB, Some(64)), 16);
        assert_eq!(pipes_auto(128 * MIB, Some(1)), 0);
        assert_eq!(pipes_auto(1 << 40, Some(u64::MAX)), 256, "no more than there can be");
    }

    fn host(cpus: usize) -> Host {
        Host {
            cpus: NonZeroUsize::new(cpus).unwrap(),
            ram_bytes: 0,
            cgroup_limit_bytes: None,
            pipes_allowance: None,
            lookup_patience: LOOKUP_PATIENCE_MAX,
            segment_bytes: None,
            pipes: None,
            open_files: 1024,
        }
    }

    #[test]
    fn connections_follow_the_files_that_workers_may_open() {
        let held_by = |workers, open_files, pipes| {
            let workers = NonZeroUsize::new(workers).unwrap();
            Host { open_files, ..host(1) }.connections(workers, 1, pipes)
        };
        assert_eq!(held_by(1, 1024, 32), 1024 - 64 - 256 - 9 - 1);
        assert_eq!(held_by(2, 1024, 32), 2 * held_by(1, 1024, 32));
        assert_eq!(held_by(1, 1024, 256), 1024 - 128 - 256 - 9 - 1, "fewer pipes are made");
        assert_eq!(held_by(4, 100, 0), 0, "no start comes that far");
        assert_eq!(held_by(64, u64::MAX, 256), usize::MAX);
    }

    #[test]
    fn workers_stop_at_the_records_there_are() {
        assert_eq!(host(3).workers_auto().get(), 3);
        assert_eq!(host(200).workers_auto().get(), WORKERS_MAX);
    }

    #[test]
    fn a_lookup_is_over_long_before_the_watchdog() {
        for (watchdog_us, ms) in [
            (None, 5000),
            (Some("no number"), 5000),
            (Some("30000000"), 5000),
            (Some("2000000"), 1000),
            (Some("1"), 500),
        ] {
            assert_eq!(lookup_patience(watchdog_us), Duration::from_millis(ms), "{watchdog_us:?}");
        }
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let meminfo = "MemTotal:       24028748 kB\nMemFree:        20000000 kB\n";
        assert_eq!(ram_bytes(meminfo), Some(24_028_748 * 1024));
        assert_eq!(ram_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_probe_finds_this_machine() {
        let host = Host::probe();
        assert!(host.ram_bytes > 0);
        assert!(host.segment_bytes_auto() >= SEGMENT_BYTES_MIN);
    }
}
