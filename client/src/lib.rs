//! The client for people: sends and receives files through a relay, end to end encrypted.
//!
//! Two clients have a [`Code`] in common, which one reads to the other. `code` has its words, and [`pake`] makes a key of
//! it that neither the relay nor a stranger learns. [`letters`] seals what the two tell each other with that key. Invariant:
//! no secret is in `Debug`, and nothing that a peer or a relay sends makes this code panic or allocate beyond its bounds.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic, clippy::unreachable)]

pub mod code;
pub mod letters;
pub mod pake;

pub use code::Code;
