//! A relay that two parties meet at, over HTTP, and that never stores what passes.
//!
//! `src/ARCHITECTURE.md` is the map. Dependencies point one way: `sys`, `http`, `address`,
//! `multipart`, `session`, `control` and `tls` know no one above them; `stream` is `sys` with or without `tls`;
//! `access` writes requests down and `diagnostics` what else happens; `relay` knows them and `shm`; `sandbox` knows `sys`;
//! `tally` says what is counted, and `torn` what a log ends with; `admin` tells of it; `worker` drives `relay` and
//! `admin` over mio; `master` knows `worker::run` and `config`; `preflight` tries what a start would need;
//! `cli` is on top.

pub mod access;
pub mod address;
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod diagnostics;
pub mod http;
pub mod master;
pub mod multipart;
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

#[cfg(test)]
mod wording;
