//! Views of every slot in use, for the admin listener. A look changes nothing and waits for nothing, so a view may
//! be out of date when it is read.

use crate::ids::{Direction, LaneRef, SessionRef};
use crate::lane::Lane;
use crate::place::LaneWord;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::{Digest, Life, Slot};
use crate::sync::Ordering;

/// A slot that is in use, as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct SlotView {
    /// The session in it.
    pub session: SessionRef,
    /// The life of the session.
    pub life: Life,
    /// The caller's word for the purpose of the session.
    pub kind: u64,
    /// The digest of the session's key.
    pub key: Digest,
    /// When the session's lifetime is over, in milliseconds of the caller's clock.
    pub expires_ms: u64,
    /// The session's lanes; `None` for a lane whose word is refused, or that changed hands while it was read.
    pub lanes: [Option<LaneView>; 2],
}

/// A lane, as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct LaneView {
    /// The lane.
    pub at: LaneRef,
    /// The lane's places.
    pub word: LaneWord,
    /// When the sender and the receiver were paired. Valid once the attempt has begun.
    pub paired_ms: u64,
    /// Payload bytes that the receiver's kernel socket took, as of its last turn.
    pub taken_bytes: u64,
    /// Payload bytes that the receiver's TCP has acknowledged, as far as it was stored.
    pub delivered_bytes: u64,
}

impl Shared<'_> {
    /// Every slot that is in use.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| view(u32::try_from(index).ok()?, slot))
    }

    /// The places of one lane; `None`: its session is over. The cost is one bounded load, and another of the
    /// session's life.
    pub fn places(&self, at: LaneRef) -> Result<Option<LaneWord>, Refusal> {
        let word = self.lane(at)?.load()?;
        // The life is read after the word: if the word is the next session's, so is the life.
        Ok((self.life(at.session)? == Some(Life::Live)).then_some(word))
    }
}

fn view(index: u32, slot: &Slot) -> Option<SlotView> {
    let (life, issue_number) = slot.life().ok()?;
    if life == Life::Free {
        return None;
    }
    let session = SessionRef { slot: index, issue_number };
    let lanes =
        Direction::ALL.map(|direction| view_lane(session.lane(direction), slot.lane(direction)));
    let (terms, expires_ms) = (slot.terms(), slot.expires_ms());
    let view = SlotView { session, life, kind: terms.kind, key: terms.key, expires_ms, lanes };
    // The view is worthless if the slot serves another session by now.
    slot.life().is_ok_and(|(_, now)| now == issue_number).then_some(view)
}

fn view_lane(at: LaneRef, lane: &Lane) -> Option<LaneView> {
    let word = lane.load().ok()?;
    let paired_ms = lane.paired_ms.load(Ordering::Relaxed);
    let taken_bytes = lane.receiver.taken.load(Ordering::Acquire);
    let delivered_bytes = lane.receiver.delivered.load(Ordering::Acquire);
    let same = lane.load().is_ok_and(|now| now.attempt == word.attempt);
    same.then_some(LaneView { at, word, paired_ms, taken_bytes, delivered_bytes })
}
