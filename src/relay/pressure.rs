//! The pressure on this machine: whether others may need the connection or the session slot of a party that moves
//! little. (`stall` sees to chunks.) `pace` asks.
//!
//! All workers read the same counters in shared memory, so all come to the same answer.

use super::Env;
use crate::tally::{Limit, Tally};
use shm::{WORKER_RECORDS_MAX, WorkerId, WorkerRecord};
use std::cell::Cell;

/// The time for which an answer holds. It costs a look at all records.
const ANSWER_MS: u64 = 500;
/// The age up to which a look counts: an address that was refused a session since then is in need.
const FRESH_MS: u64 = 10_000;

/// The last look of one worker.
#[derive(Debug, Default)]
pub struct Pressure {
    /// 0: there was none.
    looked_ms: Cell<u64>,
    /// Sessions that were refused by then, as all were in use.
    refused: Cell<u64>,
    is_on: Cell<bool>,
}

impl Pressure {
    fn is_due(&self, now_ms: u64) -> bool {
        self.looked_ms.get() == 0 || self.since_ms(now_ms) >= ANSWER_MS
    }

    fn since_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.looked_ms.get())
    }

    /// Notes a look. `refused` counts the sessions that were refused so far.
    fn note(&self, has_many: bool, refused: u64, now_ms: u64) {
        let is_fresh = self.looked_ms.get() != 0 && self.since_ms(now_ms) <= FRESH_MS;
        let was_refused = is_fresh && refused > self.refused.get();
        self.is_on.set(has_many || was_refused);
        self.refused.set(refused);
        self.looked_ms.set(now_ms);
    }
}

impl Env {
    /// Client connections that are open now, of all workers.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let open: u64 = self.records().map(|record| record.counters().open).sum();
        usize::try_from(open).unwrap_or(usize::MAX)
    }

    /// Whether more connections are open than there is patience for, or somebody was refused a session a moment ago, as
    /// all were in use.
    pub(super) fn is_crowded(&self, now_ms: u64) -> bool {
        let pressure = &self.pressure;
        if pressure.is_due(now_ms) {
            let has_many = self.open_connections() > self.config.limits.patience_connections_max;
            let refusals = self.records().map(|it| Tally::Limit(Limit::Sessions).read(it));
            pressure.note(has_many, refusals.fold(0, u64::saturating_add), now_ms);
        }
        pressure.is_on.get()
    }

    fn records(&self) -> impl Iterator<Item = &'static WorkerRecord> {
        let ids = (0..WORKER_RECORDS_MAX).filter_map(WorkerId::new);
        ids.filter_map(|id| self.shared().record(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_once_and_only_if_it_is_fresh() {
        let pressure = Pressure::default();
        let look = |refused, now_ms| {
            pressure.note(false, refused, now_ms);
            pressure.is_on.get()
        };
        assert!(!look(7, 1000), "when they were is not known");
        assert!(look(8, 2000));
        assert!(!look(8, 3000));
        assert!(look(9, 13_000));
        assert!(!look(10, 23_001));
    }

    #[test]
    fn an_answer_holds_for_a_moment() {
        let pressure = Pressure::default();
        assert!(pressure.is_due(0));
        pressure.note(true, 0, 1000);
        assert!(!pressure.is_due(1499) && pressure.is_due(1500));
        assert!(pressure.is_on.get());
    }
}
