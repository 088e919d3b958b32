//! The messages API: sessions in which a host and a guest long-poll for each other's messages.
//!
//! A client that brings the session's token is its host, any other client is its guest (`party`). This file decides
//! what a request for one of the API's paths asks for, and issues sessions.

use std::time::SystemTime;

use super::action::{Action, Routed};
use super::incoming::Incoming;
use super::party::Party;
use super::safe_conduct::SafeConduct;
use super::target::{MOUNT_METHODS, MessagesPath, NAMEPLATE_METHODS, SESSION_METHODS};
use super::{admission, issuing, request, sessions};
use crate::api::{Answer, MessageRole, Renewal, RequestInfo};
use crate::http::{Method, Request, Status, expired_token_cookie};
use crate::relay::Cx;
use crate::session::Kind;
use crate::tally::{Limit, Tally};

/// Decides what a request for `path` asks for, and in which role.
pub(super) fn route(cx: Cx<'_>, incoming: Incoming<'_>, path: &MessagesPath) -> Routed {
    match path {
        MessagesPath::Mount => mount(cx, incoming),
        _ => below_mount(cx, incoming, path),
    }
}

/// The client's role in the session that `path` names.
pub(super) fn role(cx: Cx<'_>, incoming: Incoming<'_>, path: &MessagesPath) -> MessageRole {
    let party = match path {
        MessagesPath::Mount => None,
        _ => Party::find(cx, incoming, path),
    };
    party.map_or(MessageRole::Guest, |party| party.role())
}

fn mount(cx: Cx<'_>, incoming: Incoming<'_>) -> Routed {
    let (answer, role) = match incoming.request.method {
        Method::Put if incoming.info.unread => {
            (Answer::takes_no_body(incoming.info), MessageRole::Guest)
        }
        Method::Put => match issue(cx, incoming) {
            Ok(answer) => (answer, MessageRole::Host),
            Err(answer) => (answer, MessageRole::Guest),
        },
        _ => (Answer::not_allowed(MOUNT_METHODS, incoming.info), MessageRole::Guest),
    };
    Routed { action: answer.into(), role: Some(role) }
}

fn below_mount(cx: Cx<'_>, incoming: Incoming<'_>, path: &MessagesPath) -> Routed {
    let party = Party::find(cx, incoming, path);
    // An answer to a stranger tells whether a session has the nameplate, so it counts whatever it is.
    if matches!(path, MessagesPath::Nameplate(Some(_)))
        && !party.as_ref().is_some_and(Party::is_known)
        && !admission::may_name(cx, incoming.info.client)
    {
        cx.env.count(Tally::Limit(Limit::NameplatesPerAddress));
        let text = "too many nameplates from this address in this minute";
        let answer = Answer::error(Status::TooManyRequests, text, incoming.info);
        return Routed { action: answer.into(), role: Some(MessageRole::Guest) };
    }
    let role = party.as_ref().map_or(MessageRole::Guest, Party::role);
    let action = match (incoming.request.method, party, path) {
        (Method::Options | Method::Other, _, _) => {
            Answer::not_allowed(SESSION_METHODS, incoming.info).into()
        }
        (Method::Put, _, MessagesPath::Nameplate(_)) => {
            Answer::not_allowed(NAMEPLATE_METHODS, incoming.info).into()
        }
        (_, Some(party), _) => party.route(cx, incoming).unwrap_or_else(Action::from),
        (_, None, MessagesPath::Session(_)) => gone(cx, incoming).into(),
        (_, None, MessagesPath::Nameplate(Some(_))) => {
            cx.env.count(Tally::UnknownKey);
            Answer::no_session(incoming.info).into()
        }
        (_, None, _) => Answer::no_such_path("no session has this path", incoming.info).into(),
    };
    Routed { action, role: Some(role) }
}

/// Answers that no session lives here: a client that kept a token for it may forget the token.
fn gone(cx: Cx<'_>, incoming: Incoming<'_>) -> Answer {
    let cookie = expired_token_cookie(incoming.request.path);
    sessions::unknown(cx, incoming.info).with("Set-Cookie", cookie)
}

/// Issues a session to its host, or says why not.
fn issue(cx: Cx<'_>, incoming: Incoming<'_>) -> Result<Answer, Answer> {
    let Incoming { request, info, origin } = incoming;
    issuing::may_issue(cx, incoming)?;
    let kind = kind(request, info)?;
    let config = cx.env.config;
    let lifetime = request::timeout(request, info)?.unwrap_or(config.timeouts.session_lifetime);
    let lifetime = lifetime.min(config.messages.session_lifetime_max);
    let issued = sessions::issue(cx, info, kind, lifetime)?;
    let path = format!("{}/{}", config.messages.mount, issued.key);
    let url = origin.url(&path);
    // A session with a nameplate that nobody uses is over earlier.
    let told = match issued.nameplate {
        Some(_) => lifetime.min(config.timeouts.nameplate_lifetime),
        None => lifetime,
    };
    let issued_at = SystemTime::now();
    let conduct = SafeConduct { issued: &issued, url: &url, issued_at, lifetime: told };
    let answer = match conduct.document(request, Some(kind.label())) {
        Some(document) => Answer::json(Status::Created, document),
        None => Answer::empty(Status::Created),
    };
    let (token, https) = (issued.token.to_string(), origin.is_https());
    let cookie = Renewal { token, path, https, lifetime }.cookie();
    let answer = answer.with("Location", url).with("Set-Cookie", cookie);
    let answer = answer.with("X-Type", kind.label());
    Ok(match issued.nameplate {
        Some(nameplate) => answer.with("X-Nameplate", nameplate.to_string()),
        None => answer,
    })
}

/// The kind that `?nameplate` asks for, or else `X-Type`, or else `?secure=`.
fn kind(request: &Request<'_>, info: &RequestInfo) -> Result<Kind, Answer> {
    match (request.query_flag("nameplate"), typed(request, info)?) {
        (None | Some("false"), kind) => Ok(kind),
        (Some("" | "true"), Kind::Secure) => {
            Err(Answer::bad_request("a session with a nameplate is not a secure one", info))
        }
        (Some("" | "true"), _) => Ok(Kind::Nameplate),
        (Some(_), _) => Err(Answer::bad_request("?nameplate=true or false", info)),
    }
}

fn typed(request: &Request<'_>, info: &RequestInfo) -> Result<Kind, Answer> {
    match (request.field("x-type"), request.query_value("secure")) {
        (Some(b"secure"), _) | (None, Some("true")) => Ok(Kind::Secure),
        (Some(b"basic"), _) | (None, None | Some("false")) => Ok(Kind::Basic),
        (Some(_), _) => Err(Answer::bad_request("X-Type: basic or secure", info)),
        (None, Some(_)) => Err(Answer::bad_request("?secure=true or false", info)),
    }
}
