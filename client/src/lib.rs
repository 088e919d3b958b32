//! The client for people: sends and receives files through a relay, end to end encrypted.
//!
//! Two clients have a [`Code`] in common, which one person reads to the other. `code` has its words. [`Sender`] and
//! [`receive`] do the work: `rendezvous` meets the peer through the relay, [`pake`] makes a key of the code that neither
//! the relay nor a stranger learns, and `line` carries the sealed [`letters`] that `offer` lists. The file itself is an age
//! file, in `blocks`, and a `part` until the receiver has it whole. Invariant: no secret is in `Debug`, and nothing that a peer or a relay sends makes this code panic or
//! allocate beyond its bounds.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic, clippy::unreachable)]

mod blocks;
pub mod code;
mod error;
pub mod letters;
mod line;
mod offer;
pub mod pake;
mod part;
mod receive;
mod rendezvous;
mod send;

pub use code::Code;
pub use error::ClientError;
pub use receive::{Place, Received, receive};
pub use rendezvous::RelayAddress;
pub use send::{Sender, Source};
