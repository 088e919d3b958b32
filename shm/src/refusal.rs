//! A refusal: why a process turned down a value that it read from shared memory.
//!
//! Every process that maps the segment can write to it, so a process checks whatever it reads there before it uses
//! it. A refusal means that some process wrote what the protocol does not allow: the caller ends the transfer it
//! was serving and touches nothing else.

use std::fmt;

/// A value from the segment that the protocol does not allow. A refusal carries the value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A state word whose bits name no state.
    BadWord(u64),
    /// A place that should be ours is not: the word that was found.
    NotOurs(u64),
    /// A cursor outside the window that its other end allows.
    Cursor {
        /// The cursor that was read.
        found: u64,
        /// The lowest value allowed.
        low: u64,
        /// The highest value allowed.
        high: u64,
    },
    /// A descriptor that names a chunk, a pipe or a range that does not exist.
    Descriptor(u64),
    /// A pipe for a receiver that takes none.
    UnwantedPipe,
    /// A pipe that holds fewer bytes than its descriptor says.
    EmptyPipe {
        /// Bytes that are not there.
        missing: usize,
    },
    /// A chunk or pipe that belongs to another lane: its tag.
    Foreign(u64),
    /// An announcement of so many bytes that cannot be read.
    Announcement(usize),
    /// A byte count that is higher than it can be.
    Count {
        /// The count that was read.
        found: u64,
        /// The highest value allowed.
        high: u64,
    },
    /// An end that claims more or fewer bytes than have passed.
    Total {
        /// The total that was read.
        found: u64,
        /// The bytes that have passed.
        passed: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadWord(word) => write!(f, "state word {word:#018x} names no state"),
            Self::NotOurs(word) => write!(f, "place is not ours: state word {word:#018x}"),
            Self::Cursor { found, low, high } => {
                write!(f, "cursor {found} is outside {low}..={high}")
            }
            Self::Descriptor(word) => write!(f, "descriptor {word:#018x} is out of range"),
            Self::Foreign(tag) => write!(f, "chunk or pipe of another lane: tag {tag:#018x}"),
            Self::UnwantedPipe => f.write_str("a pipe for a receiver that takes none"),
            Self::EmptyPipe { missing } => write!(f, "pipe lacks {missing} bytes"),
            Self::Announcement(bytes) => write!(f, "announcement of {bytes} bytes is none"),
            Self::Count { found, high } => write!(f, "count {found} is above {high}"),
            Self::Total { found, passed } => {
                write!(f, "the end names {found} bytes, but {passed} have passed")
            }
        }
    }
}

impl std::error::Error for Refusal {}
