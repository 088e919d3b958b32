//! The letters of a transfer, as JSON. Keys that a client does not know are left out of account, so a later version can
//! add some.

use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// The sender's first letter: what it has.
#[derive(Serialize, Deserialize)]
pub(crate) struct Offer {
    /// The name of the file, as the sender has it.
    pub(crate) name: String,
    /// Its length. Absent of a stream, which has none before its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// The age identity that opens the file, made for this transfer alone.
    pub(crate) identity: Zeroizing<String>,
}

/// The receiver's first letter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It takes the file.
    Accepted,
    /// It does not take the file, and says why.
    Refused(String),
}

/// The sender's last letter: how the file must have arrived.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Its length.
    pub(crate) bytes: u64,
    /// Its BLAKE3, in hexadecimal digits.
    pub(crate) blake3: String,
}

/// The receiver's last letter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It has the whole file under its name.
    Confirmed,
    /// It has not, and says why.
    Failed(String),
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
