//! The limits that this process needs: open files, and a segment of that size. Asked at the start and by `-t`.

use super::MasterError;
use crate::config::{Config, PIPE_FILES_SHARE};
use crate::sys::process;
use crate::worker::{Inherited, Resources};
use shm::WORKER_RECORDS_MAX;

/// Files that the master opens beside those that [`open_files_needed`] counts: standard streams, signals, the
/// segment, the control socket, the admin listener, the access log, a log that is being reopened, a configuration,
/// and the descriptors of a fork in progress.
const OTHER_FILES: u64 = 16;

/// Descriptors that the master holds for each worker: its pidfd, and both of its worker channel.
const FILES_PER_WORKER: u64 = 3;

/// How many files a process has to be allowed to open to start with `config`.
#[must_use]
pub fn open_files_needed(config: &Config) -> u64 {
    let (listeners, workers) = (config.listeners.len() as u64, config.workers.get() as u64);
    let shared = WORKER_RECORDS_MAX as u64 + listeners + OTHER_FILES;
    // Pipes take a share of what there is.
    let all = shared + FILES_PER_WORKER * workers;
    all + all / (PIPE_FILES_SHARE - 1)
}

/// Whether this process may have a segment of that size.
pub fn check_limits(config: &Config) -> Result<(), MasterError> {
    let bytes = config.memory.segment_bytes;
    match process::limit_below(bytes) {
        Some((what, most)) => Err(MasterError::SegmentLimit { bytes, what, most }),
        None => Ok(()),
    }
}

/// Warns if a worker may open fewer `files` than it would need to hold all clients.
pub(super) fn compare_open_files(files: u64, inherited: &Inherited, resources: &Resources) {
    let connections_max = resources.config.limits.connections_max;
    let others = inherited.descriptors(resources);
    if files < (connections_max as u64).saturating_add(others as u64) {
        let open_files = files;
        tracing::warn!(
            open_files,
            connections_max,
            others,
            "the open-file limit is too low: one worker could not hold all connections"
        );
    }
}
