//! The message API: cama's sessions, line by line, and what they must stand.

mod allocating;
mod crowd;
mod ending;
mod losing;
mod order;
mod passing;
mod receipt;
mod replacing;
mod roles;
mod secure;
mod timeout;
mod transcript;
