//! What the dead leave behind, and how much of everything is in use.
//!
//! The master calls [`Shared::sweep`] once it has reaped a worker's process; nobody else frees what
//! another owns. It and the census go through all slots, and a slot whose words are refused harms nobody else.

use crate::lane::Left;
use crate::place::{LaneWord, Owner, Role, State, WorkerId};
use crate::pool::Tag;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::{Direction, End, LaneRef, Life, SessionRef, Slot};

/// The four places of a session.
const PLACES: [(Direction, Role); 4] = [
    (Direction::Forth, Role::Sender),
    (Direction::Forth, Role::Receiver),
    (Direction::Back, Role::Sender),
    (Direction::Back, Role::Receiver),
];

/// What is in use, counted from the words themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Chunks held by lanes.
    pub chunks_held: usize,
    /// Pipes held by lanes, or by workers that empty them.
    pub pipes_held: usize,
    /// Places that are not free: held, or left in an attempt that is not cleaned yet.
    pub places_held: usize,
    /// Sessions that live.
    pub sessions_live: usize,
    /// Slots that are neither free nor live: being filled, or ended and not left yet.
    pub slots_between: usize,
}

impl Shared<'_> {
    /// Frees what `dead` owned and rings for whom it leaves behind: its peers, whoever is still in a
    /// session that ended, and whoever knocked, for the dead may have been about to tell them. For the
    /// master, once the worker's process is reaped: nobody else may free for another. Slots with
    /// refused words are left alone. `ring` gets the slot and the survivor's owner. A bell that the
    /// dead had found asleep is asked of no later ringer: the caller wakes every worker.
    ///
    /// The slots that `dead` had noted come first, so that its peers hear of it soon. What it noted is not believed: all
    /// others that are in use are looked at as well.
    pub fn sweep(&self, dead: WorkerId, mut ring: impl FnMut(u32, Owner)) {
        let noted = self.holdings.noted_by(dead);
        self.holdings.forget(dead);
        for index in noted.slots() {
            if let Some(slot) = self.slots.get(index as usize) {
                // What is refused cannot be swept, and harms that slot alone.
                let _ = self.sweep_slot(index, slot, dead, &mut ring);
            }
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let Ok(index) = u32::try_from(index) else { return };
            // Nobody is in a free slot, or can enter it. Those that still knock there look again by themselves.
            let is_free = matches!(slot.life(), Ok((Life::Free, _)));
            if !is_free && !noted.has(index) {
                let _ = self.sweep_slot(index, slot, dead, &mut ring);
            }
        }
        self.pool.release_all(Tag::emptied_by(dead));
        self.pool.forget_wishes();
    }

    fn sweep_slot(
        &self,
        index: u32,
        slot: &Slot,
        dead: WorkerId,
        ring: &mut impl FnMut(u32, Owner),
    ) -> Result<(), Refusal> {
        let (life, generation) = slot.life()?;
        if let Life::Filling(owner) = life
            && owner.worker == dead
        {
            // Nobody could enter yet; as an ended session it is freed like any other.
            slot.step((life, generation), (Life::Ended(End::Corrupt), generation));
        }
        let session = SessionRef { slot: index, generation };
        for (direction, role) in PLACES {
            // What is refused in one lane does not keep the other from being swept.
            let _ = self.sweep_place(session.lane(direction), role, dead, ring);
        }
        if let Life::Ended(_) = slot.life()?.0 {
            // Whoever ended it may have died before it told those that wait.
            slot.held().for_each(|owner| ring(index, owner));
        }
        let freed = self.free(session);
        // What the dead left, by itself or just now, may be what somebody knocked for.
        for direction in Direction::ALL {
            self.knocked(session.lane(direction)).for_each(|owner| ring(index, owner));
        }
        freed
    }

    fn sweep_place(
        &self,
        at: LaneRef,
        role: Role,
        dead: WorkerId,
        ring: &mut impl FnMut(u32, Owner),
    ) -> Result<(), Refusal> {
        let word = self.lane(at)?.load()?;
        let (place, peer) = (word.place(role), word.peer(role));
        if place.owner.worker != dead {
            return Ok(());
        }
        match place.state {
            State::Held => self.sweep_held(at, role, word, ring),
            // It left by itself, but may have died before it told its peer.
            State::Gone if peer.owner.worker != dead => {
                ring(at.session.slot, peer.owner);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sweep_held(
        &self,
        at: LaneRef,
        role: Role,
        word: LaneWord,
        ring: &mut impl FnMut(u32, Owner),
    ) -> Result<(), Refusal> {
        let owner = word.place(role).owner;
        let tag = Tag::new(at, word.attempt);
        if !word.begun && role == Role::Sender {
            // Before an attempt has begun only the sender holds chunks. They go before the place:
            // the next sender's chunks will carry the same tag.
            self.pool.release_all(tag);
        }
        if let Left::PeerRemains(peer) =
            self.depart(at, role, owner, State::Lost, |_| self.pool.release_all(tag))?
        {
            ring(at.session.slot, peer);
        }
        Ok(())
    }

    /// Counts what is in use.
    #[must_use]
    pub fn census(&self) -> Census {
        let (chunks_held, pipes_held) = (self.pool.held(), self.pool.pipes_held());
        let mut census = Census { chunks_held, pipes_held, ..Census::default() };
        for slot in self.slots {
            match slot.life() {
                Ok((Life::Live, _)) => census.sessions_live += 1,
                Ok((Life::Free, _)) => {}
                _ => census.slots_between += 1,
            }
            for word in slot.lanes.iter().filter_map(|lane| lane.load().ok()) {
                let held = [word.sender, word.receiver].into_iter();
                let held = held.filter(|p| !matches!(p.state, State::Empty | State::Closed));
                census.places_held += held.count();
            }
        }
        census
    }
}
