//! Records in which slots a worker may hold something: one bitmap a worker, so that the master finds what a dead
//! worker has left without a look at every slot.
//!
//! A worker sets a slot's bit before it takes anything there, and clears it when it holds nothing there any more.
//! Only the worker writes its bits, so no step needs a compare-and-swap, and a crash leaves at most a bit too many.
//! The master does not rely on the bits: it takes its indices from its own loop, checks each slot's words as ever,
//! and looks at all other slots afterwards. So a worker that scribbles over its bits, or over another's, costs time
//! and nothing else.

use crate::ids::WorkerId;
// Each bit has one writer, and the master reads it only once it has reaped that writer: there is no order to model.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const WORD_BITS: u32 = u64::BITS;

/// New bits, at least, before a worker looks for bits that are out of date.
const TIDY_MIN: u32 = 256;

/// The bitmaps of all workers, by record, borrowed from the segment. A process without bitmaps notes nothing.
#[derive(Debug, Default)]
pub(crate) struct Holdings<'a> {
    workers: Vec<&'a [AtomicU64]>,
    /// New bits since this process last tidied up; private.
    noted: AtomicU32,
    /// Bits that it kept then; private.
    kept: AtomicU32,
}

impl<'a> Holdings<'a> {
    #[cfg(not(loom))]
    /// Bitmaps with a bit for each slot, one for each worker record.
    pub(crate) fn new(workers: Vec<&'a [AtomicU64]>) -> Self {
        Self { workers, ..Self::default() }
    }

    fn of(&self, worker: WorkerId) -> &'a [AtomicU64] {
        self.workers.get(worker.index()).copied().unwrap_or_default()
    }

    /// Notes that `worker`, which is this process, is about to take something in `slot`.
    pub(crate) fn note(&self, worker: WorkerId, slot: u32) {
        let Some(word) = self.of(worker).get((slot / WORD_BITS) as usize) else { return };
        let (bits, bit) = (word.load(Ordering::Relaxed), 1 << (slot % WORD_BITS));
        if bits & bit == 0 {
            word.store(bits | bit, Ordering::Relaxed);
            self.noted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The slots that `worker` has noted, read once, as a process that scribbles may change them.
    pub(crate) fn noted_by(&self, worker: WorkerId) -> Noted {
        Noted(self.of(worker).iter().map(|word| word.load(Ordering::Relaxed)).collect())
    }

    /// Forgets the notes of a worker that is swept, before its successor lives.
    pub(crate) fn forget(&self, worker: WorkerId) {
        self.of(worker).iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Whether the worker noted so many new bits that some are probably out of date.
    pub(crate) fn is_due(&self) -> bool {
        let noted = self.noted.load(Ordering::Relaxed);
        noted >= self.kept.load(Ordering::Relaxed).max(TIDY_MIN)
    }

    /// Clears the bits of `worker` for which `is_held` is false.
    pub(crate) fn tidy(&self, worker: WorkerId, mut is_held: impl FnMut(u32) -> bool) {
        let mut kept = 0;
        for (word, first) in self.of(worker).iter().zip((0u32..).step_by(WORD_BITS as usize)) {
            let bits = word.load(Ordering::Relaxed);
            let held = ones(bits).filter(|bit| is_held(first.saturating_add(*bit)));
            let left = held.fold(0u64, |left, bit| left | 1 << bit);
            kept += left.count_ones();
            if left != bits {
                word.store(left, Ordering::Relaxed);
            }
        }
        self.kept.store(kept, Ordering::Relaxed);
        self.noted.store(0, Ordering::Relaxed);
    }
}

/// The slots that a worker may hold something in, as its bitmap said at one moment.
#[derive(Debug)]
pub(crate) struct Noted(Vec<u64>);

impl Noted {
    /// All of them.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        let words = self.0.iter().zip((0u32..).step_by(WORD_BITS as usize));
        words.flat_map(|(word, first)| ones(*word).map(move |bit| first.saturating_add(bit)))
    }

    /// Whether `slot` is one of them.
    pub(crate) fn has(&self, slot: u32) -> bool {
        let word = self.0.get((slot / WORD_BITS) as usize);
        word.is_some_and(|word| word >> (slot % WORD_BITS) & 1 == 1)
    }
}

/// The positions of the bits that are set, lowest first.
fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn worker(index: usize) -> WorkerId {
        WorkerId::new(index).unwrap()
    }

    #[test]
    fn what_is_noted_is_found_until_it_is_out_of_date() {
        let words: Vec<Vec<AtomicU64>> =
            (0..2).map(|_| (0..16).map(|_| AtomicU64::new(0)).collect()).collect();
        let holdings = Holdings::new(words.iter().map(Vec::as_slice).collect());
        let [us, other] = [worker(0), worker(1)];
        let all: Vec<u32> = (0..1024).step_by(3).collect();
        all.iter().for_each(|slot| holdings.note(us, *slot));
        assert_eq!(holdings.noted_by(us).slots().collect::<Vec<_>>(), all);
        assert_eq!(holdings.noted_by(other).slots().count(), 0);
        assert!((0..2048).all(|slot| holdings.noted_by(us).has(slot) == all.contains(&slot)));
        assert!(holdings.is_due());
        holdings.tidy(us, |slot| slot % 2 == 0);
        assert!(!holdings.is_due());
        let even: Vec<u32> = (0..1024).step_by(6).collect();
        assert_eq!(holdings.noted_by(us).slots().collect::<Vec<_>>(), even);
        holdings.forget(us);
        assert_eq!(holdings.noted_by(us).slots().count(), 0);
    }

    #[test]
    fn what_nobody_has_a_word_for_is_not_noted() {
        let holdings = Holdings::default();
        holdings.note(worker(3), u32::MAX);
        assert_eq!(holdings.noted_by(worker(3)).slots().count(), 0);
        holdings.forget(worker(63));
    }
}
