//! The operator's view: commands, configuration, metrics and status.

mod admin;
mod cli;
mod control;
mod first_steps;
mod metrics;
