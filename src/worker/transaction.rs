//! A request, from its head to the end of its answer: its claim of a place, its transfer, its answer, and its entry
//! in the access log.
//!
//! `Connection` makes a transaction for each head that it has read, and one for each answer that it gives without a
//! request, and drives it a step at a time. Invariant: whether the connection goes on is decided once, where the head
//! of the answer is written, and the connection keeps what that head has said.

mod log;
mod view;

use std::ops::ControlFlow;

use shm::{LaneRef, TakeError};

use super::action::{Action, PlaceRequest};
use super::claim::{Claim, Claimed};
use super::report_watch::ReportWatch;
use crate::access::LogEntry;
use crate::api::{self, Answer, RequestInfo};
use crate::http::Status;
use crate::outcome::{ReceiverOutcome, Report, SenderOutcome};
use crate::relay::{Cx, Env, Io, ReceiveRequest, Receiving, Sending, Turn};
use crate::sys::SendOutcome;
use crate::tally::Tally;
pub(super) use log::log_entry;
pub(super) use view::Standstill;

/// Bytes that a client may have sent after a chunked body. With more, its connection is not kept alive: the bytes would
/// be kept for as long as the next request waits.
const PIPELINED_BYTES_MAX: u64 = 2048;

/// The time for which a connection is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Serves as many requests as its client likes.
    Lasting,
    /// The next answer is the last, because the worker drains. A client that waits may go on waiting.
    LastAnswer,
    /// The running transfer is the last, because the worker stops. No client waits any more.
    Ending,
}

/// The part of its connection that a transaction uses.
#[derive(Debug)]
pub(super) struct Transport<'c> {
    pub(super) io: Io<'c>,
    pub(super) service: Service,
    pub(super) report_watch: &'c mut ReportWatch,
}

/// A request that is served.
#[derive(Debug)]
pub(super) struct Transaction {
    info: RequestInfo,
    log_entry: Option<Box<LogEntry>>,
    stage: Stage,
    /// The head of the answer has said that the connection goes on.
    said_goes_on: bool,
}

#[derive(Debug)]
enum Stage {
    /// Waits for a place to come free.
    Claim(Box<Claim>),
    Sending(Box<Sending>),
    Receiving(Box<Receiving>),
    /// Waits for room in the socket for an answer.
    Answer {
        deadline_ms: u64,
    },
    /// Holds nothing any more.
    Over,
}

/// The future of the connection when the transaction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The connection may bring the next request.
    GoesOn,
    /// The connection ends as soon as its client has seen the answer.
    Linger,
    /// The connection ends at once.
    Close,
}

/// The result of one step: go on with the next one, or end this turn.
pub(super) type Step = ControlFlow<Turn<Done>>;

const NEXT: Step = ControlFlow::Continue(());
const CLOSE: Step = ControlFlow::Break(Turn::Over(Done::Close));

impl Transaction {
    /// Carries out `action`, which a request asks for.
    pub(super) fn begin(
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        info: RequestInfo,
        log_entry: Option<Box<LogEntry>>,
        action: Action,
    ) -> Self {
        let mut transaction = Self { info, log_entry, stage: Stage::Over, said_goes_on: false };
        match action {
            Action::Answer(answer) => transaction.answer(cx, transport, &answer),
            Action::Claim { lane, place_request, wait } => {
                transaction.info.wait = wait;
                transaction.begin_claim(cx, lane, place_request);
            }
        }
        transaction
    }

    fn begin_claim(&mut self, cx: Cx<'_>, lane: LaneRef, place_request: PlaceRequest) {
        if let Some(entry) = &mut self.log_entry {
            entry.asks_for(place_request.role());
        }
        let wait_ends_ms = cx.after(self.info.wait);
        self.stage = Stage::Claim(Claim::new(cx, lane, place_request, wait_ends_ms));
    }

    /// Does the next thing that can be done now.
    pub(super) fn step(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        match self.stage {
            Stage::Claim(_) => self.claim(cx, transport),
            Stage::Sending(_) => self.send(cx, transport),
            Stage::Receiving(_) => self.receive(cx, transport),
            Stage::Answer { deadline_ms } => self.write_answer(cx, transport, deadline_ms),
            Stage::Over => CLOSE,
        }
    }

    /// Tries to take the place.
    fn claim(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        if transport.service == Service::Ending {
            return self.stop_waiting(cx, transport);
        }
        let Stage::Claim(claim) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return NEXT;
        };
        let stream = &mut transport.io.stream;
        if claim.waits() {
            stream.look();
        }
        // A sender's FIN that comes before the first try may only mean that it has sent its whole request. After a try
        // that failed, a FIN means that the client left.
        if stream.is_broken() || (stream.is_leaving() && claim.waits()) {
            claim.leave(cx.env);
            return CLOSE;
        }
        let (slot, comes_back) = (claim.slot(), claim.comes_back());
        match claim.ask(cx) {
            Claimed::Sending(sending) => self.stage = Stage::Sending(sending),
            Claimed::Receiving(receiving) => self.stage = Stage::Receiving(receiving),
            Claimed::NotYet(claim) => {
                self.stage = Stage::Claim(claim);
                return ControlFlow::Break(Turn::Wait);
            }
            Claimed::No(error) => {
                let answer = self.refused(error, slot, comes_back);
                self.answer(cx, transport, &answer);
            }
        }
        NEXT
    }

    fn refused(&self, error: TakeError, slot: u32, comes_back: bool) -> Answer {
        match error {
            TakeError::Ended if comes_back => {
                Answer::error(Status::Gone, "the session is over", &self.info)
            }
            TakeError::Ended => Answer::no_session(&self.info),
            TakeError::Held | TakeError::Leaving => {
                Answer::error(Status::Conflict, "the place is taken", &self.info)
            }
            TakeError::Refused(refusal) => Answer::damaged(refusal, slot, &self.info),
        }
    }

    /// Does a sender's turn.
    fn send(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        let Stage::Sending(sending) = &mut self.stage else { return NEXT };
        let io = &mut transport.io;
        let turn = sending.turn(cx, io);
        // The outbox holds nothing but an interim answer, for which the socket has room.
        io.outbox.flush(io.stream);
        let is_waiting = sending.is_waiting();
        self.log_sending(&turn, cx.now_ms);
        match turn {
            Turn::Wait if transport.service == Service::Ending && is_waiting => {
                self.stop_waiting(cx, transport)
            }
            Turn::Wait => ControlFlow::Break(Turn::Wait),
            Turn::Again => ControlFlow::Break(Turn::Again),
            Turn::Over(report) => self.end_sending(cx, transport, &report),
        }
    }

    fn end_sending(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, report: &Report) -> Step {
        let Stage::Sending(sending) = &self.stage else { return NEXT };
        let (outcome, api) = (report.outcome, sending.api());
        let kept_bytes = transport.io.inbox.len() as u64 + transport.io.stream.kept();
        // After a fault the relay does not know where the next request begins.
        self.info.unread = !sending.has_read_all()
            || matches!(outcome, SenderOutcome::Fault(_))
            || kept_bytes > PIPELINED_BYTES_MAX;
        cx.env.count(Tally::Sender(api.name(), outcome));
        let answer = api::to_sender(report, api, &self.info);
        let session = sending.lane().session;
        let tells = api.tells_delivery(outcome);
        self.leave(cx.env);
        match answer {
            Some(answer) if tells => self.answer(cx, transport, &answer.telling(session)),
            Some(answer) => self.answer(cx, transport, &answer),
            None => return CLOSE,
        }
        NEXT
    }

    /// Does a receiver's turn.
    fn receive(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        let goes_on = self.goes_on(transport.service);
        let Stage::Receiving(receiving) = &mut self.stage else { return NEXT };
        if receiving.is_waiting() {
            receiving.set_keep_alive(goes_on);
            self.said_goes_on = goes_on;
        }
        let io = &mut transport.io;
        let turn = receiving.turn(cx, io);
        let stands_still = receiving.stands_still();
        self.log_receiving(&turn, cx.now_ms);
        match turn {
            Turn::Wait if transport.service == Service::Ending && stands_still => {
                self.stop_waiting(cx, transport)
            }
            Turn::Wait => ControlFlow::Break(Turn::Wait),
            Turn::Again => ControlFlow::Break(Turn::Again),
            Turn::Over(None) => self.wait_for_another(cx),
            Turn::Over(Some(outcome)) => self.end_receiving(cx, transport, outcome),
        }
    }

    fn end_receiving(
        &mut self,
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        outcome: ReceiverOutcome,
    ) -> Step {
        let Stage::Receiving(receiving) = &self.stage else { return NEXT };
        cx.env.count(Tally::Receiver(receiving.api().name(), outcome));
        let answer = api::to_receiver(outcome, receiving.api(), &self.info);
        self.leave(cx.env);
        match (outcome, answer) {
            (ReceiverOutcome::Complete, _) => return self.done(cx, transport.service),
            (ReceiverOutcome::GivenUp, _) => {
                transport.io.stream.reset_on_close();
                return CLOSE;
            }
            (_, Some(answer)) => self.answer(cx, transport, &answer),
            (_, None) => return CLOSE,
        }
        NEXT
    }

    /// Claims the place again, to wait for another sender: the receiver's sender has left before the first byte.
    fn wait_for_another(&mut self, cx: Cx<'_>) -> Step {
        let Stage::Receiving(receiving) = &self.stage else { return NEXT };
        let (lane, wait_ends_ms) = (receiving.lane(), receiving.wait_ends_ms());
        let Some(receive_request) = self.leave(cx.env) else { return CLOSE };
        self.stage = Stage::Claim(Claim::again(cx, lane, receive_request, wait_ends_ms));
        NEXT
    }

    fn stop_waiting(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        self.log_end(cx.env, SenderOutcome::Stopped, ReceiverOutcome::Stopped);
        self.leave(cx.env);
        let text = "the relay is being stopped, or has been reloaded";
        let answer = Answer::error(Status::Unavailable, text, &self.info);
        self.answer(cx, transport, &answer);
        NEXT
    }

    /// Ends a transaction that waits, with `answer`: it gives way to others.
    pub(super) fn displace(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, answer: &Answer) {
        self.log_end(cx.env, SenderOutcome::Displaced, ReceiverOutcome::Displaced);
        self.leave(cx.env);
        self.info.keep_alive = false;
        self.answer(cx, transport, answer);
    }

    /// Begins to write an answer. The client gets as much time to take it as to write a head.
    fn answer(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, answer: &Answer) {
        // Bytes that follow a head without a length may be a body, and are no request.
        self.info.unread |= answer.status() == Status::LengthRequired;
        self.said_goes_on = self.goes_on(transport.service);
        let deadline_ms = cx.after(cx.env.config.timeouts.head_timeout);
        transport.report_watch.begin(cx, answer.tells());
        answer.write(transport.io.outbox.bytes(), &self.info, self.said_goes_on);
        cx.env.count(Tally::Answer(answer.status()));
        self.log_answer(cx, transport.io.inbox, answer);
        self.stage = Stage::Answer { deadline_ms };
    }

    fn write_answer(
        &mut self,
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        deadline_ms: u64,
    ) -> Step {
        match transport.io.outbox.flush(transport.io.stream) {
            SendOutcome::Bytes(_) => self.done(cx, transport.service),
            SendOutcome::WouldBlock if cx.now_ms < deadline_ms => ControlFlow::Break(Turn::Wait),
            SendOutcome::WouldBlock | SendOutcome::Broken => CLOSE,
        }
    }

    /// Ends the transaction: the answer is written.
    fn done(&mut self, cx: Cx<'_>, service: Service) -> Step {
        self.write_entry(cx.env, cx.now_ms);
        let goes_on = self.said_goes_on && service != Service::Ending;
        ControlFlow::Break(Turn::Over(if goes_on { Done::GoesOn } else { Done::Linger }))
    }

    /// Whether the connection serves another request after this one.
    fn goes_on(&self, service: Service) -> bool {
        is_kept_alive(&self.info, service)
    }

    pub(super) fn info(&self) -> &RequestInfo {
        &self.info
    }

    /// Sets the time by which the answer must be written.
    pub(super) fn answer_by(&mut self, by_ms: u64) {
        if let Stage::Answer { deadline_ms } = &mut self.stage {
            *deadline_ms = by_ms;
        }
    }

    /// Ends without an answer, if none was given.
    pub(super) fn close(&mut self, env: &Env, unwritten_bytes: usize) {
        self.log_parting(env, unwritten_bytes);
        self.leave(env);
    }

    /// Leaves the place it holds. Returns what a receiver asked for.
    fn leave(&mut self, env: &Env) -> Option<ReceiveRequest> {
        let (receive_request, left) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Sending(sending) => (None, sending.leave(env)),
            Stage::Receiving(receiving) => {
                let (receive_request, left) = receiving.leave(env);
                (Some(receive_request), left)
            }
            Stage::Claim(claim) => {
                claim.leave(env);
                (None, Ok(()))
            }
            Stage::Answer { .. } | Stage::Over => (None, Ok(())),
        };
        if let Err(refusal) = left {
            tracing::error!(%refusal, "cannot leave a place: its session slot is damaged");
        }
        receive_request
    }
}

/// Whether a connection serves another request after that of `info`: the client wants to go on,
/// everything that it sent was read, and the worker neither drains nor stops.
fn is_kept_alive(info: &RequestInfo, service: Service) -> bool {
    info.keep_alive && !info.unread && service == Service::Lasting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Cors;

    #[test]
    fn a_connection_goes_on_if_its_client_likes_and_all_was_read_and_the_worker_stays() {
        let client = std::net::IpAddr::from([192, 0, 2, 1]);
        let unreadable = RequestInfo::unreadable(client, Cors::default());
        let wants = RequestInfo { keep_alive: true, unread: false, ..unreadable };
        assert!(is_kept_alive(&wants, Service::Lasting));
        for service in [Service::LastAnswer, Service::Ending] {
            assert!(!is_kept_alive(&wants, service), "{service:?}");
        }
        for info in [
            unreadable,
            RequestInfo { keep_alive: false, ..wants },
            RequestInfo { unread: true, ..wants },
        ] {
            assert!(!is_kept_alive(&info, Service::Lasting), "{info:?}");
        }
    }
}
