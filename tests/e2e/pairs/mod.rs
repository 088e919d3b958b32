//! Pairs: two clients that name each other exchange raw bytes both ways.

mod crowd;
mod deaths;
mod ending;
mod handshake;
mod party;
mod passing;
mod tlv;
mod wormhole;
