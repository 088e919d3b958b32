//! The steps of a transaction that claims a place or holds one.

use std::ops::ControlFlow;

use shm::TakeError;

use super::{CLOSE, NEXT, Service, Stage, Step, Transaction, Transport};
use crate::api::{self, Answer};
use crate::http::Status;
use crate::outcome::{ReceiverOutcome, Report, SenderOutcome};
use crate::relay::{Cx, Turn};
use crate::tally::Tally;
use crate::worker::claim::{Claim, Claimed};

/// Bytes that a client may have sent after a chunked body. With more, its connection is not kept alive: the bytes would
/// be kept for as long as the next request waits.
const PIPELINED_BYTES_MAX: u64 = 2048;

impl Transaction {
    /// Tries to take the place.
    pub(super) fn claim(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
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
            TakeError::Taken | TakeError::Leaving => {
                Answer::error(Status::Conflict, "the place is taken", &self.info)
            }
            TakeError::Refused(refusal) => Answer::damaged(refusal, slot, &self.info),
        }
    }

    /// Does a sender's turn.
    pub(super) fn send(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
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
    pub(super) fn receive(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
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
    pub(in crate::worker) fn displace(
        &mut self,
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        answer: &Answer,
    ) {
        self.log_end(cx.env, SenderOutcome::Displaced, ReceiverOutcome::Displaced);
        self.leave(cx.env);
        self.info.keep_alive = false;
        self.answer(cx, transport, answer);
    }
}
