//! The name of a session, and the word of the directory that says which session has it.
//!
//! The word is bit 63, 13 bits of the name, and the session: 18 bits of slot, 32 of issue number.

use crate::ids::SessionRef;

/// The bit of every word in use, so that the first session of slot 0 has a word that is not void.
const USED: u64 = 1 << 63;
const PRINT_SHIFT: u32 = 50;
const PRINT_MASK: u64 = (1 << 13) - 1;
const SLOT_SHIFT: u32 = 32;
const SLOT_MASK: u64 = (1 << (PRINT_SHIFT - SLOT_SHIFT)) - 1;

/// A name, as a digest under a key that strangers do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Chooses the set, and is partly in the word.
    pub(crate) set: u64,
    /// Is in the session's slot, and never 0 there.
    check: u64,
}

impl Name {
    /// The name with this digest.
    #[must_use]
    pub fn of([set, check]: [u64; 2]) -> Self {
        Self { set, check: check.max(1) }
    }

    pub(crate) fn to_word(name: Option<Self>) -> u64 {
        name.map_or(0, |name| name.check)
    }

    /// The word of a session that has the name.
    pub(crate) fn word(self, session: SessionRef) -> u64 {
        let slot = u64::from(session.slot) & SLOT_MASK;
        USED | self.print() | slot << SLOT_SHIFT | u64::from(session.issue_number)
    }

    /// The high bits of the digest; the low ones choose the set.
    fn print(self) -> u64 {
        (self.set >> PRINT_SHIFT & PRINT_MASK) << PRINT_SHIFT
    }
}

/// The session that a word names, whatever the name is.
pub(crate) fn session_in(word: u64) -> SessionRef {
    let slot = (word >> SLOT_SHIFT & SLOT_MASK) as u32;
    SessionRef { slot, issue_number: (word & 0xffff_ffff) as u32 }
}
