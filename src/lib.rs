//! The parts of the relay, for its binary, tests and benches.

pub mod http;
pub mod multipart;
