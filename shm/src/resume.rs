//! The part of a file that a receiver asks for, and the file that a session remembers from one attempt to the next,
//! so that a broken transfer goes on where it broke.
//!
//! Both lie in the receiver's line, and only the receiver's worker writes them: the first while it holds its place,
//! and the second once an attempt has begun, before it tells its client anything. A sender reads the first before it
//! begins. The receiver may have changed by then, so it checks the sender's answer.

use crate::finish::Settled;
use crate::ids::Owner;
// The lane's word orders these words, so the models need not know of them.
use std::sync::atomic::{AtomicU64, Ordering};

/// The part of a file that a receiver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The whole file: the receiver has nothing.
    Whole,
    /// The bytes that the receiver lacks.
    Rest {
        /// The receiver has so many bytes.
        from: u64,
        /// The last byte that it asks for, counted from 0. `None`: up to the end.
        last: Option<u64>,
        /// The tag of the file that the receiver's bytes are of. `None`: the receiver does not say.
        of: Option<u64>,
    },
}

/// The file or stream that has passed in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// No attempt has begun.
    Nothing,
    /// The last attempt passed on bytes of unknown number.
    Stream,
    /// The last attempt passed on this file.
    File(PassedFile),
    /// The last attempt passed on this file, and an earlier attempt passed on something else.
    FileAfterOthers(PassedFile),
}

impl Passed {
    /// The file of the last attempt, if it passed one on.
    #[must_use]
    pub fn file(self) -> Option<PassedFile> {
        match self {
            Self::File(file) | Self::FileAfterOthers(file) => Some(file),
            Self::Nothing | Self::Stream => None,
        }
    }
}

/// A file that an attempt of a session has passed on, at least in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedFile {
    /// The file's length in bytes.
    pub total: u64,
    /// The caller's digest, which tells the file from others.
    pub tag: u64,
    /// The last receiver had at least so many of the file's bytes, from the first on.
    pub delivered: u64,
    /// How much the last receiver's side vouched for.
    pub whole: Settled,
    /// The sender, as the caller names it.
    pub sender: u64,
}

/// Whether the sender of a session that is over knows that all was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A worker that lives is telling the sender that all was delivered.
    Telling,
    /// The sender was told, and its TCP has acknowledged that.
    Told,
    /// The sender's connection broke before it was told.
    Untold,
}

/// A [`Told`] in shared memory, with the issue number of its session, as its slot may serve another session by now.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct ToldWord(pub(crate) AtomicU64);

impl ToldWord {
    /// Layout: the session's issue number (32 bits), the worker that tells (16), the [`Told`] (2).
    pub(crate) fn encode(issue_number: u32, told: Told, teller: Owner) -> u64 {
        let bits = match told {
            Told::Telling => 1,
            Told::Told => 2,
            Told::Untold => 3,
        };
        u64::from(issue_number) << 32 | teller.to_bits() << 2 | bits
    }

    pub(crate) fn decode(word: u64, issue_number: u32) -> Option<(Told, Owner)> {
        let told = match word & 3 {
            _ if word >> 32 != u64::from(issue_number) => return None,
            1 => Told::Telling,
            2 => Told::Told,
            3 => Told::Untold,
            _ => return None,
        };
        Some((told, Owner::from_bits(word >> 2)))
    }
}

/// A [`Want`] in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct WantWords {
    /// 0: the receiver has not said yet.
    said: AtomicU64,
    from: AtomicU64,
    /// [`NO_LAST`] if there is none.
    last: AtomicU64,
    of: AtomicU64,
}

#[cfg(not(loom))]
crate::fields::fields!(WantWords { said, from, last, of });

const SAID_WHOLE: u64 = 1;
const SAID_REST: u64 = 2;
const SAID_REST_OF: u64 = 3;
/// No file has a byte with this number: its bytes could not be counted.
const NO_LAST: u64 = u64::MAX;

impl WantWords {
    pub(crate) fn say(&self, want: Want) {
        let (said, from, last, of) = match want {
            Want::Whole => (SAID_WHOLE, 0, None, 0),
            Want::Rest { from, last, of: None } => (SAID_REST, from, last, 0),
            Want::Rest { from, last, of: Some(of) } => (SAID_REST_OF, from, last, of),
        };
        self.from.store(from, Ordering::Relaxed);
        self.last.store(last.unwrap_or(NO_LAST), Ordering::Relaxed);
        self.of.store(of, Ordering::Relaxed);
        self.said.store(said, Ordering::Release);
    }

    pub(crate) fn read(&self) -> Option<Want> {
        let said = self.said.load(Ordering::Acquire);
        let (from, of) = (self.from.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed));
        let last = Some(self.last.load(Ordering::Relaxed)).filter(|last| *last != NO_LAST);
        match said {
            SAID_WHOLE => Some(Want::Whole),
            SAID_REST => Some(Want::Rest { from, last, of: None }),
            SAID_REST_OF => Some(Want::Rest { from, last, of: Some(of) }),
            _ => None,
        }
    }

    pub(crate) fn clear(&self) {
        self.said.store(0, Ordering::Relaxed);
    }
}

/// A [`Passed`] in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct PassedWords {
    /// The kind of what has passed, and how much the receiver's side vouched for; 0 while the other words are
    /// written.
    what: AtomicU64,
    /// 1: an earlier attempt passed on something else.
    others: AtomicU64,
    sender: AtomicU64,
    total: AtomicU64,
    tag: AtomicU64,
    delivered: AtomicU64,
}

#[cfg(not(loom))]
crate::fields::fields!(PassedWords { what, others, sender, total, tag, delivered });

const STREAM: u64 = 1;
const FILE: u64 = 2;
const FILE_SENT: u64 = 3;
const FILE_ACKED: u64 = 4;

impl PassedWords {
    pub(crate) fn begin(&self, passing: Passing) {
        let is_other = match (self.read(), passing) {
            (Passed::Nothing, _) => false,
            (passed, Passing::File { total, tag, .. }) => {
                passed.file().is_none_or(|file| (file.total, file.tag) != (total, tag))
            }
            (_, Passing::Stream) => true,
        };
        if is_other {
            self.others.store(1, Ordering::Relaxed);
        }
        self.what.store(0, Ordering::Release);
        match passing {
            Passing::Stream => self.what.store(STREAM, Ordering::Release),
            Passing::File { total, tag, from, sender } => {
                self.sender.store(sender, Ordering::Relaxed);
                self.total.store(total, Ordering::Relaxed);
                self.tag.store(tag, Ordering::Relaxed);
                self.delivered.store(from, Ordering::Relaxed);
                self.what.store(FILE, Ordering::Release);
            }
        }
    }

    pub(crate) fn read(&self) -> Passed {
        let whole = match self.what.load(Ordering::Acquire) {
            STREAM => return Passed::Stream,
            FILE => Settled::No,
            FILE_SENT => Settled::Sent,
            FILE_ACKED => Settled::Acked,
            _ => return Passed::Nothing,
        };
        let total = self.total.load(Ordering::Relaxed);
        let file = PassedFile {
            total,
            tag: self.tag.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed).min(total),
            whole,
            sender: self.sender.load(Ordering::Relaxed),
        };
        match self.others.load(Ordering::Relaxed) {
            0 => Passed::File(file),
            _ => Passed::FileAfterOthers(file),
        }
    }

    /// The receiver has the whole file.
    pub(crate) fn end_whole(&self, settled: Settled) {
        let what = match settled {
            Settled::Acked => FILE_ACKED,
            Settled::Sent => FILE_SENT,
            Settled::No => FILE,
        };
        if settled == Settled::Acked {
            self.note_delivered(self.total.load(Ordering::Relaxed));
        }
        self.what.store(what, Ordering::Release);
    }

    /// The receiver has `delivered` bytes of the file, from the first on.
    pub(crate) fn note_delivered(&self, delivered: u64) {
        self.delivered.store(delivered, Ordering::Relaxed);
    }

    /// A new session begins, in which nothing has passed.
    pub(crate) fn forget(&self) {
        self.what.store(0, Ordering::Relaxed);
        self.others.store(0, Ordering::Relaxed);
    }
}

/// The file or stream that an attempt passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// A stream of bytes, whose number is unknown.
    Stream,
    /// The rest of a file.
    File {
        /// The file's bytes.
        total: u64,
        /// The caller's digest, which tells the file from others.
        tag: u64,
        /// The receiver has so many of the file's bytes.
        from: u64,
        /// The sender, as the caller names it.
        sender: u64,
    },
}
