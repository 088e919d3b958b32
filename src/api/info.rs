//! The part of a request's head that its answer depends on. The transaction keeps it once the route is known.

use std::net::IpAddr;
use std::time::Duration;

use super::role::MessageRole;
use crate::http::{Cors, Framing, Method, Request, Version, accepts};

/// The facts about a request that its answer needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestInfo {
    /// The client that asks, as far as that can be known and believed.
    pub(crate) client: IpAddr,
    /// The client wants to go on using the connection.
    pub(crate) keep_alive: bool,
    pub(crate) version: Version,
    /// Errors are to be problem documents.
    pub(crate) problem: bool,
    /// The answer has no body, as it is one to `HEAD`.
    pub(crate) head_only: bool,
    /// The request's body is chunked.
    pub(crate) chunked: bool,
    /// The request has a body that was not read: the connection cannot be used again.
    pub(crate) unread: bool,
    /// How long it waits for its peer, where it asks for a place.
    pub(crate) wait: Duration,
    /// The role of the client in the session; `None` if the request is not for the messages API.
    pub(crate) role: Option<MessageRole>,
    /// Whether a page in a browser may read the answer.
    pub(crate) cors: Cors<'static>,
}

impl RequestInfo {
    /// The facts about `request`, which `client` sent. `body_bytes` of its body were read with the head, and `cors` says
    /// what its page may read.
    pub(crate) fn new(
        request: &Request<'_>,
        client: IpAddr,
        body_bytes: usize,
        cors: Cors<'static>,
    ) -> Self {
        // In HTTP/1.0 a body of no stated length may follow, up to the end.
        let is_open = request.version == Version::Http10
            && request.framing == Framing::None
            && matches!(request.method, Method::Post | Method::Put);
        let is_empty = matches!(request.framing, Framing::None | Framing::Length(0));
        Self {
            client,
            keep_alive: request.keep_alive && !is_open,
            version: request.version,
            problem: accepts(request.field("accept"), "application/problem+json"),
            head_only: request.method == Method::Head,
            wait: Duration::ZERO,
            role: None,
            cors,
            chunked: request.framing == Framing::Chunked,
            unread: !is_empty && body_bytes == 0,
        }
    }

    /// The facts to assume of a request that could not be read.
    pub(crate) fn unreadable(client: IpAddr, cors: Cors<'static>) -> Self {
        Self {
            client,
            keep_alive: false,
            version: Version::Http11,
            problem: false,
            head_only: false,
            chunked: false,
            unread: true,
            wait: Duration::ZERO,
            role: None,
            cors,
        }
    }
}
