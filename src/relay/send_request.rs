//! The request of a sender: its body, and what the head says about it. The routes make it, and `sending` carries it
//! out.

use super::{Body, Offer};
use crate::api::Api;
use crate::config::Receipt;
use crate::http::FileName;
use shm::AddressTag;
use std::net::IpAddr;

/// The request of a sender.
#[derive(Debug)]
pub struct SendRequest {
    /// The request's body.
    pub body: Body,
    /// The part of a file that the body is.
    pub offer: Offer,
    /// The request's `Content-Type`; a form's part has its own.
    pub content_type: Option<Vec<u8>>,
    /// The request's `Content-Encoding`; a form has none.
    pub encoding: Option<Vec<u8>>,
    /// The file's name, if the path or the head gives one.
    pub name: Option<FileName>,
    /// The receipt level that the final answer waits for.
    pub receipt: Receipt,
    /// Whether it sent `Expect: 100-continue`.
    pub expects_continue: bool,
    /// The API of the request.
    pub api: Api,
    /// The client's address. Another sender from the same address may take the place of a sender that waits and may
    /// be dead.
    pub client: IpAddr,
    /// The guest that the client was authorized as, if the session is secure. Once the host authorizes another guest,
    /// the request is forbidden. 0: the session is for everybody.
    pub guest: Option<AddressTag>,
    /// The message is for the session's guest alone. It does not go to a receiver that was authorized as another.
    pub for_guest: bool,
}
