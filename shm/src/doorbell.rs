//! "Session i has news for worker w": a two-level bitmap of atomics per worker.
//!
//! Setting a bit is idempotent, cannot overflow and survives any crash. A bell is a hint: the worker that hears it
//! looks at the session itself. The ringer sets the bit, fences, and reads `parked`. The sleeper sets `parked`,
//! fences, and reads the bits. So either the sleeper sees the bit, or the ringer sees that the worker sleeps and is
//! told to wake it.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// Bits in a word of the bitmap.
pub(crate) const WORD_BITS: usize = 64;

/// A worker's bell, borrowed from the segment (or from the heap, in tests).
#[derive(Clone, Copy, Debug)]
pub struct Doorbell<'a> {
    /// Bit j of word i: `sessions[64 i + j]` is worth a look.
    summary: &'a [AtomicU64],
    /// Bit j of word i: session 64 i + j has news.
    sessions: &'a [AtomicU64],
    /// 1 while the worker sleeps, or is about to.
    parked: &'a AtomicU32,
}

impl<'a> Doorbell<'a> {
    /// A bell over words that the caller owns: `summary` holds one bit for each word of `sessions`.
    #[must_use]
    pub fn new(summary: &'a [AtomicU64], sessions: &'a [AtomicU64], parked: &'a AtomicU32) -> Self {
        Self { summary, sessions, parked }
    }

    /// Rings for `session`. `true`: the worker sleeps, and the caller must wake it, as no other caller is told so.
    #[must_use]
    pub fn ring(&self, session: u32) -> bool {
        let session = session as usize;
        let word = session / WORD_BITS;
        let Some(bits) = self.sessions.get(word) else { return false };
        let Some(summary) = self.summary.get(word / WORD_BITS) else { return false };
        // The session's bit comes first: a summary bit must never be taken before the bit that it announces.
        bits.fetch_or(1 << (session % WORD_BITS), Ordering::SeqCst);
        summary.fetch_or(1 << (word % WORD_BITS), Ordering::SeqCst);
        self.call()
    }

    /// Whether the worker sleeps and the caller must wake it. Only one of several callers is told so.
    fn call(&self) -> bool {
        // Pairs with the fence in `park`. Here the bit is set before `parked` is read; there `parked` is set before
        // the bits are read.
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::SeqCst) == 1
            && self.parked.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Announces that the worker is going to sleep. `false`: there is news, it must not.
    #[must_use]
    pub fn park(&self) -> bool {
        self.parked.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.summary.iter().any(|word| word.load(Ordering::SeqCst) != 0) {
            self.unpark();
            return false;
        }
        true
    }

    /// Announces that the worker is awake.
    pub fn unpark(&self) {
        self.parked.store(0, Ordering::SeqCst);
    }

    /// Takes every bit that is set and calls `each` with its session. Indices are below the number
    /// of bits in the bitmap, which may be above the number of sessions.
    pub fn take(&self, mut each: impl FnMut(u32)) {
        for (i, summary) in self.summary.iter().enumerate() {
            if summary.load(Ordering::SeqCst) == 0 {
                continue;
            }
            for word in ones(summary.swap(0, Ordering::SeqCst)) {
                let word = i * WORD_BITS + word;
                let Some(bits) = self.sessions.get(word) else { continue };
                for bit in ones(bits.swap(0, Ordering::SeqCst)) {
                    if let Ok(session) = u32::try_from(word * WORD_BITS + bit) {
                        each(session);
                    }
                }
            }
        }
    }
}

/// The positions of the bits that are set, lowest first.
fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}
