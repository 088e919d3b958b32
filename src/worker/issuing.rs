//! Who may ask for a session, where not everybody may: clients with a token of the operator's, and those of certain
//! addresses. Called by both APIs before they issue one.
//!
//! A session's key is the secret: to use a session takes nothing else. What must always hold: an address that has brought
//! too many wrong tokens in a second is not told, until that is over, whether the next one is right; and what others guess
//! beside, session keys or from other networks, refuses nobody a good token.

use super::admission;
use super::answer::{Answer, Asked};
use crate::http::{self, Request, Status};
use crate::relay::Relay;
use crate::session::Limited;
use crate::tally::{Limit, Tally};

/// Where a client is told that it needs a token (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"idontstore\"";
const CHALLENGE_AGAIN: &str = "Bearer realm=\"idontstore\", error=\"invalid_token\"";

/// Lets `request` ask for a session, or says why not.
pub(super) fn admit(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    now_ms: u64,
) -> Result<(), Answer> {
    let auth = &relay.config.auth;
    if auth.lets_anybody_issue() || auth.issue_addresses.contains(asked.client) {
        return Ok(());
    }
    if auth.issue_tokens.is_none() {
        let text = "sessions are not issued to this address";
        return Err(Answer::error(Status::Forbidden, text, asked));
    }
    let Some(token) = http::bearer(request.field("authorization")) else {
        let text = "a token is needed to ask for a session: Authorization: Bearer";
        return Err(challenge(text, CHALLENGE, asked));
    };
    if admission::has_guessed_enough(relay, asked.client, now_ms) {
        return Err(too_many(relay, asked));
    }
    if relay.issue_tokens.contain(token) {
        return Ok(());
    }
    if !admission::may_guess(relay, Limited::Tokens, asked.client, now_ms) {
        return Err(too_many(relay, asked));
    }
    Err(challenge("this token is not good for asking for a session", CHALLENGE_AGAIN, asked))
}

fn challenge(text: &str, challenge: &str, asked: &Asked) -> Answer {
    Answer::error(Status::Unauthorized, text, asked).with("WWW-Authenticate", challenge)
}

fn too_many(relay: &Relay, asked: &Asked) -> Answer {
    relay.count(Tally::Limit(Limit::UnknownKeys));
    let text = "too many wrong tokens from this address";
    Answer::error(Status::TooManyRequests, text, asked)
}
