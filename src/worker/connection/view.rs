//! The facts that `connections` may know of a connection: its client, its next deadline, its subscription.

use std::net::IpAddr;

use super::{Connection, Standstill, State, Transaction};
use crate::worker::subscriptions::Subscription;

impl Connection {
    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Transaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    /// Whether it is only told why it is not served: it counts for no client, and leaves soon.
    pub(in crate::worker) fn is_turned_away(&self) -> bool {
        self.is_turned_away
    }

    /// The time when it is driven though nothing has happened.
    pub(in crate::worker) fn deadline_ms(&self) -> u64 {
        match self.transaction() {
            // A transfer has turns enough for the look at a report before it.
            Some(transfer) if transfer.is_transfer() => transfer.next_look_ms(),
            other => {
                let own_ms = other.map_or(self.deadline_ms, Transaction::next_look_ms);
                own_ms.min(self.report_watch.next_look_ms())
            }
        }
    }

    /// The client, as far as that is known: connections of one client share their turns.
    pub(in crate::worker) fn client(&self) -> IpAddr {
        self.client
    }

    /// The client that it counts for, once that is known.
    pub(in crate::worker) fn counts_for(&self) -> Option<IpAddr> {
        self.admission.counts_for()
    }

    /// Whether a receiver's answer has begun on it.
    pub(in crate::worker) fn is_relaying(&self) -> bool {
        self.transaction().is_some_and(Transaction::is_relaying)
    }

    /// Whether it transfers, or waits for its peer.
    pub(in crate::worker) fn is_transfer(&self) -> bool {
        self.transaction().is_some_and(Transaction::is_transfer)
    }

    /// Whether it learns nothing from what its client sends.
    pub(in crate::worker) fn ignores_input(&self) -> bool {
        self.transaction().is_some_and(Transaction::ignores_input)
    }

    /// The bell that it hears, and how.
    pub(in crate::worker) fn subscription(&self) -> Option<Subscription> {
        self.transaction().and_then(Transaction::subscription)
    }

    /// The state that it can give way in, if it can.
    pub(in crate::worker) fn standstill(&self) -> Option<Standstill> {
        match &self.state {
            State::ProxyLine(_) | State::Handshake | State::Head { .. } => Some(Standstill::Idle),
            State::Transaction(transaction) => transaction.standstill(),
            State::Linger { .. } => None,
        }
    }
}
