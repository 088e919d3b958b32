//! Notes of the addresses that were refused a session again and again a moment ago. The next request of such an
//! address is refused without another search. `issue` in the worker asks.
//!
//! Only refusals that took a search are noted, and for so short a time that no client misses a slot that has come
//! free. If another address has overwritten the note, the search is made again.

use std::cell::Cell;

/// Notes, a power of two.
const NOTES: usize = 256;
/// The time for which a note counts.
const NOTE_MS: u64 = 20;
/// The most searches in that time. A search costs up to 0.1 ms, so an address can cost at most 2 % of a worker's
/// time.
const SEARCHES_MAX: u32 = 4;

/// The notes of one worker.
#[derive(Debug)]
pub struct Refused<T: Copy> {
    notes: Vec<Cell<Option<Note<T>>>>,
}

#[derive(Clone, Copy, Debug)]
struct Note<T> {
    digest: u64,
    until_ms: u64,
    searches: u32,
    why: T,
}

impl<T: Copy> Refused<T> {
    /// No notes.
    #[must_use]
    pub fn new() -> Self {
        Self { notes: (0..NOTES).map(|_| Cell::new(None)).collect() }
    }

    /// Notes why the address of `digest` was refused.
    pub fn note(&self, digest: u64, why: T, now_ms: u64) {
        if let Some(cell) = self.cell(digest) {
            let earlier = cell.get().filter(|note| note.digest == digest && now_ms < note.until_ms);
            let (until_ms, searches) = match earlier {
                Some(Note { until_ms, searches, .. }) => (until_ms, searches.saturating_add(1)),
                None => (now_ms.saturating_add(NOTE_MS), 1),
            };
            cell.set(Some(Note { digest, until_ms, searches, why }));
        }
    }

    /// The cause, if the address of `digest` was refused often enough a moment ago.
    #[must_use]
    pub fn find(&self, digest: u64, now_ms: u64) -> Option<T> {
        let note = self.cell(digest)?.get()?;
        let counts = note.digest == digest && now_ms < note.until_ms;
        (counts && note.searches >= SEARCHES_MAX).then_some(note.why)
    }

    fn cell(&self, digest: u64) -> Option<&Cell<Option<Note<T>>>> {
        usize::try_from(digest % NOTES as u64).ok().and_then(|index| self.notes.get(index))
    }
}

impl<T: Copy> Default for Refused<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_of_one_address_and_of_this_moment() {
        let refused = Refused::new();
        for now_ms in 100..104 {
            assert_eq!(refused.find(7, now_ms), None);
            refused.note(7, "full", now_ms);
        }
        assert_eq!(refused.find(7, 119), Some("full"));
        assert_eq!(refused.find(7, 120), None);
        assert_eq!(refused.find(8, 100), None);
        assert_eq!(refused.find(7 + NOTES as u64, 100), None);
        refused.note(7 + NOTES as u64, "many", 104);
        assert_eq!(refused.find(7, 104), None);
    }
}
