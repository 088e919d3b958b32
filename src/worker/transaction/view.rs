//! The facts that others may know of a transaction: its next deadline, its subscription.

use super::{Stage, Transaction};
use crate::worker::subscriptions::Subscription;

/// The state of a connection that can give way. The connection that loses least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::worker) enum Standstill {
    /// The client has asked for nothing, or not completely.
    Idle,
    /// The client waits for its peer.
    Waiting,
}

impl Transaction {
    /// The time when it wants a step though nothing has happened.
    pub(in crate::worker) fn next_look_ms(&self) -> u64 {
        match &self.stage {
            Stage::Claim(claim) => claim.next_look_ms(),
            Stage::Sending(sending) => sending.next_look_ms(),
            Stage::Receiving(receiving) => receiving.next_look_ms(),
            Stage::Answer { deadline_ms } => *deadline_ms,
            Stage::Over => 0,
        }
    }

    /// Whether it transfers, or waits for its peer.
    pub(in crate::worker) fn is_transfer(&self) -> bool {
        matches!(self.stage, Stage::Sending(_) | Stage::Receiving(_))
    }

    /// Whether a receiver's answer has begun.
    pub(in crate::worker) fn is_relaying(&self) -> bool {
        matches!(&self.stage, Stage::Receiving(receiving) if !receiving.is_waiting())
    }

    /// Whether it learns nothing from what its client sends. A sender without room has nothing to do when a segment
    /// comes in, and waking for each of them took a third of its worker's time (measured, one transfer by pipes).
    pub(in crate::worker) fn ignores_input(&self) -> bool {
        matches!(&self.stage, Stage::Sending(sending) if sending.is_blocked())
    }

    /// The bell that it hears, and how.
    pub(in crate::worker) fn subscription(&self) -> Option<Subscription> {
        match &self.stage {
            Stage::Sending(sending) => Some(Subscription::holder(sending.lane().session.slot)),
            Stage::Receiving(receiving) => {
                Some(Subscription::holder(receiving.lane().session.slot))
            }
            Stage::Claim(claim) => Some(Subscription::claimant(claim.slot())),
            Stage::Answer { .. } | Stage::Over => None,
        }
    }

    /// The state that it can give way in, if it can.
    pub(in crate::worker) fn standstill(&self) -> Option<Standstill> {
        let waits = match &self.stage {
            Stage::Claim(_) => true,
            Stage::Sending(sending) => sending.is_waiting(),
            Stage::Receiving(receiving) => receiving.stands_still(),
            Stage::Answer { .. } | Stage::Over => false,
        };
        waits.then_some(Standstill::Waiting)
    }
}
