//! The parties that wait in a session, as the answer to `HEAD` tells them.
//!
//! The routes of both APIs ask here. The check changes nothing: it takes no place and rings no bell, and its result may
//! be outdated when the client reads it. A client that may ask could learn the same by taking a place.

use crate::api::{Answer, OFFSET, RequestInfo};
use crate::http::Status;
use crate::relay::Env;
use shm::{LaneRef, LaneWord, PassedFile, Role, State, Want};

const FIELD: &str = "X-Waiting";
/// Bytes of the whole file.
const LENGTH: &str = "Upload-Length";

/// The parties in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// No party, or only what is left of an attempt that is ending.
    Nobody,
    /// One party, which has come before the other.
    Waits(Role),
    /// Both parties: they are paired, and there is no place for a third.
    Paired,
}

impl Waiting {
    /// Reads the state of `lane`, or says why that cannot be.
    pub(super) fn look(env: &Env, lane: LaneRef, info: &RequestInfo) -> Result<Self, Answer> {
        match env.shared().places(lane) {
            Ok(Some(word)) => Ok(Self::of(word)),
            // The session lived a moment ago, so this is no guess.
            Ok(None) => Err(Answer::no_session(info)),
            Err(refusal) => Err(Answer::damaged(refusal, lane.session.slot, info)),
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

/// The answer to `HEAD` of a session of the exchange, whose file passes in `lane`: the party that waits, and the offset
/// at which a sender should begin.
pub(super) fn in_exchange(env: &Env, lane: LaneRef, info: &RequestInfo) -> Result<Answer, Answer> {
    let waiting = Waiting::look(env, lane, info)?;
    let shared = env.shared();
    let looked = shared.passed(lane).and_then(|passed| Ok((passed, shared.wanted(lane)?)));
    let (passed, wanted) = looked.map_err(|it| Answer::damaged(it, lane.session.slot, info))?;
    let passed = passed.file();
    let offset = match wanted {
        // Once both are paired, the offset that is reached says more.
        Some(want) if waiting == Waiting::Waits(Role::Receiver) => begins_at(want, passed),
        _ => passed.map_or(0, |file| file.delivered),
    };
    let answer = head().with(FIELD, waiting.as_str()).with(OFFSET, offset.to_string());
    Ok(match passed {
        Some(file) => answer.with(LENGTH, file.total.to_string()),
        None => answer,
    })
}

/// The offset for a sender, for a receiver with this `want`, after `passed` has passed: the same at which the two would
/// begin.
fn begins_at(want: Want, passed: Option<PassedFile>) -> u64 {
    let Want::Rest { from, last: None, of } = want else { return 0 };
    let is_of_it = of.is_none_or(|of| passed.is_some_and(|file| file.tag == of));
    let is_in_it = passed.is_none_or(|file| from < file.total);
    if is_of_it && is_in_it { from } else { 0 }
}

/// The answer to `HEAD` of a session of messages: the other party, if it waits. The client that asks receives in the
/// lane `here`, and sends in the lane `there`.
pub(super) fn in_messages(here: Waiting, there: Waiting) -> Answer {
    let waits = [(here, Role::Sender), (there, Role::Receiver)]
        .map(|(waiting, peer)| (waiting == Waiting::Waits(peer)).then(|| name(peer)));
    let waiting = match waits {
        [None, None] => Waiting::Nobody.as_str().to_owned(),
        waits => waits.into_iter().flatten().collect::<Vec<_>>().join(", "),
    };
    head().with(FIELD, waiting)
}

/// The head of the answer. The body that `GET` would give is not known before its sender has come, and neither is its
/// length.
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
            owner.map(|owner| Place { state, owner, incompatible: false })
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
