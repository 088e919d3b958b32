//! What both APIs read out of a request: who asks, what it sends, how it is to be answered.

use super::answer::{Answer, Asked};
use crate::config::{Limits, Receipt};
use crate::http::{
    self, Dechunker, ENCODING_BYTES_MAX, Fault, FileName, Framing, Method, Request, Version,
    accepts, asks_for_part, is_encoding, is_media_type, is_whole,
};
use crate::multipart::Multipart;
use crate::relay::{Body, Cargo, Manner, Reception, Relay};
use crate::session::Session;
use std::net::IpAddr;
use std::time::Duration;

/// What the answer to `request`, which is `client`'s, has to know of it. `read_bytes` of its body were
/// read with the head.
pub(super) fn asked(
    relay: &Relay,
    request: &Request<'_>,
    client: IpAddr,
    read_bytes: usize,
) -> Asked {
    // In HTTP/1.0 a body of no stated length may follow, up to the end.
    let is_open = request.version == Version::Http10
        && request.framing == Framing::None
        && matches!(request.method, Method::Post | Method::Put);
    Asked {
        client,
        keep_alive: request.keep_alive && !is_open,
        version: request.version,
        problem: accepts(request.field("accept"), "application/problem+json"),
        head_only: request.method == Method::Head,
        wait: Duration::ZERO,
        role: None,
        cors: relay.config.cors.origins.judge(|| request.field("origin")),
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

/// Whether the client asks for a part of the file, and takes nothing else. With `If-Range` it takes the
/// whole file too: the field names the file that the client has, and no answer of ours gave it a name.
pub(super) fn asks_for_rest(request: &Request<'_>) -> bool {
    request.field("if-range").is_none() && request.fields("range").any(asks_for_part)
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
    Box::new(Reception { keep_alive, needs_length, manner, admitted_as, cors: asked.cors })
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
    check_length(&relay.config.limits, request, &label.manner, asked)?;
    refuse_part(request, asked)?;
    let receipt = match single(request, "x-receipt", asked)? {
        None => label.receipt,
        Some(b"acked") => Receipt::Acked,
        Some(b"sent") => Receipt::Sent,
        Some(_) => return Err(Answer::bad_request("X-Receipt: acked or sent", asked)),
    };
    let content_type = single(request, "content-type", asked)?.filter(|it| is_media_type(it));
    let encoding = encoding(request, asked)?;
    let is_encoded = encoding.as_ref().is_some_and(|it| !it.eq_ignore_ascii_case(b"identity"));
    if label.form.is_some() && is_encoded {
        return Err(Answer::bad_request("a form with a Content-Encoding cannot be read", asked));
    }
    let dechunker = dechunker(&relay.config.limits);
    Ok(Cargo {
        body: Body::new(request.framing, label.form, dechunker),
        content_type: content_type.map(<[u8]>::to_vec),
        encoding,
        name: label.name,
        receipt,
        manner: label.manner,
        expects_continue: request.expects_continue && request.version == Version::Http11,
        client: asked.client,
        admitted_as: label.admitted_as,
        for_guest: label.for_guest,
    })
}

/// Checks that the length of a body is stated, and not too much. A message of HTTP/1.1 needs no body.
fn check_length(
    limits: &Limits,
    request: &Request<'_>,
    manner: &Manner,
    asked: &Asked,
) -> Result<(), Answer> {
    let bytes_max = limits.body_bytes_max;
    let fault = match request.framing {
        // An HTTP/1.0 client may mean a body that ends with the connection.
        Framing::None if matches!(manner, Manner::File) || request.version == Version::Http10 => {
            Fault::LengthMissing
        }
        Framing::Length(bytes) if bytes > bytes_max => Fault::BodyTooLarge { bytes_max },
        _ => return Ok(()),
    };
    Err(Answer::fault(fault, asked))
}

/// The field of this name. Two that differ are refused: nobody knows which counts.
pub(super) fn single<'b>(
    request: &Request<'b>,
    name: &str,
    asked: &Asked,
) -> Result<Option<&'b [u8]>, Answer> {
    let mut fields = request.fields(name);
    let first = fields.next();
    if fields.any(|other| Some(other) != first) {
        let text = format!("two {name} fields that differ");
        return Err(Answer::bad_request(&text, asked));
    }
    Ok(first)
}

/// The time that `X-Timeout`, or else `?timeout=`, asks for.
pub(super) fn timeout(request: &Request<'_>, asked: &Asked) -> Result<Option<Duration>, Answer> {
    let field = request.field("x-timeout").map(|value| str::from_utf8(value).unwrap_or_default());
    let Some(text) = field.or(request.query_value("timeout")) else { return Ok(None) };
    // `parse` alone would take a sign, and refuse what is only more than any maximum.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().unwrap_or(u64::MAX) {
        seconds if is_number && seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Answer::bad_request("a timeout is a positive whole number of seconds", asked)),
    }
}

/// Refuses a body that is only a part of its file: the receiver would take it for the whole.
fn refuse_part(request: &Request<'_>, asked: &Asked) -> Result<(), Answer> {
    let length = match request.framing {
        Framing::Length(bytes) => Some(bytes),
        _ => None,
    };
    if request.fields("content-range").all(|range| is_whole(range, length)) {
        return Ok(());
    }
    let text = "Content-Range: only a whole file is taken, bytes 0-(N-1)/N with Content-Length: N";
    Err(Answer::bad_request(text, asked))
}

/// The codings of all `Content-Encoding` fields. What cannot be passed on is refused, since a receiver
/// that is not told of a coding gets another body.
fn encoding(request: &Request<'_>, asked: &Asked) -> Result<Option<Vec<u8>>, Answer> {
    let fields = request.fields("content-encoding").filter(|field| !field.is_empty());
    let encoding = fields.collect::<Vec<_>>().join(&b", "[..]);
    if encoding.is_empty() {
        return Ok(None);
    }
    if !is_encoding(&encoding) {
        let text = format!("Content-Encoding: codings, in at most {ENCODING_BYTES_MAX} bytes");
        return Err(Answer::bad_request(&text, asked));
    }
    Ok(Some(encoding))
}
