//! A round: a worker gives everyone who has something to do a turn. What holds for all of them is here, as turns
//! come about deep in the worker's calls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Bytes that are moved in a round by all who have a turn together; each may move a chunk at least. Without a bound
/// fairness among 100 transfers collapsed to 5 %, and with so many for each it still was 95 %; one that is alone
/// is a seventh slower with a quarter of it (measured).
const ROUND_BYTES: usize = 1 << 20;

/// What is shared by the turns of a round.
#[derive(Debug, Default)]
pub struct Round {
    turn_bytes: Cell<usize>,
    news: RefCell<VecDeque<u32>>,
}

impl Round {
    /// A round of `turns` begins.
    pub fn begin(&self, turns: usize, chunk_bytes: usize) {
        self.turn_bytes.set((ROUND_BYTES / turns.max(1)).max(chunk_bytes));
    }

    /// Bytes that a transfer may move in its turn.
    pub(super) fn turn_bytes(&self) -> usize {
        self.turn_bytes.get()
    }

    /// Session `slot` has news for one of us: nobody has to be woken for that.
    pub(super) fn ring(&self, slot: u32) {
        let mut news = self.news.borrow_mut();
        if news.back() != Some(&slot) {
            news.push_back(slot);
        }
    }

    /// The first of the sessions that were rung for and not heard of yet.
    pub fn hear(&self) -> Option<u32> {
        self.news.borrow_mut().pop_front()
    }
}
