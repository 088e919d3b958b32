//! A client that receives: its wait for a sender, and the begin of its answer. `answering` does the rest.
//!
//! The worker drives it. The client gets no byte before a sender has begun. A receiver never gives way to a rival: if
//! its client has left, its next turn finds that.

use shm::{
    AddressTag, End, Finish, LaneEnd, LaneRef, LaneWord, Life, Passing, ReceiverEnd, Refusal,
    State, Want,
};

use super::answering::{Answering, Begun};
use super::download::Download;
use super::pairing::part_of;
use super::waiting::{RivalWatch, Wait};
use super::{Cx, Env, Io, LOOK_ANYWAY_MS, Received, Turn};
use crate::api::{Announcement, Api, ConnectionFields, Encoder};
use crate::http::{Cors, Status};
use crate::outcome::ReceiverOutcome;
use crate::stream::Stream;
use crate::tally::Tally;

/// A receiver in its place.
#[derive(Debug)]
pub struct Receiving {
    end: ReceiverEnd,
    request: ReceiveRequest,
    /// The connection goes on after the answer.
    keep_alive: bool,
    wait_ends_ms: u64,
    rivals: RivalWatch,
    phase: Phase,
}

/// The phase that the receiver waits in.
#[derive(Debug)]
enum Phase {
    /// The receiver waits for its sender.
    Sender {
        /// The sender is there, and drops the bytes that the receiver has already.
        is_served: bool,
        next_look_ms: u64,
    },
    /// The receiver's answer has begun.
    Answer(Box<Answering>),
}

/// The request of a receiver.
#[derive(Debug)]
pub struct ReceiveRequest {
    /// The receiver speaks HTTP/1.0 and has to know the length.
    pub needs_length: bool,
    /// The API of the request.
    pub api: Api,
    /// The part of the file that the receiver wants.
    pub want: Want,
    /// See [`SendRequest::guest`](super::SendRequest::guest).
    pub guest: Option<AddressTag>,
    /// Whether a page in a browser may read the answer.
    pub cors: Cors<'static>,
}

impl Receiving {
    /// A receiver that has just taken its place.
    #[must_use]
    pub fn new(end: ReceiverEnd, request: ReceiveRequest, wait_ends_ms: u64) -> Self {
        let phase = Phase::Sender { is_served: false, next_look_ms: wait_ends_ms };
        let rivals = RivalWatch::default();
        Self { end, request, keep_alive: false, wait_ends_ms, rivals, phase }
    }

    /// The receiver's lane.
    #[must_use]
    pub fn lane(&self) -> LaneRef {
        self.end.lane()
    }

    /// The API of the request.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.request.api
    }

    /// The time of its next turn, though nothing has happened.
    #[must_use]
    pub fn next_look_ms(&self) -> u64 {
        match &self.phase {
            Phase::Sender { next_look_ms, .. } => *next_look_ms,
            Phase::Answer(answering) => answering.next_look_ms(),
        }
    }

    /// The end of its wait for a sender.
    #[must_use]
    pub fn wait_ends_ms(&self) -> u64 {
        self.wait_ends_ms
    }

    /// Whether it still waits for a sender.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Sender { .. })
    }

    /// Whether it waits, and no sender reads for it yet: a worker that stops sends it away.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        matches!(self.phase, Phase::Sender { is_served: false, .. })
    }

    /// Payload bytes that the client's socket took.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.answering().map_or(0, Answering::taken)
    }

    /// The status in the head of the answer, once that is written.
    #[must_use]
    pub fn status(&self) -> Status {
        self.answering().map_or(Status::Ok, Answering::status)
    }

    /// The offset in the file at which the answer begins.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.answering().map_or(0, Answering::from)
    }

    fn answering(&self) -> Option<&Answering> {
        match &self.phase {
            Phase::Answer(answering) => Some(answering),
            Phase::Sender { .. } => None,
        }
    }

    /// Sets whether the head of its answer says that the connection goes on. Call it while the receiver
    /// [waits](Self::is_waiting).
    pub fn set_keep_alive(&mut self, keep_alive: bool) {
        self.keep_alive = keep_alive;
    }

    /// Does what can be done now.
    pub fn turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Turn<Received> {
        let rivals_before = self.rivals;
        let turn = self.try_turn(cx, io);
        let turn = turn.unwrap_or_else(|refusal| {
            let cut = self.answering().map(Answering::cut);
            Turn::Over(Some(cut.unwrap_or(ReceiverOutcome::Damaged(refusal))))
        });
        match turn {
            Turn::Wait if self.rivals.has_found_since(rivals_before) => Turn::Again,
            turn => turn,
        }
    }

    fn try_turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Turn<Received>, Refusal> {
        let lane = cx.env.shared().look(&self.end)?;
        let over = match self.phase {
            Phase::Sender { .. } => self.wait_turn(cx, io, lane)?,
            Phase::Answer(_) => self.ended(cx, io.stream, lane)?,
        };
        if let Some(turn) = over {
            return Ok(turn);
        }
        let Phase::Answer(answering) = &mut self.phase else { return Ok(Turn::Again) };
        Ok(answering.turn(cx, &mut self.end, io)?.map(Some))
    }

    /// A turn of a receiver that waits. `None`: its answer begins.
    fn wait_turn(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        lane: LaneWord,
    ) -> Result<Option<Turn<Received>>, Refusal> {
        let over = |outcome| Ok(Some(Turn::Over(Some(outcome))));
        io.stream.look();
        if io.stream.is_leaving() {
            return over(ReceiverOutcome::Left);
        }
        if !self.answer_rival(cx.env)? {
            return Ok(Some(Turn::Again));
        }
        if cx.env.is_forbidden(&self.end, self.request.guest)? {
            return over(ReceiverOutcome::Forbidden);
        }
        if let Some(received) = self.ended_before(cx.env, lane)? {
            return Ok(Some(Turn::Over(received)));
        }
        if !lane.begun {
            return self.await_sender(cx, lane).map(Some);
        }
        if !self.begin(cx, io)? {
            return Ok(Some(Turn::Over(None)));
        }
        Ok(None)
    }

    /// Whether the other side or the session has put an end to an answer that has begun.
    fn ended(
        &mut self,
        cx: Cx<'_>,
        stream: &Stream,
        lane: LaneWord,
    ) -> Result<Option<Turn<Received>>, Refusal> {
        // An answer that has begun goes on while a rival waits for its no.
        self.answer_rival(cx.env)?;
        let Phase::Answer(answering) = &mut self.phase else { return Ok(None) };
        let finish = self.end.attach(cx.env.shared())?.finish();
        let is_alive = cx.env.shared().life(self.end.lane().session)? == Some(Life::Live);
        let outcome = if !is_alive {
            Some(answering.cut())
        } else if has_ended(lane, finish) {
            answering.sender_ended(finish)
        } else {
            None
        };
        let Some(outcome) = outcome else { return Ok(None) };
        answering.store(cx, &mut self.end, stream)?;
        Ok(Some(Turn::Over(Some(outcome))))
    }

    /// Sends a rival away at the second turn that finds it. A receiver that has left is found by then, and no other
    /// receiver gives way. `false`: the next turn answers the rival.
    fn answer_rival(&mut self, env: &Env) -> Result<bool, Refusal> {
        let rival = env.rival(&self.end)?;
        self.rivals.answer(env, &self.end, rival)
    }

    /// Returns how the sender or the session has ended the wait, before a byte was sent.
    fn ended_before(&mut self, env: &Env, lane: LaneWord) -> Result<Option<Received>, Refusal> {
        let finish = self.end.attach(env.shared())?.finish();
        Ok(match (finish, env.shared().life(self.lane().session)?) {
            (Finish::NoChunk, _) if lane.begun => Some(Some(ReceiverOutcome::NoChunk)),
            (Finish::Unfit, _) if lane.begun => Some(Some(ReceiverOutcome::Unfit)),
            (_, Some(Life::Live)) => has_ended(lane, finish).then_some(None),
            (_, Some(Life::Ended(end))) => Some(Some(ReceiverOutcome::Ended(end))),
            _ => Some(Some(ReceiverOutcome::Ended(End::Expired))),
        })
    }

    fn await_sender(&mut self, cx: Cx<'_>, lane: LaneWord) -> Result<Turn<Received>, Refusal> {
        let sender = lane.sender;
        if self.request.needs_length && sender.state == State::Held && sender.incompatible {
            return Ok(Turn::Over(Some(ReceiverOutcome::NeedsLength)));
        }
        let is_served = self.end.attach(cx.env.shared())?.sender_skips()?;
        let next_look_ms = if is_served {
            // The sender is on its way, and its own side watches it.
            cx.now_ms.saturating_add(LOOK_ANYWAY_MS)
        } else {
            match cx.wait(&self.end, self.wait_ends_ms)? {
                Wait::Until(look_ms) => look_ms,
                Wait::Expired => {
                    return Ok(Turn::Over(Some(ReceiverOutcome::Ended(End::Expired))));
                }
                Wait::NobodyCame => return Ok(Turn::Over(Some(ReceiverOutcome::NobodyCame))),
            }
        };
        self.phase = Phase::Sender { is_served, next_look_ms };
        Ok(Turn::Wait)
    }

    /// The sender has begun: writes the head of the answer. `false`: the attempt began for another receiver, which
    /// left just before.
    fn begin(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<bool, Refusal> {
        let mut receiver = self.end.attach(cx.env.shared())?;
        let bytes = receiver.announcement()?;
        let announced = Announcement::decode(&bytes).ok_or(Refusal::Announcement(bytes.len()))?;
        let part = announced.whole().and_then(|file| part_of(file, self.request.want));
        let from = announced.file.map_or(0, |file| file.from);
        if from != part.unwrap_or(0) {
            return Ok(false);
        }
        receiver.note_passing(passing(&announced));
        // An empty file has no part that could be named.
        let status = match part {
            Some(_) if announced.length != Some(0) => Status::PartialContent,
            _ => Status::Ok,
        };
        let takes_pipes = !io.stream.is_encrypted();
        if takes_pipes {
            receiver.take_pipes();
        }
        let ReceiveRequest { needs_length, ref api, cors, .. } = self.request;
        let connection =
            ConnectionFields { keep_alive: self.keep_alive, is_http10: needs_length, cors };
        let encoder = Encoder::begin(io.outbox.bytes(), status, &announced, api, connection);
        cx.env.count(Tally::Answer(status));
        let begun = Begun { api: api.name(), status, from, receipt: announced.receipt };
        let download = Download::new(encoder, takes_pipes, cx.now_ms);
        let answering = Answering::new(cx, begun, download, self.next_look_ms());
        self.phase = Phase::Answer(Box::new(answering));
        Ok(true)
    }

    /// Leaves the place. Returns the request, for another try.
    pub fn leave(self, env: &Env) -> (ReceiveRequest, Result<(), Refusal>) {
        let lane = self.lane();
        let left = env.shared().leave_receiver(self.end);
        if let Ok(Some(sender)) = left {
            env.ring(sender, lane.session.slot);
        }
        env.ring_waiters(lane);
        (self.request, left.map(drop))
    }
}

/// Whether the sender has left, or said that no more will come and that it is not whole.
fn has_ended(lane: LaneWord, finish: Finish) -> bool {
    let sender_left = lane.begun && matches!(lane.sender.state, State::Gone | State::Lost);
    sender_left || !matches!(finish, Finish::Open | Finish::Whole(_))
}

/// The note of what passes in the session, for clients that come again.
fn passing(announced: &Announcement) -> Passing {
    announced.whole().zip(announced.file).map_or(Passing::Stream, |(whole, file)| Passing::File {
        total: whole.total,
        tag: whole.tag.to_word(),
        from: file.from,
        sender: file.sender,
    })
}
