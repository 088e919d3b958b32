//! The life of a session, as the routes of both APIs need it: issue, find by key, delete.
//!
//! Invariant: a key that names no living session gets the same answer whether or not it ever named one, and counts as a
//! guess of its client.

use std::time::Duration;

use shm::End;

use super::admission;
use crate::api::{Answer, RequestInfo};
use crate::http::Status;
use crate::relay::Cx;
use crate::session::{
    self, IssueError, Issued, Kind, Limited, Nameplate, NewSession, Session, SessionKey,
};
use crate::tally::{Limit, Tally};

/// Issues a session, or says why not.
pub(super) fn issue(
    cx: Cx<'_>,
    info: &RequestInfo,
    kind: Kind,
    lifetime: Duration,
) -> Result<Issued, Answer> {
    let issued =
        try_issue(cx, info, kind, lifetime).map_err(|error| not_issued(cx, error, info))?;
    if let Some(log) = &cx.env.access {
        log.name(&issued.key);
    }
    cx.env.count(Tally::Issued(kind));
    tracing::debug!(client = %info.client, "a session was issued");
    Ok(issued)
}

/// A client that was refused a moment ago is refused again without another look at the segment.
fn try_issue(
    Cx { env, now_ms }: Cx<'_>,
    info: &RequestInfo,
    kind: Kind,
    lifetime: Duration,
) -> Result<Issued, IssueError> {
    let digest = env.addresses.limited(Limited::Sessions, info.client);
    if let Some(error) = env.refused.find(digest, now_ms) {
        return Err(error);
    }
    let quotas = admission::sessions_of(env, info.client);
    let account = env.addresses.account(info.client);
    let nameplate_lifetime =
        (kind == Kind::Nameplate).then_some(env.config.timeouts.nameplate_lifetime);
    let new = NewSession { kind, lifetime, quotas, account, nameplate_lifetime };
    session::issue(env.segment, &env.addresses, env.owner, &new, now_ms).inspect_err(|error| {
        // A request without a nameplate may succeed.
        if *error != IssueError::NoNameplate {
            env.refused.note(digest, *error, now_ms);
        }
    })
}

fn not_issued(cx: Cx<'_>, error: IssueError, info: &RequestInfo) -> Answer {
    let (status, text) = match error {
        IssueError::TooMany => {
            cx.env.count(Tally::Limit(Limit::SessionsPerAddress));
            (Status::TooManyRequests, "too many sessions from this address")
        }
        IssueError::Full => {
            cx.env.count(Tally::Limit(Limit::Sessions));
            (Status::Unavailable, "every session is in use")
        }
        IssueError::NoNameplate => {
            cx.env.count(Tally::Limit(Limit::Nameplates));
            (Status::Unavailable, "no nameplate is free")
        }
        IssueError::NoRandom => (Status::InternalError, "no random numbers"),
    };
    Answer::error(status, text, info)
}

/// The session that `key` names, if it lives and `is_ours` holds for its kind.
pub(super) fn find(
    cx: Cx<'_>,
    key: &SessionKey,
    is_ours: impl FnOnce(Kind) -> bool,
) -> Option<Session> {
    let found = session::find(cx.env.shared(), key, cx.now_ms).filter(|it| is_ours(it.kind))?;
    if let Some(log) = &cx.env.access {
        log.name(key);
    }
    Some(found)
}

/// The session that has `nameplate`, if it lives.
pub(super) fn find_named(cx: Cx<'_>, nameplate: Nameplate) -> Option<Session> {
    let found = session::find_named(cx.env.segment, &cx.env.addresses, nameplate, cx.now_ms)?;
    if let Some(log) = &cx.env.access {
        log.name_session(&found);
    }
    Some(found)
}

/// Deletes the session.
pub(super) fn delete(cx: Cx<'_>, session: &Session, info: &RequestInfo) -> Result<(), Answer> {
    let (env, slot) = (cx.env, session.at.slot);
    if !env.shared().end(session.at, End::Deleted, |owner| env.ring(owner, slot)) {
        // The session lived a moment ago, so this is no guess.
        return Err(Answer::no_session(info));
    }
    env.count(Tally::Ended(End::Deleted));
    Ok(())
}

/// The answer to a key that names no living session. The request counts as a guess.
pub(super) fn unknown(cx: Cx<'_>, info: &RequestInfo) -> Answer {
    cx.env.count(Tally::UnknownKey);
    if admission::may_guess(cx, Limited::Guesses, info.client) {
        return Answer::no_session(info);
    }
    cx.env.count(Tally::Limit(Limit::UnknownKeys));
    let text = "too many unknown session keys from this address";
    Answer::error(Status::TooManyRequests, text, info)
}
