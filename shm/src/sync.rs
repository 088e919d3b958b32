//! The one door to atomics: the standard library's in production, loom's under `--cfg loom`, so that
//! the models run the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Looks at a word that is changed by sequentially consistent swaps alone.
#[cfg(not(loom))]
pub(crate) fn look(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

/// As above. Loom tries the orders of two steps on a word when the second meets the first, and
/// remembers the last step alone: a look of one thread, hidden by a look of another before its swap,
/// is never tried after that swap. A swap that changes nothing is met by all; that it finds the latest
/// value is what sequential consistency promises of the load.
#[cfg(loom)]
pub(crate) fn look(word: &AtomicU64) -> u64 {
    word.fetch_or(0, Ordering::Acquire)
}
