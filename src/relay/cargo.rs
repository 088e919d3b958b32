//! What a sender brings along: its body, and what its request says of it.

use super::{Body, Manner};
use crate::config::Receipt;
use crate::http::FileName;
use std::net::IpAddr;

/// What a sender brings along.
#[derive(Debug)]
pub struct Cargo {
    /// Its body.
    pub body: Body,
    /// Its `Content-Type`; a form's part has its own.
    pub content_type: Option<Vec<u8>>,
    /// Its `Content-Encoding`; a form has none.
    pub encoding: Option<Vec<u8>>,
    /// The name given outside of the body.
    pub name: Option<FileName>,
    /// What its final answer waits for.
    pub receipt: Receipt,
    /// Whether it sent `Expect: 100-continue`.
    pub expects_continue: bool,
    /// Which API it is sent by.
    pub manner: Manner,
    /// Its client's address: another of the same may take over from one that waits and may be dead.
    pub client: IpAddr,
    /// What its client's address was let in as, where a host says who its guest may be: once that is another,
    /// it is sent away. 0: nobody is kept out.
    pub admitted_as: u64,
    /// It is for the session's guest alone: a receiver that was let in as another does not suit it.
    pub for_guest: bool,
}
