//! What both APIs read out of a request: who asks, what it sends, how it is to be answered.

use super::answer::{Answer, Asked};
use crate::config::{Limits, Receipt};
use crate::http::{self, Dechunker, Fault, FileName, Framing, Method, Request, Version, accepts};
use crate::multipart::Multipart;
use crate::relay::{Body, Cargo, Manner, Reception, Relay};
use crate::session::Session;
use std::net::IpAddr;

/// What the answer to `request`, which is `client`'s, has to know of it. `read_bytes` of its body were
/// read with the head.
pub(super) fn asked(request: &Request<'_>, client: IpAddr, read_bytes: usize) -> Asked {
    Asked {
        client,
        keep_alive: request.keep_alive,
        version: request.version,
        problem: accepts(request.field("accept"), "application/problem+json"),
        head_only: request.method == Method::Head,
        chunked: request.framing == Framing::Chunked,
        unread: !matches!(request.framing, Framing::None | Framing::Length(0)) && read_bytes == 0,
    }
}

/// How many bytes of what follows the head are a body that is empty, though it is chunked: they are
/// read with the head where a request takes no body. `None`: more must come to tell.
pub(super) fn empty_body_bytes(
    relay: &Relay,
    request: &Request<'_>,
    behind: &[u8],
) -> Option<usize> {
    if super::route::takes_body(relay, request) || request.framing != Framing::Chunked {
        return Some(0);
    }
    let mut body = behind.to_vec();
    match dechunker(&relay.config.limits).decode(&mut body) {
        Ok(decoded) if decoded.payload > 0 => Some(0),
        Ok(decoded) if decoded.done => Some(decoded.consumed),
        Ok(_) => None,
        Err(_) => Some(0),
    }
}

fn dechunker(limits: &Limits) -> Dechunker {
    Dechunker::new(limits.chunk_line_bytes_max, limits.trailer_bytes_max, limits.body_bytes_max)
}

/// Whether the client fetches what nobody has asked to see yet.
pub(super) fn is_prefetch(request: &Request<'_>) -> bool {
    let names = |value: &[u8]| value.to_ascii_lowercase().starts_with(b"prefetch");
    request.field("sec-purpose").is_some_and(names) || request.field("purpose").is_some_and(names)
}

/// Tokens of one request that are looked at: each costs a digest.
const TOKENS_MAX: usize = 8;

/// The session's token, if the request brings it: in a cookie, of which a client may have several of the
/// name, or in `Authorization`.
pub(super) fn token<'b>(request: &Request<'b>, session: &Session) -> Option<&'b [u8]> {
    let bearer = http::bearer(request.field("authorization"));
    let brought = bearer.into_iter().chain(http::cookies(request.fields("cookie"), "token"));
    brought.take(TOKENS_MAX).find(|token| session.is_owned_by(token))
}

/// How a receiver's request is answered.
pub(super) fn reception(asked: &Asked, manner: Manner, admitted_as: u64) -> Box<Reception> {
    let (keep_alive, needs_length) = (asked.goes_on(), asked.version == Version::Http10);
    Box::new(Reception { keep_alive, needs_length, manner, admitted_as })
}

/// What a request brings to send, beside its body.
pub(super) struct Label {
    /// The form around its file, if it is one that is to be unpacked.
    pub(super) form: Option<Multipart>,
    pub(super) name: Option<FileName>,
    /// The receipt level, if the request does not say.
    pub(super) receipt: Receipt,
    pub(super) manner: Manner,
    /// See [`Cargo::admitted_as`].
    pub(super) admitted_as: u64,
    /// See [`Cargo::for_guest`].
    pub(super) for_guest: bool,
}

/// What `request` brings to send; or why it cannot.
pub(super) fn cargo(
    relay: &Relay,
    request: &Request<'_>,
    asked: &Asked,
    label: Label,
) -> Result<Cargo, Answer> {
    let limits = &relay.config.limits;
    let receipt = match request.field("x-receipt") {
        None => label.receipt,
        Some(b"acked") => Receipt::Acked,
        Some(b"sent") => Receipt::Sent,
        Some(_) => return Err(Answer::bad_request("X-Receipt: acked or sent", asked)),
    };
    if let Framing::Length(bytes) = request.framing
        && bytes > limits.body_bytes_max
    {
        let fault = Fault::BodyTooLarge { bytes_max: limits.body_bytes_max };
        return Err(Answer::fault(fault, asked));
    }
    let dechunker = dechunker(limits);
    Ok(Cargo {
        body: Body::new(request.framing, label.form, dechunker),
        content_type: request.field("content-type").map(<[u8]>::to_vec),
        name: label.name,
        receipt,
        manner: label.manner,
        expects_continue: request.expects_continue && request.version == Version::Http11,
        client: asked.client,
        admitted_as: label.admitted_as,
        for_guest: label.for_guest,
    })
}
