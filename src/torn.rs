//! Torn ends: where a log took only a part of a line, the next one, whosever that is, begins on a line of its own.
//!
//! Called by `access` and `diagnostics`. What must always hold: all who share a log know whether it ends torn, by two
//! counts in a record that all of them share.

use crate::sys::sink::Wrote;
use crate::tally::Tally;
use shm::WorkerRecord;
use std::io::IoSlice;

/// Where a log's torn ends are counted, and those that were ended.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Counts the former.
    pub torn: Tally,
    /// And the latter: never more than those.
    pub mended: Tally,
}

impl Ends {
    /// Writes `line` by `write`, behind an end for the one before it if that has none. `book` is everybody's.
    pub fn write(
        self,
        book: &WorkerRecord,
        line: &[u8],
        write: impl FnOnce(&[IoSlice<'_>]) -> Wrote,
    ) -> Wrote {
        let is_torn = self.torn.read(book) > self.mended.read(book);
        let end = if is_torn { &b"\n"[..] } else { b"" };
        let wrote = write(&[IoSlice::new(end), IoSlice::new(line)]);
        if is_torn && wrote != Wrote::Nothing {
            self.mended.count(book);
        }
        if wrote == Wrote::Torn {
            self.torn.count(book);
        }
        wrote
    }
}
