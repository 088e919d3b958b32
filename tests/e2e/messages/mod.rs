//! The message API, line by line, and what it must stand.

mod allocating;
mod clients;
mod crowd;
pub(crate) mod ending;
pub(crate) mod losing;
pub(crate) mod order;
pub(crate) mod passing;
pub(crate) mod receipt;
pub(crate) mod replacing;
pub(crate) mod roles;
pub(crate) mod secure;
pub(crate) mod timeout;
pub(crate) mod transcript;
