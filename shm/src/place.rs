//! The state word of a lane: both places, who holds them, and which attempt this is, in one atomic.
//!
//! Both places are in one word, so every step of a rendezvous is one compare-and-swap. No order between two words has
//! to be argued, there is exactly one last leaver, and a process that dies between two steps leaves a word that says
//! how far it came. The layout is 20 bits a place (state 3, worker 8, epoch 8, incompatible 1), one bit `begun`, 23
//! bits attempt.

use crate::ids::{Owner, Role};
use crate::refusal::Refusal;

const PLACE_BITS: u32 = 20;
const BEGUN_SHIFT: u32 = 2 * PLACE_BITS;
const ATTEMPT_SHIFT: u32 = BEGUN_SHIFT + 1;
const ATTEMPT_MASK: u32 = (1 << 23) - 1;
/// The state of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The session does not live: no party can take the place. All-zero memory reads as this.
    Closed,
    /// Free to take.
    Empty,
    /// Held by a party that waits or, when the attempt has begun, takes part in it.
    Held,
    /// The holder left an attempt that had begun; the other end cleans up.
    Gone,
    /// As `Gone`, but the holder's worker died, or a sender met a refusal while it left: only a scan finds what that
    /// worker alone knew.
    Lost,
}

/// A place of a lane as the lane word tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The state.
    pub state: State,
    /// The owner that holds the place, or held it last.
    pub owner: Owner,
    /// A bit that the holder sets and the other end sees. Two ends that are both incompatible cannot begin an attempt.
    pub incompatible: bool,
}

impl Place {
    const fn vacant(state: State) -> Self {
        Self { state, owner: Owner::from_bits(0), incompatible: false }
    }

    pub(crate) const EMPTY: Self = Self::vacant(State::Empty);
    pub(crate) const CLOSED: Self = Self::vacant(State::Closed);

    fn encode(self) -> u64 {
        let state = match self.state {
            State::Closed => 0u64,
            State::Empty => 1,
            State::Held => 2,
            State::Gone => 3,
            State::Lost => 4,
        };
        state | self.owner.to_bits() << 3 | u64::from(self.incompatible) << 19
    }

    fn decode(bits: u64) -> Option<Self> {
        let state = match bits & 0b111 {
            // A free place has no owner.
            0 | 1 if bits >> 3 != 0 => return None,
            0 => State::Closed,
            1 => State::Empty,
            2 => State::Held,
            3 => State::Gone,
            4 => State::Lost,
            _ => return None,
        };
        Some(Self { state, owner: Owner::from_bits(bits >> 3), incompatible: bits >> 19 & 1 == 1 })
    }

    pub(crate) fn is_held_by(self, owner: Owner) -> bool {
        self.state == State::Held && self.owner == owner
    }
}

/// A lane's state word, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneWord {
    /// The sender's place.
    pub sender: Place,
    /// The receiver's place.
    pub receiver: Place,
    /// Whether the attempt has begun: the sender has announced it, and an end that leaves now leaves an attempt.
    pub begun: bool,
    /// Counts attempts in this slot, modulo 2^23; part of every chunk's tag.
    pub attempt: u32,
}

impl LaneWord {
    /// The word of a lane that no party can enter.
    pub(crate) fn closed(attempt: u32) -> Self {
        Self { sender: Place::CLOSED, receiver: Place::CLOSED, begun: false, attempt }
    }

    /// The word of a lane with both places free.
    pub(crate) fn empty(attempt: u32) -> Self {
        Self { sender: Place::EMPTY, receiver: Place::EMPTY, begun: false, attempt }
    }

    /// The place of `role`.
    #[must_use]
    pub fn place(self, role: Role) -> Place {
        match role {
            Role::Sender => self.sender,
            Role::Receiver => self.receiver,
        }
    }

    /// The place opposite to `role`.
    #[must_use]
    pub fn peer(self, role: Role) -> Place {
        match role {
            Role::Sender => self.receiver,
            Role::Receiver => self.sender,
        }
    }

    /// The owners of the places that are held.
    pub(crate) fn held(self) -> impl Iterator<Item = Owner> {
        let places = [self.sender, self.receiver].into_iter();
        places.filter(|place| place.state == State::Held).map(|place| place.owner)
    }

    /// Whether both places are held, and not both by incompatible holders.
    #[must_use]
    pub fn can_begin(self) -> bool {
        let held = |place: Place| place.state == State::Held;
        held(self.sender)
            && held(self.receiver)
            && !(self.sender.incompatible && self.receiver.incompatible)
    }

    pub(crate) fn with(mut self, role: Role, place: Place) -> Self {
        match role {
            Role::Sender => self.sender = place,
            Role::Receiver => self.receiver = place,
        }
        self
    }

    pub(crate) fn next_attempt(self) -> u32 {
        self.attempt.wrapping_add(1) & ATTEMPT_MASK
    }

    /// Whether both places are free and no attempt is left to clean up.
    #[must_use]
    pub fn is_vacant(self) -> bool {
        let vacant = |place: Place| matches!(place.state, State::Empty | State::Closed);
        !self.begun && vacant(self.sender) && vacant(self.receiver)
    }

    /// Whether the lane is closed, so that no party can enter.
    pub(crate) fn is_closed(self) -> bool {
        self.sender.state == State::Closed
    }

    /// Whether the protocol can lead to this word: a lane is closed as a whole, no end is gone from an attempt that
    /// never began, and the end that cleans up after an attempt still holds its place.
    fn is_possible(self) -> bool {
        use State::{Closed, Empty, Gone, Held, Lost};
        match (self.sender.state, self.receiver.state) {
            (Closed, Closed) | (Empty, Empty | Held) | (Held, Empty) => !self.begun,
            (Held, Held) => true,
            (Held, Gone | Lost) | (Gone | Lost, Held) => self.begun,
            _ => false,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        self.sender.encode()
            | self.receiver.encode() << PLACE_BITS
            | u64::from(self.begun) << BEGUN_SHIFT
            | u64::from(self.attempt & ATTEMPT_MASK) << ATTEMPT_SHIFT
    }

    pub(crate) fn decode(word: u64) -> Result<Self, Refusal> {
        let sender = Place::decode(word & 0xf_ffff).ok_or(Refusal::BadWord(word))?;
        let receiver =
            Place::decode(word >> PLACE_BITS & 0xf_ffff).ok_or(Refusal::BadWord(word))?;
        let begun = word >> BEGUN_SHIFT & 1 == 1;
        let attempt = (word >> ATTEMPT_SHIFT) as u32 & ATTEMPT_MASK;
        let decoded = Self { sender, receiver, begun, attempt };
        if decoded.is_possible() { Ok(decoded) } else { Err(Refusal::BadWord(word)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_word_decodes_to_itself_or_is_refused(word: u64) {
            match LaneWord::decode(word) {
                Ok(lane) => prop_assert_eq!(lane.encode(), word),
                Err(refusal) => prop_assert_eq!(refusal, Refusal::BadWord(word)),
            }
        }
    }

    #[test]
    fn zeroed_memory_is_closed() {
        assert_eq!(LaneWord::decode(0), Ok(LaneWord::closed(0)));
    }
}
