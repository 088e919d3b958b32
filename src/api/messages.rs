//! The messages API: a complete message renews its session, and a chunked message that is not whole says so in its trailer.
//!
//! Called by `Api`, whose other variant is `exchange`; the worker's routes use the role and the cookie.

use super::answer::Answer;
use super::role::MessageRole;
use super::{Announcement, RequestInfo};
use crate::http::{ResponseHead, Status, token_cookie};
use crate::outcome::Report;
use std::fmt;
use std::time::{Duration, SystemTime};

/// The end of a chunked message whose sender was lost.
pub(super) const TRUNCATED_END: &[u8] = b"0\r\nX-Transfer-Status: truncated\r\n\r\n";

/// The cookie with which a host gets its token, and has it renewed.
#[derive(Clone)]
pub struct Renewal {
    /// The token.
    pub token: String,
    /// The session's path.
    pub path: String,
    /// Whether the client is to send it over HTTPS alone, as it came.
    pub https: bool,
    /// The lifetime from the answer on.
    pub lifetime: Duration,
}

impl Renewal {
    /// The value of `Set-Cookie` in an answer that is given now.
    #[must_use]
    pub fn cookie(&self) -> String {
        token_cookie(&self.token, &self.path, self.https, SystemTime::now(), self.lifetime)
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal(..)")
    }
}

/// Writes what the head of a relayed answer says of the party and of the message.
pub(super) fn write_fields(
    head: &mut ResponseHead<'_>,
    announced: &Announcement,
    renewal: Option<&Renewal>,
) {
    let role = if renewal.is_some() { MessageRole::Host } else { MessageRole::Guest };
    head.field(MessageRole::FIELD, role.as_str());
    if let Some(renewal) = renewal {
        head.field("Set-Cookie", renewal.cookie());
    }
    if announced.length.is_none() {
        head.field("Trailer", "X-Transfer-Status");
    }
}

/// The sender's answer for a message that was delivered.
pub(super) fn delivered(report: &Report, renewal: Option<&Renewal>, info: &RequestInfo) -> Answer {
    let answer = empty(Status::Ok, renewal).with_count(report);
    if !info.chunked {
        return answer;
    }
    // The same count by the name that this API has for it.
    answer.with("X-Bytes-Relayed", report.delivered.unwrap_or(0).to_string())
}

/// The answer to a party whose peer has not come within its wait.
pub(super) fn nobody_came(renewal: Option<&Renewal>) -> Answer {
    empty(Status::GatewayTimeout, renewal)
}

/// An answer without a body, with the host's cookie renewed.
fn empty(status: Status, renewal: Option<&Renewal>) -> Answer {
    let answer = Answer::empty(status);
    match renewal {
        Some(renewal) => answer.with("Set-Cookie", renewal.cookie()),
        None => answer,
    }
}
