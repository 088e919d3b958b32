//! A client that sends: from its place until the receiver's side vouches for all of its body.
//!
//! The relay reads no byte of the body before a receiver is there. The attempt begins with the first payload, or with
//! the end of an empty body. A fault before that concerns the sender alone, and the receiver goes on waiting.
//! `reading` takes over while both are there, and `resuming` leaves out the part that the receiver has.

mod reading;
mod resuming;

use shm::{
    AddressTag, End, Finish, LaneEnd, LaneRef, LaneWord, Life, Refusal, SenderEnd, Settled, State,
    Told,
};
use std::net::IpAddr;

use super::bandwidth::Bandwidth;
use super::delivery::Arrival;
use super::pace::Pace;
use super::starving::Starving;
use super::upload::Upload;
use super::waiting::{SenderWait, Wait, may_be_dead};
use super::{Body, Cx, Env, Io, LOOK_ANYWAY_MS, Offer, Turn};
use crate::api::Api;
use crate::config::Receipt;
use crate::http::FileName;
use crate::outcome::{Report, SenderOutcome};
use crate::stream::Stream;
use crate::sys::clock::millis;
use crate::tally::{Limit, Tally};

/// A sender in its place.
#[derive(Debug)]
pub struct Sending {
    end: SenderEnd,
    request: SendRequest,
    /// Payload bytes in all, if the request states that: the body itself only knows how many remain.
    length: Option<u64>,
    wait: SenderWait,
    phase: Phase,
    upload: Upload,
    pace: Pace,
    next_look_ms: u64,
}

/// The phase that the sender waits in.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Receiver {
        /// The time since when it holds payload for a receiver that left before the attempt began.
        filled_since_ms: Option<u64>,
    },
    /// The sender's bytes, or room for them.
    Body(Reading),
    /// The receiver's side has to record that all was delivered.
    Receipt,
    /// The receiver's last count, after which the sender is told this.
    LastCount(SenderOutcome),
}

/// How far a sender is with its body.
#[derive(Clone, Copy, Debug)]
struct Reading {
    progress: Progress,
    /// There was no room. The sender is not charged for that time.
    is_blocked: bool,
    starving: Starving,
}

/// How far a sender is with the receiver that it is paired with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The two are paired, and no byte has passed.
    Paired,
    /// The receiver was told that the sender drops the bytes that it has already.
    Skipping,
    /// The attempt has begun.
    Begun,
}

/// The request of a sender.
#[derive(Debug)]
pub struct SendRequest {
    /// The request's body.
    pub body: Body,
    /// The part of a file that the body is.
    pub offer: Offer,
    /// The request's `Content-Type`; a form's part has its own.
    pub content_type: Option<Vec<u8>>,
    /// The request's `Content-Encoding`; a form has none.
    pub encoding: Option<Vec<u8>>,
    /// The file's name, if the path or the head gives one.
    pub name: Option<FileName>,
    /// The receipt level that the final answer waits for.
    pub receipt: Receipt,
    /// Whether it sent `Expect: 100-continue`.
    pub expects_continue: bool,
    /// The API of the request.
    pub api: Api,
    /// The client's address. Another sender from the same address may take the place of a sender that waits and may
    /// be dead.
    pub client: IpAddr,
    /// The guest that the client was authorized as, if the session is secure. Once the host authorizes another guest,
    /// the request is forbidden. 0: the session is for everybody.
    pub guest: Option<AddressTag>,
    /// The message is for the session's guest alone. It does not go to a receiver that was authorized as another.
    pub for_guest: bool,
}

impl Sending {
    /// A sender that has just taken its place.
    #[must_use]
    pub fn new(cx: Cx<'_>, mut end: SenderEnd, request: SendRequest, wait_ends_ms: u64) -> Self {
        end.charge(cx.env.payer(request.client));
        Self {
            end,
            length: request.body.remaining_payload(),
            wait: SenderWait::new(wait_ends_ms),
            phase: Phase::Receiver { filled_since_ms: None },
            upload: Upload::new(Bandwidth::of(cx.env, request.client)),
            request,
            pace: Pace::new(cx.env, 0, cx.now_ms),
            next_look_ms: wait_ends_ms,
        }
    }

    /// The sender's lane.
    #[must_use]
    pub fn lane(&self) -> LaneRef {
        self.end.lane()
    }

    /// The time of its next turn, though nothing has happened.
    #[must_use]
    pub fn next_look_ms(&self) -> u64 {
        self.next_look_ms
    }

    /// The API of the request.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.request.api
    }

    /// Whether nothing has begun yet, and nothing is read.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            Phase::Receiver { .. } => true,
            Phase::Body(reading) => reading.progress == Progress::Paired,
            Phase::Receipt | Phase::LastCount(_) => false,
        }
    }

    /// Whether there is no room for what its client sends.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(self.phase, Phase::Body(Reading { is_blocked: true, .. }))
    }

    /// Whether the whole request body has been read.
    #[must_use]
    pub fn has_read_all(&self) -> bool {
        self.request.body.is_done()
    }

    /// Whether the attempt has begun.
    fn has_begun(&self) -> bool {
        match self.phase {
            Phase::Receiver { .. } => false,
            Phase::Body(reading) => reading.progress == Progress::Begun,
            Phase::Receipt | Phase::LastCount(_) => true,
        }
    }

    fn awaits_receiver(&self) -> bool {
        matches!(self.phase, Phase::Receiver { .. })
    }

    /// Does what can be done now. Bytes that the client sent behind its head, or behind its body, are in the inbox.
    pub fn turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Turn<Report> {
        let rivals_before = self.wait.rivals;
        let turn = self.try_turn(cx, io);
        match turn.unwrap_or_else(|refusal| self.over(cx.env, SenderOutcome::Damaged(refusal))) {
            Turn::Wait if self.wait.rivals.has_found_since(rivals_before) => Turn::Again,
            turn => turn,
        }
    }

    fn try_turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Turn<Report>, Refusal> {
        let lane = cx.env.shared().look(&self.end)?;
        if let Some(turn) = self.ended(cx, lane)? {
            return Ok(turn);
        }
        if io.stream.is_broken() && !matches!(self.phase, Phase::Receipt) {
            return Ok(self.left(cx.env));
        }
        if !self.has_begun() && cx.env.is_forbidden(&self.end, self.request.guest)? {
            return Ok(self.over(cx.env, SenderOutcome::Forbidden));
        }
        if self.awaits_receiver() && self.wait.was_seen {
            io.stream.look();
            if self.wait.left_while_waiting(io.stream.is_leaving(), self.has_read_all()) {
                return Ok(self.left(cx.env));
            }
        }
        if let Some(turn) = self.answer_rival(cx.env, io)? {
            return Ok(turn);
        }
        match self.phase {
            Phase::Receiver { .. } => self.receiver_turn(cx, io, lane),
            Phase::Body(_) => self.read_body(cx, io, lane),
            Phase::Receipt | Phase::LastCount(_) => {
                // The sender fills no more chunks, so those that came back go to the pool.
                self.end.attach(cx.env.shared())?.shed()?;
                // The bell rings for news. This turn is for a bell that a crash swallowed.
                self.next_look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
                Ok(Turn::Wait)
            }
        }
    }

    /// A turn of a sender that waits for its receiver.
    fn receiver_turn(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        lane: LaneWord,
    ) -> Result<Turn<Report>, Refusal> {
        if let Some(turn) = self.was_delivered(cx)? {
            return Ok(turn);
        }
        // A receiver that speaks HTTP/1.0 has to know the length. A sender of unknown length is incompatible with it, and
        // the receiver turns away.
        if self.can_begin(cx.env, lane)? {
            self.pair_with_receiver(cx, io, lane)
        } else {
            self.await_receiver(cx, io.stream)
        }
    }

    /// Whether the other side or the session has put an end to it.
    fn ended(&mut self, cx: Cx<'_>, lane: LaneWord) -> Result<Option<Turn<Report>>, Refusal> {
        if let Phase::Receipt = self.phase
            && self.is_delivered(cx.env, lane)?
        {
            cx.env.complete(&self.end, self.api().name(), Told::Telling, cx.now_ms)?;
            let outcome = SenderOutcome::Delivered(self.request.receipt);
            return Ok(Some(self.over(cx.env, outcome)));
        }
        let cause = match cx.env.shared().life(self.lane().session)? {
            Some(Life::Live) => None,
            Some(Life::Ended(end)) => Some(SenderOutcome::Ended(end)),
            _ => Some(SenderOutcome::Ended(End::Expired)),
        };
        if lane.begun
            && let State::Gone | State::Lost = lane.receiver.state
        {
            let is_lost = lane.receiver.state == State::Lost;
            if is_lost && cause.is_none() && self.wait_again(cx)? {
                return Ok(Some(Turn::Again));
            }
            let outcome = match (self.phase, cause) {
                (Phase::LastCount(outcome), _) | (_, Some(outcome)) => outcome,
                _ if is_lost => SenderOutcome::PeerWorkerLost,
                _ => SenderOutcome::ReceiverLeft,
            };
            return Ok(Some(self.over(cx.env, outcome)));
        }
        cause.map(|outcome| self.fail(cx, outcome)).transpose()
    }

    /// Whether the receiver's side vouches for all of it.
    fn is_delivered(&mut self, env: &Env, lane: LaneWord) -> Result<bool, Refusal> {
        let peer_is_lost = lane.begun && lane.receiver.state == State::Lost;
        let sender = self.end.attach(env.shared())?;
        let settled = sender.settled();
        let has_to_be_counted = peer_is_lost && settled != Settled::Acked;
        let arrival = Arrival {
            settled,
            peer_is_lost,
            published: sender.published_bytes(),
            delivered: if has_to_be_counted { sender.delivered()? } else { 0 },
        };
        Ok(arrival.is_delivered(self.request.receipt))
    }

    fn await_receiver(&mut self, cx: Cx<'_>, stream: &mut Stream) -> Result<Turn<Report>, Refusal> {
        stream.look();
        if self.wait.has_left(stream.is_leaving(), self.has_read_all()) {
            return Ok(self.left(cx.env));
        }
        self.next_look_ms = match cx.wait(&self.end, self.wait.ends_ms)? {
            Wait::Until(look_ms) => look_ms,
            Wait::Expired => return Ok(self.over(cx.env, SenderOutcome::Ended(End::Expired))),
            Wait::NobodyCame => return Ok(self.over(cx.env, SenderOutcome::NobodyCame)),
        };
        if self.upload.holds_payload() && self.yields_payload(cx)? {
            cx.env.count(Tally::Limit(Limit::Stalled));
            return Ok(self.over(cx.env, SenderOutcome::NoChunk));
        }
        self.wait.was_seen = true;
        Ok(Turn::Wait)
    }

    /// Whether a sender that waits with payload in its hands has done so for too long, and others need the chunk.
    fn yields_payload(&mut self, cx: Cx<'_>) -> Result<bool, Refusal> {
        let Phase::Receiver { filled_since_ms } = &mut self.phase else { return Ok(false) };
        let since = *filled_since_ms.get_or_insert(cx.now_ms);
        let patience = millis(cx.env.config.timeouts.stall_timeout);
        if cx.now_ms >= since.saturating_add(patience)
            && self.end.attach(cx.env.shared())?.yields_chunk()
        {
            return Ok(true);
        }
        self.next_look_ms = self.next_look_ms.min(cx.now_ms.saturating_add(LOOK_ANYWAY_MS));
        Ok(false)
    }

    /// Waits for another receiver, if the lost one has taken nothing. `false`: it may have taken something.
    fn wait_again(&mut self, cx: Cx<'_>) -> Result<bool, Refusal> {
        let is_failing = matches!(self.phase, Phase::LastCount(_));
        if is_failing || cx.now_ms >= self.wait.ends_ms {
            return Ok(false);
        }
        let rewound = self.end.attach(cx.env.shared())?.rewind()?;
        let Some(taken_back) = rewound else { return Ok(false) };
        self.upload.take_back(taken_back);
        self.wait.begin_again();
        self.phase = Phase::Receiver { filled_since_ms: None };
        cx.env.ring_waiters(self.lane());
        Ok(true)
    }

    /// Whether there is a receiver, and it suits.
    fn can_begin(&self, env: &Env, lane: LaneWord) -> Result<bool, Refusal> {
        if !lane.can_begin() {
            return Ok(false);
        }
        Ok(!self.request.for_guest || env.shared().receiver_is_guest(&self.end)?)
    }

    /// Leaves the place to a rival from the same address if our client may be dead. Any other rival is told no at the
    /// next turn, before which the kernel is asked. A transfer that has begun goes on meanwhile.
    fn answer_rival(&mut self, env: &Env, io: &Io<'_>) -> Result<Option<Turn<Report>>, Refusal> {
        let rival = env.rival(&self.end)?;
        let waits = self.awaits_receiver();
        let is_ours = |rival| rival == env.addresses.exact(self.request.client);
        if waits && rival.is_some_and(is_ours) && self.may_be_dead(io) {
            return Ok(Some(self.over(env, SenderOutcome::Superseded)));
        }
        let is_answered = self.wait.rivals.answer(env, &self.end, rival)?;
        Ok((!is_answered && waits).then_some(Turn::Again))
    }

    fn may_be_dead(&self, io: &Io<'_>) -> bool {
        let here = io.stream.unread().saturating_add(io.inbox.len() as u64);
        may_be_dead(io.stream.is_backed_up(), here, self.request.body.remaining_bytes())
    }

    /// Ends a transfer that has failed. Before the attempt has begun that is all. Afterwards the receiver is told,
    /// and the sender waits for its last count.
    fn fail(&mut self, cx: Cx<'_>, outcome: SenderOutcome) -> Result<Turn<Report>, Refusal> {
        if !self.has_begun() {
            return Ok(self.over(cx.env, outcome));
        }
        self.next_look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
        if !matches!(self.phase, Phase::LastCount(_)) {
            self.phase = Phase::LastCount(outcome);
            self.end.attach(cx.env.shared())?.set_finish(Finish::Aborted);
            cx.env.ring_peer(&self.end)?;
        }
        Ok(Turn::Wait)
    }

    /// The client has left.
    fn left(&mut self, env: &Env) -> Turn<Report> {
        if self.has_begun() {
            // The place is left even if the word is refused.
            let _ = self.end.attach(env.shared()).map(|sender| sender.set_finish(Finish::Aborted));
        }
        self.over(env, SenderOutcome::Left)
    }

    fn over(&mut self, env: &Env, outcome: SenderOutcome) -> Turn<Report> {
        let (taken, delivered) = self.end.attach(env.shared()).map_or((0, 0), |sender| {
            (sender.taken().unwrap_or(0), sender.delivered().unwrap_or(0))
        });
        // Only a success counts at the level that was asked for; a failure counts what is certain.
        let count = match outcome {
            SenderOutcome::Delivered(Receipt::Sent) => taken,
            _ => delivered,
        };
        let (from, has_begun) = (self.position(), self.has_begun());
        let delivered = has_begun.then(|| from.saturating_add(count));
        let relayed = (has_begun && from > 0).then_some(taken);
        let resume_at = match outcome {
            SenderOutcome::StartsTooLate { wanted } => Some(wanted),
            _ => delivered.filter(|_| self.request.offer.file.is_some()),
        };
        Turn::Over(Report { outcome, delivered, relayed, resume_at })
    }

    /// Leaves the place, and gives back everything held with it.
    pub fn leave(mut self, env: &Env) -> Result<(), Refusal> {
        let lane = self.lane();
        let filling = self.upload.leave(env, &mut self.end);
        if let Some(receiver) = env.shared().leave_sender(self.end, filling)? {
            env.ring(receiver, lane.session.slot);
        }
        env.ring_waiters(lane);
        Ok(())
    }
}
