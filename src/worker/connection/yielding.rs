//! A connection gives way to somebody who has fewer, where all that there may be are open.

use super::{Connection, Next, State, TurnedAway};
use crate::relay::Relay;
use std::net::IpAddr;

/// What a connection that can give way is at. Those that lose least go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::worker) enum Standstill {
    /// Nothing was asked, or not wholly.
    Idle,
    /// Somebody waits for its peer.
    Waiting,
}

impl Connection {
    /// Whom it counts for, once that is known.
    pub(in crate::worker) fn counts_for(&self) -> Option<IpAddr> {
        self.admission.counts_for()
    }

    /// What it is at, if it can give way.
    pub(in crate::worker) fn standstill(&self) -> Option<Standstill> {
        match &self.state {
            State::ProxyLine(_) | State::Handshake | State::Head => Some(Standstill::Idle),
            State::Door(_) => Some(Standstill::Waiting),
            State::Sending(it) => it.is_waiting().then_some(Standstill::Waiting),
            State::Receiving(it) => it.is_waiting().then_some(Standstill::Waiting),
            State::Answer | State::Drain { .. } => None,
        }
    }

    /// Gives way: without a word where nothing was asked, as with any idle connection.
    pub(in crate::worker) fn give_way(&mut self, relay: &Relay, now_ms: u64) -> Next {
        if self.standstill() != Some(Standstill::Waiting) {
            return Next::Close;
        }
        self.account_for_displacement(relay);
        self.leave(relay);
        self.turn_away(relay, TurnedAway::Full, now_ms);
        Next::Again
    }
}
