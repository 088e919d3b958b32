//! The message API, line by line, and what it must stand.

mod allocating;
mod crowd;
mod ending;
pub(crate) mod losing;
mod order;
pub(crate) mod passing;
pub(crate) mod receipt;
mod replacing;
mod roles;
pub(crate) mod secure;
mod timeout;
pub(crate) mod transcript;
