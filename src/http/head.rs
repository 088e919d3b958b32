//! The request head: `httparse` finds the words, `framing` decides whether they may stand.
//!
//! The worker calls [`parse`] on everything it has buffered, as bytes are added. Nothing is kept
//! between calls: a head that comes in pieces is read again, and the worker sees to it that this
//! stays linear (16 KiB read in one go cost about as much as the `recv` that brought a
//! byte). What must always hold: a head is either refused, incomplete, or understood in the one
//! way that any other reader must understand it, whatever pieces it came in.

use std::mem::MaybeUninit;

use httparse::{Header, Status as Lexed};

use super::Fault;
use super::framing::{self, Judged};

/// No configuration may allow more header fields than this: room for them is on the stack.
pub const HEADER_FIELDS_CEILING: usize = 128;

/// Room for the fields of a head: 4 KiB, which nobody has to fill before.
#[derive(Debug)]
pub struct FieldRoom<'b>([MaybeUninit<Header<'b>>; HEADER_FIELDS_CEILING]);

impl Default for FieldRoom<'_> {
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; HEADER_FIELDS_CEILING])
    }
}

/// How much head is read before it is refused.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes up to and with the empty line at the end; empty lines before the head count.
    pub head_bytes_max: usize,
    /// Field lines; more than [`HEADER_FIELDS_CEILING`] is taken as that.
    pub header_fields_max: usize,
}

/// The methods the routes tell apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    /// Any other token.
    Other,
}

/// The two versions spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// Where the body of a request ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// No body: neither `Content-Length` nor `Transfer-Encoding`.
    None,
    /// This many bytes, possibly zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A complete head.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    /// What is asked.
    pub method: Method,
    /// In which version.
    pub version: Version,
    /// The path, still percent-encoded, printable ASCII that starts with `/`; `*` for `OPTIONS *`.
    pub path: &'b str,
    /// What follows the first `?`, if there is one.
    pub query: Option<&'b str>,
    /// Name or address with optional port; empty only for HTTP/1.0 without `Host`.
    pub host: &'b str,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for a `100` before it sends the body.
    pub expects_continue: bool,
    fields: &'b [Header<'b>],
}

impl<'b> Request<'b> {
    /// What the query says of `name`, as it stands there: the first `name=value` between its `&`s.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&'b str> {
        let mut pairs = self.query?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The first field of this name, in any case, without the white space around its value.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        self.fields(name).next()
    }

    /// All fields of this name, in the order sent.
    pub fn fields<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        let of_name = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        of_name.map(|field| field.value.trim_ascii())
    }
}

/// What has come so far.
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
/// The first fault, as soon as it is certain, also before the head is complete; what the fields say
/// about the message is judged at the end. The fault does not depend on how the bytes were cut.
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
    let stray = framing::has_bare_line_feed(window.get(..read).unwrap_or(window));
    if (outcome.is_err() || stray)
        && let Some(fault) = explain(window, limits)
    {
        return Err(fault);
    }
    if !matches!(outcome, Ok(Lexed::Complete(_))) {
        return if window.len() < limits.head_bytes_max {
            Ok(Parsed::Partial)
        } else {
            Err(framing::too_long(window, limits.head_bytes_max))
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

/// Names the fault in a head that was refused: the first in the bytes. `None`: more bytes
/// must come to tell which it is.
#[cold]
fn explain(window: &[u8], limits: &HeadLimits) -> Option<Fault> {
    let stray = framing::first_stray(window);
    let before = match stray {
        Some((at, _)) => window.get(..at).unwrap_or(window),
        None => window,
    };
    let mut room = FieldRoom::default();
    let outcome = lex(before, limits, &mut room, &mut httparse::Request::new(&mut []));
    let named = match outcome {
        Err(error) => framing::name_fault(error, before, limits.header_fields_max),
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
        // Its target is an authority, and what would follow is no message.
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

/// Whether these bytes begin a request of the method `HEAD`, whatever is wrong with them further on.
#[must_use]
pub fn begins_head_request(bytes: &[u8]) -> bool {
    framing::after_empty_lines(bytes).starts_with(b"HEAD ")
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
        // A fragment never belongs in a request; who sends one may mean another path than we read.
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
