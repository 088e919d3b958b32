//! The arguments of a turn, its budget, and its result.
//!
//! The worker makes a [`Cx`] for each turn of a connection, and an [`Io`] of the connection's own stream and buffers.
//! Both are borrowed for one turn, so nothing in a transfer can keep the clock's reading or the socket.

use super::{Env, Outbox};
use crate::outcome::ReceiverOutcome;
use crate::stream::Stream;
use crate::sys::clock::millis;
use std::cell::Cell;
use std::time::Duration;

/// Bytes that all turns of a round move together; each turn may move a chunk at least. Fairness among 100 transfers
/// collapsed to 5 % when a turn had no bound, and was still 95 % when each turn had this many bytes; a transfer that
/// is alone is a seventh slower with a quarter of them (measured).
const ROUND_BYTES: usize = 1 << 20;

/// The environment of a turn, and its time.
#[derive(Clone, Copy, Debug)]
pub struct Cx<'a> {
    /// The environment that all turns of this worker share.
    pub env: &'a Env,
    /// The time of this turn: milliseconds of the monotonic clock, read once a round.
    pub now_ms: u64,
}

/// The stream and the buffers that a turn reads from and writes to.
#[derive(Debug)]
pub struct Io<'a> {
    /// The client's connection.
    pub stream: &'a mut Stream,
    /// Bytes that were read and not used yet: they stand before what the stream still holds.
    pub inbox: &'a mut Vec<u8>,
    /// Bytes that go out before anything else.
    pub outbox: &'a mut Outbox,
}

/// The bytes that a turn may move. The worker's `connections` sets the budget as a round begins.
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

/// The result of a turn.
#[derive(Debug)]
pub enum Turn<T> {
    /// The turn can do no more until something happens.
    Wait,
    /// There is more to do, but other connections have their turn first.
    Again,
    /// The transfer is over.
    Over(T),
}

/// The result of a receiver's turns: its outcome. `None`: its sender left before the first byte, and the receiver
/// waits for another one.
pub type Received = Option<ReceiverOutcome>;

impl<T> Turn<T> {
    /// The same turn with another result.
    pub(super) fn map<U>(self, words: impl FnOnce(T) -> U) -> Turn<U> {
        match self {
            Self::Wait => Turn::Wait,
            Self::Again => Turn::Again,
            Self::Over(result) => Turn::Over(words(result)),
        }
    }
}

impl Cx<'_> {
    /// The moment `timeout` from now.
    #[must_use]
    pub fn after(self, timeout: Duration) -> u64 {
        self.now_ms.saturating_add(millis(timeout))
    }
}
