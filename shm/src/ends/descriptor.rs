//! A descriptor: one word of a lane's entries, which names a chunk or pipe and the range of it that holds payload.

use crate::pool::{Buffer, Pool};
use crate::refusal::Refusal;
use std::ops::Range;

/// Bits of a descriptor: offset below 2^20, length at most 2^20, chunk or pipe above.
const FIELD_BITS: u32 = 21;
const FIELD_MASK: u64 = (1 << FIELD_BITS) - 1;

/// A decoded descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Described {
    pub(crate) buffer: Buffer,
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

/// The descriptor of `range` of the buffer with `number`.
pub(crate) fn encode(number: u64, range: &Range<usize>) -> u64 {
    let (start, bytes) = (range.start as u64, range.len() as u64);
    number << (2 * FIELD_BITS) | start << FIELD_BITS | bytes
}

/// Decodes `word`. [`Pool::check`] tells whether the buffer exists.
pub(crate) fn decode(word: u64, pool: &Pool<'_>) -> Result<Described, Refusal> {
    let field = |shift: u32, mask: u64| usize::try_from(word >> shift & mask);
    let number = field(2 * FIELD_BITS, u64::MAX);
    let (start, bytes) = (field(FIELD_BITS, FIELD_MASK), field(0, FIELD_MASK));
    match (number, start, bytes) {
        (Ok(number), Ok(start), Ok(bytes)) => {
            Ok(Described { buffer: pool.buffer(number), start, bytes })
        }
        _ => Err(Refusal::Descriptor(word)),
    }
}
