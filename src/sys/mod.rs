//! The one door to the operating system: sockets, processes, signals, clocks.
//!
//! Each file is a thin, typed cover over system calls that the standard library does not offer; an fd becomes an
//! `OwnedFd` on the line it is born. Only this room and `shm` have `unsafe`.
#![allow(unsafe_code)]

pub mod clock;
pub mod epoll;
pub mod file;
pub mod interfaces;
pub mod listener;
pub mod memory;
pub mod operator;
pub mod pipe;
pub mod process;
pub mod program;
pub mod seqpacket;
pub mod signal;
pub mod sink;
pub mod socket;
pub mod title;
pub mod user;
pub mod waker;

pub use socket::{RecvOutcome, SendOutcome, Socket};

use std::io;

/// `error` with `what` has failed in front of it.
#[must_use]
pub fn failed(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
