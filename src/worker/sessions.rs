//! The life of a session, as the routes of both APIs need it: issue, find by key, delete.
//!
//! Invariant: a key that names no living session gets the same answer whether or not it ever named one, and counts as a
//! guess of its client.

use std::net::IpAddr;
use std::time::Duration;

use shm::End;

use super::admission;
use crate::api::{Answer, RequestInfo};
use crate::http::Status;
use crate::relay::Cx;
use crate::session::{
    self, IssueError, Issued, Kind, Limited, Nameplate, Naming, NewSession, Session, SessionKey,
};
use crate::tally::{Limit, Tally};

/// Issues a session, or says why not.
pub(super) fn issue(
    cx: Cx<'_>,
    info: &RequestInfo,
    kind: Kind,
    lifetime: Duration,
) -> Result<Issued, Answer> {
    let naming = match kind {
        Kind::Nameplate => Naming::Nameplate(cx.env.config.timeouts.nameplate_lifetime),
        _ => Naming::KeyAlone,
    };
    let issued = issue_to(cx, info.client, New { kind, lifetime, naming }).map_err(|error| {
        let (status, text) = not_issued(cx, error);
        Answer::error(status, text, info)
    })?;
    if let Some(log) = &cx.env.access {
        log.name(&issued.key);
    }
    Ok(issued)
}

/// The session that a client asks for.
pub(super) struct New {
    pub(super) kind: Kind,
    pub(super) lifetime: Duration,
    pub(super) naming: Naming,
}

/// Issues a session to `client`.
pub(super) fn issue_to(cx: Cx<'_>, client: IpAddr, new: New) -> Result<Issued, IssueError> {
    let kind = new.kind;
    let issued = try_issue(cx, client, new)?;
    cx.env.count(Tally::Issued(kind));
    tracing::debug!(%client, "a session was issued");
    Ok(issued)
}

/// A client that was refused a moment ago is refused again without another look at the segment.
fn try_issue(
    Cx { env, now_ms }: Cx<'_>,
    client: IpAddr,
    New { kind, lifetime, naming }: New,
) -> Result<Issued, IssueError> {
    let digest = env.addresses.limited(Limited::Sessions, client);
    if let Some(error) = env.refused.find(digest, now_ms) {
        return Err(error);
    }
    let quotas = admission::sessions_of(env, client);
    let account = env.addresses.account(client);
    let new = NewSession { kind, lifetime, quotas, account, naming };
    session::issue(env.segment, &env.addresses, env.owner, &new, now_ms).inspect_err(|error| {
        // A request without a name, or with another one, may succeed.
        if !matches!(error, IssueError::NoNameplate | IssueError::Name(_)) {
            env.refused.note(digest, *error, now_ms);
        }
    })
}

/// Counts that no session was issued, and words the reason.
pub(super) fn not_issued(cx: Cx<'_>, error: IssueError) -> (Status, &'static str) {
    let (limit, status, text) = match error {
        IssueError::TooMany => {
            let text = "too many sessions from this address";
            (Limit::SessionsPerAddress, Status::TooManyRequests, text)
        }
        IssueError::Full => (Limit::Sessions, Status::Unavailable, "every session is in use"),
        IssueError::NoNameplate => (Limit::Nameplates, Status::Unavailable, "no nameplate is free"),
        IssueError::Name(_) => (Limit::Names, Status::Unavailable, "no room for this name"),
        IssueError::NoRandom => return (Status::InternalError, "no random numbers"),
    };
    cx.env.count(Tally::Limit(limit));
    (status, text)
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
    let name = nameplate.name(&cx.env.addresses);
    let found = session::find_named(cx.env.segment, name, cx.now_ms)?;
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
    match count_guess(cx, info.client) {
        Ok(()) => Answer::no_session(info),
        Err((status, text)) => Answer::error(status, text, info),
    }
}

/// Counts that `client` has named a key of no living session. `Err`: it has done so too often.
pub(super) fn count_guess(cx: Cx<'_>, client: IpAddr) -> Result<(), (Status, &'static str)> {
    cx.env.count(Tally::UnknownKey);
    if admission::may_guess(cx, Limited::Guesses, client) {
        return Ok(());
    }
    cx.env.count(Tally::Limit(Limit::UnknownKeys));
    Err((Status::TooManyRequests, "too many unknown session keys from this address"))
}
