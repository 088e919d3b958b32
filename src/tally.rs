//! What is counted, each in a word of the worker's own record: adding to it is one relaxed addition that
//! nobody else competes for.
//!
//! Relay and worker count as things happen; `admin` sums over all records, the dead workers' too. What
//! must always hold: a [`Tally`] has one number for good, as programs of two versions may share a
//! segment while one takes over from the other. So kinds are only ever appended, within their block.

use crate::http::Status;
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

            /// What it is called in metrics.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$kind => $label,)+ }
            }
        }
    };
}

kinds! {
    /// The two ways to use the relay.
    Api {
        /// The two-step exchange.
        Exchange = "exchange",
        /// The message relay.
        Messages = "messages",
    }
}

kinds! {
    /// How it ended for one that had a sender's place.
    SenderOutcome {
        /// All was delivered, as far as the receipt level promises.
        Delivered = "delivered",
        /// The receiver left midway.
        ReceiverLeft = "receiver_left",
        /// The receiver's worker died.
        PeerWorkerLost = "peer_worker_lost",
        /// The sender itself left.
        Left = "sender_left",
        /// No receiver within the wait.
        NobodyCame = "nobody_came",
        /// The session was deleted or expired.
        Ended = "session_ended",
        /// No chunk within `chunk_wait`.
        NoChunk = "no_chunk",
        /// Its message was malformed or too large.
        Fault = "fault",
        /// Silent for too long, or below the minimum rate while others needed the room.
        TooSlow = "too_slow",
        /// The session was opened to another address.
        Barred = "barred",
        /// Another of its address took the place.
        Superseded = "superseded",
        /// Shared memory held what it must not.
        Damaged = "damaged",
        /// It waited, and the worker stopped.
        Stopped = "worker_stopped",
        /// It waited, and gave way to an address that has fewer connections.
        Displaced = "displaced",
    }
}

kinds! {
    /// How it ended for one that had a receiver's place.
    ReceiverOutcome {
        /// All of it was written, and acknowledged where the sender asked for that.
        Complete = "complete",
        /// The transfer failed midway, and the connection was cut.
        Cut = "cut",
        /// The receiver itself left.
        Left = "receiver_left",
        /// No sender within the wait.
        NobodyCame = "nobody_came",
        /// The session was deleted or expired before a byte was sent.
        Ended = "session_ended",
        /// No chunk within `chunk_wait`.
        NoChunk = "no_chunk",
        /// The length was not known, and the receiver spoke HTTP/1.0.
        NeedsLength = "needs_length",
        /// It took or acknowledged too little for too long, or the session ended after the last byte.
        GivenUp = "given_up",
        /// The session was opened to another address.
        Barred = "barred",
        /// Shared memory held what it must not.
        Damaged = "damaged",
        /// It waited, and the worker stopped.
        Stopped = "worker_stopped",
        /// It waited, and gave way to an address that has fewer connections.
        Displaced = "displaced",
    }
}

kinds! {
    /// A limit of the configuration that somebody ran into.
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
        /// A receiver that took too little while others wished for its lane's chunks.
        Stalled = "stall_rate_bytes_min",
    }
}

kinds! {
    /// How a TLS handshake ended.
    Handshake {
        /// With keys agreed on anew.
        Full = "full",
        /// With those that come from an earlier session's ticket.
        Resumed = "resumed",
        /// The client did not keep to the protocol, or to what is spoken of it here.
        Failed = "failed",
        /// The client left before its end.
        Left = "client_left",
        /// It was not over within `handshake_timeout`.
        TooLate = "too_late",
    }
}

/// Codes in the order of their tallies.
const STATUSES: [Status; 23] = [
    Status::Ok,
    Status::Created,
    Status::BadRequest,
    Status::Forbidden,
    Status::NotFound,
    Status::MethodNotAllowed,
    Status::RequestTimeout,
    Status::Conflict,
    Status::Gone,
    Status::ContentTooLarge,
    Status::UriTooLong,
    Status::ExpectationFailed,
    Status::TooManyRequests,
    Status::HeaderFieldsTooLarge,
    Status::InternalError,
    Status::NotImplemented,
    Status::BadGateway,
    Status::Unavailable,
    Status::GatewayTimeout,
    Status::VersionNotSupported,
    Status::LengthRequired,
    Status::NoContent,
    Status::Unauthorized,
];

/// Ends in the order of their tallies.
const ENDS: [End; 5] = [End::Complete, End::Deleted, End::Expired, End::Corrupt, End::Displaced];

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// An answer's head was written.
    Answer(Status),
    /// Somebody left a sender's place.
    Sender(Api, SenderOutcome),
    /// Somebody left a receiver's place.
    Receiver(Api, ReceiverOutcome),
    /// A sender's first payload, or its empty body's end, went to a receiver.
    Begun(Api),
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
    /// The worker's process was forked: counted by the master.
    WorkerForked,
    /// It ended though nobody had told it to: likewise.
    WorkerDied,
    /// A TLS handshake was over.
    Handshake(Handshake),
    /// A line found no room in the access log.
    AccessDropped,
    /// A line found no room at standard error.
    DiagnosticDropped,
    /// A part of a line is what the access log ended with: counted in one record by all who share the log.
    AccessTorn,
    /// That line was ended: likewise.
    AccessMended,
    /// A part of a line is what standard error ended with: likewise, by all processes.
    DiagnosticTorn,
    /// That line was ended: likewise.
    DiagnosticMended,
}

// Blocks of a record's tallies; each has room to grow.
const ANSWERS: usize = 0;
const SENDERS: usize = 32;
const RECEIVERS: usize = 64;
const OTHERS: usize = 96;
/// Tallies of one API within a block.
const API: usize = 16;

impl Tally {
    /// Everything that is counted.
    pub fn all() -> impl Iterator<Item = Self> {
        let by_api = |api: &'static Api| {
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
        ];
        others
            .into_iter()
            .chain(STATUSES.map(Self::Answer))
            .chain(Api::ALL.iter().flat_map(by_api))
            .chain(Limit::ALL.iter().map(|limit| Self::Limit(*limit)))
            .chain(Kind::ALL.map(Self::Issued))
            .chain(ENDS.map(Self::Ended))
            .chain(Handshake::ALL.iter().map(|end| Self::Handshake(*end)))
    }

    /// Counts it once in `record`.
    pub fn count(self, record: &WorkerRecord) {
        record.tally(self.index());
    }

    /// How often it was counted in `record`.
    #[must_use]
    pub fn read(self, record: &WorkerRecord) -> u64 {
        record.tallied(self.index())
    }

    /// How often it was counted, of a record's tallies.
    #[must_use]
    pub fn of(self, tallies: &[u64; TALLIES]) -> u64 {
        tallies.get(self.index()).copied().unwrap_or(0)
    }

    fn index(self) -> usize {
        match self {
            Self::Answer(status) => ANSWERS + at(&STATUSES, status),
            Self::Sender(api, end) => SENDERS + API * api as usize + end as usize,
            Self::Receiver(api, end) => RECEIVERS + API * api as usize + end as usize,
            Self::Request => OTHERS,
            Self::UnknownKey => OTHERS + 1,
            Self::WorkerForked => OTHERS + 2,
            Self::WorkerDied => OTHERS + 3,
            Self::Begun(api) => OTHERS + 4 + api as usize,
            Self::Issued(kind) => OTHERS + 6 + at(&Kind::ALL, kind),
            Self::Ended(end) => OTHERS + 40 + at(&ENDS, end),
            Self::Limit(limit) => OTHERS + 16 + limit as usize,
            Self::Handshake(end) => OTHERS + 24 + end as usize,
            Self::AccessDropped => OTHERS + 32,
            Self::DiagnosticDropped => OTHERS + 33,
            Self::AccessTorn => OTHERS + 34,
            Self::AccessMended => OTHERS + 35,
            Self::DiagnosticTorn => OTHERS + 36,
            Self::DiagnosticMended => OTHERS + 37,
        }
    }
}

/// Where `kind` stands in `all`; beyond every tally, so that it is not counted, if it is not there.
fn at<T: PartialEq>(all: &[T], kind: T) -> usize {
    let found = all.iter().position(|it| *it == kind);
    debug_assert!(found.is_some(), "a kind that its table lacks is never counted");
    found.unwrap_or(TALLIES)
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
        let fits = |kinds: &[SenderOutcome]| kinds.len() <= API;
        assert!(fits(SenderOutcome::ALL) && ReceiverOutcome::ALL.len() <= API);
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
