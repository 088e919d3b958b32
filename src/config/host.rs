//! What this machine gives: CPUs, RAM and the control group's memory limit, and the values of `"auto"` that follow from
//! them. Probed once per load, by `super::parse`.
//!
//! Must always hold: the rules are pure functions of a [`Host`]; only [`Host::probe`] looks at the machine, and what it
//! cannot find out it takes for the most careful value, never for an error.

use super::cgroup;
use crate::sys::{memory, pipe};
use shm::{PIPE_BYTES_MAX, PIPES_MAX};
use std::num::NonZeroUsize;
use std::time::Duration;

/// The most workers a configuration may ask for: each has its record in the segment, and so has each of the generations
/// that drain. With as many generations as by default, no reload waits for a record.
pub const WORKERS_MAX: usize = shm::WORKER_RECORDS_MAX / 4;
/// The smallest segment: two lanes of the largest size.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 20;
/// What `segment_bytes = "auto"` never exceeds: room for 190 chunks of 512 KiB beside the sessions, so that a hundred
/// transfers at once find some; more gained nothing (measured).
pub(super) const SEGMENT_AUTO_BYTES_MAX: u64 = 128 << 20;
/// `segment_bytes = "auto"` takes this part of RAM or of the control group's limit at most.
const SEGMENT_AUTO_SHARE: u64 = 16;
const MIB: u64 = 1 << 20;
/// A user that is not found within this is not there: nothing else is done meanwhile.
const LOOKUP_PATIENCE_MAX: Duration = Duration::from_secs(5);
/// A machine that is busy needs so long to begin with.
const LOOKUP_PATIENCE_MIN: Duration = Duration::from_millis(500);

/// What `"auto"` is worked out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    /// CPUs this process may use.
    pub(super) cpus: NonZeroUsize,
    /// RAM of the machine, in bytes.
    pub(super) ram_bytes: u64,
    /// The tightest memory limit among this process's control groups, in bytes.
    pub(super) cgroup_limit_bytes: Option<u64>,
    /// Pipes of full size that a user without privilege may have, all of the user's programs together.
    pub(super) pipes_allowance: Option<u64>,
    /// How long to look for a user.
    pub(super) lookup_patience: Duration,
    /// What the running program has, where there is one: it cannot become larger or smaller.
    pub(super) segment_bytes: Option<u64>,
    /// How many pipes the running program was to have, likewise.
    pub(super) pipes: Option<u32>,
}

impl Host {
    /// Looks at the machine: affinity, `/proc/meminfo` or what the kernel says where there is none, and the memory limits
    /// of control groups.
    pub(super) fn probe() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            // A container may be shown less than the machine has.
            ram_bytes: ram_bytes(&meminfo).or_else(memory::total_bytes).unwrap_or(0),
            cgroup_limit_bytes: cgroup::memory_limit(),
            pipes_allowance: pipe::user_allowance(PIPE_BYTES_MAX),
            lookup_patience: lookup_patience(std::env::var("WATCHDOG_USEC").ok().as_deref()),
            segment_bytes: None,
            pipes: None,
        }
    }

    /// The number behind `workers = "auto"`.
    pub(super) fn workers_auto(&self) -> NonZeroUsize {
        NonZeroUsize::new(WORKERS_MAX).map_or(self.cpus, |most| self.cpus.min(most))
    }

    /// The largest segment, in whole MiB: half of the memory that this process could ever have. The workers, the
    /// sockets' queues and the system need memory as well.
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
}

/// Two for each of a hundred transfers, or else chunks do a part of the work, at twice the cost (measured). A pipe may keep
/// 1 MiB of the kernel's memory: in all no more than twice what the segment has. Half of what a user may have is left to
/// the user's other programs.
fn pipes_auto(segment_bytes: u64, allowance: Option<u64>) -> u32 {
    let share = allowance.map_or(u64::MAX, |allowance| allowance / 2);
    let pipes = (2 * segment_bytes / PIPE_BYTES_MAX as u64).min(share);
    u32::try_from(pipes).unwrap_or(PIPES_MAX).min(PIPES_MAX)
}

/// A manager that hears nothing of the master for `watchdog_us` ends it. The master is heard right before a lookup.
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

    #[test]
    fn workers_stop_at_the_records_there_are() {
        let host = |cpus| Host {
            cpus: NonZeroUsize::new(cpus).unwrap(),
            ram_bytes: 0,
            cgroup_limit_bytes: None,
            pipes_allowance: None,
            lookup_patience: LOOKUP_PATIENCE_MAX,
            segment_bytes: None,
            pipes: None,
        };
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
