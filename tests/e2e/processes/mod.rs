//! Master and workers: how they start, die, reload, upgrade and stop, and their sandbox.

mod activation;
mod channel;
mod crash;
mod deaths;
mod hanging;
mod machine;
mod process;
pub(crate) mod reload;
mod renewal_load;
mod sandbox;
mod service;
pub(crate) mod upgrade;
