//! The message API, line by line, and the loads and losses that it must withstand.

mod allocating;
mod calls;
mod clients;
mod crowd;
mod ending;
mod losing;
mod nameplates;
mod order;
mod passing;
mod receipt;
mod replacing;
mod roles;
mod secure;
mod timeout;
mod transcript;
