//! Which news concern a connection: of what session it is in, and of its socket.

use super::{Connection, State};
use shm::{Direction, LaneRef, Role};
use std::net::IpAddr;

/// Where a connection hears a session's bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Post {
    /// In a place that it holds.
    Place(Direction, Role),
    /// Before one that it wants.
    Door,
}

impl Connection {
    /// Whether it is a receiver whose answer has begun.
    pub(in crate::worker) fn is_relaying(&self) -> bool {
        matches!(&self.state, State::Receiving(receiving) if !receiving.is_waiting())
    }

    /// Whose it is, as far as that is known: connections of one client share their turns.
    pub(in crate::worker) fn client(&self) -> IpAddr {
        self.asked.client
    }

    /// Whether it transfers, or waits for the other side.
    pub(in crate::worker) fn is_transfer(&self) -> bool {
        matches!(self.state, State::Sending(_) | State::Receiving(_))
    }

    /// Whether what its client sends is no news to it: a sender without room learns nothing by each segment that comes
    /// in, and to be woken by them took a third of its worker's time (measured, one transfer by pipes).
    pub(in crate::worker) fn is_deaf(&self) -> bool {
        matches!(&self.state, State::Sending(sending) if sending.is_blocked())
    }

    /// Where in a session it is, if it is in one: the session's slot, and what of it.
    pub(in crate::worker) fn post(&self) -> Option<(u32, Post)> {
        let place = |lane: LaneRef, role| (lane.session.slot, Post::Place(lane.direction, role));
        match &self.state {
            State::Sending(sending) => Some(place(sending.lane(), Role::Sender)),
            State::Receiving(receiving) => Some(place(receiving.lane(), Role::Receiver)),
            State::Door(door) => Some((door.slot(), Post::Door)),
            _ => None,
        }
    }
}
