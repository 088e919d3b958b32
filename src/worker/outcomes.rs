//! The table of outcomes: what each party is told at the end of a transfer.

use super::answer::{Answer, Asked};
use crate::http::Status;
use crate::relay::{Manner, Received, Renewal, Report, Sent};
use shm::End;

/// Of a secure session, to whoever its host has not named.
pub(super) const BARRED: &str = "this session is for another address";

/// Of a session whose words in shared memory were refused.
pub(super) const DAMAGED: &str = "the session's state is damaged";

const NO_CHUNK: &str = "no memory to relay with at the moment";

/// What the sender is told. `None`: it has left.
pub(super) fn to_sender(report: &Report, manner: &Manner, asked: &Asked) -> Option<Answer> {
    let (status, text) = match report.sent {
        Sent::Delivered(_) => return Some(delivered(report, manner, asked)),
        Sent::NobodyCame if let Manner::Message { renewal } = manner => {
            return Some(message(Status::GatewayTimeout, renewal.as_deref()));
        }
        Sent::Barred => (Status::Forbidden, BARRED),
        Sent::Superseded => (Status::Conflict, "another sender took the place"),
        Sent::ReceiverLeft => (Status::BadGateway, "receiver left"),
        Sent::PeerWorkerLost => (Status::BadGateway, "peer worker lost"),
        Sent::NobodyCame => {
            let text = with_count(&nobody_came("receiver", asked), report);
            return Some(Answer::error(Status::GatewayTimeout, &text, asked).with_count(report));
        }
        Sent::Ended(end) => (Status::Gone, ended(end)),
        Sent::NoChunk => (Status::Unavailable, NO_CHUNK),
        Sent::TooSlow => {
            (Status::RequestTimeout, "slower than the minimum rate, while others need the room")
        }
        Sent::Silent => (Status::RequestTimeout, "nothing was sent for too long"),
        Sent::Refused(_) => (Status::InternalError, DAMAGED),
        Sent::Left => return None,
        Sent::Fault(fault) => {
            let text = with_count(&fault.to_string(), report);
            return Some(Answer::error(fault.status(), &text, asked).with_count(report));
        }
    };
    Some(Answer::error(status, &with_count(text, report), asked).with_count(report))
}

fn delivered(report: &Report, manner: &Manner, asked: &Asked) -> Answer {
    let bytes = report.delivered.unwrap_or(0);
    let Manner::Message { renewal } = manner else {
        return Answer::text(Status::Ok, format!("delivered {bytes} bytes\n")).with_count(report);
    };
    let answer = message(Status::Ok, renewal.as_deref()).with_count(report);
    // The same count by the name that the message API has for it.
    if asked.chunked { answer.with("X-Bytes-Relayed", bytes.to_string()) } else { answer }
}

/// An answer of the message API: empty, and with the host's cookie anew.
fn message(status: Status, renewal: Option<&Renewal>) -> Answer {
    let answer = Answer::empty(status);
    match renewal {
        Some(renewal) => answer.with("Set-Cookie", renewal.cookie()),
        None => answer,
    }
}

fn with_count(text: &str, report: &Report) -> String {
    match report.delivered {
        Some(bytes) => format!("{text}: delivered {bytes} bytes"),
        None => text.to_owned(),
    }
}

/// What the receiver is told. `None`: its connection is cut, or goes on with the next request.
pub(super) fn to_receiver(received: Received, manner: &Manner, asked: &Asked) -> Option<Answer> {
    let (status, text) = match received {
        Received::NobodyCame if let Manner::Message { renewal } = manner => {
            return Some(message(Status::GatewayTimeout, renewal.as_deref()));
        }
        Received::Barred => (Status::Forbidden, BARRED),
        Received::NobodyCame => {
            let text = nobody_came("sender", asked);
            return Some(Answer::error(Status::GatewayTimeout, &text, asked));
        }
        Received::Ended(end) => (Status::Gone, ended(end)),
        Received::NoChunk => (Status::Unavailable, NO_CHUNK),
        Received::NeedsLength => {
            (Status::VersionNotSupported, "the length is not known, which takes HTTP/1.1")
        }
        Received::Refused(_) => (Status::InternalError, DAMAGED),
        Received::Complete
        | Received::Truncated
        | Received::GivenUp
        | Received::Left
        | Received::Again => return None,
    };
    Some(Answer::error(status, text, asked))
}

/// Who did not come, and how long that was waited for.
fn nobody_came(who: &str, asked: &Asked) -> String {
    format!("no {who} came within {} s", asked.wait.as_secs_f64())
}

fn ended(end: End) -> &'static str {
    match end {
        End::Complete => "the session's transfer is complete",
        End::Deleted => "the session was deleted",
        End::Expired => "the session has expired",
        End::Displaced => {
            "the session was given up: nobody was in it, and all sessions were in use"
        }
        End::Corrupt => DAMAGED,
    }
}
