//! Counts things, each in a word of the worker's own record: counting is one relaxed addition without any
//! competition.
//!
//! Relay and worker count as things happen; `admin` sums over all records, the dead workers' too. A [`Tally`] has one
//! number for good, as programs of two versions may share a segment while one takes over from the other. So kinds are
//! only ever appended, within their block.

use crate::api::ApiName;
use crate::http::Status;
use crate::outcome::{ReceiverOutcome, SenderOutcome};
use crate::session::Kind;
use shm::{End, TALLIES, WorkerRecord};

/// Makes an enum whose kinds each have a label, and a list of all in their order.
macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $kind:ident = $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$what])* $kind,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The label in metrics.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$kind => $label,)+ }
            }
        }
    };
}

kinds! {
    /// A limit of the configuration that was reached.
    Limit {
        /// A connection too many in all.
        Connections = "connections_max",
        /// A connection too many of one address.
        ConnectionsPerAddress = "connections_per_address_max",
        /// A session too many in all.
        Sessions = "sessions_max",
        /// A session too many of one address.
        SessionsPerAddress = "sessions_per_address_max",
        /// A guess too many of one address.
        UnknownKeys = "unknown_keys_per_second_max",
        /// A receiver that took too little while other lanes requested chunks.
        Stalled = "stall_rate_bytes_min",
        /// A use of a nameplate too many of one address.
        NameplatesPerAddress = "nameplates_per_minute_max",
        /// No nameplate that was drawn was free.
        Nameplates = "nameplates",
        /// No room for a name that clients brought.
        Names = "names",
    }
}

kinds! {
    /// How a TLS handshake ended.
    Handshake {
        /// The two agreed on new keys.
        Full = "full",
        /// The keys come from an earlier session's ticket.
        Resumed = "resumed",
        /// The client did not keep to the protocol, or to what is spoken of it here.
        Failed = "failed",
        /// The client left before its end.
        Left = "client_left",
        /// The handshake was not over within `handshake_timeout`.
        TooLate = "too_late",
    }
}

/// Gives each variant of an enum from elsewhere its number in a block. The match is exhaustive, so that a new
/// variant does not compile before it has a number.
macro_rules! numbered {
    ($list:ident, $number:ident: $name:ident in $block:ident { $($kind:ident = $at:literal,)+ }) => {
        const $list: &[$name] = &[$($name::$kind,)+];

        const fn $number(kind: $name) -> usize {
            match kind { $($name::$kind => $block.word($at),)+ }
        }

        const _: () = { $(assert!($at < $block.room);)+ };
    };
}

numbered! {
    STATUSES, answer_word: Status in ANSWERS {
        Ok = 0,
        Created = 1,
        BadRequest = 2,
        Forbidden = 3,
        NotFound = 4,
        MethodNotAllowed = 5,
        RequestTimeout = 6,
        Conflict = 7,
        Gone = 8,
        ContentTooLarge = 9,
        UriTooLong = 10,
        ExpectationFailed = 11,
        TooManyRequests = 12,
        HeaderFieldsTooLarge = 13,
        InternalError = 14,
        NotImplemented = 15,
        BadGateway = 16,
        Unavailable = 17,
        GatewayTimeout = 18,
        VersionNotSupported = 19,
        LengthRequired = 20,
        NoContent = 21,
        Unauthorized = 22,
        PartialContent = 23,
        RangeNotSatisfiable = 24,
    }
}

numbered! {
    ENDS, end_word: End in ENDED {
        Complete = 0,
        Deleted = 1,
        Expired = 2,
        Corrupt = 3,
        Displaced = 4,
        Left = 5,
    }
}

numbered! {
    KINDS, kind_word: Kind in ISSUED {
        Exchange = 0,
        Basic = 1,
        Secure = 2,
        Nameplate = 3,
        Pair = 4,
    }
}

/// A thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// An answer's head was written.
    Answer(Status),
    /// A sender left its place.
    Sender(ApiName, SenderOutcome),
    /// A receiver left its place.
    Receiver(ApiName, ReceiverOutcome),
    /// A sender's first payload, or its empty body's end, went to a receiver.
    Begun(ApiName),
    /// A transfer resumed at an offset above 0.
    Resumed,
    /// A limit was hit.
    Limit(Limit),
    /// A session was issued.
    Issued(Kind),
    /// A session ended; one whose lifetime is over, once somebody notices.
    Ended(End),
    /// A request's head was read.
    Request,
    /// A key was named that is no session's.
    UnknownKey,
    /// A worker process was forked. The master counts this.
    WorkerForked,
    /// The worker's process ended without an order: counted by the master.
    WorkerDied,
    /// A TLS handshake was over.
    Handshake(Handshake),
    /// A line found no room in the access log.
    AccessDropped,
    /// A line found no room at standard error.
    DiagnosticDropped,
    /// The access log ended with a part of a line. All who share the log count in one record.
    AccessTorn,
    /// A torn line was ended: counted in the same record.
    AccessMended,
    /// Standard error ended with a part of a line. All processes count in one record.
    DiagnosticTorn,
    /// A torn line was ended: counted in the same record.
    DiagnosticMended,
}

/// A range of a record's words, with room to grow.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    room: usize,
}

impl Block {
    /// The block of `room` words that follows this one.
    const fn then(self, room: usize) -> Self {
        Self { first: self.first + self.room, room }
    }

    /// The word of what has `number` in this block.
    const fn word(self, number: usize) -> usize {
        debug_assert!(number < self.room, "the block is full");
        self.first + number
    }
}

const ANSWERS: Block = Block { first: 0, room: 40 };
const ISSUED: Block = ANSWERS.then(8);
const ENDED: Block = ISSUED.then(8);
const LIMITS: Block = ENDED.then(12);
const HANDSHAKES: Block = LIMITS.then(8);
const SINGLES: Block = HANDSHAKES.then(16);

/// The number of APIs that fit. Their words stand last: a release with more APIs appends, and renumbers nothing. Each API
/// takes 74 KiB of the segment, and the smallest segment has 8 MiB.
const APIS: usize = 4;
/// The number of outcomes of one API that fit, by role.
const SENDER_OUTCOMES: usize = 20;
const RECEIVER_OUTCOMES: usize = 16;
/// The words of the first API: its outcomes, and the attempts that have begun.
const API: Block = SINGLES.then(SENDER_OUTCOMES + RECEIVER_OUTCOMES + 1);

const _: () = {
    assert!(API.first + APIS * API.room <= TALLIES);
    assert!(ApiName::ALL.len() <= APIS);
    assert!(SenderOutcome::ALL.len() <= SENDER_OUTCOMES);
    assert!(ReceiverOutcome::ALL.len() <= RECEIVER_OUTCOMES);
    assert!(Limit::ALL.len() <= LIMITS.room);
    assert!(Handshake::ALL.len() <= HANDSHAKES.room);
};

impl Tally {
    /// All tallies.
    pub fn all() -> impl Iterator<Item = Self> {
        let by_api = |api: &'static ApiName| {
            let senders = SenderOutcome::ALL.iter().map(|end| Self::Sender(*api, *end));
            let receivers = ReceiverOutcome::ALL.iter().map(|end| Self::Receiver(*api, *end));
            [Self::Begun(*api)].into_iter().chain(senders).chain(receivers)
        };
        let others = [
            Self::Request,
            Self::UnknownKey,
            Self::WorkerForked,
            Self::WorkerDied,
            Self::AccessDropped,
            Self::DiagnosticDropped,
            Self::AccessTorn,
            Self::AccessMended,
            Self::DiagnosticTorn,
            Self::DiagnosticMended,
            Self::Resumed,
        ];
        others
            .into_iter()
            .chain(STATUSES.iter().map(|status| Self::Answer(*status)))
            .chain(ApiName::ALL.iter().flat_map(by_api))
            .chain(Limit::ALL.iter().map(|limit| Self::Limit(*limit)))
            .chain(KINDS.iter().map(|kind| Self::Issued(*kind)))
            .chain(ENDS.iter().map(|end| Self::Ended(*end)))
            .chain(Handshake::ALL.iter().map(|end| Self::Handshake(*end)))
    }

    /// Counts it once in `record`.
    pub fn count(self, record: &WorkerRecord) {
        record.count_tally(self.index());
    }

    /// The count in `record`.
    #[must_use]
    pub fn read(self, record: &WorkerRecord) -> u64 {
        record.tally(self.index())
    }

    /// The count among a record's tallies.
    #[must_use]
    pub fn of(self, tallies: &[u64; TALLIES]) -> u64 {
        tallies.get(self.index()).copied().unwrap_or(0)
    }

    fn index(self) -> usize {
        match self {
            Self::Answer(status) => answer_word(status),
            Self::Sender(api, end) => api_word(api, end.number()),
            Self::Receiver(api, end) => api_word(api, SENDER_OUTCOMES + end.number()),
            Self::Begun(api) => api_word(api, SENDER_OUTCOMES + RECEIVER_OUTCOMES),
            Self::Issued(kind) => kind_word(kind),
            Self::Ended(end) => end_word(end),
            Self::Limit(limit) => LIMITS.word(limit as usize),
            Self::Handshake(end) => HANDSHAKES.word(end as usize),
            Self::Request => SINGLES.word(0),
            Self::UnknownKey => SINGLES.word(1),
            Self::WorkerForked => SINGLES.word(2),
            Self::WorkerDied => SINGLES.word(3),
            Self::AccessDropped => SINGLES.word(4),
            Self::DiagnosticDropped => SINGLES.word(5),
            Self::AccessTorn => SINGLES.word(6),
            Self::AccessMended => SINGLES.word(7),
            Self::DiagnosticTorn => SINGLES.word(8),
            Self::DiagnosticMended => SINGLES.word(9),
            Self::Resumed => SINGLES.word(10),
        }
    }
}

/// The word of `api` with `number`: senders' outcomes, then receivers', then the attempts that have begun.
fn api_word(api: ApiName, number: usize) -> usize {
    api as usize * API.room + API.word(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_word_of_its_own() {
        let mut indices: Vec<_> = Tally::all().map(Tally::index).collect();
        let count = indices.len();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), count, "two share a word");
        assert!(indices.last().is_some_and(|last| *last < TALLIES), "{indices:?}");
    }

    #[test]
    fn what_is_counted_is_found_again_and_nothing_else() {
        let record = WorkerRecord::new();
        for (times, tally) in Tally::all().enumerate() {
            (0..times).for_each(|_| tally.count(&record));
        }
        let tallies = record.tallies();
        for (times, tally) in Tally::all().enumerate() {
            assert_eq!(tally.of(&tallies), times as u64, "{tally:?}");
        }
    }
}
