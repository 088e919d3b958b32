//! This server as the client of a request calls it: what absolute URLs begin with.
//!
//! Made by `connection` for each request, used by the routes.

use std::borrow::Cow;

/// How the client's side of the connection is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Scheme and host, the latter with its port where it is not the scheme's own.
#[derive(Debug)]
pub(super) struct Origin<'h> {
    pub(super) scheme: Scheme,
    pub(super) host: Cow<'h, str>,
}

impl Origin<'_> {
    /// The absolute URL of `path`, which begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme.as_str(), self.host)
    }

    /// Whether what a client is given travels encrypted.
    pub(super) fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }
}
