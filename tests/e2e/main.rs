//! The end-to-end tests: the real binary with its forked workers, real curl, and bare sockets. They know the program
//! only from outside, plus the counters in its shared segment. A module is a part of the contract; a test's name is
//! what must hold. Names that begin with `heavy_` move gigabytes or hold thousands of connections and are run alone.

#![allow(clippy::unwrap_used)]

mod harness;

mod access_log;
mod access_loss;
mod activation;
mod address;
mod admin;
mod answers;
mod attack;
mod bandwidth;
mod bytewise;
mod cli;
mod conformance;
mod control;
mod cors;
mod crash;
mod crowd;
mod deaths;
mod diagnostics;
mod displaced;
mod exchange;
mod expectation;
mod fairness;
mod fast_open;
mod faults;
mod files;
mod first_steps;
mod form;
mod framing;
mod hanging;
mod heads;
mod issuing;
mod keepalive;
mod labels;
mod leaving;
mod lifetime;
mod limits;
mod machine;
mod memory;
mod messages;
mod names;
mod outcomes;
mod pipe_allowance;
mod pipe_faults;
mod pipe_share;
mod pipes;
mod previews;
mod process;
mod proxies;
mod receipt;
mod reload;
mod renewal_load;
mod retry;
mod ring;
mod rotation;
mod safe_conduct;
mod sandbox;
mod service;
mod silence;
mod tether;
mod tls;
mod tls_cut;
mod tls_end;
mod tls_files;
mod tls_handshake;
mod tls_reload;
mod traces;
mod upgrade;
mod urgent;
mod waiting;
mod waits;
mod whole;
