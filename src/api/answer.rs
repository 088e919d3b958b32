//! Answers that are not relayed: safe-conducts, reports, refusals. The routes and `outcomes` make them, and the
//! transaction writes them. Each carries its own length, so the connection can go on after it.

use std::time::SystemTime;

use shm::{Refusal, SessionRef};

use super::RequestInfo;
use super::role::MessageRole;
use crate::config::Receipt;
use crate::http::{Fault, ResponseHead, Status, Version, error_body};
use crate::outcome::{Report, SenderOutcome};

/// The field that tells a sender how many bytes of its file, from the first on, are not needed any more.
pub(crate) const OFFSET: &str = "Upload-Offset";

/// Said about a secure session to a client that its host has not authorized.
pub(crate) const FORBIDDEN: &str = "this session is for another address";

/// Said about a session whose words in shared memory were refused.
pub(crate) const DAMAGED: &str = "the session's state is damaged";

/// Seconds after which to try again, said with every `503` and `429`.
const RETRY_AFTER_SECONDS: u32 = 1;

const RETRY_AFTER: &str = "Retry-After";
/// An answer that the relay makes itself.
#[derive(Debug)]
pub(crate) struct Answer {
    status: Status,
    fields: Vec<(&'static str, String)>,
    /// `None` for a body that is empty, and is meant to be.
    content_type: Option<&'static str>,
    body: String,
    /// The answer is to `HEAD`, and nobody knows the length of the answer to `GET`.
    is_of_unknown_length: bool,
    /// The session whose sender it tells that all was delivered.
    telling: Option<SessionRef>,
}

impl Answer {
    /// An answer with a line or more of text.
    pub(crate) fn text(status: Status, body: impl Into<String>) -> Self {
        Self::new(status, Some("text/plain; charset=utf-8"), body.into())
    }

    /// An answer whose status and fields say it all.
    pub(crate) fn empty(status: Status) -> Self {
        Self::new(status, None, String::new())
    }

    /// An answer to `HEAD` where nobody knows what `GET` would give: a length would have to be that (RFC 9110, section
    /// 8.6).
    pub(crate) fn of_unknown_body(status: Status) -> Self {
        Self { is_of_unknown_length: true, ..Self::empty(status) }
    }

    /// An answer with a JSON document.
    pub(crate) fn json(status: Status, body: String) -> Self {
        Self::new(status, Some("application/json"), body)
    }

    /// An answer with a page, which no browser shows anything else for.
    pub(crate) fn page(body: impl Into<String>) -> Self {
        Self::new(Status::Ok, Some("text/html; charset=utf-8"), body.into())
    }

    /// An error, explained in one line without its newline.
    pub(crate) fn error(status: Status, text: &str, info: &RequestInfo) -> Self {
        let (content_type, body) = error_body(status, text, info.problem);
        let answer = Self::new(status, Some(content_type), body);
        if matches!(status, Status::Unavailable | Status::TooManyRequests) {
            return answer.with(RETRY_AFTER, RETRY_AFTER_SECONDS.to_string());
        }
        answer
    }

    fn new(status: Status, content_type: Option<&'static str>, body: String) -> Self {
        Self {
            status,
            fields: Vec::new(),
            content_type,
            body,
            is_of_unknown_length: false,
            telling: None,
        }
    }

    /// The error that explains in one line, without its newline, what is wrong with the request.
    pub(crate) fn bad_request(text: &str, info: &RequestInfo) -> Self {
        Self::error(Status::BadRequest, text, info)
    }

    /// The error for a malformed or too large message.
    pub(crate) fn fault(fault: Fault, info: &RequestInfo) -> Self {
        Self::error(fault.status(), &fault.to_string(), info)
    }

    /// The path names no session that is living.
    pub(crate) fn no_session(info: &RequestInfo) -> Self {
        Self::no_such_path("unknown session key", info)
    }

    /// No session can have the path, so a request for it is no guess.
    pub(crate) fn no_such_path(text: &str, info: &RequestInfo) -> Self {
        Self::error(Status::NotFound, text, info)
    }

    /// Only the party with the session's token may do this.
    pub(crate) fn token_needed(info: &RequestInfo) -> Self {
        Self::error(Status::Forbidden, "the session's token is needed", info)
    }

    /// The request brings a body where none is taken.
    pub(crate) fn takes_no_body(info: &RequestInfo) -> Self {
        Self::bad_request("this request takes no body", info)
    }

    /// The path takes other methods.
    pub(crate) fn not_allowed(methods: &str, info: &RequestInfo) -> Self {
        Self::not_allowed_saying(|methods| format!("allowed here: {methods}"), methods, info)
    }

    /// The same, with the text that `tell` has for the methods.
    pub(crate) fn not_allowed_saying(
        tell: impl FnOnce(&str) -> String,
        methods: &str,
        info: &RequestInfo,
    ) -> Self {
        let methods = match info.cors.is_spoken() {
            true => format!("{methods}, OPTIONS"),
            false => methods.to_owned(),
        };
        let text = tell(&methods);
        Self::error(Status::MethodNotAllowed, &text, info).with("Allow", methods)
    }

    /// The client fetches what its user has not asked to see yet.
    pub(crate) fn prefetched(info: &RequestInfo) -> Self {
        let text = "prefetching would consume the transfer";
        Self::error(Status::Unavailable, text, info)
    }

    /// Shared memory holds what it must not. This is an error of ours, so it is logged.
    pub(crate) fn damaged(refusal: Refusal, slot: u32, info: &RequestInfo) -> Self {
        tracing::error!(%refusal, slot, "a session slot is damaged");
        Self::error(Status::InternalError, DAMAGED, info)
    }

    /// The answer with one more field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer with what a report counts, and at which level.
    pub(crate) fn with_count(self, report: &Report) -> Self {
        let Some(bytes) = report.delivered else { return self };
        let level = match report.outcome {
            SenderOutcome::Delivered(Receipt::Sent) => "sent",
            _ => "acked",
        };
        let answer = self.with("X-Bytes-Delivered", bytes.to_string()).with("X-Receipt", level);
        match report.relayed {
            Some(bytes) => answer.with("X-Bytes-Relayed", bytes.to_string()),
            None => answer,
        }
    }

    /// The answer to a sender that is to come again at once, with its file from byte `offset` on.
    pub(crate) fn resume_at(mut self, offset: u64) -> Self {
        self.fields.retain(|(name, _)| *name != RETRY_AFTER);
        self.with(RETRY_AFTER, "0").with(OFFSET, offset.to_string())
    }

    /// The answer, which tells the sender of `session` that all was delivered.
    pub(crate) fn telling(self, session: SessionRef) -> Self {
        Self { telling: Some(session), ..self }
    }

    /// The session whose sender it tells that all was delivered.
    pub(crate) fn tells(&self) -> Option<SessionRef> {
        self.telling
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Bytes of the body that is written.
    pub(crate) fn body_bytes(&self, info: &RequestInfo) -> u64 {
        if info.head_only { 0 } else { self.body.len() as u64 }
    }

    /// Writes the answer to the end of `out`, and whether the connection goes on after it.
    pub(crate) fn write(&self, out: &mut Vec<u8>, info: &RequestInfo, goes_on: bool) {
        let mut head = ResponseHead::start(out, self.status, SystemTime::now());
        for (name, value) in &self.fields {
            head.field(name, value);
        }
        if let Some(content_type) = self.content_type {
            head.field("Content-Type", content_type);
        }
        head.field("Cache-Control", "no-store");
        if let Some(role) = info.role {
            head.field(MessageRole::FIELD, role.as_str());
        }
        info.cors.write(&mut head);
        // RFC 9110, section 8.6.
        if !self.is_of_unknown_length && self.status != Status::NoContent {
            head.content_length(self.body.len() as u64);
        }
        if !goes_on {
            head.close();
        } else if info.version == Version::Http10 {
            head.keep_alive();
        }
        head.end();
        if !info.head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}
