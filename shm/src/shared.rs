//! The words of a segment and what may be done with them: issue, find, take, begin, leave, end.
//!
//! `Shared` borrows its words, from the mapping in production and from the heap in tests, so that
//! the models and the product run the same steps. It holds no lock and keeps no list: every step is
//! one compare-and-swap, and a process may die between any two of them.

use crate::doorbell::Doorbell;
use crate::ends::{Filling, LaneEnd, ReceiverEnd, SenderEnd};
use crate::holdings::Holdings;
use crate::lane::{Finish, Lane, Left};
use crate::place::{LaneWord, Owner, Place, Role, State, WorkerId};
use crate::pool::{Pool, Tag};
use crate::record::WorkerRecord;
use crate::refusal::Refusal;
use crate::slot::{End, LaneRef, Life, SessionRef, Slot, Terms};
use crate::sync::{Ordering, fence};
use std::fmt;
use std::sync::atomic::AtomicU32 as PrivateU32;

/// All words of a segment.
#[derive(Debug)]
pub struct Shared<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) pool: Pool<'a>,
    records: &'a [WorkerRecord],
    bells: Vec<Doorbell<'a>>,
    lane_chunks: usize,
    chunk_bytes: usize,
    pub(crate) holdings: Holdings<'a>,
    /// Where this process looks for a free slot first; private, a guess.
    pub(crate) hint: PrivateU32,
}

/// The parts that a [`Shared`] is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// One slot a session.
    pub slots: &'a [Slot],
    /// One tag a chunk, and one a pipe.
    pub pool: Pool<'a>,
    /// One record a worker.
    pub records: &'a [WorkerRecord],
    /// One bell a record.
    pub bells: Vec<Doorbell<'a>>,
    /// Chunks a lane may hold, 1..=[`crate::LANE_CHUNKS_MAX`].
    pub lane_chunks: usize,
    /// Bytes in a chunk.
    pub chunk_bytes: usize,
}

/// Why a place could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// The session is over.
    Ended,
    /// Somebody holds it.
    Taken,
    /// Its last holder's peer has not left the old attempt yet: ask again in a moment.
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
            Self::Taken => f.write_str("the place is taken"),
            Self::Leaving => f.write_str("the last attempt is not over"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for TakeError {}

/// What a look-up found, for the caller to compare its digests with.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The session that lives in the slot.
    pub session: SessionRef,
    /// What it was issued with.
    pub terms: Terms,
    /// Who else may use it, by [`Shared::set_guest`]; 0: nobody was named.
    pub guest: u64,
    /// When its lifetime is over, in milliseconds of the caller's clock.
    pub expires_ms: u64,
}

impl<'a> Shared<'a> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts<'a>) -> Self {
        let Parts { slots, pool, records, bells, lane_chunks, chunk_bytes } = parts;
        let (hint, holdings) = (PrivateU32::new(0), Holdings::default());
        Self { slots, pool, records, bells, lane_chunks, chunk_bytes, holdings, hint }
    }

    /// Notes in `holdings` where each worker may hold something.
    #[cfg(not(loom))]
    pub(crate) fn noting(self, holdings: Holdings<'a>) -> Self {
        Self { holdings, ..self }
    }

    /// Chunks a lane may hold.
    #[must_use]
    pub fn lane_chunks(&self) -> usize {
        self.lane_chunks
    }

    /// Bytes in a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Session slots.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.slots.len()
    }

    /// The tags of chunks and pipes.
    #[must_use]
    pub fn pool(&self) -> &Pool<'a> {
        &self.pool
    }

    /// The record of `worker`, where the segment has one.
    #[must_use]
    pub fn record(&self, worker: WorkerId) -> Option<&'a WorkerRecord> {
        self.records.get(worker.index())
    }

    /// The bell of `worker`, where the segment has one.
    #[must_use]
    pub fn bell(&self, worker: WorkerId) -> Option<&Doorbell<'a>> {
        self.bells.get(worker.index())
    }

    pub(crate) fn slot(&self, slot: u32) -> Result<&'a Slot, Refusal> {
        self.slots.get(slot as usize).ok_or(Refusal::Descriptor(u64::from(slot)))
    }

    pub(crate) fn lane(&self, at: LaneRef) -> Result<&'a Lane, Refusal> {
        Ok(self.slot(at.session.slot)?.lane(at.direction))
    }

    pub(crate) fn claim(
        &self,
        index: u32,
        owner: Owner,
        terms: &Terms,
        now_ms: u64,
    ) -> Option<SessionRef> {
        let slot = self.slot(index).ok()?;
        let Ok((Life::Free, generation)) = slot.life() else { return None };
        self.holdings.note(owner.worker, index);
        if !slot.step((Life::Free, generation), (Life::Filling(owner), generation)) {
            return None;
        }
        slot.fill(terms, now_ms);
        let opened = slot.lanes.iter().all(|lane| {
            let vacant = lane.load().ok().filter(|word| word.is_vacant());
            vacant.is_some_and(|word| {
                lane.wipe();
                lane.forget_passing();
                lane.swap(word, LaneWord::empty(word.next_attempt()))
            })
        });
        let life = if opened { Life::Live } else { Life::Ended(End::Corrupt) };
        let live = slot.step((Life::Filling(owner), generation), (life, generation));
        (live && opened).then_some(SessionRef { slot: index, generation })
    }

    /// The session that lives in `slot`, if one does. One bounded load.
    #[must_use]
    pub fn find(&self, index: u32) -> Option<Found> {
        let slot = self.slots.get(index as usize)?;
        let Ok((Life::Live, generation)) = slot.life() else { return None };
        let session = SessionRef { slot: index, generation };
        let (terms, guest) = (slot.terms(), slot.guest.load(Ordering::Relaxed));
        let found = Found { session, terms, guest, expires_ms: slot.expires_ms() };
        // A slot that was issued again while we read is not the one we read. Pairs with the fence in
        // `fill`: if we read anything of the next session, we see its life.
        fence(Ordering::Acquire);
        (slot.life() == Ok((Life::Live, generation))).then_some(found)
    }

    /// Names who else may use `session`, if it still lives, and calls `ring` with the owner of every held
    /// place. The name, which is not 0, is to be good for this session alone: should the slot be issued
    /// again this very moment, its next session may begin with it, but never loses a name of its own by
    /// it.
    pub fn set_guest(
        &self,
        session: SessionRef,
        guest: u64,
        ring: impl FnMut(Owner),
    ) -> Result<(), Refusal> {
        let slot = self.slot(session.slot)?;
        // Acquire pairs with the Release here and with the fence in `fill`: if what we read is the next
        // session's, we see its life.
        let mut named = slot.guest.load(Ordering::Acquire);
        while self.life(session)? == Some(Life::Live) {
            match slot.guest.compare_exchange(named, guest, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => {
                    slot.held().for_each(ring);
                    break;
                }
                Err(other) => named = other,
            }
        }
        Ok(())
    }

    /// Who else may use `end`'s session.
    pub fn guest<E: LaneEnd>(&self, end: &E) -> Result<u64, Refusal> {
        Ok(self.slot(end.lane().session.slot)?.guest.load(Ordering::SeqCst))
    }

    /// Says who the receiver was let in as: 0, or what the session's guest was named. To be said before
    /// the sender is rung for.
    pub fn admit(&self, end: &ReceiverEnd, guest: u64) -> Result<(), Refusal> {
        self.lane(end.at)?.admitted.store(guest, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the receiver that now waits for `end` was let in as the one who is the session's guest. A
    /// receiver that has only taken its place may not have said so yet.
    pub fn receiver_is_guest(&self, end: &SenderEnd) -> Result<bool, Refusal> {
        Ok(self.lane(end.at)?.admitted.load(Ordering::SeqCst) == self.guest(end)?)
    }

    /// When the lifetime of `end`'s session is over, in milliseconds of the caller's clock.
    pub fn expires_ms<E: LaneEnd>(&self, end: &E) -> Result<u64, Refusal> {
        Ok(self.slot(end.lane().session.slot)?.expires_ms())
    }

    /// Begins the lifetime of `end`'s session anew. To be called before the attempt is left, so that
    /// nobody finds the lanes idle and the lifetime over.
    pub fn renew<E: LaneEnd>(&self, end: &E, now_ms: u64) -> Result<(), Refusal> {
        self.look(end)?;
        self.slot(end.lane().session.slot)?.renew(now_ms);
        Ok(())
    }

    /// What became of `session`: `None` once its slot serves another.
    pub fn life(&self, session: SessionRef) -> Result<Option<Life>, Refusal> {
        let (life, generation) = self.slot(session.slot)?.life()?;
        Ok((generation == session.generation).then_some(life))
    }

    /// Takes the sender's place. `mark` is seen by the receiver.
    pub fn take_sender(
        &self,
        at: LaneRef,
        owner: Owner,
        mark: bool,
    ) -> Result<SenderEnd, TakeError> {
        let tag = self.take(at, Role::Sender, owner, mark)?;
        Ok(SenderEnd::new(at, owner, tag))
    }

    /// Takes the receiver's place. `mark` is seen by the sender.
    pub fn take_receiver(
        &self,
        at: LaneRef,
        owner: Owner,
        mark: bool,
    ) -> Result<ReceiverEnd, TakeError> {
        let tag = self.take(at, Role::Receiver, owner, mark)?;
        Ok(ReceiverEnd::new(at, owner, tag))
    }

    /// Asks the holder of the place of `role` to give way to `rival`, which is not 0: `ring` is called with
    /// its owner. `false`: the session is over. A holder is asked whatever it is doing: one that lives says
    /// no at its next turns, and a dead one says nothing. The last rival to ask is the one that
    /// is heard, and a new holder hears nothing of what was asked before it came: who goes on wanting
    /// the place asks again.
    pub fn contest(
        &self,
        at: LaneRef,
        role: Role,
        rival: u64,
        ring: impl FnOnce(Owner),
    ) -> Result<bool, Refusal> {
        let (lane, live) = (self.lane(at)?, Some(Life::Live));
        if self.life(at.session)? != live {
            return Ok(false);
        }
        lane.rival(role).swap(rival, Ordering::SeqCst);
        // If the slot was issued again meanwhile, its holder is of no concern to us.
        if self.life(at.session)? != live {
            self.withdraw(at, role, rival)?;
            return Ok(false);
        }
        let word = lane.load()?;
        let holder = word.place(role);
        if holder.state == State::Held {
            ring(holder.owner);
        }
        Ok(true)
    }

    /// Whether the sender of the attempt in the lane has said how its bytes end, or has left.
    pub fn is_ending(&self, at: LaneRef) -> Result<bool, Refusal> {
        let lane = self.lane(at)?;
        let word = lane.load()?;
        let sender_left = matches!(word.sender.state, State::Gone | State::Lost);
        Ok(word.begun && (sender_left || lane.finish() != Finish::Open))
    }

    /// Whether an attempt of the session has published payload in this lane, and the session still lives.
    pub fn has_passed(&self, at: LaneRef) -> Result<bool, Refusal> {
        let passed = self.lane(at)?.has_passed();
        // Pairs with the fence in `fill`: if what we read is the next session's, we see its life.
        fence(Ordering::Acquire);
        Ok(passed && self.life(at.session)? == Some(Life::Live))
    }

    /// Who wants the place of `role`, by `contest`; 0: nobody, or nobody any more.
    pub fn rival(&self, at: LaneRef, role: Role) -> Result<u64, Refusal> {
        Ok(self.lane(at)?.rival(role).load(Ordering::SeqCst))
    }

    /// Takes back what `contest` said, unless another rival has spoken since or the holder has changed:
    /// the rival has given up, or the holder says no. Of two rivals of one name, this takes back what
    /// either said.
    pub fn withdraw(&self, at: LaneRef, role: Role, rival: u64) -> Result<(), Refusal> {
        let word = self.lane(at)?.rival(role);
        let _ = word.compare_exchange(rival, 0, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    /// Has `owner` told when the place of `role` may be free: its bell is rung by whoever leaves. To be
    /// called before one more try to take it.
    pub fn knock(&self, at: LaneRef, role: Role, owner: Owner) -> Result<(), Refusal> {
        self.lane(at)?.knock(role).knock(owner);
        Ok(())
    }

    /// Who knocked at the lane's places and is to be told, once, that one may be free. For whoever has
    /// left.
    pub fn knocked(&self, at: LaneRef) -> impl Iterator<Item = Owner> + use<'a> {
        let lane = self.lane(at).ok();
        let roles = [Role::Sender, Role::Receiver];
        roles.into_iter().filter_map(move |role| lane?.knock(role).take())
    }

    fn take(&self, at: LaneRef, role: Role, owner: Owner, mark: bool) -> Result<Tag, TakeError> {
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
                State::Held => return Err(TakeError::Taken),
                State::Gone | State::Lost => return Err(TakeError::Leaving),
                State::Empty => {}
            }
            let held = Place { state: State::Held, owner, mark };
            self.slot(session.slot)?.note_use();
            if lane.swap(word, word.with(role, held)) {
                break word;
            }
        };
        // The one that ends a session looks at the places after it set the life; we look at the life
        // after we took the place. One of the two sees the other.
        let tag = Tag::new(at, word.attempt);
        // What was asked of the last holder is not asked of this one.
        lane.rival(role).swap(0, Ordering::SeqCst);
        if self.life(session) != Ok(Some(Life::Live)) {
            // A sender may have begun with us meanwhile, and be gone already.
            self.depart(at, role, owner, State::Gone, |_| self.pool.release_all(tag))?;
            self.free(session)?;
            return Err(TakeError::Ended);
        }
        Ok(tag)
    }

    /// The lane as `end` sees it. Refused when its place is no longer its own.
    pub fn look<E: LaneEnd>(&self, end: &E) -> Result<LaneWord, Refusal> {
        let word = self.lane(end.lane())?.load()?;
        if word.place(E::ROLE).is_held_by(end.owner()) {
            return Ok(word);
        }
        Err(Refusal::NotOurs(word.encode()))
    }

    /// Begins the attempt: the two that hold the places now belong to each other, and the receiver
    /// may read `announcement`. `None`: there is no receiver, or none that suits, and the sender goes
    /// on waiting. Otherwise the receiver's owner, whose bell the caller rings.
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
        filling: Option<Filling>,
    ) -> Result<Option<Owner>, Refusal> {
        // What is refused here can only be found by its tag, as if the sender had died. The place must be left anyway.
        let released = end.release(self, filling).is_ok();
        let as_state = if released { State::Gone } else { State::Lost };
        let (at, owner, tag) = (end.at, end.owner, end.tag);
        let left = self.depart(at, Role::Sender, owner, as_state, |_| {
            if !released || end.release_in_flight(self).is_err() {
                self.pool.release_all(tag);
            }
        })?;
        self.after_leave(at.session, left)
    }

    /// Leaves the receiver's place. Returns the sender's owner if it is still in the attempt: ring
    /// its bell.
    pub fn leave_receiver(&self, end: ReceiverEnd) -> Result<Option<Owner>, Refusal> {
        let ReceiverEnd { at, owner, tag, .. } = end;
        let left = self.depart(at, Role::Receiver, owner, State::Gone, |sender| {
            // What a dead sender was filling only its tag tells.
            if sender != State::Gone || end.release_in_flight(self).is_err() {
                self.pool.release_all(tag);
            }
        })?;
        self.after_leave(at.session, left)
    }

    /// Leaves a place and, where nobody else is left to do it, cleans up after the attempt: `give_back` is told how
    /// the other end left, and gives back what the attempt holds.
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
            // Nobody fills or reads any more.
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

    /// Ends a session, unless it is over. `ring` is called with the owner of every held place.
    /// Returns whether it was this call that ended it.
    pub fn end(&self, session: SessionRef, end: End, ring: impl FnMut(Owner)) -> bool {
        let Ok(slot) = self.slot(session.slot) else { return false };
        let generation = session.generation;
        if !slot.step((Life::Live, generation), (Life::Ended(end), generation)) {
            return false;
        }
        slot.held().for_each(ring);
        // A slot whose words are refused stays closed for good: nobody can enter it.
        let _ = self.free(session);
        true
    }

    /// Ends a session whose lifetime is over at `now_ms`, unless a transfer is running in it. `ring` as
    /// for `end`. A transfer that had begun when the lifetime was over is never ended by this; one that
    /// begins later may be, as may be everything that comes too late. Returns whether it was this call
    /// that ended it.
    pub fn expire(&self, session: SessionRef, now_ms: u64, ring: impl FnMut(Owner)) -> bool {
        let Ok(slot) = self.slot(session.slot) else { return false };
        let running = self.is_running(session);
        // The lifetime is read after the words: who renews it does so before it leaves the attempt.
        running == Ok(false) && slot.expires_ms() <= now_ms && self.end(session, End::Expired, ring)
    }

    /// Whether a transfer is running in the slot of `session`.
    pub fn is_running(&self, session: SessionRef) -> Result<bool, Refusal> {
        Ok(self.slot(session.slot)?.words()?.iter().any(|word| word.begun))
    }

    /// Frees the slot of a session that has ended and that everybody has left.
    pub(crate) fn free(&self, session: SessionRef) -> Result<(), Refusal> {
        let slot = self.slot(session.slot)?;
        // The life is read between two looks at the words: if the second finds the same, the session
        // was over with nobody in it. Otherwise another may have freed the slot and a third may have
        // issued it again, and a vacant word would be a new session's.
        let words = slot.words()?;
        let (life, generation) = slot.life()?;
        if generation != session.generation || !matches!(life, Life::Ended(_)) {
            return Ok(());
        }
        let mut shut = true;
        for (lane, word) in slot.lanes.iter().zip(words) {
            let shuts = word.is_vacant()
                && !word.is_closed()
                && lane.swap(word, LaneWord::closed(word.next_attempt()));
            // Otherwise another may have shut it, of two that free the same session. It stays shut
            // until the slot is issued again.
            shut &= shuts || lane.load()?.is_closed();
        }
        if shut {
            // Two may come here for the same session; one step succeeds, and that is enough.
            slot.step((life, generation), (Life::Free, generation.wrapping_add(1)));
        }
        Ok(())
    }
}
