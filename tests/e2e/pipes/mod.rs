//! Payload that passes through pipes, uncopied.

mod allowance;
mod faults;
mod passing;
mod share;
