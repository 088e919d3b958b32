//! The number of bytes that a turn may move. A worker gives each connection that has something to do a turn, round
//! after round.
//!
//! The worker's `connections` sets the budget as a round begins, and the transfers ask for it. A turn may move a
//! chunk at least.

use std::cell::Cell;

/// Bytes that all turns of a round move together; each turn may move a chunk at least. Fairness among 100 transfers
/// collapsed to 5 % when a turn had no bound, and was still 95 % when each turn had this many bytes; a transfer that
/// is alone is a seventh slower with a quarter of them (measured).
const ROUND_BYTES: usize = 1 << 20;

/// The budget of each turn in a round.
#[derive(Debug, Default)]
pub struct Budget {
    turn_bytes: Cell<usize>,
}

impl Budget {
    /// A round of `turns` begins.
    pub fn begin_round(&self, turns: usize, chunk_bytes: usize) {
        self.turn_bytes.set((ROUND_BYTES / turns.max(1)).max(chunk_bytes));
    }

    /// Bytes that a transfer may move in its turn.
    pub(super) fn turn_bytes(&self) -> usize {
        self.turn_bytes.get()
    }
}
