//! Torn ends: if a log took only a part of a line, the next line, from any process, begins on a line of its own.
//!
//! Called by `access` and `diagnostics`. Invariant: all processes that share a log know whether it ends with a torn
//! line, by two counts in a record that they share.

use crate::sys::sink::Wrote;
use crate::tally::Tally;
use shm::WorkerRecord;
use std::io::IoSlice;

/// The counter of torn ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Counts the former.
    pub torn: Tally,
    /// The counter of mended ends, which never exceeds the other.
    pub mended: Tally,
}

impl Ends {
    /// Writes `line` by `write`. If the log ends with a torn line, writes a newline first. All processes that share
    /// the log share `counters`.
    pub fn write(
        self,
        counters: &WorkerRecord,
        line: &[u8],
        write: impl FnOnce(&[IoSlice<'_>]) -> Wrote,
    ) -> Wrote {
        let is_torn = self.torn.read(counters) > self.mended.read(counters);
        let end = if is_torn { &b"\n"[..] } else { b"" };
        let wrote = write(&[IoSlice::new(end), IoSlice::new(line)]);
        if is_torn && wrote != Wrote::Nothing {
            self.mended.count(counters);
        }
        if wrote == Wrote::Torn {
            self.torn.count(counters);
        }
        wrote
    }
}
