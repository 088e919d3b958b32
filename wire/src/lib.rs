//! The meaning of bytes: HTTP/1.1 messages, multipart forms, what proxies say of their clients, how two
//! clients ask to be paired, and, with the feature `age`, encrypted files.
//!
//! The relay hands in what it has read from sockets and sends what it gets back. Fuzz targets and
//! benchmarks build this crate without the relay. Invariant: the code here uses no socket, no file
//! and no clock (time comes in as an argument), no input makes it panic, and the caller bounds each
//! buffer.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![cfg_attr(not(test), deny(clippy::string_slice))]

pub mod address;
#[cfg(feature = "age")]
pub mod age;
pub mod http;
pub mod multipart;
pub mod pair;
