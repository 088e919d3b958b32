//! The table of outcomes: the answer to each party at the end of a transfer. The transaction asks for it once it
//! knows the outcome. The text of an answer is what people read, so it names the peer and the cause.

use super::answer::{Answer, DAMAGED, FORBIDDEN};
use super::{Api, RequestInfo, messages};
use crate::http::Status;
use crate::outcome::{ReceiverOutcome, Report, SenderOutcome};
use shm::End;

const NO_CHUNK: &str = "the relay has no free memory for this transfer: try again";

/// The sender's answer. `None`: the sender has left.
pub(crate) fn to_sender(report: &Report, api: &Api, info: &RequestInfo) -> Option<Answer> {
    let (status, text) = match report.outcome {
        SenderOutcome::Delivered(_) => return Some(api.delivered(report, info)),
        SenderOutcome::NobodyCame if let Api::Messages { renewal } = api => {
            return Some(messages::nobody_came(renewal.as_deref()));
        }
        SenderOutcome::Forbidden => (Status::Forbidden, FORBIDDEN),
        SenderOutcome::Superseded => (Status::Conflict, "another sender took the place"),
        SenderOutcome::ReceiverLeft => (Status::BadGateway, "receiver left"),
        SenderOutcome::PeerWorkerLost => (Status::BadGateway, "peer worker lost"),
        SenderOutcome::StartsTooLate { wanted } => {
            let text = format!("the receiver waits for byte {wanted} and what follows");
            return Some(Answer::error(Status::Unavailable, &text, info).resume_at(wanted));
        }
        SenderOutcome::Unfit => (Status::Conflict, "the receiver has a part of another file"),
        SenderOutcome::NobodyCame => {
            let text = with_count(&nobody_came("receiver", info), report);
            return Some(Answer::error(Status::GatewayTimeout, &text, info).with_count(report));
        }
        SenderOutcome::Ended(end) => (Status::Gone, ended(end)),
        SenderOutcome::NoChunk => (Status::Unavailable, NO_CHUNK),
        SenderOutcome::TooSlow => (
            Status::RequestTimeout,
            "the transfer is slower than the minimum rate, and others need the room",
        ),
        SenderOutcome::Silent => (Status::RequestTimeout, "the sender was silent for too long"),
        SenderOutcome::Damaged(_) => (Status::InternalError, DAMAGED),
        SenderOutcome::Left
        | SenderOutcome::Stopped
        | SenderOutcome::Displaced
        // A pair has no answers.
        | SenderOutcome::BrokenDialect => return None,
        SenderOutcome::Fault(fault) => {
            let text = with_count(&fault.to_string(), report);
            return Some(Answer::error(fault.status(), &text, info).with_count(report));
        }
    };
    let answer = Answer::error(status, &with_count(text, report), info).with_count(report);
    Some(match (report.resume_at, status) {
        (Some(offset), Status::BadGateway) => answer.resume_at(offset),
        _ => answer,
    })
}

fn with_count(text: &str, report: &Report) -> String {
    match report.delivered {
        Some(bytes) => format!("{text}: delivered {bytes} bytes"),
        None => text.to_owned(),
    }
}

/// The receiver's answer. `None`: its connection is cut, or goes on with the next request.
pub(crate) fn to_receiver(
    outcome: ReceiverOutcome,
    api: &Api,
    info: &RequestInfo,
) -> Option<Answer> {
    let (status, text) = match outcome {
        ReceiverOutcome::NobodyCame if let Api::Messages { renewal } = api => {
            return Some(messages::nobody_came(renewal.as_deref()));
        }
        ReceiverOutcome::Forbidden => (Status::Forbidden, FORBIDDEN),
        ReceiverOutcome::NobodyCame => {
            let text = nobody_came("sender", info);
            return Some(Answer::error(Status::GatewayTimeout, &text, info));
        }
        ReceiverOutcome::Ended(end) => (Status::Gone, ended(end)),
        ReceiverOutcome::NoChunk => (Status::Unavailable, NO_CHUNK),
        ReceiverOutcome::NeedsLength => {
            (Status::VersionNotSupported, "the length is unknown: ask with HTTP/1.1")
        }
        ReceiverOutcome::Unfit => {
            let text = "the sender's file is not the one that you have a part of: ask without Range to get all of it";
            (Status::Conflict, text)
        }
        ReceiverOutcome::Damaged(_) => (Status::InternalError, DAMAGED),
        ReceiverOutcome::Complete
        | ReceiverOutcome::Cut
        | ReceiverOutcome::GivenUp
        | ReceiverOutcome::Left
        // The transaction answers these two itself.
        | ReceiverOutcome::Stopped
        | ReceiverOutcome::Displaced => return None,
    };
    Some(Answer::error(status, text, info))
}

/// Says who did not come, and how long the party waited.
fn nobody_came(who: &str, info: &RequestInfo) -> String {
    format!("no {who} came within {} s", info.wait.as_secs_f64())
}

fn ended(end: End) -> &'static str {
    match end {
        End::Complete => "the session's transfer is complete",
        End::Deleted => "the session was deleted",
        End::Expired => "the session has expired",
        End::Displaced => {
            "the relay ended the session: nobody was in it, and all sessions were in use"
        }
        End::Left => "the other party has left",
        End::Corrupt => DAMAGED,
    }
}
