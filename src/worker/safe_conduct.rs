//! The safe-conduct as a document, for clients that accept JSON: the same for both APIs.
//!
//! The routes ask here once they have issued a session.

use crate::http::{self, Request, accepts};
use crate::session::Issued;
use std::time::{Duration, SystemTime};

const JSON: &str = "application/json";

/// A session that was issued, with the facts for its client.
pub(super) struct SafeConduct<'i> {
    pub(super) issued: &'i Issued,
    /// The session's absolute URL.
    pub(super) url: &'i str,
    pub(super) issued_at: SystemTime,
    pub(super) lifetime: Duration,
}

impl SafeConduct<'_> {
    /// The time when the session expires, as header fields write it.
    pub(super) fn expires(&self) -> String {
        http::http_date_after(self.issued_at, self.lifetime).to_string()
    }

    /// The document and its newline, if `request` accepts one. With `kind` the document says the session's type.
    pub(super) fn document(&self, request: &Request<'_>, kind: Option<&str>) -> Option<String> {
        if !accepts(request.field("accept"), JSON) {
            return None;
        }
        let mut document = serde_json::json!({
            "key": self.issued.key.to_string(),
            "url": self.url,
            "token": self.issued.token.to_string(),
            "expires": self.expires(),
            "expires_at": http::iso_date_after(self.issued_at, self.lifetime),
            "expires_in": self.lifetime.as_secs(),
        });
        let nameplate = self.issued.nameplate.map(|nameplate| nameplate.to_string());
        let more = [("type", kind.map(str::to_owned)), ("nameplate", nameplate)];
        if let Some(document) = document.as_object_mut() {
            let more = more.into_iter().filter_map(|(name, value)| Some((name, value?)));
            document.extend(more.map(|(name, value)| (name.to_owned(), value.into())));
        }
        Some(format!("{document}\n"))
    }
}
