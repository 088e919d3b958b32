//! The table of outcomes: what each party is told at the end of a transfer.

use super::answer::{Answer, Asked};
use crate::http::Status;
use crate::relay::{Received, Report, Sent};
use shm::End;

/// What the sender is told. `None`: it has left.
pub(super) fn to_sender(report: &Report, asked: &Asked) -> Option<Answer> {
    let (status, text) = match report.sent {
        Sent::Delivered(_) => return Some(delivered(report)),
        Sent::ReceiverLeft => (Status::BadGateway, "receiver left"),
        Sent::PeerWorkerLost => (Status::BadGateway, "peer worker lost"),
        Sent::NobodyCame => (Status::GatewayTimeout, "no receiver came"),
        Sent::Ended(end) => (Status::Gone, ended(end)),
        Sent::NoChunk => (Status::Unavailable, "no memory to relay with at the moment"),
        Sent::TooSlow => (Status::RequestTimeout, "slower than the minimum rate"),
        Sent::Refused(_) => (Status::InternalError, "the session's state is damaged"),
        Sent::Left => return None,
        Sent::Fault(fault) => {
            let text = with_count(&fault.to_string(), report);
            return Some(Answer::error(fault.status(), &text, asked).with_count(report));
        }
    };
    Some(Answer::error(status, &with_count(text, report), asked).with_count(report))
}

fn delivered(report: &Report) -> Answer {
    let bytes = report.delivered.unwrap_or(0);
    Answer::text(Status::Ok, format!("delivered {bytes} bytes\n")).with_count(report)
}

fn with_count(text: &str, report: &Report) -> String {
    match report.delivered {
        Some(bytes) => format!("{text}: delivered {bytes} bytes"),
        None => text.to_owned(),
    }
}

/// What the receiver is told. `None`: its connection is cut, or goes on with the next request.
pub(super) fn to_receiver(received: Received, asked: &Asked) -> Option<Answer> {
    let (status, text) = match received {
        Received::NobodyCame => (Status::GatewayTimeout, "no sender came"),
        Received::Ended(end) => (Status::Gone, ended(end)),
        Received::NoChunk => (Status::Unavailable, "no memory to relay with at the moment"),
        Received::NeedsLength => {
            (Status::VersionNotSupported, "the length is not known, which takes HTTP/1.1")
        }
        Received::Refused(_) => (Status::InternalError, "the session's state is damaged"),
        Received::Complete
        | Received::Truncated
        | Received::GivenUp
        | Received::Left
        | Received::Again => return None,
    };
    Some(Answer::error(status, text, asked))
}

fn ended(end: End) -> &'static str {
    match end {
        End::Complete => "the session's transfer is complete",
        End::Deleted => "the session was deleted",
        End::Expired => "the session has expired",
        End::Corrupt => "the session's state is damaged",
    }
}
