//! A request's purpose as a value: the routes make it, `transaction` carries it out.

use std::time::Duration;

use shm::{LaneRef, Role};

use crate::api::{Answer, MessageRole};
use crate::relay::{ReceiveRequest, SendRequest};

/// The purpose of a request, and the role of its client.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) action: Action,
    /// The client's role in its session; `None` where the request is not for the messages API.
    pub(super) role: Option<MessageRole>,
}

/// The purpose of a request.
#[derive(Debug)]
pub(super) enum Action {
    /// An answer, and nothing else.
    Answer(Answer),
    /// A place in a lane.
    Claim {
        lane: LaneRef,
        place_request: PlaceRequest,
        /// The time that it waits for its peer.
        wait: Duration,
    },
}

/// The place in a lane that a request claims, and what it brings to it.
#[derive(Debug)]
pub(super) enum PlaceRequest {
    Send(Box<SendRequest>),
    Receive(Box<ReceiveRequest>),
}

impl PlaceRequest {
    /// The role whose place it is.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Send(_) => Role::Sender,
            Self::Receive(_) => Role::Receiver,
        }
    }
}

impl From<Answer> for Action {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl From<Result<Answer, Answer>> for Action {
    fn from(answer: Result<Answer, Answer>) -> Self {
        Self::Answer(answer.unwrap_or_else(|refused| refused))
    }
}
