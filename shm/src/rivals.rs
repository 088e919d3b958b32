//! Decides who may have a place, and who wants a place that is held: the session's guest, rivals of a holder, and
//! waiters for a place.

use crate::ends::{LaneEnd, SenderEnd};
use crate::finish::Finish;
use crate::ids::{AddressTag, LaneRef, Owner, Role, SessionRef};
use crate::place::State;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::Life;
use crate::sync::Ordering;

impl<'a> Shared<'a> {
    /// Names the guest who may use `session` too, if the session still lives, and calls `ring` with the owner of
    /// every held place. The name must serve for this session alone. If the slot is issued again at this
    /// very moment, its next session may begin with the name, but never loses a name of its own by it.
    pub fn set_guest(
        &self,
        session: SessionRef,
        guest: AddressTag,
        ring: impl FnMut(Owner),
    ) -> Result<(), Refusal> {
        let slot = self.slot(session.slot)?;
        // Acquire pairs with the Release here and with the fence in `fill`: if we read the next session's name, we
        // also see its life.
        let (mut named, word) =
            (slot.guest.load(Ordering::Acquire), AddressTag::to_word(Some(guest)));
        while self.life(session)? == Some(Life::Live) {
            match slot.guest.compare_exchange(named, word, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => {
                    slot.held().for_each(ring);
                    break;
                }
                Err(other) => named = other,
            }
        }
        Ok(())
    }

    /// Makes `guest` the guest of `session`, if the session lives and has none. Returns whether `guest` is its guest;
    /// `None`: the session is over. As in [`Self::set_guest`] the name must serve for this session alone.
    pub fn claim_guest(
        &self,
        session: SessionRef,
        guest: AddressTag,
    ) -> Result<Option<bool>, Refusal> {
        let (slot, ours) = (self.slot(session.slot)?, AddressTag::to_word(Some(guest)));
        if self.life(session)? != Some(Life::Live) {
            return Ok(None);
        }
        let claimed = slot.guest.compare_exchange(0, ours, Ordering::SeqCst, Ordering::Acquire);
        if self.life(session)? != Some(Life::Live) {
            // The slot was issued again at this very moment: its session must not lose its first guest by this.
            let _ = slot.guest.compare_exchange(ours, 0, Ordering::SeqCst, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(Some(claimed.is_ok() || claimed == Err(ours)))
    }

    /// The guest who may use `end`'s session too, if it has one.
    pub fn guest<E: LaneEnd>(&self, end: &E) -> Result<Option<AddressTag>, Refusal> {
        let slot = self.slot(end.lane().session.slot)?;
        Ok(AddressTag::from_word(slot.guest.load(Ordering::SeqCst)))
    }

    /// Whether the receiver that now waits for `end` may use the session as its guest. A
    /// receiver that has only taken its place may not have said so yet.
    pub fn receiver_is_guest(&self, end: &SenderEnd) -> Result<bool, Refusal> {
        let receiver = self.lane(end.at)?.receiver_guest.load(Ordering::SeqCst);
        Ok(AddressTag::from_word(receiver) == self.guest(end)?)
    }

    /// As whom the receiver that holds its place in the lane has come, by `record_guest`. `None`: it has not said so yet,
    /// or nobody is there.
    pub fn receiver_guest(&self, at: LaneRef) -> Result<Option<AddressTag>, Refusal> {
        Ok(AddressTag::from_word(self.lane(at)?.receiver_guest.load(Ordering::SeqCst)))
    }

    /// Asks the holder of the place of `role` to give way to `rival`, and calls `ring` with the holder's
    /// owner. `false`: the session is over. The holder is asked whatever it is doing. A living holder
    /// declines at its next turns, and a dead holder says nothing. Only the last rival to ask is heard, and a new holder
    /// hears nothing of what was asked before it came: a rival that goes on wanting the place asks again.
    pub fn name_rival(
        &self,
        at: LaneRef,
        role: Role,
        rival: AddressTag,
        ring: impl FnOnce(Owner),
    ) -> Result<bool, Refusal> {
        let (lane, live) = (self.lane(at)?, Some(Life::Live));
        if self.life(at.session)? != live {
            return Ok(false);
        }
        lane.rival(role).swap(AddressTag::to_word(Some(rival)), Ordering::SeqCst);
        // A slot that was issued again meanwhile has another holder, which must not be asked.
        if self.life(at.session)? != live {
            self.clear_rival(at, role, rival)?;
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

    /// The rival that wants the place of `role`, by `name_rival`. `None`: no rival does, or its name was cleared.
    pub fn rival(&self, at: LaneRef, role: Role) -> Result<Option<AddressTag>, Refusal> {
        Ok(AddressTag::from_word(self.lane(at)?.rival(role).load(Ordering::SeqCst)))
    }

    /// Clears the name that `name_rival` wrote, unless another rival has spoken since or the holder has changed. The
    /// caller is the rival that stops waiting, or the holder that declines. If two rivals have one name, this clears
    /// the name of either.
    pub fn clear_rival(&self, at: LaneRef, role: Role, rival: AddressTag) -> Result<(), Refusal> {
        let (word, rival) = (self.lane(at)?.rival(role), AddressTag::to_word(Some(rival)));
        let _ = word.compare_exchange(rival, 0, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    /// Tells `owner` when the place of `role` may be free: an end that leaves rings its bell. The caller then tries
    /// once more to take the place.
    pub fn register_waiter(&self, at: LaneRef, role: Role, owner: Owner) -> Result<(), Refusal> {
        self.lane(at)?.waiter(role).register(owner);
        Ok(())
    }

    /// Takes the waiters for the lane's places: the end that has left tells each of them once that a place may be
    /// free.
    pub fn take_waiters(&self, at: LaneRef) -> impl Iterator<Item = Owner> + use<'a> {
        let lane = self.lane(at).ok();
        let roles = [Role::Sender, Role::Receiver];
        roles.into_iter().filter_map(move |role| lane?.waiter(role).take())
    }
}
