//! Where the two APIs differ: what a transfer means to its session, and how it is answered.

use crate::http::token_cookie;
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

/// A token cookie that is renewed with an answer.
#[derive(Clone)]
pub struct Renewal {
    /// The token, as its owner sent it.
    pub token: String,
    /// The session's path.
    pub path: String,
    /// For how long, from the answer.
    pub lifetime: Duration,
}

impl Renewal {
    /// The value of `Set-Cookie` in an answer that is given now.
    #[must_use]
    pub fn cookie(&self) -> String {
        token_cookie(&self.token, &self.path, SystemTime::now(), self.lifetime)
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal(..)")
    }
}
