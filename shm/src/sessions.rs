//! The life of a session in its slot: claimed, found, renewed, expired, ended, and freed once all parties have left.

use crate::ends::LaneEnd;
use crate::ids::{AddressTag, Owner, SessionRef};
use crate::place::LaneWord;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::{End, Filled, Life, Terms};
use crate::sync::{Ordering, fence};
use std::sync::atomic::Ordering as PlainOrdering;

/// The session that a look-up found. The caller compares its digests.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The session that lives in the slot.
    pub session: SessionRef,
    /// The terms that the session was issued with.
    pub terms: Terms,
    /// The guest who may use the session too, by [`Shared::set_guest`]; 0: no guest was named.
    pub guest: Option<AddressTag>,
    /// When its lifetime is over, in milliseconds of the caller's clock.
    pub expires_ms: u64,
}

/// A session in its slot that does not live yet.
#[derive(Debug)]
#[must_use = "a filled slot is opened or given up"]
pub(crate) struct Filling {
    pub(crate) session: SessionRef,
    owner: Owner,
}

impl<'a> Shared<'a> {
    /// Fills a free slot, so that [`Self::open`] makes a session of it.
    pub(crate) fn claim(&self, index: u32, owner: Owner, filled: &Filled<'_>) -> Option<Filling> {
        let slot = self.slot(index).ok()?;
        let Ok((Life::Free, issue_number)) = slot.life() else { return None };
        self.holdings.note(owner.worker, index);
        if !slot.step((Life::Free, issue_number), (Life::Filling(owner), issue_number)) {
            return None;
        }
        slot.fill(filled);
        let opened = slot.lanes.iter().all(|lane| {
            let vacant = lane.load().ok().filter(|word| word.is_vacant());
            vacant.is_some_and(|word| {
                lane.wipe();
                lane.receiver.passed.forget();
                lane.swap(word, LaneWord::empty(word.next_attempt()))
            })
        });
        if !opened {
            let ended = Life::Ended(End::Corrupt);
            slot.step((Life::Filling(owner), issue_number), (ended, issue_number));
            return None;
        }
        Some(Filling { session: SessionRef { slot: index, issue_number }, owner })
    }

    /// Brings a session to life. `None`: another worker has [ended it](Self::give_up).
    pub(crate) fn open(&self, Filling { session, owner }: Filling) -> Option<SessionRef> {
        let (slot, issue_number) = (self.slot(session.slot).ok()?, session.issue_number);
        slot.step((Life::Filling(owner), issue_number), (Life::Live, issue_number))
            .then_some(session)
    }

    /// Ends a session that does not live yet, and frees its slot. Its owner does so, or a worker that issues a session
    /// of the same name. Does nothing to a session that lives.
    pub(crate) fn give_up(&self, session: SessionRef) {
        let Ok(slot) = self.slot(session.slot) else { return };
        if let Ok((filling @ Life::Filling(_), issue_number)) = slot.life()
            && issue_number == session.issue_number
        {
            slot.step((filling, issue_number), (Life::Ended(End::Displaced), issue_number));
        }
        // The worker that ended it may have died before it freed the slot.
        let _ = self.free(session);
    }

    /// The session that lives in `slot`, if one does. The search is one bounded load.
    #[must_use]
    pub fn find(&self, index: u32) -> Option<Found> {
        let Ok((Life::Live, issue_number)) = self.slots.get(index as usize)?.life() else {
            return None;
        };
        self.find_session(SessionRef { slot: index, issue_number })
    }

    /// The same, if `session` still lives there.
    pub(crate) fn find_session(&self, session: SessionRef) -> Option<Found> {
        let (slot, issue_number) = (self.slots.get(session.slot as usize)?, session.issue_number);
        let (terms, guest) =
            (slot.terms(), AddressTag::from_word(slot.guest.load(Ordering::Relaxed)));
        let found = Found { session, terms, guest, expires_ms: slot.expires_ms() };
        // The slot may have been issued again while we read. Pairs with the fence in `fill`: if we read anything of
        // the next session, we see its life.
        fence(Ordering::Acquire);
        (slot.life() == Ok((Life::Live, issue_number))).then_some(found)
    }

    /// The life of `session`: `None` once its slot serves another.
    pub fn life(&self, session: SessionRef) -> Result<Option<Life>, Refusal> {
        let (life, issue_number) = self.slot(session.slot)?.life()?;
        Ok((issue_number == session.issue_number).then_some(life))
    }

    /// When the lifetime of `end`'s session is over, in milliseconds of the caller's clock.
    pub fn expires_ms<E: LaneEnd>(&self, end: &E) -> Result<u64, Refusal> {
        Ok(self.slot(end.lane().session.slot)?.expires_ms())
    }

    /// Begins the lifetime of `end`'s session anew. The caller does so before it leaves the attempt, so that no
    /// process finds the lanes idle and the lifetime over.
    pub fn renew<E: LaneEnd>(&self, end: &E, now_ms: u64) -> Result<(), Refusal> {
        self.look(end)?;
        self.slot(end.lane().session.slot)?.renew(now_ms);
        Ok(())
    }

    /// Ends a session, unless it is over, and calls `ring` with the owner of every held place. Returns whether it was
    /// this call that ended it.
    pub fn end(&self, session: SessionRef, end: End, ring: impl FnMut(Owner)) -> bool {
        let Ok(slot) = self.slot(session.slot) else { return false };
        let issue_number = session.issue_number;
        if !slot.step((Life::Live, issue_number), (Life::Ended(end), issue_number)) {
            return false;
        }
        slot.held().for_each(ring);
        // A slot whose words are refused stays closed for good: no party can enter it.
        let _ = self.free(session);
        true
    }

    /// Ends a session whose lifetime is over at `now_ms`, unless a transfer is running in it. `ring` is called as by
    /// `end`. A transfer that had begun when the lifetime was over is never ended by this. A transfer that begins
    /// later, or any other late step, may be. Returns whether it was this call that ended it.
    pub fn expire(&self, session: SessionRef, now_ms: u64, ring: impl FnMut(Owner)) -> bool {
        let Ok(slot) = self.slot(session.slot) else { return false };
        let running = self.is_running(session);
        // Reads the lifetime after the words, as an end that renews it does so before it leaves the attempt.
        running == Ok(false) && slot.expires_ms() <= now_ms && self.end(session, End::Expired, ring)
    }

    /// Whether a transfer is running in the slot of `session`, or a sender brings what its receiver has already.
    pub fn is_running(&self, session: SessionRef) -> Result<bool, Refusal> {
        let slot = self.slot(session.slot)?;
        Ok(slot.lanes.iter().zip(slot.words()?).any(|(lane, word)| {
            word.begun || (word.can_begin() && lane.sender.skips.load(PlainOrdering::Relaxed) == 1)
        }))
    }

    /// Frees the slot of a session that has ended and that all parties have left.
    pub(crate) fn free(&self, session: SessionRef) -> Result<(), Refusal> {
        let slot = self.slot(session.slot)?;
        // The life is read between two looks at the words. If the second look finds the same words, the session was
        // over with no party in it. Otherwise another process may have freed the slot and a third may have issued it
        // again, and a vacant word would be a new session's.
        let words = slot.words()?;
        let (life, issue_number) = slot.life()?;
        if issue_number != session.issue_number || !matches!(life, Life::Ended(_)) {
            return Ok(());
        }
        let mut shut = true;
        for (lane, word) in slot.lanes.iter().zip(words) {
            let shuts = word.is_vacant()
                && !word.is_closed()
                && lane.swap(word, LaneWord::closed(word.next_attempt()));
            // Otherwise another process that frees the same session may have shut the lane. The lane stays shut until
            // the slot is issued again.
            shut &= shuts || lane.load()?.is_closed();
        }
        if shut {
            // Two processes may come here for the same session. Only one step succeeds, and that is enough.
            slot.step((life, issue_number), (Life::Free, issue_number.wrapping_add(1)));
        }
        Ok(())
    }
}
