//! The message API, line by line, and what it must stand.

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
