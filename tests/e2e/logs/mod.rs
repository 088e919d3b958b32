//! The relay's logs: which lines go where, and which are lost when they cannot be written.

mod access;
mod diagnostics;
mod loss;
mod rotation;
