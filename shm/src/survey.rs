//! A look at every session that is there, for whoever reports on them: nothing is changed and nothing
//! is waited for, so what was seen may be over by then.

use crate::lane::Lane;
use crate::place::LaneWord;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::slot::{Digest, Direction, LaneRef, Life, SessionRef, Slot};
use crate::sync::Ordering;

/// A slot that is in use, as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The session in it.
    pub session: SessionRef,
    /// What has become of it.
    pub life: Life,
    /// The caller's word for what it is for.
    pub kind: u64,
    /// The digest of its key.
    pub key: Digest,
    /// When its lifetime is over, in milliseconds of the caller's clock.
    pub expires_ms: u64,
    /// Its lanes; `None` for one whose word is refused, or changed hands while it was read.
    pub lanes: [Option<LaneSight>; 2],
}

/// A lane, as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct LaneSight {
    /// Which.
    pub at: LaneRef,
    /// Its places.
    pub word: LaneWord,
    /// When the two that hold the places met. Of use once the attempt has begun.
    pub met_ms: u64,
    /// Payload bytes that the receiver's kernel socket took, as of its last turn.
    pub taken_bytes: u64,
    /// Payload bytes that the receiver's TCP has acknowledged, as far as it was stored.
    pub delivered_bytes: u64,
}

impl Shared<'_> {
    /// Every slot that is in use.
    pub fn survey(&self) -> impl Iterator<Item = Sight> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| see(u32::try_from(index).ok()?, slot))
    }

    /// The places of one lane; `None`: its session is over. One bounded load, and one of the session's life.
    pub fn places(&self, at: LaneRef) -> Result<Option<LaneWord>, Refusal> {
        let word = self.lane(at)?.load()?;
        // The life is read after the word: if that is the next session's, so is the life.
        Ok((self.life(at.session)? == Some(Life::Live)).then_some(word))
    }
}

fn see(index: u32, slot: &Slot) -> Option<Sight> {
    let (life, generation) = slot.life().ok()?;
    if life == Life::Free {
        return None;
    }
    let session = SessionRef { slot: index, generation };
    let lanes =
        Direction::ALL.map(|direction| see_lane(session.lane(direction), slot.lane(direction)));
    let (terms, expires_ms) = (slot.terms(), slot.expires_ms());
    let sight = Sight { session, life, kind: terms.kind, key: terms.key, expires_ms, lanes };
    // What was read of a slot that serves another session by now is of no use.
    slot.life().is_ok_and(|(_, now)| now == generation).then_some(sight)
}

fn see_lane(at: LaneRef, lane: &Lane) -> Option<LaneSight> {
    let word = lane.load().ok()?;
    let met_ms = lane.met_ms.load(Ordering::Relaxed);
    let taken_bytes = lane.receiver.taken.load(Ordering::Acquire);
    let delivered_bytes = lane.receiver.delivered.load(Ordering::Acquire);
    let same = lane.load().is_ok_and(|now| now.attempt == word.attempt);
    same.then_some(LaneSight { at, word, met_ms, taken_bytes, delivered_bytes })
}
