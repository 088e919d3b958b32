//! The facts that others may know of a client's part in a pair: its next deadline, its subscription.

use super::{Pair, Stage};
use crate::worker::subscriptions::Subscription;
use crate::worker::transaction::Standstill;

impl Pair {
    /// The time when it wants a step though nothing has happened.
    pub(in crate::worker) fn next_look_ms(&self) -> u64 {
        match &self.stage {
            Stage::Asking { deadline_ms } | Stage::Farewell { deadline_ms } => *deadline_ms,
            Stage::Seeking { look_ms, .. } => *look_ms,
            Stage::Party { party, .. } if party.is_paired() => party.next_look_ms(),
            Stage::Party { party, told_ms, .. } => {
                party.next_look_ms().min(told_ms.saturating_add(super::WAITING_EACH_MS))
            }
            Stage::Over => 0,
        }
    }

    /// Whether it holds a half of its pair.
    pub(in crate::worker) fn is_transfer(&self) -> bool {
        matches!(self.stage, Stage::Party { .. })
    }

    /// Whether its peer's bytes may come at any time.
    pub(in crate::worker) fn is_relaying(&self) -> bool {
        matches!(&self.stage, Stage::Party { party, .. } if party.is_paired())
    }

    /// Whether it learns nothing from its client's socket, except that the connection breaks.
    pub(in crate::worker) fn ignores_input(&self) -> bool {
        matches!(&self.stage, Stage::Party { party, .. } if party.ignores_input())
    }

    /// The bell that it hears, and how.
    pub(in crate::worker) fn subscription(&self) -> Option<Subscription> {
        match &self.stage {
            Stage::Party { party, .. } => Some(Subscription::holder(party.session().slot)),
            Stage::Seeking { spare_of, .. } => spare_of.map(Subscription::claimant),
            _ => None,
        }
    }

    /// The state that it can give way in, if it can.
    pub(in crate::worker) fn standstill(&self) -> Option<Standstill> {
        match &self.stage {
            Stage::Asking { .. } => Some(Standstill::Idle),
            Stage::Seeking { .. } => Some(Standstill::Waiting),
            Stage::Party { party, .. } if !party.is_paired() => Some(Standstill::Waiting),
            _ => None,
        }
    }
}
