//! Where the two APIs differ: what a transfer means to its session, and how it is answered.

use crate::http::token_cookie;
use crate::tally::Api;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Which API a transfer belongs to.
#[derive(Clone, Debug)]
pub enum Manner {
    /// A file of the two-step exchange, to be saved under its name. A complete one ends its session;
    /// where it is not whole, the receiver's connection is cut.
    File,
    /// A message. One that is complete begins its session's lifetime anew; a chunked one that is not
    /// whole is ended all the same, and says so in its trailer.
    Message {
        /// The cookie to renew with the answer, if the party has one.
        renewal: Option<Box<Renewal>>,
    },
}

/// What a client is to a session of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
    /// Its request has brought the session's token.
    Host,
    /// It has brought none, or another one.
    Guest,
}

impl MessageRole {
    /// The field by which every answer of the message API says it: a host that has lost its token is not to find out by
    /// waiting for its own messages.
    pub const FIELD: &'static str = "X-Role";

    /// What the field says.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }
}

impl Manner {
    /// Which API it is counted for.
    #[must_use]
    pub fn api(&self) -> Api {
        match self {
            Self::File => Api::Exchange,
            Self::Message { .. } => Api::Messages,
        }
    }

    /// Whether the session is over once the transfer is complete.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, Self::File)
    }

    /// Whether a chunked body that is not whole is ended, with a trailer that says so.
    pub(super) fn marks_truncation(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
}

/// The cookie with which a host gets its token, and has it renewed.
#[derive(Clone)]
pub struct Renewal {
    /// The token.
    pub token: String,
    /// The session's path.
    pub path: String,
    /// Whether the client is to send it over HTTPS alone, as it came.
    pub https: bool,
    /// For how long, from the answer.
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
