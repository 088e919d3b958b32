//! TLS: certificates and keys, handshakes, and ends that are announced.
//!
//! Not run again over HTTPS: these tests choose the protocol themselves.

mod chains;
mod clients;
mod cut;
mod end;
mod files;
mod handshake;
mod reload;
