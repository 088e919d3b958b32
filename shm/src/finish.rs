//! How a transfer ended, as each side of its lane says it: what the sender sent, and what the receiver's side vouches for.

/// How a sender's bytes ended, as it tells its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// More may come.
    Open,
    /// All came: so many payload bytes.
    Whole(u64),
    /// No more will come, and what came is not whole.
    Aborted,
    /// The sender sends nothing, because there was no chunk to carry it.
    NoChunk,
    /// The sender sends nothing, because what the receiver asks for cannot be made from what is sent.
    Unfit,
}

/// The lowest bits of a [`Finish`] without payload; why stands above.
const NOTHING: u64 = 3;

impl Finish {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Open => 0,
            Self::Whole(total) => total << 2 | 1,
            Self::Aborted => 2,
            Self::NoChunk => NOTHING,
            Self::Unfit => 1 << 2 | NOTHING,
        }
    }

    pub(crate) fn decode(word: u64) -> Self {
        match word & 3 {
            0 => Self::Open,
            1 => Self::Whole(word >> 2),
            2 => Self::Aborted,
            _ if word >> 2 == 1 => Self::Unfit,
            _ => Self::NoChunk,
        }
    }
}

/// How much a receiver's side vouches for once the transfer is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// No word yet.
    No,
    /// The receiver's kernel socket took everything.
    Sent,
    /// The receiver's TCP acknowledged everything.
    Acked,
}
