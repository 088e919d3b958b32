//! Answers that are not relayed: safe-conducts, reports, refusals.

use crate::config::Receipt;
use crate::http::{Cors, Fault, ResponseHead, Status, Version, error_body};
use crate::relay::{MessageRole, Report, Sent};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Seconds after which to try again, said with every `503` and `429`.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Whose request it is, as far as that can be known and believed.
    pub(super) client: IpAddr,
    /// The client wants to go on using the connection.
    pub(super) keep_alive: bool,
    pub(super) version: Version,
    /// Errors are to be problem documents.
    pub(super) problem: bool,
    /// The answer has no body, as it is one to `HEAD`.
    pub(super) head_only: bool,
    /// The request's body is chunked.
    pub(super) chunked: bool,
    /// The request has a body that was not read: the connection cannot be used again.
    pub(super) unread: bool,
    /// How long it waits for its peer, where it asks for a place.
    pub(super) wait: Duration,
    /// What the client is to the session; `None` where the request is not for the message API.
    pub(super) role: Option<MessageRole>,
    /// Whether a page in a browser may read the answer.
    pub(super) cors: Cors<'static>,
}

impl Asked {
    /// What to assume of a request that could not be read.
    pub(super) fn unreadable(client: IpAddr, cors: Cors<'static>) -> Self {
        Self {
            client,
            keep_alive: false,
            version: Version::Http11,
            problem: false,
            head_only: false,
            chunked: false,
            unread: true,
            wait: Duration::ZERO,
            role: None,
            cors,
        }
    }

    /// Whether the connection goes on after the answer.
    pub(super) fn goes_on(&self) -> bool {
        self.keep_alive && !self.unread
    }
}

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: Status,
    fields: Vec<(&'static str, String)>,
    /// `None` for a body that is empty, and is meant to be.
    content_type: Option<&'static str>,
    body: String,
    /// It is one to `HEAD`, and how much `GET` would give is not known.
    is_of_unknown_length: bool,
}

impl Answer {
    /// An answer with a line or more of text.
    pub(super) fn text(status: Status, body: impl Into<String>) -> Self {
        Self::new(status, Some("text/plain; charset=utf-8"), body.into())
    }

    /// An answer whose status and fields say it all.
    pub(super) fn empty(status: Status) -> Self {
        Self::new(status, None, String::new())
    }

    /// An answer to `HEAD` where nobody knows what `GET` would give: a length would have to be that (RFC 9110, section
    /// 8.6).
    pub(super) fn of_unknown_body(status: Status) -> Self {
        Self { is_of_unknown_length: true, ..Self::empty(status) }
    }

    /// An answer with a JSON document.
    pub(super) fn json(status: Status, body: String) -> Self {
        Self::new(status, Some("application/json"), body)
    }

    /// An answer with a page, which no browser shows anything else for.
    pub(super) fn page(body: impl Into<String>) -> Self {
        Self::new(Status::Ok, Some("text/html; charset=utf-8"), body.into())
    }

    /// An error, explained in one line without its newline.
    pub(super) fn error(status: Status, text: &str, asked: &Asked) -> Self {
        let (content_type, body) = error_body(status, text, asked.problem);
        let answer = Self::new(status, Some(content_type), body);
        if matches!(status, Status::Unavailable | Status::TooManyRequests) {
            return answer.with("Retry-After", RETRY_AFTER_SECONDS.to_string());
        }
        answer
    }

    fn new(status: Status, content_type: Option<&'static str>, body: String) -> Self {
        Self { status, fields: Vec::new(), content_type, body, is_of_unknown_length: false }
    }

    /// What is wrong with the request, explained in one line without its newline.
    pub(super) fn bad_request(text: &str, asked: &Asked) -> Self {
        Self::error(Status::BadRequest, text, asked)
    }

    /// What is wrong with the message that the request is.
    pub(super) fn fault(fault: Fault, asked: &Asked) -> Self {
        Self::error(fault.status(), &fault.to_string(), asked)
    }

    /// The answer with one more field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer with what a report counts, and at which level.
    pub(super) fn with_count(self, report: &Report) -> Self {
        let Some(bytes) = report.delivered else { return self };
        let level = match report.sent {
            Sent::Delivered(Receipt::Sent) => "sent",
            _ => "acked",
        };
        self.with("X-Bytes-Delivered", bytes.to_string()).with("X-Receipt", level)
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Bytes of the body that is written.
    pub(super) fn body_bytes(&self, asked: &Asked) -> u64 {
        if asked.head_only { 0 } else { self.body.len() as u64 }
    }

    /// Writes the answer to the end of `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>, asked: &Asked) {
        let mut head = ResponseHead::start(out, self.status, SystemTime::now());
        for (name, value) in &self.fields {
            head.field(name, value);
        }
        if let Some(content_type) = self.content_type {
            head.field("Content-Type", content_type);
        }
        head.field("Cache-Control", "no-store");
        if let Some(role) = asked.role {
            head.field(MessageRole::FIELD, role.as_str());
        }
        asked.cors.write(&mut head);
        // RFC 9110, section 8.6.
        if !self.is_of_unknown_length && self.status != Status::NoContent {
            head.content_length(self.body.len() as u64);
        }
        if !asked.goes_on() {
            head.close();
        } else if asked.version == Version::Http10 {
            head.keep_alive();
        }
        head.end();
        if !asked.head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}
