//! The state word of a lane: both places, who holds them, and which attempt this is, in one atomic.
//!
//! One word, so that every step of a rendezvous is one compare-and-swap: no order between two words
//! has to be argued, there is exactly one last leaver, and a process that dies between two steps
//! leaves a word that says how far it came. The layout is 20 bits a place (state 3, worker 8,
//! epoch 8, mark 1), one bit `begun`, 23 bits attempt.

use crate::refusal::Refusal;

/// Worker records there can be, whatever the number of workers: 8 bits of a place.
pub const WORKER_RECORDS_MAX: usize = 1 << WORKER_BITS;

const WORKER_BITS: u32 = 8;
const PLACE_BITS: u32 = 20;
const BEGUN_SHIFT: u32 = 2 * PLACE_BITS;
const ATTEMPT_SHIFT: u32 = BEGUN_SHIFT + 1;
const ATTEMPT_MASK: u32 = (1 << 23) - 1;
/// A worker's words are swept when it has died, so that none of an earlier life is left: a few lives are enough to tell
/// apart.
const EPOCH_MASK: u64 = (1 << 8) - 1;

/// A worker record's index, always below [`WORKER_RECORDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The id of record `index`, or `None` where there is no such record.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().map(Self)
    }

    /// The record's index, below [`WORKER_RECORDS_MAX`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One life of one worker: its record and the epoch it was forked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose record.
    pub worker: WorkerId,
    /// Below 256.
    epoch: u64,
}

impl Owner {
    /// The owner that lives in `epoch` of `worker`. Epochs count modulo 256.
    #[must_use]
    pub fn new(worker: WorkerId, epoch: u32) -> Self {
        Self { worker, epoch: u64::from(epoch) & EPOCH_MASK }
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.worker.0) | self.epoch << WORKER_BITS
    }

    /// Reads the low 16 bits: every pattern is an owner.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { worker: WorkerId((bits & 0xff) as u8), epoch: bits >> WORKER_BITS & EPOCH_MASK }
    }
}

/// Which end of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end where bytes come from.
    Sender,
    /// The end where bytes go to.
    Receiver,
}

/// What a place is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The session does not live: nobody can take the place. All-zero memory reads as this.
    Closed,
    /// Free to take.
    Empty,
    /// Held, by one that waits or, when the attempt has begun, takes part in it.
    Held,
    /// Its holder left an attempt that had begun; the other end cleans up.
    Gone,
    /// As `Gone`, but its holder's worker died: what it alone knew has to be found by a scan.
    Lost,
}

/// One end of a lane as its word tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is doing.
    pub state: State,
    /// Who holds it, or held it last.
    pub owner: Owner,
    /// A bit for the holder's own use, seen by the other end. Two that are both marked do not suit
    /// each other.
    pub mark: bool,
}

impl Place {
    const fn vacant(state: State) -> Self {
        Self { state, owner: Owner { worker: WorkerId(0), epoch: 0 }, mark: false }
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
        state | self.owner.to_bits() << 3 | u64::from(self.mark) << 19
    }

    fn decode(bits: u64) -> Option<Self> {
        let state = match bits & 0b111 {
            // A place that nobody holds names nobody.
            0 | 1 if bits >> 3 != 0 => return None,
            0 => State::Closed,
            1 => State::Empty,
            2 => State::Held,
            3 => State::Gone,
            4 => State::Lost,
            _ => return None,
        };
        Some(Self { state, owner: Owner::from_bits(bits >> 3), mark: bits >> 19 & 1 == 1 })
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
    /// Whether the two that hold the places belong to each other: something of the sender's has
    /// been announced, and whoever leaves now leaves an attempt.
    pub begun: bool,
    /// Counts attempts in this slot, modulo 2^23; part of every chunk's tag.
    pub attempt: u32,
}

impl LaneWord {
    /// The word of a slot that nobody can enter.
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

    /// Who holds a place.
    pub(crate) fn held(self) -> impl Iterator<Item = Owner> {
        let places = [self.sender, self.receiver].into_iter();
        places.filter(|place| place.state == State::Held).map(|place| place.owner)
    }

    /// Whether both places are held, by two that suit each other: two that are both marked do not.
    #[must_use]
    pub fn can_begin(self) -> bool {
        let held = |place: Place| place.state == State::Held;
        held(self.sender) && held(self.receiver) && !(self.sender.mark && self.receiver.mark)
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

    /// Whether nobody is here and nothing is left to clean.
    pub(crate) fn is_vacant(self) -> bool {
        let vacant = |place: Place| matches!(place.state, State::Empty | State::Closed);
        !self.begun && vacant(self.sender) && vacant(self.receiver)
    }

    /// Whether nobody can enter.
    pub(crate) fn is_closed(self) -> bool {
        self.sender.state == State::Closed
    }

    /// Whether the protocol can come to this: a lane is closed as a whole, nobody is gone from an
    /// attempt that never began, and whoever is to clean up after one still holds its place.
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
