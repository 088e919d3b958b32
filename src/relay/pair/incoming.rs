//! The direction that a party's client receives in: from the lane to its socket, until the peer's FIN is passed on and
//! everything is acknowledged.

use shm::{Finish, ReceiverEnd, Refusal, Settled};

use super::{Step, leave_receiver};
use crate::api::Encoder;
use crate::outcome::SenderOutcome;
use crate::relay::delivery::{Ack, AckPoll};
use crate::relay::download::Download;
use crate::relay::stall::Stall;
use crate::relay::{Cx, Env, Io};
use crate::stream::Stream;
use crate::sys::SendOutcome;
use crate::sys::clock::millis;
use crate::tally::{Limit, Tally};

/// The peer's bytes on their way to a party's client.
#[derive(Debug)]
pub(super) struct Incoming {
    end: ReceiverEnd,
    download: Download,
    stall: Stall,
    /// Bytes that the client's TCP had acknowledged when it was asked last.
    acked: u64,
    /// The client's socket took nothing more.
    is_blocked: bool,
    phase: Phase,
}

/// The phase that the direction is in.
#[derive(Debug)]
enum Phase {
    Body {
        /// The last turn found nothing to write.
        is_idle: bool,
    },
    /// The peer's FIN is passed on, and the client's TCP has not acknowledged everything.
    Ack(AckPoll),
    Settled,
}

impl Incoming {
    pub(super) fn new(cx: Cx<'_>, end: ReceiverEnd) -> Self {
        Self {
            end,
            download: Download::new(Encoder::bare(), true, cx.now_ms),
            stall: Stall::new(0, cx.now_ms),
            acked: 0,
            is_blocked: false,
            phase: Phase::Body { is_idle: true },
        }
    }

    pub(super) fn end(&self) -> &ReceiverEnd {
        &self.end
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled)
    }

    pub(super) fn taken(&self) -> u64 {
        self.download.taken()
    }

    /// Grows with each byte that the client's socket takes, and with each that its TCP acknowledges.
    pub(super) fn position(&self) -> u64 {
        self.download.taken().saturating_add(self.acked)
    }

    /// Stores both counts. Returns what is not acknowledged.
    fn store(&mut self, env: &Env, stream: &Stream) -> Result<u64, Refusal> {
        let unacknowledged = self.download.store(env, &mut self.end, stream)?;
        self.acked = self.acked.max(self.download.taken().saturating_sub(unacknowledged));
        Ok(unacknowledged)
    }

    /// The two are paired.
    pub(super) fn begin(&mut self, cx: Cx<'_>, is_encrypted: bool) -> Result<(), Refusal> {
        self.download = Download::new(Encoder::bare(), !is_encrypted, cx.now_ms);
        if !is_encrypted {
            self.end.attach(cx.env.shared())?.take_pipes();
        }
        Ok(())
    }

    /// Writes as much as a turn may.
    pub(super) fn turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Step, Refusal> {
        self.is_blocked = false;
        match &self.phase {
            Phase::Settled => return Ok(Step::Wait { look_ms: u64::MAX }),
            Phase::Ack(_) => return self.await_ack(cx, io.stream),
            Phase::Body { .. } if io.stream.is_broken() => return self.await_nothing(cx, io),
            Phase::Body { .. } => {}
        }
        let step = self.write_body(cx, io)?;
        let counted = self.download.end_turn(cx.env, &mut self.end, io.stream, cx.now_ms)?;
        Ok(match (step, counted) {
            (Step::Wait { look_ms }, Some(counts_ms)) => {
                Step::Wait { look_ms: look_ms.min(counts_ms) }
            }
            (step, _) => step,
        })
    }

    /// The client is gone, and has sent all that it will send: nothing may be lost that was for it.
    fn await_nothing(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let unacknowledged = self.store(cx.env, io.stream)?;
        let finish = self.end.attach(cx.env.shared())?.finish();
        let is_lost = unacknowledged > 0
            || !io.outbox.is_empty()
            || self.download.has_piece()
            || self.download.next_piece(cx.env, &mut self.end, io.outbox)?;
        match finish {
            _ if is_lost => Ok(Step::Cut(SenderOutcome::Left)),
            Finish::Whole(total) if total == self.download.taken() => self.settle(cx),
            Finish::Open => {
                let wait = self.end.attach(cx.env.shared())?.wait_for_chunk()?;
                Ok(if wait { Step::Wait { look_ms: u64::MAX } } else { Step::Again })
            }
            _ => Ok(Step::Cut(SenderOutcome::ReceiverLeft)),
        }
    }

    /// Everything that the peer sent has arrived.
    fn settle(&mut self, cx: Cx<'_>) -> Result<Step, Refusal> {
        self.phase = Phase::Settled;
        self.end.attach(cx.env.shared())?.settle(Settled::Acked);
        cx.env.ring_peer(&self.end)?;
        Ok(Step::Wait { look_ms: u64::MAX })
    }

    fn write_body(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let mut moved = 0;
        while moved < cx.env.budget.turn_bytes() {
            // Read the end before the published cursor: all that was published before the end is visible then.
            let finish = self.end.attach(cx.env.shared())?.finish();
            if !self.download.has_piece() {
                if !self.download.next_piece(cx.env, &mut self.end, io.outbox)? {
                    return self.nothing_published(cx, io, finish);
                }
                self.resume(cx, io.stream);
            }
            match self.download.write_piece(cx.env, &mut self.end, io.stream, io.outbox)? {
                SendOutcome::Bytes(bytes) => moved += bytes,
                SendOutcome::WouldBlock => return Ok(self.full(cx, io.stream)),
                SendOutcome::Broken => return Ok(Step::Cut(SenderOutcome::Left)),
            }
        }
        Ok(Step::Again)
    }

    /// All published pieces are written.
    fn nothing_published(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        finish: Finish,
    ) -> Result<Step, Refusal> {
        match io.outbox.flush(io.stream) {
            SendOutcome::Bytes(_) => {}
            SendOutcome::WouldBlock => return Ok(self.full(cx, io.stream)),
            SendOutcome::Broken => return Ok(Step::Cut(SenderOutcome::Left)),
        }
        let taken = self.download.taken();
        match finish {
            Finish::Whole(total) if total == taken => return self.pass_end(cx, io.stream),
            Finish::Whole(found) => return Err(Refusal::Total { found, passed: taken }),
            Finish::Open => {}
            // The peer's side has left, or its words are damaged.
            _ => return Ok(Step::Cut(SenderOutcome::ReceiverLeft)),
        }
        if let Phase::Body { is_idle } = &mut self.phase
            && std::mem::replace(is_idle, true)
            && self.acked < self.download.taken()
        {
            // The kernel still holds some, and its client takes it.
            self.store(cx.env, io.stream)?;
        }
        let wait = self.end.attach(cx.env.shared())?.wait_for_chunk()?;
        Ok(if wait { Step::Wait { look_ms: u64::MAX } } else { Step::Again })
    }

    /// Passes on the peer's FIN, behind all that came before it.
    fn pass_end(&mut self, cx: Cx<'_>, stream: &mut Stream) -> Result<Step, Refusal> {
        if !stream.shut() {
            return Ok(self.full(cx, stream));
        }
        let timeout_ms = millis(cx.env.config.timeouts.ack_timeout);
        self.phase = Phase::Ack(AckPoll::new(timeout_ms, cx.now_ms));
        self.await_ack(cx, stream)
    }

    /// Asks the kernel whether the client's TCP has acknowledged everything.
    fn await_ack(&mut self, cx: Cx<'_>, stream: &mut Stream) -> Result<Step, Refusal> {
        let unacknowledged = self.store(cx.env, stream)?;
        if unacknowledged == 0 {
            return self.settle(cx);
        }
        if stream.is_broken() {
            return Ok(Step::Cut(SenderOutcome::Left));
        }
        let Phase::Ack(poll) = &mut self.phase else { return Ok(Step::Again) };
        Ok(match poll.judge(unacknowledged, || stream.is_in_flight(), cx.now_ms) {
            Ack::Later(look_ms) => Step::Wait { look_ms },
            Ack::TimedOut => Step::Cut(SenderOutcome::Left),
        })
    }

    /// Restarts the clock, as there is something to write again.
    fn resume(&mut self, cx: Cx<'_>, stream: &Stream) {
        if let Phase::Body { is_idle } = &mut self.phase
            && std::mem::take(is_idle)
        {
            self.stall = Stall::new(self.download.delivered(stream), cx.now_ms);
        }
    }

    /// Waits for room in the socket. A client that takes nothing is cut off, once others need its chunks.
    fn full(&mut self, cx: Cx<'_>, stream: &Stream) -> Step {
        self.is_blocked = true;
        let position = self.download.delivered(stream);
        if self.stall.gives_up(cx.env, &mut self.end, position, cx.now_ms) {
            cx.env.count(Tally::Limit(Limit::Stalled));
            return Step::Cut(SenderOutcome::TooSlow);
        }
        Step::Wait { look_ms: u64::MAX }
    }

    /// Stores what has arrived, and leaves the place.
    pub(super) fn leave(mut self, env: &Env, stream: &Stream) -> Result<(), Refusal> {
        // A count that cannot be stored keeps nobody in the place.
        let _ = self.store(env, stream);
        leave_receiver(env, self.end)
    }
}
