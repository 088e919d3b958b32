//! The end-to-end tests: the real binary with its forked workers, real curl, and bare sockets. The tests know the program
//! only from outside, plus the counters in its shared segment. A module is a part of the contract; a test's name is what
//! must hold. Names that begin with `heavy_` move gigabytes or hold thousands of connections and are run alone.

#![allow(clippy::unwrap_used)]

mod harness;

mod attack;
mod client;
mod faults;
mod http;
mod limits;
mod logs;
mod messages;
mod operator;
mod pairs;
mod pipes;
mod processes;
mod resume;
mod sessions;
mod tcp;
mod tls;
mod transfer;
