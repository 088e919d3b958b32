//! The outcomes: how a request that held a place ended, by role; and the report to its sender.
//!
//! `relay` decides on an outcome, `api` words the answer, `tally` counts it and `access` writes it down. An outcome
//! keeps its number and its label for good, as programs of two versions may count in one segment.

use crate::config::Receipt;
use crate::http::Fault;
use shm::{End, Refusal};

/// How it ended for a request that held a sender's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderOutcome {
    /// All was delivered, as far as the receipt level promises.
    Delivered(Receipt),
    /// The receiver left midway.
    ReceiverLeft,
    /// The receiver's worker died.
    PeerWorkerLost,
    /// The sender itself left.
    Left,
    /// No receiver within the wait.
    NobodyCame,
    /// The session was deleted, or its lifetime was over.
    Ended(End),
    /// No chunk within `chunk_wait`.
    NoChunk,
    /// The sender's message is malformed or too large.
    Fault(Fault),
    /// The client of a pair broke its dialect.
    BrokenDialect,
    /// The sender was slower than the minimum rate, and others needed what it held.
    TooSlow,
    /// The sender has sent nothing for too long.
    Silent,
    /// While it waited, the session was opened to another address.
    Forbidden,
    /// While it waited, another sender from the same address took the place.
    Superseded,
    /// Shared memory held what it must not.
    Damaged(Refusal),
    /// The party waited, and the worker stopped.
    Stopped,
    /// The party waited, and gave way to an address that has fewer connections.
    Displaced,
    /// The sender's part begins behind what the receiver has.
    StartsTooLate {
        /// The first byte that the receiver lacks.
        wanted: u64,
    },
    /// The receiver asks for the rest of something else.
    Unfit,
}

/// How it ended for a request that held a receiver's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverOutcome {
    /// All of it was written, and acknowledged where the sender asked for that; or a message that lost its sender ended
    /// with the trailer that says so. The connection may serve another request.
    Complete,
    /// The transfer ended too soon after it had begun: the connection is cut.
    Cut,
    /// The receiver itself left.
    Left,
    /// No sender within the wait.
    NobodyCame,
    /// The session was deleted, or its lifetime was over, before a byte was sent.
    Ended(End),
    /// No chunk within `chunk_wait`.
    NoChunk,
    /// The sender's length is not known, and the receiver speaks HTTP/1.0.
    NeedsLength,
    /// The receiver's TCP takes or acknowledges nothing for too long, or too little while others need what it holds; or
    /// its machine is lost; or the session was deleted after the last byte was written. The connection is reset: what the
    /// kernel still holds must not complete the answer.
    GivenUp,
    /// Before a byte was sent, the session was opened to another address.
    Forbidden,
    /// Shared memory held what it must not, before a byte was sent.
    Damaged(Refusal),
    /// The party waited, and the worker stopped.
    Stopped,
    /// The party waited, and gave way to an address that has fewer connections.
    Displaced,
    /// The receiver asks for the rest of another file.
    Unfit,
}

/// Gives each kind that is counted apart its number and its label. The match is exhaustive, and a unit test compares it
/// with the list of examples.
macro_rules! counted {
    ($name:ident { $($number:literal $label:literal: $kinds:pat, $example:expr;)+ }) => {
        impl $name {
            /// A value for each number, in their order.
            pub const ALL: &[Self] = &[$($example,)+];

            /// The label in metrics and in the access log.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $($kinds => $label,)+ }
            }

            /// The number among the outcomes of its role.
            #[must_use]
            pub fn number(self) -> usize {
                match self { $($kinds => $number,)+ }
            }
        }
    };
}

counted! {
    SenderOutcome {
        0 "delivered": Self::Delivered(_), Self::Delivered(Receipt::Acked);
        1 "receiver_left": Self::ReceiverLeft, Self::ReceiverLeft;
        2 "peer_worker_lost": Self::PeerWorkerLost, Self::PeerWorkerLost;
        3 "sender_left": Self::Left, Self::Left;
        4 "nobody_came": Self::NobodyCame, Self::NobodyCame;
        5 "session_ended": Self::Ended(_), Self::Ended(End::Expired);
        6 "no_chunk": Self::NoChunk, Self::NoChunk;
        7 "fault": Self::Fault(_) | Self::BrokenDialect, Self::Fault(Fault::BadHeader);
        8 "too_slow": Self::TooSlow | Self::Silent, Self::TooSlow;
        9 "forbidden": Self::Forbidden, Self::Forbidden;
        10 "superseded": Self::Superseded, Self::Superseded;
        11 "damaged": Self::Damaged(_), Self::Damaged(Refusal::UnwantedPipe);
        12 "worker_stopped": Self::Stopped, Self::Stopped;
        13 "displaced": Self::Displaced, Self::Displaced;
        14 "starts_too_late": Self::StartsTooLate { .. }, Self::StartsTooLate { wanted: 0 };
        15 "unfit": Self::Unfit, Self::Unfit;
    }
}

counted! {
    ReceiverOutcome {
        0 "complete": Self::Complete, Self::Complete;
        1 "cut": Self::Cut, Self::Cut;
        2 "receiver_left": Self::Left, Self::Left;
        3 "nobody_came": Self::NobodyCame, Self::NobodyCame;
        4 "session_ended": Self::Ended(_), Self::Ended(End::Expired);
        5 "no_chunk": Self::NoChunk, Self::NoChunk;
        6 "needs_length": Self::NeedsLength, Self::NeedsLength;
        7 "given_up": Self::GivenUp, Self::GivenUp;
        8 "forbidden": Self::Forbidden, Self::Forbidden;
        9 "damaged": Self::Damaged(_), Self::Damaged(Refusal::UnwantedPipe);
        10 "worker_stopped": Self::Stopped, Self::Stopped;
        11 "displaced": Self::Displaced, Self::Displaced;
        12 "unfit": Self::Unfit, Self::Unfit;
    }
}

/// The report that a sender gets at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: SenderOutcome,
    /// Payload bytes, if any of the body was relayed: of a success at the level asked for, otherwise
    /// those acknowledged. Counted from the beginning of the file.
    pub delivered: Option<u64>,
    /// Payload bytes that were relayed in this attempt, where it went on with a file.
    pub relayed: Option<u64>,
    /// The offset to resume at, for a file.
    pub resume_at: Option<u64>,
}

impl Report {
    /// All `total` bytes of a file were delivered by an earlier attempt.
    #[must_use]
    pub fn of_earlier(total: u64, receipt: Receipt) -> Self {
        let (delivered, relayed) = (Some(total), Some(0));
        let outcome = SenderOutcome::Delivered(receipt);
        Self { outcome, delivered, relayed, resume_at: None }
    }

    /// Where nothing was relayed.
    #[must_use]
    pub fn of_nothing(outcome: SenderOutcome) -> Self {
        Self { outcome, delivered: None, relayed: None, resume_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_outcome_has_a_number_and_a_label_of_its_own() {
        let senders = SenderOutcome::ALL.iter().map(|outcome| (outcome.number(), outcome.label()));
        let receivers =
            ReceiverOutcome::ALL.iter().map(|outcome| (outcome.number(), outcome.label()));
        for counted in [senders.collect::<Vec<_>>(), receivers.collect()] {
            assert!(counted.iter().map(|(number, _)| *number).eq(0..counted.len()), "{counted:?}");
            let labels: BTreeSet<_> = counted.iter().map(|(_, label)| label).collect();
            assert_eq!(labels.len(), counted.len(), "two have one label");
        }
    }
}
