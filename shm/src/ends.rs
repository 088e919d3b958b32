//! The state that each end of a lane keeps in its own memory, and the ring between the two.
//!
//! An end takes nothing from shared memory that it knows itself. The end's own cursors live here. The end reads the
//! other end's cursor once, checks it against the window that the cursor may be in, and only then uses it.

mod descriptor;
mod receiver_end;
mod reserve;
mod rewind;
mod sender_end;

pub use receiver_end::{Published, Receiver, ReceiverEnd};
pub use rewind::TakenBack;
pub use sender_end::{Reserved, Sender, SenderEnd};

use crate::ids::{LaneRef, Owner, Role};

/// Bytes that a pipe can be filled with, at most: what a descriptor can say.
pub const PIPE_BYTES_MAX: usize = 1 << 20;

/// Either end, where only the place matters.
pub trait LaneEnd {
    /// The end's role.
    const ROLE: Role;
    /// The lane it belongs to.
    fn lane(&self) -> LaneRef;
    /// The owner of the place.
    fn owner(&self) -> Owner;
}

impl LaneEnd for SenderEnd {
    const ROLE: Role = Role::Sender;
    fn lane(&self) -> LaneRef {
        self.at
    }
    fn owner(&self) -> Owner {
        self.owner
    }
}

impl LaneEnd for ReceiverEnd {
    const ROLE: Role = Role::Receiver;
    fn lane(&self) -> LaneRef {
        self.at
    }
    fn owner(&self) -> Owner {
        self.owner
    }
}
