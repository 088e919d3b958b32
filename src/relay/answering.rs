//! A receiver whose sender has begun: from the head of its answer to the last acknowledgement.
//!
//! `receiving` makes an [`Answering`] once there is something to relay, and gives it each turn from then on. The
//! answer is completed or visibly cut, and never ended as if it were whole.

use shm::{Finish, ReceiverEnd, Refusal, Settled, State, Told};

use super::delivery::{Ack, AckPoll};
use super::download::Download;
use super::pace::{Pace, Verdict};
use super::stall::Stall;
use super::{Cx, Io, LOOK_ANYWAY_MS, Turn};
use crate::api::ApiName;
use crate::config::Receipt;
use crate::http::Status;
use crate::outcome::ReceiverOutcome;
use crate::stream::Stream;
use crate::sys::SendOutcome;
use crate::sys::clock::millis;
use crate::tally::{Limit, Tally};

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Answering {
    api: ApiName,
    /// The status in the head of the answer.
    status: Status,
    /// The offset in the file at which the answer begins.
    from: u64,
    receipt: Receipt,
    download: Download,
    pace: Pace,
    stall: Stall,
    step: Step,
    next_look_ms: u64,
}

/// The step that the answer waits in.
#[derive(Debug)]
enum Step {
    /// Payload, or room for it in the socket.
    Body {
        /// The last turn found nothing to write.
        is_idle: bool,
        /// The sender is gone, and the answer says so at its end.
        is_truncated: bool,
    },
    /// The client's TCP: everything was written, and not all of it is acknowledged.
    Ack(AckPoll),
}

/// The begin of an answer: its API, what its head says, and the receipt level that its sender waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) api: ApiName,
    pub(super) status: Status,
    pub(super) from: u64,
    pub(super) receipt: Receipt,
}

impl Answering {
    /// The head is in the outbox.
    pub(super) fn new(cx: Cx<'_>, begun: Begun, download: Download, next_look_ms: u64) -> Self {
        let Begun { api, status, from, receipt } = begun;
        let step = Step::Body { is_idle: false, is_truncated: false };
        let (pace, stall) = (Pace::new(cx.env, 0, cx.now_ms), Stall::new(0, cx.now_ms));
        Self { api, status, from, receipt, download, pace, stall, step, next_look_ms }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    pub(super) fn from(&self) -> u64 {
        self.from
    }

    pub(super) fn taken(&self) -> u64 {
        self.download.taken()
    }

    pub(super) fn next_look_ms(&self) -> u64 {
        self.next_look_ms
    }

    /// Returns how to cut the answer so that the client sees it. An answer that is all written must not be completed
    /// by what the kernel still holds.
    pub(super) fn cut(&self) -> ReceiverOutcome {
        if matches!(self.step, Step::Ack(_)) || self.download.is_complete() {
            return ReceiverOutcome::GivenUp;
        }
        ReceiverOutcome::Cut
    }

    /// Ends the answer whose sender has left, or said that no more will come. `None`: the answer goes on.
    pub(super) fn sender_ended(&mut self, finish: Finish) -> Option<ReceiverOutcome> {
        let is_whole = matches!(finish, Finish::Whole(_));
        // All of the file has come. The answer is whole even if its sender leaves now.
        if is_whole && self.api.ends_session() {
            return None;
        }
        if let Step::Body { is_truncated, .. } = &mut self.step
            && self.api.marks_truncation()
            && self.download.is_chunked()
        {
            // The pieces that were published before are still ours to write.
            *is_truncated = !is_whole;
            return None;
        }
        Some(self.cut())
    }

    /// Stores what has arrived, before the place is left.
    pub(super) fn store(
        &self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        stream: &Stream,
    ) -> Result<(), Refusal> {
        self.download.store(cx.env, end, stream).map(drop)
    }

    /// Does what can be done now.
    pub(super) fn turn(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        io: &mut Io<'_>,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        if let Step::Ack(_) = self.step {
            return self.await_ack(cx, end, io.stream);
        }
        let turn = self.write_body(cx, end, io);
        let look_ms = self.download.end_turn(cx.env, end, io.stream, cx.now_ms)?;
        if let (Some(look_ms), Step::Body { .. }) = (look_ms, &self.step) {
            self.next_look_ms = self.next_look_ms.min(look_ms);
        }
        turn
    }

    fn write_body(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        io: &mut Io<'_>,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        if io.stream.is_broken() {
            return self.left(cx, end, io.stream);
        }
        let mut moved = 0;
        while moved < cx.env.budget.turn_bytes() {
            // Read the end before the published cursor: all that was published before the end is visible then.
            let finish = end.attach(cx.env.shared())?.finish();
            if !self.download.has_piece() {
                if !self.download.next_piece(cx.env, end, io.outbox)? {
                    return self.nothing_published(cx, end, io, finish);
                }
                self.resume(cx, io.stream);
            }
            match self.download.write_piece(cx.env, end, io.stream, io.outbox)? {
                SendOutcome::Bytes(bytes) => moved += bytes,
                SendOutcome::WouldBlock => return Ok(self.full(cx, end, io.stream)),
                SendOutcome::Broken => return self.left(cx, end, io.stream),
            }
        }
        Ok(Turn::Again)
    }

    /// All published pieces are written. Finishes the answer if the sender has ended, and waits for the sender
    /// otherwise.
    fn nothing_published(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        io: &mut Io<'_>,
        finish: Finish,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        let taken = self.download.taken();
        match finish {
            Finish::Whole(total) if total == taken => return self.finish(cx, end, io),
            Finish::Whole(found) => return Err(Refusal::Total { found, passed: taken }),
            _ if self.is_truncated() => return self.finish(cx, end, io),
            _ => {}
        }
        match io.outbox.flush(io.stream) {
            SendOutcome::Bytes(_) => {}
            SendOutcome::WouldBlock => return Ok(self.full(cx, end, io.stream)),
            SendOutcome::Broken => return self.left(cx, end, io.stream),
        }
        // While the sender sends nothing the client need not take anything, but it has to acknowledge what it was
        // sent.
        let position = self.download.delivered(io.stream);
        if self.pace.is_lost(cx.env, io.stream, position, cx.now_ms) {
            return Ok(self.give_up(cx, end, io.stream));
        }
        self.next_look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
        if let Step::Body { is_idle, .. } = &mut self.step {
            *is_idle = true;
        }
        let wait = end.attach(cx.env.shared())?.wait_for_chunk()?;
        Ok(if wait { Turn::Wait } else { Turn::Again })
    }

    fn is_truncated(&self) -> bool {
        matches!(self.step, Step::Body { is_truncated: true, .. })
    }

    /// Restarts the clocks, as there is something to write again. The client is not charged for the time without.
    fn resume(&mut self, cx: Cx<'_>, stream: &Stream) {
        if let Step::Body { is_idle, .. } = &mut self.step
            && std::mem::take(is_idle)
        {
            let position = self.download.delivered(stream);
            self.pace = Pace::new(cx.env, position, cx.now_ms);
            self.stall = Stall::new(position, cx.now_ms);
        }
    }

    /// Writes the end of the answer, and then waits for the receipt level that the sender asked for.
    fn finish(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        io: &mut Io<'_>,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        self.resume(cx, io.stream);
        self.download.end(io.outbox, self.is_truncated());
        match io.outbox.flush(io.stream) {
            SendOutcome::Bytes(_) => {}
            SendOutcome::WouldBlock => return Ok(self.full(cx, end, io.stream)),
            SendOutcome::Broken => return self.left(cx, end, io.stream),
        }
        if self.is_truncated() {
            self.store(cx, end, io.stream)?;
            return Ok(Turn::Over(ReceiverOutcome::Complete));
        }
        if self.receipt == Receipt::Sent {
            end.attach(cx.env.shared())?.count_taken(self.download.taken());
            return self.settle(cx, end, Settled::Sent);
        }
        let timeout_ms = millis(cx.env.config.timeouts.ack_timeout);
        self.step = Step::Ack(AckPoll::new(timeout_ms, cx.now_ms));
        self.await_ack(cx, end, io.stream)
    }

    /// Asks the kernel whether the client's TCP has acknowledged everything.
    fn await_ack(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        stream: &mut Stream,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        let unacknowledged = self.download.store(cx.env, end, stream)?;
        if unacknowledged == 0 {
            return self.settle(cx, end, Settled::Acked);
        }
        if stream.is_broken() {
            return Ok(Turn::Over(ReceiverOutcome::Left));
        }
        let Step::Ack(poll) = &mut self.step else { return Ok(Turn::Again) };
        match poll.judge(unacknowledged, || stream.is_in_flight(), cx.now_ms) {
            Ack::Later(look_ms) if !self.is_too_slow(cx, stream) => {
                self.next_look_ms = look_ms;
                Ok(Turn::Wait)
            }
            _ => Ok(Turn::Over(ReceiverOutcome::GivenUp)),
        }
    }

    /// Waits for room in the socket. A client that takes nothing for too long is cut off.
    fn full(
        &mut self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        stream: &Stream,
    ) -> Turn<ReceiverOutcome> {
        let position = self.download.delivered(stream);
        let too_slow = self.is_too_slow(cx, stream);
        let stalled = !too_slow && self.stall.gives_up(cx.env, end, position, cx.now_ms);
        if stalled {
            cx.env.count(Tally::Limit(Limit::Stalled));
        }
        if too_slow || stalled {
            return self.give_up(cx, end, stream);
        }
        self.next_look_ms = self.pace.next_look_ms(cx.env, cx.now_ms);
        Turn::Wait
    }

    /// Judges the rate at which the client acknowledges. The rate at which its socket takes bytes would not do: the
    /// buffer takes nothing for a long time, and then much, from a client that reads slowly and steadily.
    fn is_too_slow(&mut self, cx: Cx<'_>, stream: &Stream) -> bool {
        let position = self.download.delivered(stream);
        self.pace.judge(cx.env, stream, position, cx.now_ms) != Verdict::Stays
    }

    fn give_up(&self, cx: Cx<'_>, end: &mut ReceiverEnd, stream: &Stream) -> Turn<ReceiverOutcome> {
        // A count that cannot be stored is no reason to go on.
        let _ = self.store(cx, end, stream);
        Turn::Over(ReceiverOutcome::GivenUp)
    }

    fn left(
        &self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        stream: &Stream,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        self.store(cx, end, stream)?;
        Ok(Turn::Over(ReceiverOutcome::Left))
    }

    /// Records that all was delivered. If the sender has left its place, this side ends the session.
    fn settle(
        &self,
        cx: Cx<'_>,
        end: &mut ReceiverEnd,
        settled: Settled,
    ) -> Result<Turn<ReceiverOutcome>, Refusal> {
        let receiver = end.attach(cx.env.shared())?;
        receiver.note_whole(settled);
        receiver.settle(settled);
        if cx.env.shared().look(end)?.sender.state != State::Held {
            cx.env.complete(end, self.api, Told::Untold, cx.now_ms)?;
        }
        Ok(Turn::Over(ReceiverOutcome::Complete))
    }
}
