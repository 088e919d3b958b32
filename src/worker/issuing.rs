//! The right to ask for a session, where the configuration limits it to clients with a token of the operator's and to
//! certain addresses. Both APIs ask here before they issue a session.
//!
//! A session's key is the secret: the use of a session takes nothing else. Invariant: an address that has brought too many
//! wrong tokens in a second is not told, until the second is over, whether the next token is right. No other guesses,
//! of session keys or from other networks, make the relay refuse a good token.

use super::admission;
use super::incoming::Incoming;
use crate::api::{Answer, RequestInfo};
use crate::http::{self, Status};
use crate::relay::{Cx, Env};
use crate::session::Limited;
use crate::tally::{Limit, Tally};
use std::net::IpAddr;

/// The challenge to a client that needs a token (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"idontstore\"";
const CHALLENGE_AGAIN: &str = "Bearer realm=\"idontstore\", error=\"invalid_token\"";

/// Allows the request to ask for a session, or says why not.
pub(super) fn may_issue(
    cx: Cx<'_>,
    Incoming { request, info, .. }: Incoming<'_>,
) -> Result<(), Answer> {
    let env = cx.env;
    let auth = &env.config.auth;
    if auth.lets_anybody_issue() || auth.issue_addresses.contains(info.client) {
        return Ok(());
    }
    if auth.issue_tokens.is_none() {
        let text = "sessions are not issued to this address";
        return Err(Answer::error(Status::Forbidden, text, info));
    }
    let Some(token) = http::bearer(request.field("authorization")) else {
        let text = "a token is needed to ask for a session: Authorization: Bearer";
        return Err(challenge(text, CHALLENGE, info));
    };
    if admission::has_guessed_enough(cx, info.client) {
        return Err(too_many(env, info));
    }
    if env.issue_tokens.contain(token) {
        return Ok(());
    }
    if !admission::may_guess(cx, Limited::Tokens, info.client) {
        return Err(too_many(env, info));
    }
    Err(challenge("this token does not allow asking for a session", CHALLENGE_AGAIN, info))
}

/// The same for a client that cannot send a token.
pub(super) fn may_issue_untold(cx: Cx<'_>, client: IpAddr) -> Result<(), (Status, &'static str)> {
    let auth = &cx.env.config.auth;
    if auth.lets_anybody_issue() || auth.issue_addresses.contains(client) {
        return Ok(());
    }
    Err((Status::Forbidden, "sessions are not issued to this address"))
}

fn challenge(text: &str, challenge: &str, info: &RequestInfo) -> Answer {
    Answer::error(Status::Unauthorized, text, info).with("WWW-Authenticate", challenge)
}

fn too_many(env: &Env, info: &RequestInfo) -> Answer {
    env.count(Tally::Limit(Limit::UnknownKeys));
    let text = "too many wrong tokens from this address";
    Answer::error(Status::TooManyRequests, text, info)
}
