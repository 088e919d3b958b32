//! The facts that both APIs read out of a request: its client, its body, its options.

use std::ops::RangeInclusive;
use std::time::Duration;

use shm::{AddressTag, Want};

use super::incoming::Incoming;
use crate::api::ApiName;
use crate::api::{Answer, Api, RequestInfo};
use crate::config::{Limits, Receipt};
use crate::http::{
    self, Dechunker, ENCODING_BYTES_MAX, Fault, Framing, Request, Version, is_encoding,
    is_media_type,
};
use crate::multipart::Multipart;
use crate::relay::{Body, Env, Offer, ReceiveRequest, SendRequest};
use crate::session::Session;

/// The length of a chunked body that is empty. A request that takes no body may bring one, and it is read with the
/// head. `None`: more bytes must come first.
pub(super) fn empty_body_bytes(limits: &Limits, framing: Framing, behind: &[u8]) -> Option<usize> {
    if framing != Framing::Chunked {
        return Some(0);
    }
    let mut body = behind.to_vec();
    match dechunker(limits).decode(&mut body) {
        Ok(decoded) if decoded.payload > 0 => Some(0),
        Ok(decoded) if decoded.done => Some(decoded.consumed),
        Ok(_) => None,
        Err(_) => Some(0),
    }
}

fn dechunker(limits: &Limits) -> Dechunker {
    Dechunker::new(limits.chunk_line_bytes_max, limits.trailer_bytes_max, limits.body_bytes_max)
}

/// Whether the client fetches the page before its user has asked for it.
pub(super) fn is_prefetch(request: &Request<'_>) -> bool {
    let names = |value: &[u8]| value.to_ascii_lowercase().starts_with(b"prefetch");
    request.field("sec-purpose").is_some_and(names) || request.field("purpose").is_some_and(names)
}

/// Tokens of one request that are looked at: each costs a digest.
const TOKENS_MAX: usize = 8;

/// The session's token, if the request brings it: in `Authorization`, or in a cookie. A client may have several cookies
/// of the name.
pub(super) fn token<'b>(request: &Request<'b>, session: &Session) -> Option<&'b [u8]> {
    let bearer = http::bearer(request.field("authorization"));
    let brought = bearer.into_iter().chain(http::cookies(request.fields("cookie"), "token"));
    brought.take(TOKENS_MAX).find(|token| session.is_owned_by(token))
}

/// Bytes of a mark, at least and at most.
const MARK_BYTES: RangeInclusive<usize> = 16..=64;

/// The mark by which a session with a nameplate knows its guest, who has chosen it. A page of another site cannot make a
/// browser send the field. `None`: the request has none, or something else in its place.
pub(super) fn guest_mark<'b>(request: &Request<'b>) -> Option<&'b [u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mark = request.field("x-guest")?;
    (MARK_BYTES.contains(&mark.len()) && mark.iter().all(is_plain)).then_some(mark)
}

/// A receiver's request.
pub(super) fn receive_request(
    info: &RequestInfo,
    api: Api,
    want: Want,
    guest: Option<AddressTag>,
) -> Box<ReceiveRequest> {
    let (needs_length, cors) = (info.version == Version::Http10, info.cors);
    Box::new(ReceiveRequest { needs_length, api, want, guest, cors })
}

/// A sender's request, or the reason why it cannot be sent. The body is a `form` or the file itself. The route adds the
/// part of the file, its name and its guest.
pub(super) fn send_request(
    env: &Env,
    incoming: Incoming<'_>,
    api: Api,
    form: Option<Multipart>,
) -> Result<SendRequest, Answer> {
    let Incoming { request, info, .. } = incoming;
    check_length(&env.config.limits, incoming, &api)?;
    let receipt = receipt(env, incoming, api.name())?;
    let content_type = single(request, "content-type", info)?.filter(|it| is_media_type(it));
    let encoding = encoding(request, info)?;
    let is_encoded = encoding.as_ref().is_some_and(|it| !it.eq_ignore_ascii_case(b"identity"));
    if form.is_some() && is_encoded {
        return Err(Answer::bad_request(
            "the relay cannot read a form with a Content-Encoding",
            info,
        ));
    }
    let dechunker = dechunker(&env.config.limits);
    Ok(SendRequest {
        body: Body::new(request.framing, form, dechunker),
        offer: Offer::default(),
        content_type: content_type.map(<[u8]>::to_vec),
        encoding,
        name: None,
        receipt,
        api,
        expects_continue: request.expects_continue && request.version == Version::Http11,
        client: info.client,
        guest: None,
        for_guest: false,
    })
}

/// The receipt level that a sender asks for, or the usual one of its API.
pub(super) fn receipt(env: &Env, incoming: Incoming<'_>, api: ApiName) -> Result<Receipt, Answer> {
    let usual = match api {
        ApiName::Exchange | ApiName::Pair => env.config.exchange.receipt,
        ApiName::Messages => env.config.messages.receipt,
    };
    match single(incoming.request, "x-receipt", incoming.info)? {
        None => Ok(usual),
        Some(b"acked") => Ok(Receipt::Acked),
        Some(b"sent") => Ok(Receipt::Sent),
        Some(_) => Err(Answer::bad_request("X-Receipt: acked or sent", incoming.info)),
    }
}

/// Checks that the length of a body is stated, and is not too large. A message of HTTP/1.1 needs no body.
fn check_length(limits: &Limits, incoming: Incoming<'_>, api: &Api) -> Result<(), Answer> {
    let Incoming { request, info, .. } = incoming;
    let bytes_max = limits.body_bytes_max;
    let fault = match request.framing {
        // An HTTP/1.0 client may mean a body that ends with the connection.
        Framing::None if matches!(api, Api::Exchange) || request.version == Version::Http10 => {
            Fault::LengthMissing
        }
        Framing::Length(bytes) if bytes > bytes_max => Fault::BodyTooLarge { bytes_max },
        _ => return Ok(()),
    };
    Err(Answer::fault(fault, info))
}

/// The only field of this name. Two fields that differ are refused: the relay cannot tell which of them counts.
pub(super) fn single<'b>(
    request: &Request<'b>,
    name: &str,
    info: &RequestInfo,
) -> Result<Option<&'b [u8]>, Answer> {
    let mut fields = request.fields(name);
    let first = fields.next();
    if fields.any(|other| Some(other) != first) {
        let text = format!("the request has two different {name} fields");
        return Err(Answer::bad_request(&text, info));
    }
    Ok(first)
}

/// The time that `X-Timeout`, or else `?timeout=`, asks for.
pub(super) fn timeout(
    request: &Request<'_>,
    info: &RequestInfo,
) -> Result<Option<Duration>, Answer> {
    let field = request.field("x-timeout").map(|value| str::from_utf8(value).unwrap_or_default());
    let Some(text) = field.or(request.query_value("timeout")) else { return Ok(None) };
    // `parse` alone would accept a sign, and refuse a number that is only larger than any maximum.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().unwrap_or(u64::MAX) {
        seconds if is_number && seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Answer::bad_request("a timeout is a positive whole number of seconds", info)),
    }
}

/// The codings of all `Content-Encoding` fields. Codings that cannot be passed on are refused: without them a receiver
/// would get another body.
fn encoding(request: &Request<'_>, info: &RequestInfo) -> Result<Option<Vec<u8>>, Answer> {
    let fields = request.fields("content-encoding").filter(|field| !field.is_empty());
    let encoding = fields.collect::<Vec<_>>().join(&b", "[..]);
    if encoding.is_empty() {
        return Ok(None);
    }
    if !is_encoding(&encoding) {
        let text = format!("Content-Encoding: codings, in at most {ENCODING_BYTES_MAX} bytes");
        return Err(Answer::bad_request(&text, info));
    }
    Ok(Some(encoding))
}
