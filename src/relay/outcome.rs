//! How a transfer can end, for each of the two.

use crate::config::Receipt;
use crate::http::Fault;
use crate::tally::{ReceiverOutcome, SenderOutcome};
use shm::{End, Refusal};

/// What became of a sender's transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it, as far as the receipt level promises.
    Delivered(Receipt),
    /// The receiver left midway.
    ReceiverLeft,
    /// The receiver's worker died.
    PeerWorkerLost,
    /// No receiver within the wait.
    NobodyCame,
    /// The session was deleted, or its lifetime was over.
    Ended(End),
    /// No chunk within `chunk_wait`.
    NoChunk,
    /// The sender's message is at fault.
    Fault(Fault),
    /// The sender was slower than the minimum rate, and others needed what it held.
    TooSlow,
    /// The sender has sent nothing for too long.
    Silent,
    /// The sender itself has left.
    Left,
    /// While it waited, the session was opened to another address.
    Barred,
    /// While it waited, another from the same address asked for its place.
    Superseded,
    /// Shared memory held what it must not.
    Refused(Refusal),
}

/// What a sender is told at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What became of it.
    pub sent: Sent,
    /// Payload bytes, if any of the body was relayed: of a success at the level asked for, otherwise
    /// those acknowledged.
    pub delivered: Option<u64>,
}

/// What became of a receiver's transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// All of it; the connection may serve another request.
    Complete,
    /// It ended too soon after it had begun: the connection must be cut.
    Truncated,
    /// The receiver's TCP takes or acknowledges nothing for too long, or too little while others need what it holds; or
    /// its machine is lost; or the session was deleted when all of it
    /// was written: what the kernel still holds must not complete it.
    GivenUp,
    /// The receiver itself has left.
    Left,
    /// The sender left before a byte was sent: wait for another.
    Again,
    /// No sender within the wait.
    NobodyCame,
    /// The session was deleted, or its lifetime was over, before a byte was sent.
    Ended(End),
    /// No chunk within `chunk_wait`.
    NoChunk,
    /// The sender's length is not known and the receiver speaks HTTP/1.0.
    NeedsLength,
    /// Before a byte was sent, the session was opened to another address.
    Barred,
    /// Shared memory held what it must not, before a byte was sent.
    Refused(Refusal),
}

impl Sent {
    /// What it is counted as.
    #[must_use]
    pub fn counted_as(self) -> SenderOutcome {
        match self {
            Self::Delivered(_) => SenderOutcome::Delivered,
            Self::ReceiverLeft => SenderOutcome::ReceiverLeft,
            Self::PeerWorkerLost => SenderOutcome::PeerWorkerLost,
            Self::NobodyCame => SenderOutcome::NobodyCame,
            Self::Ended(_) => SenderOutcome::Ended,
            Self::NoChunk => SenderOutcome::NoChunk,
            Self::Fault(_) => SenderOutcome::Fault,
            Self::TooSlow | Self::Silent => SenderOutcome::TooSlow,
            Self::Left => SenderOutcome::Left,
            Self::Barred => SenderOutcome::Barred,
            Self::Superseded => SenderOutcome::Superseded,
            Self::Refused(_) => SenderOutcome::Damaged,
        }
    }
}

impl Received {
    /// What it is counted as. `None`: it goes on.
    #[must_use]
    pub fn counted_as(self) -> Option<ReceiverOutcome> {
        Some(match self {
            Self::Complete => ReceiverOutcome::Complete,
            Self::Truncated => ReceiverOutcome::Cut,
            Self::GivenUp => ReceiverOutcome::GivenUp,
            Self::Left => ReceiverOutcome::Left,
            Self::Again => return None,
            Self::NobodyCame => ReceiverOutcome::NobodyCame,
            Self::Ended(_) => ReceiverOutcome::Ended,
            Self::NoChunk => ReceiverOutcome::NoChunk,
            Self::NeedsLength => ReceiverOutcome::NeedsLength,
            Self::Barred => ReceiverOutcome::Barred,
            Self::Refused(_) => ReceiverOutcome::Damaged,
        })
    }
}
