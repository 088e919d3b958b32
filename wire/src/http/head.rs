//! The request head: `httparse` finds the words, `framing` decides whether they may stand.
//!
//! The worker calls [`parse`] on everything it has buffered, as bytes are added. The parser keeps
//! no state between calls: it reads a head that comes in pieces again, and the worker keeps that
//! linear (to read 16 KiB in one go costs about as much as the `recv` that brought one byte).
//! Invariant: a head is refused, incomplete, or understood in the one way in which any other reader
//! must understand it, whatever pieces it came in.

use std::mem::MaybeUninit;

use httparse::{Header, Status as Lexed};

use super::Fault;
use super::framing::{self, Judged};
use super::naming;
use super::request::{HEADER_FIELDS_CEILING, Method, Request, Version};

/// Room for the fields of a head: 4 KiB that need not be initialised.
#[derive(Debug)]
pub struct FieldRoom<'b>([MaybeUninit<Header<'b>>; HEADER_FIELDS_CEILING]);

impl Default for FieldRoom<'_> {
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; HEADER_FIELDS_CEILING])
    }
}

/// The limits beyond which a head is refused.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes up to and with the empty line at the end; empty lines before the head count.
    pub head_bytes_max: usize,
    /// Field lines; more than [`HEADER_FIELDS_CEILING`] is taken as that.
    pub header_fields_max: usize,
}

/// The result of reading what has come so far.
#[derive(Clone, Copy, Debug)]
pub enum Parsed<'b> {
    /// A valid beginning.
    Partial,
    /// A head, and the number of bytes it took (with empty lines before it).
    Complete(Request<'b>, usize),
}

/// Reads a head from the front of `bytes`; its fields go to `room`.
///
/// # Errors
/// The first fault, as soon as it is certain, also before the head is complete. The message that the
/// fields describe is judged at the end. The fault does not depend on how the bytes were cut.
pub fn parse<'r, 'b: 'r>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    room: &'r mut FieldRoom<'b>,
) -> Result<Parsed<'r>, Fault> {
    let window = bytes.get(..limits.head_bytes_max).unwrap_or(bytes);
    let mut lexed = httparse::Request::new(&mut []);
    let outcome = lex(window, limits, room, &mut lexed);
    let read = match outcome {
        Ok(Lexed::Complete(head_bytes)) => head_bytes,
        Ok(Lexed::Partial) | Err(_) => window.len(),
    };
    let stray = naming::has_bare_line_feed(window.get(..read).unwrap_or(window));
    if (outcome.is_err() || stray)
        && let Some(fault) = explain(window, limits)
    {
        return Err(fault);
    }
    if !matches!(outcome, Ok(Lexed::Complete(_))) {
        return if window.len() < limits.head_bytes_max {
            Ok(Parsed::Partial)
        } else {
            Err(naming::too_long(window, limits.head_bytes_max))
        };
    }
    understand(read, lexed)
}

fn lex<'h, 'b>(
    window: &'b [u8],
    limits: &HeadLimits,
    room: &'h mut FieldRoom<'b>,
    lexed: &mut httparse::Request<'h, 'b>,
) -> httparse::Result<usize> {
    let fields = room.0.split_at_mut(limits.header_fields_max.min(HEADER_FIELDS_CEILING)).0;
    lexed.parse_with_uninit_headers(window, fields)
}

/// Names the fault of a head that was refused: the first in the bytes. Returns `None` if more bytes must
/// come to tell which it is.
#[cold]
fn explain(window: &[u8], limits: &HeadLimits) -> Option<Fault> {
    let stray = naming::first_stray(window);
    let before = match stray {
        Some((at, _)) => window.get(..at).unwrap_or(window),
        None => window,
    };
    let mut room = FieldRoom::default();
    let outcome = lex(before, limits, &mut room, &mut httparse::Request::new(&mut []));
    let named = match outcome {
        Err(error) => naming::name_fault(error, before, limits.header_fields_max),
        Ok(_) if stray.is_none() => Some(Fault::BadRequestLine),
        Ok(_) => None,
    };
    named.or(stray.map(|(_, fault)| fault))
}

fn understand<'r, 'b: 'r>(
    head_bytes: usize,
    lexed: httparse::Request<'r, 'b>,
) -> Result<Parsed<'r>, Fault> {
    let method = lexed.method.ok_or(Fault::BadRequestLine)?;
    if method == "CONNECT" {
        // The target of CONNECT is an authority, and no message would follow.
        return Err(Fault::MethodUnknown);
    }
    let method = self::method(method);
    let version = if lexed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let target = Target::parse(lexed.path.ok_or(Fault::BadRequestLine)?, method)?;
    let Judged { host, framing, keep_alive, expects_continue } =
        framing::judge(version, lexed.headers, target.authority)?;
    let (path, query) = (target.path, target.query);
    let fields = lexed.headers;
    let request = Request {
        method,
        version,
        path,
        query,
        host,
        framing,
        keep_alive,
        expects_continue,
        fields,
    };
    Ok(Parsed::Complete(request, head_bytes))
}

/// Whether these bytes begin a request of the method `HEAD`, even if they are malformed further on.
#[must_use]
pub fn begins_head_request(bytes: &[u8]) -> bool {
    naming::after_empty_lines(bytes).starts_with(b"HEAD ")
}

fn method(token: &str) -> Method {
    match token {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

/// A request target taken apart (RFC 9112, section 3.2).
struct Target<'b> {
    authority: Option<&'b str>,
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> Target<'b> {
    fn parse(text: &'b str, method: Method) -> Result<Self, Fault> {
        // A fragment never belongs in a request: its client may mean another path than the one read here.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Fault::TargetMalformed);
        }
        if text == "*" && method == Method::Options {
            return Ok(Self { authority: None, path: text, query: None });
        }
        let (authority, rest) = match text.starts_with('/') {
            true => (None, text),
            false => split_absolute(text).ok_or(Fault::TargetMalformed)?,
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Ok(Self { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

fn split_absolute(text: &str) -> Option<(Option<&str>, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, rest) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    Some((Some(authority), rest))
}

#[cfg(test)]
mod tests;
