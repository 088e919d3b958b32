//! Who waits in a session, as the answer to `HEAD` tells it.
//!
//! The routes of both APIs ask here. It is a look and no more: nothing is taken, nobody is rung, and what was seen
//! may be over by the time that it is read. A client that may ask could learn the same by taking a place.

use super::answer::{Answer, Asked};
use super::route;
use crate::http::Status;
use crate::relay::Relay;
use shm::{LaneRef, LaneWord, Role, State};

const FIELD: &str = "X-Waiting";

/// Who is in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nobody, or only what is left of an attempt that is ending.
    Nobody,
    /// One end, which has come before the other.
    Waits(Role),
    /// Both: they have met, and there is no place for a third.
    Paired,
}

impl Waiting {
    /// Looks at `lane`; or says why that cannot be.
    pub(super) fn look(relay: &Relay, lane: LaneRef, asked: &Asked) -> Result<Self, Answer> {
        match relay.shared().places(lane) {
            Ok(Some(word)) => Ok(Self::of(word)),
            // It was good a moment ago: no guess.
            Ok(None) => Err(route::no_session(asked)),
            Err(refusal) => Err(route::damaged(refusal, lane.session.slot, asked)),
        }
    }

    fn of(word: LaneWord) -> Self {
        let is_held = |role| word.place(role).state == State::Held;
        match (is_held(Role::Sender), is_held(Role::Receiver)) {
            (true, true) => Self::Paired,
            // A party that is alone in an attempt that has begun is about to leave it.
            _ if word.begun => Self::Nobody,
            (true, false) => Self::Waits(Role::Sender),
            (false, true) => Self::Waits(Role::Receiver),
            (false, false) => Self::Nobody,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Waits(role) => name(role),
            Self::Paired => "paired",
        }
    }
}

/// The answer to `HEAD` of a session of the exchange.
pub(super) fn in_exchange(waiting: Waiting) -> Answer {
    head().with(FIELD, waiting.as_str())
}

/// The answer to `HEAD` of a message session: who of the other party waits, `here` being the lane in which the
/// one that asks receives, `there` the one in which it sends.
pub(super) fn in_messages(here: Waiting, there: Waiting) -> Answer {
    let waits = [(here, Role::Sender), (there, Role::Receiver)]
        .map(|(waiting, peer)| (waiting == Waiting::Waits(peer)).then(|| name(peer)));
    let waiting = match waits {
        [None, None] => Waiting::Nobody.as_str().to_owned(),
        waits => waits.into_iter().flatten().collect::<Vec<_>>().join(", "),
    };
    head().with(FIELD, waiting)
}

/// What `GET` would give is not known before its sender has come, and neither is its length.
fn head() -> Answer {
    Answer::of_unknown_body(Status::Ok)
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Sender => "sender",
        Role::Receiver => "receiver",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm::{Owner, Place, WorkerId};

    fn seen(sender: State, receiver: State, begun: bool) -> Waiting {
        let place = |state| {
            let owner = WorkerId::new(0).map(|worker| Owner::new(worker, 0));
            owner.map(|owner| Place { state, owner, mark: false })
        };
        let places = place(sender).zip(place(receiver));
        places.map_or(Waiting::Nobody, |(sender, receiver)| {
            Waiting::of(LaneWord { sender, receiver, begun, attempt: 1 })
        })
    }

    #[test]
    fn who_is_alone_waits_unless_the_attempt_is_ending() {
        use State::{Closed, Empty, Gone, Held, Lost};
        for (sender, receiver, begun, want) in [
            (Empty, Empty, false, Waiting::Nobody),
            (Closed, Closed, false, Waiting::Nobody),
            (Held, Empty, false, Waiting::Waits(Role::Sender)),
            (Empty, Held, false, Waiting::Waits(Role::Receiver)),
            (Held, Held, false, Waiting::Paired),
            (Held, Held, true, Waiting::Paired),
            (Held, Gone, true, Waiting::Nobody),
            (Held, Lost, true, Waiting::Nobody),
            (Gone, Held, true, Waiting::Nobody),
            (Lost, Held, true, Waiting::Nobody),
        ] {
            assert_eq!(seen(sender, receiver, begun), want, "{sender:?}, {receiver:?}, {begun}");
        }
    }
}
