//! The bell within a worker. If both parties of a session are connected to the same worker, news need no doorbell in
//! shared memory, and no process is woken.
//!
//! Transfers ring it deep in the worker's calls. The worker's loop hears it between two turns.

use std::cell::RefCell;
use std::collections::VecDeque;

/// The sessions that have news for this worker, from itself.
#[derive(Debug, Default)]
pub struct LocalBell {
    slots: RefCell<VecDeque<u32>>,
}

impl LocalBell {
    /// Session `slot` has news.
    pub(super) fn ring(&self, slot: u32) {
        let mut slots = self.slots.borrow_mut();
        if slots.back() != Some(&slot) {
            slots.push_back(slot);
        }
    }

    /// The session that was rung for first and is not heard yet.
    pub fn hear(&self) -> Option<u32> {
        self.slots.borrow_mut().pop_front()
    }
}
