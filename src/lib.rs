//! A relay that two parties meet at, over HTTP, and that never stores what passes.
//!
//! `src/ARCHITECTURE.md` is the map. Dependencies point one way. At the bottom are `sys`, `session`, `control`, `tls` and
//! the crate `wire` (`http`, `address`, `multipart`, `pair`). `stream` is `sys` with or without `tls`. `access` writes the
//! access log, `diagnostics` everything else that the relay says, and `torn` mends the end of a log. `outcome` is how a
//! transfer ended, `tally` what is counted. `api` is where the APIs differ, `relay` moves the bytes, and `sandbox` gives
//! up what a worker does not need. `worker` drives `relay` and `admin` over mio. `master` knows `worker::run` and `config`,
//! `preflight` tries what a start would need, and `cli` is on top.

pub mod access;
pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod diagnostics;
pub mod master;
pub mod outcome;
mod preflight;
pub mod quoted;
pub mod relay;
pub mod sandbox;
pub mod session;
pub mod stream;
pub mod sys;
pub mod tally;
pub mod tls;
pub mod torn;
pub mod worker;

pub use wire::{address, http, multipart, pair};

#[cfg(test)]
mod wording;
