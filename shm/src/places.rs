//! The places of a lane: how an end takes one, begins an attempt with its peer, and leaves.
//!
//! The end that leaves an attempt last cleans up after it. Must always hold: no process fills or reads a chunk that
//! is given back here.

use crate::ends::{LaneEnd, Receiver, ReceiverEnd, Reserved, Sender, SenderEnd};
use crate::finish::Finish;
use crate::ids::{LaneRef, Owner, Role, SessionRef, Tag};
use crate::lane::Left;
use crate::place::{LaneWord, Place, State};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::Life;
use crate::sync::Ordering;
use std::fmt;

/// Why a place could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// The session is over.
    Ended,
    /// A party holds the place.
    Held,
    /// The last holder's peer has not left the old attempt yet: ask again in a moment.
    Leaving,
    /// The slot holds what the protocol does not allow.
    Refused(Refusal),
}

impl From<Refusal> for TakeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the session is over"),
            Self::Held => f.write_str("the place is held"),
            Self::Leaving => f.write_str("the last attempt is not over"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for TakeError {}

impl<'a> Shared<'a> {
    /// Takes the sender's place. `incompatible` is seen by the receiver.
    pub fn take_sender(
        &self,
        at: LaneRef,
        owner: Owner,
        incompatible: bool,
    ) -> Result<SenderEnd, TakeError> {
        let tag = self.take(at, Role::Sender, owner, incompatible)?;
        // A sender that died just before it could begin may have recorded how its bytes end.
        self.lane(at)?.set_finish(Finish::Open);
        Ok(SenderEnd::new(at, owner, tag))
    }

    /// Takes the receiver's place. `incompatible` is seen by the sender.
    pub fn take_receiver(
        &self,
        at: LaneRef,
        owner: Owner,
        incompatible: bool,
    ) -> Result<ReceiverEnd, TakeError> {
        let tag = self.take(at, Role::Receiver, owner, incompatible)?;
        Ok(ReceiverEnd::new(at, owner, tag))
    }

    fn take(
        &self,
        at: LaneRef,
        role: Role,
        owner: Owner,
        incompatible: bool,
    ) -> Result<Tag, TakeError> {
        let (lane, session) = (self.lane(at)?, at.session);
        self.holdings.note(owner.worker, session.slot);
        let word = loop {
            let word = lane.load()?;
            // The life is read after the word: if the swap succeeds, the word has not changed since,
            // so the slot was not issued again since.
            if self.life(session)? != Some(Life::Live) {
                return Err(TakeError::Ended);
            }
            match word.place(role).state {
                State::Closed => return Err(TakeError::Ended),
                State::Held => return Err(TakeError::Held),
                State::Gone | State::Lost => return Err(TakeError::Leaving),
                State::Empty => {}
            }
            let held = Place { state: State::Held, owner, incompatible };
            self.slot(session.slot)?.note_use();
            if lane.swap(word, word.with(role, held)) {
                break word;
            }
        };
        // The process that ends a session looks at the places after it set the life. We look at the life after we
        // took the place. So at least one of the two sees the other.
        let tag = Tag::new(at, word.attempt);
        // A rival asked the last holder to give way, not this one.
        lane.rival(role).swap(0, Ordering::SeqCst);
        if self.life(session) != Ok(Some(Life::Live)) {
            // A sender may have begun with us meanwhile, and be gone already.
            self.depart(at, role, owner, State::Gone, |_| self.pool.give_back_all(tag))?;
            self.free(session)?;
            return Err(TakeError::Ended);
        }
        Ok(tag)
    }

    /// The lane's word, as `end` sees it. Refused when the end no longer holds its place.
    pub fn look<E: LaneEnd>(&self, end: &E) -> Result<LaneWord, Refusal> {
        self.lane(end.lane())?.held_word(E::ROLE, end.owner())
    }

    /// Begins the attempt: the two holders of the places now belong to each other, and the receiver may read
    /// `announcement`. `None`: there is no receiver, or an incompatible one, and the sender goes on waiting.
    /// Otherwise returns the receiver's owner, whose bell the caller rings.
    pub fn begin(&self, end: &SenderEnd, announcement: &[u8]) -> Result<Option<Owner>, Refusal> {
        let lane = self.lane(end.at)?;
        lane.announce(announcement);
        loop {
            let word = self.look(end)?;
            if word.begun {
                return Err(Refusal::NotOurs(word.encode()));
            }
            if !word.can_begin() {
                return Ok(None);
            }
            if lane.swap(word, LaneWord { begun: true, ..word }) {
                return Ok(Some(word.receiver.owner));
            }
        }
    }

    /// Leaves the sender's place, giving back every chunk that the receiver cannot be reading.
    /// Returns the receiver's owner if it is still in the attempt: ring its bell.
    pub fn leave_sender(
        &self,
        mut end: SenderEnd,
        reserved: Option<Reserved>,
    ) -> Result<Option<Owner>, Refusal> {
        // After a refusal only the tag can find the sender's buffers, as if the sender had died. The place must be
        // left anyway.
        let given_back = end.attach(self).and_then(|mut end| end.give_back_all(reserved)).is_ok();
        let as_state = if given_back { State::Gone } else { State::Lost };
        let (at, owner, tag) = (end.at, end.owner, end.tag);
        let left = self.depart(at, Role::Sender, owner, as_state, |_| {
            let in_flight = |end: Sender<'_>| end.give_back_in_flight().is_ok();
            if !given_back || !end.attach(self).is_ok_and(in_flight) {
                self.pool.give_back_all(tag);
            }
        })?;
        self.after_leave(at.session, left)
    }

    /// Leaves the receiver's place. Returns the sender's owner if it is still in the attempt: ring
    /// its bell.
    pub fn leave_receiver(&self, mut end: ReceiverEnd) -> Result<Option<Owner>, Refusal> {
        let (at, owner, tag) = (end.at, end.owner, end.tag);
        let left = self.depart(at, Role::Receiver, owner, State::Gone, |sender| {
            // A dead sender's reserved buffers can only be found by their tag.
            let in_flight = |end: Receiver<'_>| end.give_back_in_flight().is_ok();
            if sender != State::Gone || !end.attach(self).is_ok_and(in_flight) {
                self.pool.give_back_all(tag);
            }
        })?;
        self.after_leave(at.session, left)
    }

    /// Leaves a place. If no other end is left to do it, cleans up after the attempt: calls `give_back` with the
    /// state in which the other end left, to give back what the attempt holds.
    pub(crate) fn depart(
        &self,
        at: LaneRef,
        role: Role,
        owner: Owner,
        as_state: State,
        give_back: impl FnOnce(State),
    ) -> Result<Left, Refusal> {
        let lane = self.lane(at)?;
        let left = lane.leave(role, owner, as_state)?;
        if let Left::Last(peer) = left {
            // Both ends have left: no process fills or reads the buffers any more.
            give_back(peer);
            lane.reset(role, owner)?;
        }
        Ok(left)
    }

    fn after_leave(&self, session: SessionRef, left: Left) -> Result<Option<Owner>, Refusal> {
        self.free(session)?;
        match left {
            Left::PeerRemains(peer) => Ok(Some(peer)),
            Left::Unbegun | Left::Last(_) => Ok(None),
        }
    }
}

impl SenderEnd {
    /// The end and its lane, for a turn. Refused where there is no such lane.
    #[inline]
    pub fn attach<'s>(&'s mut self, shared: &'s Shared<'_>) -> Result<Sender<'s>, Refusal> {
        let lane = shared.lane(self.at)?;
        Ok(Sender::new(self, lane, &shared.pool))
    }
}

impl ReceiverEnd {
    /// The end and its lane, for a turn. Refused where there is no such lane.
    #[inline]
    pub fn attach<'s>(&'s mut self, shared: &'s Shared<'_>) -> Result<Receiver<'s>, Refusal> {
        let lane = shared.lane(self.at)?;
        Ok(Receiver::new(self, lane, &shared.pool))
    }
}
