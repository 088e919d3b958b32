//! A file goes on where it broke.

mod attempts;
mod clients;
mod dropped;
mod rules;
mod told;
