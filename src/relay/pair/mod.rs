//! One party of a pair: from its two places until both directions are over, or one of them is cut.
//!
//! The party sends in one lane of the session and receives in the other. It begins its own lane once the peer holds the
//! place at the other end. Once both lanes have begun, the two are paired, and the party's client is told so. `outgoing`
//! reads what the client sends, and `incoming` writes what the peer sends. A FIN is passed on behind all that came
//! before it, and whatever else ends a direction cuts the whole pair: a cut never looks like an end.

mod incoming;
mod outgoing;

use shm::{
    AddressTag, Direction, End, LaneEnd, LaneRef, LaneWord, Life, ReceiverEnd, Refusal, Reserved,
    SenderEnd, SessionRef, Settled, Shared, State, TakeError,
};
use std::net::IpAddr;

use super::pace::{Pace, Verdict};
use super::waiting::Wait;
use super::{Cx, Env, Io, Turn};
use crate::api::ApiName;
use crate::config::Receipt;
use crate::outcome::{ReceiverOutcome, SenderOutcome};
use crate::stream::Stream;
use crate::tally::Tally;
use incoming::Incoming;
use outgoing::Outgoing;

/// A half of a pair: the lane that its party sends in. The party receives in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half(Direction);

/// The two places of one half.
#[derive(Debug)]
pub struct HalfPlaces {
    sender: SenderEnd,
    receiver: ReceiverEnd,
}

/// A party of a pair.
#[derive(Debug)]
pub struct PairEnd {
    outgoing: Outgoing,
    incoming: Incoming,
    pace: Pace,
    is_paired: bool,
    peer: Peer,
    next_look_ms: u64,
}

/// What a party expects of its peer when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It may come later, or be there.
    MayCome,
    /// It is there, and nobody comes if it leaves.
    IsThere,
}

/// The result of a turn of a party that waits for its peer.
#[derive(Debug)]
pub enum Met {
    /// The two are paired now.
    Paired,
    /// The peer has not come.
    NotYet,
    /// The wait is over.
    Over(SenderOutcome),
}

/// What one direction can do next.
enum Step {
    /// Nothing, until something happens or this time has come.
    Wait { look_ms: u64 },
    /// There is more to do, but others have their turn first.
    Again,
    /// The pair is cut.
    Cut(SenderOutcome),
}

impl Half {
    /// Both halves. A session has one party at each.
    pub const ALL: [Self; 2] = [Self(Direction::Forth), Self(Direction::Back)];

    /// The half of the other party.
    #[must_use]
    pub fn other(self) -> Self {
        let [first, second] = Self::ALL;
        if self == first { second } else { first }
    }

    /// The lane that the party of this half receives in.
    fn receives_in(self, session: SessionRef) -> LaneRef {
        session.lane(match self.0 {
            Direction::Forth => Direction::Back,
            Direction::Back => Direction::Forth,
        })
    }

    /// The mark of the party that holds this half. `None`: it has not said it yet, or nobody is there.
    pub fn mark(self, env: &Env, session: SessionRef) -> Result<Option<AddressTag>, Refusal> {
        env.shared().receiver_guest(self.receives_in(session))
    }

    /// The state of the place that the party of this half takes first. `None`: the session is over.
    pub fn holder(self, env: &Env, session: SessionRef) -> Result<Option<State>, Refusal> {
        let places = env.shared().places(self.receives_in(session))?;
        Ok(places.map(|word| word.receiver.state))
    }

    /// Whether the lane that the party of this half receives in has begun.
    pub fn has_begun(self, env: &Env, session: SessionRef) -> Result<bool, Refusal> {
        Ok(env.shared().places(self.receives_in(session))?.is_some_and(|word| word.begun))
    }

    /// Asks for a bell when this half may come free.
    pub fn register_waiter(self, env: &Env, session: SessionRef) -> Result<(), Refusal> {
        env.shared().register_waiter(self.receives_in(session), shm::Role::Receiver, env.owner)
    }

    /// Takes both places of this half for a party with this `mark`. The receiver's place comes first and goes last, so
    /// its holder alone takes the sender's.
    pub fn take(
        self,
        env: &Env,
        session: SessionRef,
        mark: AddressTag,
    ) -> Result<HalfPlaces, TakeError> {
        let shared = env.shared();
        let mut receiver = shared.take_receiver(self.receives_in(session), env.owner, false)?;
        receiver.attach(shared)?.record_guest(Some(mark));
        match shared.take_sender(session.lane(self.0), env.owner, false) {
            Ok(sender) => Ok(HalfPlaces { sender, receiver }),
            Err(error) => {
                leave_receiver(env, receiver)?;
                // The last holder is about to leave the sender's place, or its worker has died.
                Err(if error == TakeError::Held { TakeError::Leaving } else { error })
            }
        }
    }
}

impl HalfPlaces {
    /// Gives both places back.
    pub fn leave(self, env: &Env) -> Result<(), Refusal> {
        let lanes = [self.sender.lane(), self.receiver.lane()];
        let left = leave_sender(env, self.sender, None);
        let left = left.and(leave_receiver(env, self.receiver));
        lanes.into_iter().for_each(|lane| env.ring_waiters(lane));
        left
    }
}

/// Leaves the sender's place, and rings for a peer that has begun with it.
fn leave_sender(env: &Env, end: SenderEnd, filling: Option<Reserved>) -> Result<(), Refusal> {
    let slot = end.lane().session.slot;
    let peer = env.shared().leave_sender(end, filling)?;
    peer.into_iter().for_each(|peer| env.ring(peer, slot));
    Ok(())
}

/// Leaves the receiver's place likewise.
fn leave_receiver(env: &Env, end: ReceiverEnd) -> Result<(), Refusal> {
    let slot = end.lane().session.slot;
    let peer = env.shared().leave_receiver(end)?;
    peer.into_iter().for_each(|peer| env.ring(peer, slot));
    Ok(())
}

impl PairEnd {
    /// A party that has just taken its places. Its client's address pays for what it sends.
    #[must_use]
    pub fn new(cx: Cx<'_>, places: HalfPlaces, client: IpAddr, peer: Peer) -> Self {
        let HalfPlaces { sender, receiver } = places;
        let (outgoing, incoming) =
            (Outgoing::new(cx.env, sender, client), Incoming::new(cx, receiver));
        // If the lanes cannot be read, the first turn finds out. A worker may have died that issued the session long ago.
        let _ = cx
            .env
            .shared()
            .renew(outgoing.end(), cx.now_ms)
            .and_then(|()| cx.env.ring_peer(outgoing.end()))
            .and_then(|()| cx.env.ring_peer(incoming.end()));
        let pace = Pace::new(cx.env, 0, cx.now_ms);
        let (is_paired, next_look_ms) = (false, cx.now_ms);
        Self { outgoing, incoming, pace, is_paired, peer, next_look_ms }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionRef {
        self.outgoing.end().lane().session
    }

    /// The time of its next turn, though nothing has happened.
    #[must_use]
    pub fn next_look_ms(&self) -> u64 {
        self.next_look_ms
    }

    /// Whether its peer is there, and its client was told.
    #[must_use]
    pub fn is_paired(&self) -> bool {
        self.is_paired
    }

    /// Whether it learns nothing from its client's socket: there is no room for what the client sends, and the client
    /// has taken all there is.
    #[must_use]
    pub fn ignores_input(&self) -> bool {
        self.outgoing.is_blocked() && !self.incoming.is_blocked()
    }

    /// Payload bytes of its client that the peer's client has, at least.
    #[must_use]
    pub fn delivered_bytes(&mut self, env: &Env) -> u64 {
        self.outgoing.delivered_bytes(env)
    }

    /// Payload bytes that its client's socket took.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.incoming.taken()
    }

    /// A turn of a party that waits for its peer. Its client's bytes are not read.
    pub fn wait(&mut self, cx: Cx<'_>, stream: &Stream) -> Met {
        self.try_wait(cx, stream)
            .unwrap_or_else(|refusal| Met::Over(SenderOutcome::Damaged(refusal)))
    }

    fn try_wait(&mut self, cx: Cx<'_>, stream: &Stream) -> Result<Met, Refusal> {
        let [out, back] = self.words(cx.env)?;
        if let Some(outcome) = self.ended(cx.env, [out, back])? {
            return Ok(Met::Over(outcome));
        }
        if self.peer == Peer::IsThere && out.receiver.state == State::Empty {
            return Ok(Met::Over(SenderOutcome::PeerWorkerLost));
        }
        let has_begun = out.begun || self.begin(cx.env, out)?;
        if has_begun && back.begun {
            self.pair(cx, stream)?;
            return Ok(Met::Paired);
        }
        match cx.wait(self.outgoing.end(), u64::MAX)? {
            Wait::Until(look_ms) => self.next_look_ms = look_ms,
            Wait::Expired | Wait::NobodyCame => return Ok(Met::Over(SenderOutcome::NobodyCame)),
        }
        Ok(Met::NotYet)
    }

    fn words(&self, env: &Env) -> Result<[LaneWord; 2], Refusal> {
        let shared = env.shared();
        Ok([shared.look(self.outgoing.end())?, shared.look(self.incoming.end())?])
    }

    /// Begins the lane that this party sends in, if the peer holds the place at its other end.
    fn begin(&self, env: &Env, out: LaneWord) -> Result<bool, Refusal> {
        let end = self.outgoing.end();
        if !out.can_begin() || env.shared().begin(end, &[])?.is_none() {
            return Ok(false);
        }
        env.ring_peer(end)?;
        Ok(true)
    }

    fn pair(&mut self, cx: Cx<'_>, stream: &Stream) -> Result<(), Refusal> {
        self.is_paired = true;
        // Until both directions have come to their end: the kernel closes the socket of a worker that dies, and that must
        // not look like an end.
        stream.reset_on_close();
        self.pace = Pace::new(cx.env, 0, cx.now_ms);
        self.outgoing.begin(cx)?;
        self.incoming.begin(cx, stream.is_encrypted())?;
        cx.env.count(Tally::Begun(ApiName::Pair));
        // Spare connections of either side need not wait any more.
        self.ring_waiters(cx.env);
        Ok(())
    }

    fn ring_waiters(&self, env: &Env) {
        Direction::ALL.into_iter().for_each(|it| env.ring_waiters(self.session().lane(it)));
    }

    /// A turn of a paired party: moves bytes both ways, as far as they go.
    pub fn turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Turn<SenderOutcome> {
        self.try_turn(cx, io).unwrap_or_else(|refusal| Turn::Over(SenderOutcome::Damaged(refusal)))
    }

    fn try_turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Turn<SenderOutcome>, Refusal> {
        let words = self.words(cx.env)?;
        if let Some(outcome) = self.ended(cx.env, words)? {
            return Ok(Turn::Over(outcome));
        }
        // A client that has sent its FIN and closed breaks its connection some time later. It wants nothing more, so that
        // is no cut as long as its peer has nothing for it.
        if io.stream.is_broken() && !self.outgoing.is_ended() {
            return Ok(Turn::Over(SenderOutcome::Left));
        }
        let (mut look_ms, mut is_again) = (u64::MAX, false);
        for is_incoming in [true, false] {
            let step = match is_incoming {
                true => self.incoming.turn(cx, io)?,
                false => self.outgoing.turn(cx, io)?,
            };
            match step {
                Step::Cut(outcome) => return Ok(Turn::Over(outcome)),
                Step::Again => is_again = true,
                Step::Wait { look_ms: at_ms } => look_ms = look_ms.min(at_ms),
            }
        }
        // Both may have come to their end in this turn.
        if self.is_complete(cx.env)? {
            return Ok(Turn::Over(SenderOutcome::Delivered(Receipt::Acked)));
        }
        if let Some(outcome) = self.judge_pace(cx, io.stream)? {
            return Ok(Turn::Over(outcome));
        }
        self.next_look_ms = look_ms.min(self.pace.next_look_ms(cx.env, cx.now_ms));
        Ok(if is_again { Turn::Again } else { Turn::Wait })
    }

    /// Whether both directions have come to their end.
    fn is_complete(&mut self, env: &Env) -> Result<bool, Refusal> {
        Ok(self.incoming.is_settled() && self.outgoing.settled(env)? == Settled::Acked)
    }

    /// Whether it is over: completed, or ended by the peer or by the session.
    fn ended(&mut self, env: &Env, words: [LaneWord; 2]) -> Result<Option<SenderOutcome>, Refusal> {
        if self.is_complete(env)? {
            return Ok(Some(SenderOutcome::Delivered(Receipt::Acked)));
        }
        let [out, back] = words;
        let peers = [(out.begun, out.receiver.state), (back.begun, back.sender.state)];
        let is_any = |state| peers.contains(&(true, state));
        if is_any(State::Lost) {
            return Ok(Some(SenderOutcome::PeerWorkerLost));
        }
        Ok(match env.shared().life(self.session())? {
            Some(Life::Ended(End::Left)) => Some(SenderOutcome::ReceiverLeft),
            // The peer has found a moment ago that all is delivered.
            Some(Life::Ended(End::Complete)) => Some(SenderOutcome::Delivered(Receipt::Acked)),
            Some(Life::Ended(end)) => Some(SenderOutcome::Ended(end)),
            Some(Life::Live) => is_any(State::Gone).then_some(SenderOutcome::ReceiverLeft),
            _ => Some(SenderOutcome::Ended(End::Expired)),
        })
    }

    /// Cuts a pair whose client is gone, or in which nothing moves for too long. The two parties share one fate, so the
    /// bytes of both directions count, and each step of their way.
    fn judge_pace(
        &mut self,
        cx: Cx<'_>,
        stream: &Stream,
    ) -> Result<Option<SenderOutcome>, Refusal> {
        let position = self.outgoing.position(cx.env)?.saturating_add(self.incoming.position());
        let silence = cx.env.config.timeouts.pair_idle_timeout;
        Ok(match self.pace.judge_silent(cx.env, stream, position, cx.now_ms, silence) {
            Verdict::Stays => None,
            Verdict::Lost => Some(SenderOutcome::Left),
            Verdict::Silent => Some(SenderOutcome::Silent),
            Verdict::TooSlow => Some(SenderOutcome::TooSlow),
        })
    }

    /// Leaves both places, and ends the session: the peer is cut, unless both directions have come to their end.
    pub fn leave(self, env: &Env, stream: &Stream, outcome: SenderOutcome) -> Result<(), Refusal> {
        let session = self.session();
        let end = match outcome {
            SenderOutcome::Delivered(_) => End::Complete,
            _ => End::Left,
        };
        let shared: &Shared<'_> = env.shared();
        if shared.end(session, end, |owner| env.ring(owner, session.slot)) {
            env.count(Tally::Ended(end));
        }
        let lanes = Direction::ALL.map(|it| session.lane(it));
        let left = self.outgoing.leave(env);
        // The receiver's place is left last: see `Half::take`.
        let left = left.and(self.incoming.leave(env, stream));
        lanes.into_iter().for_each(|lane| env.ring_waiters(lane));
        left
    }
}

/// How it ended for the direction that a party of a pair receives in, if it ended like this for the other.
#[must_use]
pub fn receiver_outcome(outcome: SenderOutcome) -> ReceiverOutcome {
    match outcome {
        SenderOutcome::Delivered(_) => ReceiverOutcome::Complete,
        SenderOutcome::Left | SenderOutcome::Fault(_) | SenderOutcome::BrokenDialect => {
            ReceiverOutcome::Left
        }
        SenderOutcome::ReceiverLeft | SenderOutcome::PeerWorkerLost => ReceiverOutcome::Cut,
        SenderOutcome::NobodyCame => ReceiverOutcome::NobodyCame,
        SenderOutcome::Ended(end) => ReceiverOutcome::Ended(end),
        SenderOutcome::NoChunk => ReceiverOutcome::NoChunk,
        SenderOutcome::TooSlow | SenderOutcome::Silent => ReceiverOutcome::GivenUp,
        SenderOutcome::Forbidden | SenderOutcome::Superseded => ReceiverOutcome::Forbidden,
        SenderOutcome::Damaged(refusal) => ReceiverOutcome::Damaged(refusal),
        SenderOutcome::Stopped => ReceiverOutcome::Stopped,
        SenderOutcome::Displaced => ReceiverOutcome::Displaced,
        SenderOutcome::StartsTooLate { .. } | SenderOutcome::Unfit => ReceiverOutcome::Unfit,
    }
}
