//! Sweeps what dead workers leave behind, and counts how much of everything is in use.
//!
//! The master calls [`Shared::sweep`] once it has reaped a worker's process; no other process frees what a worker
//! owned, but for a session that does not live yet (`directory`). The sweep and the census go through all slots, and a
//! slot whose words are refused harms no other slot.

use crate::ids::{Direction, LaneRef, Owner, Role, SessionRef, Tag, WorkerId};
use crate::lane::Left;
use crate::place::{LaneWord, State};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::{End, Life, Slot};

/// The four places of a session.
const PLACES: [(Direction, Role); 4] = [
    (Direction::Forth, Role::Sender),
    (Direction::Forth, Role::Receiver),
    (Direction::Back, Role::Sender),
    (Direction::Back, Role::Receiver),
];

/// The amounts in use, counted from the words themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Chunks held by lanes.
    pub chunks_held: usize,
    /// Pipes held by lanes, or by workers that empty them.
    pub pipes_held: usize,
    /// Places that are not free: held, or left in an attempt that is not cleaned up yet.
    pub places_held: usize,
    /// Sessions that live.
    pub sessions_live: usize,
    /// Slots that are neither free nor live: being filled, or ended and not left yet.
    pub slots_between: usize,
}

impl Shared<'_> {
    /// Frees what `dead` owned, and rings for the survivors: its peers, owners that are still in a session that
    /// ended, and waiters for a place, as the dead worker may have been about to tell them. Only the master calls
    /// this, once it has reaped the worker's process. The sweep leaves slots with refused words alone. `ring` gets
    /// the slot and the survivor's owner. The dead worker may have taken the word that another worker sleeps, and no
    /// later ringer is told so again: the caller therefore wakes every worker.
    ///
    /// The slots that `dead` had noted come first, so that its peers hear of its death soon. The master does not
    /// believe the notes: it looks at all other slots in use as well.
    pub fn sweep(&self, dead: WorkerId, mut ring: impl FnMut(u32, Owner)) {
        let noted = self.holdings.noted_by(dead);
        self.holdings.forget(dead);
        for index in noted.slots() {
            if let Some(slot) = self.slots.get(index as usize) {
                // A refused slot cannot be swept, and harms no other slot.
                let _ = self.sweep_slot(index, slot, dead, &mut ring);
            }
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let Ok(index) = u32::try_from(index) else { return };
            // No party is in a free slot, or can enter it. Waiters that are still registered there look again by
            // themselves.
            let is_free = matches!(slot.life(), Ok((Life::Free, _)));
            if !is_free && !noted.has(index) {
                let _ = self.sweep_slot(index, slot, dead, &mut ring);
            }
        }
        self.pool.give_back_all(Tag::emptied_by(dead));
        self.pool.forget_requests();
    }

    fn sweep_slot(
        &self,
        index: u32,
        slot: &Slot,
        dead: WorkerId,
        ring: &mut impl FnMut(u32, Owner),
    ) -> Result<(), Refusal> {
        let (life, issue_number) = slot.life()?;
        if let Life::Filling(owner) = life
            && owner.worker == dead
        {
            // No party could enter the slot yet. An ended session is freed like any other.
            slot.step((life, issue_number), (Life::Ended(End::Corrupt), issue_number));
        }
        let session = SessionRef { slot: index, issue_number };
        for (direction, role) in PLACES {
            // A refused lane does not keep the other lane from being swept.
            let _ = self.sweep_place(session.lane(direction), role, dead, ring);
        }
        if let Life::Ended(_) = slot.life()?.0 {
            // The worker that ended the session may have died before it told the parties that wait.
            slot.held().for_each(|owner| ring(index, owner));
        }
        let freed = self.free(session);
        // A waiter may wait for a place that the dead worker left, by itself or just now.
        for direction in Direction::ALL {
            self.take_waiters(session.lane(direction)).for_each(|owner| ring(index, owner));
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
            // The dead worker left by itself, but may have died before it told its peer.
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
            // Only the sender holds chunks before an attempt has begun. The chunks go before the place, because the
            // next sender's chunks will carry the same tag.
            self.pool.give_back_all(tag);
        }
        if let Left::PeerRemains(peer) =
            self.depart(at, role, owner, State::Lost, |_| self.pool.give_back_all(tag))?
        {
            ring(at.session.slot, peer);
        }
        Ok(())
    }

    /// Counts the amounts in use.
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

impl Shared<'_> {
    /// Forgets, now and then, the slots in which `worker`, which is this process, holds nothing any more. The cost is
    /// constant for each place taken. The caller tells its peers first that it has left.
    pub fn tidy(&self, worker: WorkerId) {
        if self.holdings.is_due() {
            let slot = |index| self.slots.get(index as usize);
            self.holdings
                .tidy(worker, |index| slot(index).is_some_and(|it| it.has_part_of(worker)));
        }
    }
}

impl Slot {
    /// Whether `worker` holds something in the slot, or may: a slot with refused words counts, as it has to be swept.
    fn has_part_of(&self, worker: WorkerId) -> bool {
        let is_held = || self.held().any(|owner| owner.worker == worker);
        self.words().is_err() || self.is_filled_by(worker) || is_held()
    }
}
