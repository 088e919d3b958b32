//! The facts that `connections` may know of a connection: its client, its next deadline, its subscription.

use std::net::IpAddr;

use super::{Connection, Standstill, State};
use crate::worker::subscriptions::Subscription;

impl Connection {
    /// Whether it is only told why it is not served: it counts for no client, and leaves soon.
    pub(in crate::worker) fn is_turned_away(&self) -> bool {
        self.is_turned_away
    }

    /// The time when it is driven though nothing has happened.
    pub(in crate::worker) fn deadline_ms(&self) -> u64 {
        let own_ms = match &self.state {
            State::Transaction(transaction) => transaction.next_look_ms(),
            State::Pair(pair) => pair.next_look_ms(),
            _ => self.deadline_ms,
        };
        deadline_ms(own_ms, self.is_transfer(), self.report_watch.next_look_ms())
    }

    /// The client, as far as that is known: connections of one client share their turns.
    pub(in crate::worker) fn client(&self) -> IpAddr {
        self.client
    }

    /// The client that it counts for, once that is known.
    pub(in crate::worker) fn counts_for(&self) -> Option<IpAddr> {
        self.admission.counts_for()
    }

    /// Whether a receiver's answer has begun on it, or it is paired.
    pub(in crate::worker) fn is_relaying(&self) -> bool {
        match &self.state {
            State::Transaction(transaction) => transaction.is_relaying(),
            State::Pair(pair) => pair.is_relaying(),
            _ => false,
        }
    }

    /// Whether it transfers, or waits for its peer.
    pub(in crate::worker) fn is_transfer(&self) -> bool {
        match &self.state {
            State::Transaction(transaction) => transaction.is_transfer(),
            State::Pair(pair) => pair.is_transfer(),
            _ => false,
        }
    }

    /// Whether it learns nothing from what its client sends.
    pub(in crate::worker) fn ignores_input(&self) -> bool {
        match &self.state {
            State::Transaction(transaction) => transaction.ignores_input(),
            State::Pair(pair) => pair.ignores_input(),
            _ => false,
        }
    }

    /// The bell that it hears, and how.
    pub(in crate::worker) fn subscription(&self) -> Option<Subscription> {
        match &self.state {
            State::Transaction(transaction) => transaction.subscription(),
            State::Pair(pair) => pair.subscription(),
            _ => None,
        }
    }

    /// The state that it can give way in, if it can.
    pub(in crate::worker) fn standstill(&self) -> Option<Standstill> {
        match &self.state {
            State::ProxyLine(_) | State::Handshake | State::Head { .. } => Some(Standstill::Idle),
            State::Transaction(transaction) => transaction.standstill(),
            State::Pair(pair) => pair.standstill(),
            State::Linger { .. } => None,
        }
    }
}

/// The time of the next turn of a connection with a time of its own, and a time for the look at its last report. A
/// transfer has turns enough for that look.
fn deadline_ms(own_ms: u64, is_transfer: bool, report_ms: u64) -> u64 {
    if is_transfer { own_ms } else { own_ms.min(report_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_not_driven_for_the_report_of_the_one_before_it() {
        let (own_ms, report_ms) = (5000, 100);
        assert_eq!(deadline_ms(own_ms, true, report_ms), own_ms);
        assert_eq!(deadline_ms(own_ms, false, report_ms), report_ms);
        assert_eq!(deadline_ms(own_ms, false, u64::MAX), own_ms, "no report is watched");
    }
}
