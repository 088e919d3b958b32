//! Where the APIs differ: the receiver's head, the sender's answer, the effect on the session, what a truncation looks like.
//!
//! `relay` and `worker` call [`Api`], which has one file for each API; the other files are what the APIs share. The room
//! knows no socket, and of shared memory only the words that its types are made of.

mod announcement;
mod answer;
mod encoder;
mod exchange;
mod info;
mod messages;
mod outcomes;
mod role;

pub use announcement::{AnnouncedFile, Announcement, OfferedFile};
pub(crate) use answer::{Answer, FORBIDDEN, OFFSET};
pub use encoder::RELAYED_FIELDS;
pub(crate) use encoder::{ConnectionFields, Encoder};
pub(crate) use info::RequestInfo;
pub use messages::Renewal;
pub(crate) use outcomes::{to_receiver, to_sender};
pub use role::MessageRole;

use crate::http::{ResponseHead, Status};
use crate::outcome::{Report, SenderOutcome};

/// The name of an API, by which it is counted and written down, and what depends on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiName {
    /// The two-step exchange.
    Exchange,
    /// The message relay.
    Messages,
    /// Pairs, which are no HTTP.
    Pair,
}

impl ApiName {
    /// All of them, in the order of their numbers in shared memory.
    pub const ALL: &[Self] = &[Self::Exchange, Self::Messages, Self::Pair];

    /// The label in metrics and in the access log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Messages => "messages",
            Self::Pair => "pair",
        }
    }

    /// Whether a complete transfer ends the session. If not, it renews it.
    pub(crate) fn ends_session(self) -> bool {
        matches!(self, Self::Exchange)
    }

    /// Whether a chunked body that is not whole is ended, with a trailer that says so. If not, the connection is cut.
    pub(crate) fn marks_truncation(self) -> bool {
        matches!(self, Self::Messages)
    }
}

/// The API that a transfer belongs to.
#[derive(Clone, Debug)]
pub enum Api {
    /// The exchange of a file, to be saved under its name.
    Exchange,
    /// A message.
    Messages {
        /// The cookie that the answer renews, where the party is the host.
        renewal: Option<Box<Renewal>>,
    },
}

impl Api {
    /// The API's name.
    #[must_use]
    pub fn name(&self) -> ApiName {
        match self {
            Self::Exchange => ApiName::Exchange,
            Self::Messages { .. } => ApiName::Messages,
        }
    }

    /// Whether a sender with this outcome is told that all was delivered, and is told so again when it comes again without
    /// knowing.
    pub(crate) fn tells_delivery(&self, outcome: SenderOutcome) -> bool {
        matches!((self, outcome), (Self::Exchange, SenderOutcome::Delivered(_)))
    }

    /// Writes the fields of a relayed answer that no other API has.
    fn write_fields(&self, head: &mut ResponseHead<'_>, status: Status, announced: &Announcement) {
        match self {
            Self::Exchange => exchange::write_fields(head, status, announced),
            Self::Messages { renewal } => {
                messages::write_fields(head, announced, renewal.as_deref());
            }
        }
    }

    /// The sender's answer for a success.
    fn delivered(&self, report: &Report, info: &RequestInfo) -> Answer {
        match self {
            Self::Exchange => exchange::delivered(report),
            Self::Messages { renewal } => messages::delivered(report, renewal.as_deref(), info),
        }
    }
}
