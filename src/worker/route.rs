//! Which request asks for what: the paths of the two APIs, and what both answer alike.
//!
//! Called with every request head. Nothing is taken here but a session slot, by the request that
//! asks for one: what a request asks for goes out as a value.

use super::admission;
use super::answer::{Answer, Asked};
use super::origin::Origin;
use super::outcomes::DAMAGED;
use super::{exchange, messages};
use crate::http::{Method, Request, Status};
use crate::relay::{Cargo, MessageRole, Reception, Relay};
use crate::session::{self, IssueError, Issued, Kind, Limited, Session, SessionKey};
use crate::tally::{Api, Limit, Tally};
use shm::{End, LaneRef, Refusal, Role};
use std::time::Duration;

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// Nothing but an answer.
    Answer(Answer),
    /// A place in a lane.
    Enter {
        lane: LaneRef,
        errand: Errand,
        /// How long it would wait for the other.
        wait: Duration,
    },
}

/// What somebody wants in a lane.
#[derive(Debug)]
pub(super) enum Errand {
    Send(Box<Cargo>),
    Receive(Box<Reception>),
}

impl Errand {
    /// Which place it takes.
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

/// Decides what `request` asks for, and notes in `asked` whose it is. `origin` is what its client calls this server.
pub(super) fn route(
    relay: &Relay,
    request: &Request<'_>,
    asked: &mut Asked,
    origin: &Origin<'_>,
    now_ms: u64,
) -> Action {
    if request.method == Method::Options && asked.cors.is_spoken() {
        return without_body(asked, || options(relay, request, asked).into());
    }
    let is_worker = |it: &[u8]| it.eq_ignore_ascii_case(b"script");
    if request.field("service-worker").is_some_and(is_worker) {
        asked.role = role(relay, request, now_ms);
        let text = "service workers are not served";
        return Answer::error(Status::Forbidden, text, asked).into();
    }
    match below_mount(relay, request.path) {
        Some(path) => messages::route(relay, request, asked, origin, path, now_ms),
        None => exchange::route(relay, request, asked, origin, now_ms),
    }
}

/// The answer to `OPTIONS`, which is a browser's preflight or asks what is allowed. The path alone decides: nothing is
/// told of a key that stands in it, and nothing is looked up.
fn options(relay: &Relay, request: &Request<'_>, asked: &Asked) -> Answer {
    let methods = match below_mount(relay, request.path) {
        Some(path) => messages::methods(path),
        None => exchange::methods(request.path),
    };
    let answer = Answer::empty(Status::NoContent).with("Allow", with_options(methods));
    if request.field("access-control-request-method").is_none() {
        return answer;
    }
    let private = request.field("access-control-request-private-network");
    let fields = asked.cors.preflight(private == Some(b"true"));
    fields.fold(answer, |answer, (name, value)| answer.with(name, value))
}

fn with_options(methods: &str) -> String {
    format!("{methods}, OPTIONS")
}

/// What the client is to the session of messages that `request` names; `None` if it is not for that API.
pub(super) fn role(relay: &Relay, request: &Request<'_>, now_ms: u64) -> Option<MessageRole> {
    below_mount(relay, request.path).map(|path| messages::role(relay, request, path, now_ms))
}

/// Which API `request` is for.
pub(super) fn api(relay: &Relay, request: &Request<'_>) -> Api {
    below_mount(relay, request.path).map_or(Api::Exchange, |_| Api::Messages)
}

/// Whether `request` may bring a body that is not empty, as the routes of both APIs have it.
pub(super) fn takes_body(relay: &Relay, request: &Request<'_>) -> bool {
    match (below_mount(relay, request.path), request.method) {
        (Some(path), Method::Post) => !path.is_empty(),
        (None, Method::Post | Method::Put) => request.path != "/",
        _ => false,
    }
}

/// What stands behind the messages' mount in `path`: nothing, or a slash and more. `None`: the path is
/// not below it.
fn below_mount<'p>(relay: &Relay, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(relay.config.messages.mount.as_str())?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Issues a session, or says why not.
pub(super) fn issue(
    relay: &Relay,
    asked: &Asked,
    kind: Kind,
    lifetime: Duration,
    now_ms: u64,
) -> Result<Issued, Answer> {
    let digest = relay.addresses.limited(Limited::Sessions, asked.client);
    let issued = match relay.refused.find(digest, now_ms) {
        Some(error) => Err(error),
        None => {
            let quotas = admission::sessions_of(relay, asked.client);
            let account = relay.addresses.account(asked.client);
            session::issue(relay.segment, relay.owner, quotas, account, kind, lifetime, now_ms)
                .inspect_err(|error| relay.refused.note(digest, *error, now_ms))
        }
    };
    if let (Ok(issued), Some(log)) = (&issued, &relay.access) {
        log.name(&issued.key);
    }
    let issued = issued.map_err(|error| match error {
        IssueError::TooMany => {
            relay.count(Tally::Limit(Limit::SessionsPerAddress));
            let text = "too many sessions from this address";
            Answer::error(Status::TooManyRequests, text, asked)
        }
        IssueError::Full => {
            relay.count(Tally::Limit(Limit::Sessions));
            Answer::error(Status::Unavailable, "every session is in use", asked)
        }
        IssueError::NoRandom => Answer::error(Status::InternalError, "no random numbers", asked),
    })?;
    relay.count(Tally::Issued(kind));
    tracing::debug!(client = %asked.client, "a session was issued");
    Ok(issued)
}

/// The session that `key` names, if it lives and is one of the API's that is asked.
pub(super) fn find(
    relay: &Relay,
    key: &SessionKey,
    is_ours: impl FnOnce(Kind) -> bool,
    now_ms: u64,
) -> Option<Session> {
    let found = session::find(relay.shared(), key, now_ms).filter(|it| is_ours(it.kind))?;
    if let Some(log) = &relay.access {
        log.name(key);
    }
    Some(found)
}

/// Deletes the session.
pub(super) fn delete(relay: &Relay, asked: &Asked, session: &Session) -> Result<(), Answer> {
    let slot = session.at.slot;
    if !relay.shared().end(session.at, End::Deleted, |owner| relay.ring(owner, slot)) {
        // It was good a moment ago: no guess.
        return Err(no_session(asked));
    }
    relay.count(Tally::Ended(End::Deleted));
    Ok(())
}

pub(super) fn token_needed(asked: &Asked) -> Answer {
    Answer::error(Status::Forbidden, "the session's token is needed", asked)
}

pub(super) fn without_body(asked: &Asked, action: impl FnOnce() -> Action) -> Action {
    if asked.unread {
        return takes_no_body(asked).into();
    }
    action()
}

/// What is told where shared memory holds what it must not.
pub(super) fn damaged(refusal: Refusal, slot: u32, asked: &Asked) -> Answer {
    tracing::error!(%refusal, slot, "a session's slot is damaged");
    Answer::error(Status::InternalError, DAMAGED, asked)
}

pub(super) fn takes_no_body(asked: &Asked) -> Answer {
    Answer::bad_request("this request takes no body", asked)
}

/// A key that is no living session's: it makes no difference whether it ever was.
pub(super) fn unknown(relay: &Relay, asked: &Asked, now_ms: u64) -> Answer {
    relay.count(Tally::UnknownKey);
    if admission::may_guess(relay, Limited::Guesses, asked.client, now_ms) {
        return no_session(asked);
    }
    relay.count(Tally::Limit(Limit::UnknownKeys));
    let text = "too many unknown session keys from this address";
    Answer::error(Status::TooManyRequests, text, asked)
}

pub(super) fn no_session(asked: &Asked) -> Answer {
    Answer::error(Status::NotFound, "unknown session key", asked)
}

/// A path that no session can have: a request for it is no guess.
pub(super) fn no_such_path(text: &str, asked: &Asked) -> Answer {
    Answer::error(Status::NotFound, text, asked)
}

pub(super) fn not_allowed(methods: &str, asked: &Asked) -> Answer {
    not_allowed_but(|methods| format!("allowed here: {methods}"), methods, asked)
}

/// The same, with the text that `tell` has for the methods.
pub(super) fn not_allowed_but(
    tell: impl FnOnce(&str) -> String,
    methods: &str,
    asked: &Asked,
) -> Answer {
    let methods = match asked.cors.is_spoken() {
        true => with_options(methods),
        false => methods.to_owned(),
    };
    let text = tell(&methods);
    Answer::error(Status::MethodNotAllowed, &text, asked).with("Allow", methods)
}

/// The answer to a client that fetches before anybody wants to see.
pub(super) fn prefetched(asked: &Asked) -> Answer {
    let text = "prefetching would consume the transfer";
    Answer::error(Status::Unavailable, text, asked)
}
