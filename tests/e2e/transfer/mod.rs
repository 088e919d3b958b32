//! A file from a sender to a receiver: the bytes that arrive, the answers to both, and the state that is left afterwards.

mod bytewise;
mod crowd;
mod exchange;
mod files;
mod form;
mod labels;
mod leaving;
mod names;
mod outcomes;
mod receipt;
mod retry;
mod ring;
mod silence;
mod traces;
mod whole;
