//! Atomics for the whole crate: the standard library's in production, loom's under `--cfg loom`, so that the models
//! run the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Reads a word that processes change by sequentially consistent swaps alone.
#[cfg(not(loom))]
pub(crate) fn look(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

/// Reads the word as above, so that loom tries every order. Loom explores both orders of two accesses only if the
/// later one conflicts with the earlier, and remembers only the last access. A plain load can be hidden by another
/// thread's load before its swap, and is then never tried after that swap. A read-modify-write that changes nothing
/// conflicts with every access. Like the load, which sequential consistency promises this of, it finds the latest
/// value.
#[cfg(loom)]
pub(crate) fn look(word: &AtomicU64) -> u64 {
    word.fetch_or(0, Ordering::Acquire)
}
