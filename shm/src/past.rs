//! Keeps for the next attempt what has passed in a session, and finds what is still known of a session that is over.

use crate::ids::{Direction, LaneRef, Owner, SessionRef};
use crate::refusal::Refusal;
use crate::resume::{Passed, Told, ToldWord, Want};
use crate::shared::Shared;
use crate::slot::{Digest, End, Life};
use crate::sync::fence;
use std::sync::atomic::Ordering;

/// A session that is over, and the file or stream that has passed in it.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// The session.
    pub session: SessionRef,
    /// Whether its sender knows that all was delivered.
    pub told: Told,
    /// The word that holds `told`.
    pub word: u64,
    /// The digest of the session's key.
    pub key: Digest,
    /// The caller's word for the purpose of the session.
    pub kind: u64,
    /// When its lifetime would have been over, in milliseconds of the caller's clock.
    pub expires_ms: u64,
    /// The file or stream that has passed in the first lane.
    pub passed: Passed,
}

impl Shared<'_> {
    /// Whether `owner` still lives, as far as its record tells.
    fn lives(&self, owner: Owner) -> bool {
        let record = self.record(owner.worker);
        record.is_some_and(|record| Owner::new(owner.worker, record.epoch()) == owner)
    }

    /// The part that the receiver in the lane asks for. `None`: there is no receiver, or it has not said yet.
    pub fn wanted(&self, at: LaneRef) -> Result<Option<Want>, Refusal> {
        Ok(self.lane(at)?.receiver.want.read())
    }

    /// The file or stream that has passed in the lane; `Nothing` if the session is over.
    pub fn passed(&self, at: LaneRef) -> Result<Passed, Refusal> {
        let passed = self.lane(at)?.receiver.passed.read();
        // Pairs with the fence in `fill`: if what we read is the next session's, we see its life.
        fence(crate::sync::Ordering::Acquire);
        let lives = self.life(at.session)? == Some(Life::Live);
        Ok(if lives { passed } else { Passed::Nothing })
    }

    /// Records whether the sender of `session`, whose file is delivered, knows so, in the name of `teller`. The
    /// caller does so before the session ends. Only the first record counts.
    pub fn begin_telling(
        &self,
        session: SessionRef,
        told: Told,
        teller: Owner,
    ) -> Result<(), Refusal> {
        let word = &self.slot(session.slot)?.lane(Direction::Forth).sender.told.0;
        let found = word.load(Ordering::Acquire);
        if ToldWord::decode(found, session.issue_number).is_none() {
            let ours = ToldWord::encode(session.issue_number, told, teller);
            // A worker that records this at the same time records the same.
            let _ = word.compare_exchange(found, ours, Ordering::AcqRel, Ordering::Acquire);
        }
        Ok(())
    }

    /// Records how `teller` ended its telling. Does nothing if another worker tells by now.
    pub fn end_telling(&self, session: SessionRef, told: Told, teller: Owner) {
        let from = ToldWord::encode(session.issue_number, Told::Telling, teller);
        self.retell(session, from, told, teller);
    }

    /// `teller` tells the sender of a [past](Self::find_past) session once more. `false`: another worker does.
    #[must_use]
    pub fn tell_again(&self, past: &Past, teller: Owner) -> bool {
        self.retell(past.session, past.word, Told::Telling, teller)
    }

    fn retell(&self, session: SessionRef, from: u64, told: Told, teller: Owner) -> bool {
        let to = ToldWord::encode(session.issue_number, told, teller);
        self.slot(session.slot).is_ok_and(|slot| {
            let word = &slot.lane(Direction::Forth).sender.told.0;
            word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// The session that was complete in the slot, if no later one has used the slot. The search is one bounded load.
    #[must_use]
    pub fn find_past(&self, index: u32) -> Option<Past> {
        let slot = self.slots.get(index as usize)?;
        let found = slot.life().ok()?;
        let issue_number = match found {
            // A free slot has the next session's issue number.
            (Life::Free, next) => next.wrapping_sub(1),
            (Life::Ended(End::Complete), issue_number) => issue_number,
            _ => return None,
        };
        let (session, terms) = (SessionRef { slot: index, issue_number }, slot.terms());
        let word = slot.lane(Direction::Forth).sender.told.0.load(Ordering::Acquire);
        let told = match ToldWord::decode(word, issue_number)? {
            // A sender whose teller has died meanwhile may not know.
            (Told::Telling, teller) if !self.lives(teller) => Told::Untold,
            (told, _) => told,
        };
        let passed = slot.lane(Direction::Forth).receiver.passed.read();
        let (key, kind, expires_ms) = (terms.key, terms.kind, slot.expires_ms());
        // As in `find`: a slot that was filled again meanwhile makes the read worthless.
        fence(crate::sync::Ordering::Acquire);
        (slot.life() == Ok(found)).then_some(Past {
            session,
            told,
            word,
            key,
            kind,
            expires_ms,
            passed,
        })
    }
}
