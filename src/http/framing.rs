//! The rules that keep a message from being understood in two ways.
//!
//! `head` calls this. `httparse` is lenient where it helps a client and leaves `Host`,
//! `Content-Length` and `Transfer-Encoding` to its caller; a relay behind a proxy must not be lenient, so
//! each rule is here, with a test of its own. (The two rules of a body, the chunk line and the
//! trailers, are the state machine in `chunked`; its tests stand beside the ones of this file.)
//! What must always hold: whatever is accepted has exactly one end.

use core::net::Ipv6Addr;

use httparse::{Error, Header};

use super::head::{Framing, Version};
use super::{Fault, HEADER_FIELDS_CEILING};

/// Longest `Host`: a DNS name has at most 253 bytes, and a port six.
const HOST_BYTES_MAX: usize = 255;

/// What the fields say about the message as a whole.
#[derive(Debug)]
pub(super) struct Judged<'b> {
    pub(super) host: &'b str,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

/// Judges the fields of a complete head.
pub(super) fn judge<'b>(
    version: Version,
    fields: &[Header<'b>],
    authority: Option<&'b str>,
) -> Result<Judged<'b>, Fault> {
    let mut found = Found::default();
    for field in fields {
        found.note(version, field)?;
    }
    let framing = match (found.length, found.codings) {
        (Some(_), Some(_)) => return Err(Fault::LengthAndChunked),
        (Some(length), None) => Framing::Length(length),
        (None, Some(codings)) => codings.judge()?,
        (None, None) => Framing::None,
    };
    let keep_alive = !found.close && (version == Version::Http11 || found.keep_alive);
    let host = effective_host(version, found.host, authority)?;
    Ok(Judged { host, framing, keep_alive, expects_continue: found.expects_continue })
}

#[derive(Default)]
struct Found<'b> {
    host: Option<&'b str>,
    length: Option<u64>,
    codings: Option<Codings>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'b> Found<'b> {
    fn note(&mut self, version: Version, field: &Header<'b>) -> Result<(), Fault> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("host") {
            if self.host.replace(host(field.value)?).is_some() {
                return Err(Fault::HostDoubled);
            }
        } else if is("content-length") {
            if self.length.replace(content_length(field.value)?).is_some() {
                return Err(Fault::ContentLengthDoubled);
            }
        } else if is("transfer-encoding") {
            self.note_coding(version, field.value)?;
        } else if is("connection") {
            self.note_connection(field.value);
        } else if is("expect") && version == Version::Http11 {
            if !field.value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Fault::ExpectationFailed);
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn note_coding(&mut self, version: Version, value: &[u8]) -> Result<(), Fault> {
        if version == Version::Http10 {
            return Err(Fault::TransferEncodingInHttp10);
        }
        let codings = self.codings.get_or_insert_default();
        value.split(|&byte| byte == b',').for_each(|coding| codings.note(coding.trim_ascii()));
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// The transfer codings of all fields, in order.
#[derive(Clone, Copy, Default)]
struct Codings {
    chunked: u32,
    others: u32,
    has_empty: bool,
    ends_chunked: bool,
}

impl Codings {
    fn note(&mut self, coding: &[u8]) {
        self.ends_chunked = coding.eq_ignore_ascii_case(b"chunked");
        self.has_empty |= coding.is_empty();
        let count = if self.ends_chunked { &mut self.chunked } else { &mut self.others };
        *count = count.saturating_add(1);
    }

    /// Without `chunked` at the end nobody knows where the body ends (RFC 9112, section 6.3). A coding
    /// in front of it is just not implemented here.
    fn judge(self) -> Result<Framing, Fault> {
        match self {
            Self { chunked: 2.., .. } => Err(Fault::TransferEncodingDoubled),
            Self { ends_chunked: false, .. } | Self { has_empty: true, .. } => {
                Err(Fault::ChunkedNotLast)
            }
            Self { others: 1.., .. } => Err(Fault::TransferEncodingUnknown),
            _ => Ok(Framing::Chunked),
        }
    }
}

/// One plain decimal number: no sign, no list, not empty. Leading zeros change nothing.
fn content_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::ContentLengthMalformed);
    }
    value
        .iter()
        .try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
        })
        .ok_or(Fault::ContentLengthOverflow)
}

/// An absolute target's authority stands for `Host`, and must not contradict it.
fn effective_host<'b>(
    version: Version,
    host_field: Option<&'b str>,
    authority: Option<&'b str>,
) -> Result<&'b str, Fault> {
    if host_field.is_none() && version == Version::Http11 {
        return Err(Fault::HostMissing);
    }
    match (authority, host_field) {
        (None, named) => Ok(named.unwrap_or("")),
        (Some(authority), Some(named)) if !authority.eq_ignore_ascii_case(named) => {
            Err(Fault::HostConflict)
        }
        (Some(authority), _) => host(authority.as_bytes()),
    }
}

/// A name, an IPv4 address or a bracketed IPv6 address, with an optional port.
///
/// Narrower than RFC 3986: a name here goes back out in `Location` and in a line that people paste
/// into a shell, and no real one holds `!$&'()*+,;=`.
///
/// # Errors
/// [`Fault::HostMalformed`].
pub fn host(value: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(value).map_err(|_| Fault::HostMalformed)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or(Fault::HostMalformed)?;
            address.parse::<Ipv6Addr>().map_err(|_| Fault::HostMalformed)?;
            (address, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let name_ok = text.starts_with('[') || is_reg_name(name.as_bytes());
    let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if name_ok && port_ok && text.len() <= HOST_BYTES_MAX {
        Ok(text)
    } else {
        Err(Fault::HostMalformed)
    }
}

fn is_reg_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        let fine = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(u8::is_ascii_hexdigit)),
            _ => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        if !fine {
            return false;
        }
    }
    !name.is_empty()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether any line of the head ends in a line feed alone, which `httparse` takes for a line end.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head)
        .any(|at| !head.get(..at).is_some_and(|before| before.ends_with(b"\r")))
}

/// The first byte that may stand nowhere in a head, and how much comes before the fault is certain
/// without it: a carriage return turns bare only with the byte behind it.
pub(super) fn first_stray(window: &[u8]) -> Option<(usize, Fault)> {
    let mut after_return = false;
    for (at, &byte) in window.iter().enumerate() {
        match (byte, after_return) {
            (b'\n', true) => {}
            (_, true) => return Some((at, Fault::BareCr)),
            (b'\n', false) => return Some((at, Fault::BareLf)),
            (0, false) => return Some((at, Fault::Nul)),
            _ => {}
        }
        after_return = byte == b'\r';
    }
    None
}

/// A head that does not end within its limit: the method or the target is to blame if there is nothing
/// else.
#[cold]
pub(super) fn too_long(window: &[u8], bytes_max: usize) -> Fault {
    let head = after_empty_lines(window);
    if memchr::memchr(b'\n', head).is_some() {
        return Fault::HeadTooLong { bytes_max };
    }
    let is_method = !head.is_empty() && head.iter().copied().all(is_token_byte);
    if is_method { Fault::MethodUnknown } else { Fault::TargetTooLong { bytes_max } }
}

/// Translates what `httparse` found wrong at the end of `before` (bytes without strays).
///
/// `None`: it is not certain yet, as more bytes may come.
pub(super) fn name_fault(error: Error, before: &[u8], fields_max: usize) -> Option<Fault> {
    Some(match error {
        Error::TooManyHeaders => {
            Fault::TooManyFields { fields_max: fields_max.min(HEADER_FIELDS_CEILING) }
        }
        Error::Version => return version_fault(after_empty_lines(before)),
        Error::HeaderName => field_name_fault(field_lines(before)),
        Error::HeaderValue => Fault::BadHeader,
        Error::Token | Error::NewLine | Error::Status => Fault::BadRequestLine,
    })
}

/// `HTTP/`, a digit, a dot and a digit is a version, which we do not speak: `505`. Anything else is no
/// request line. `None`: it may become a version.
fn version_fault(line: &[u8]) -> Option<Fault> {
    const FORM: &[u8] = b"HTTP/0.0";
    let version = line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    let is_fit = |(is, form): (&u8, &u8)| is == form || (*form == b'0' && is.is_ascii_digit());
    if !version.iter().zip(FORM).all(is_fit) {
        return Some(Fault::BadRequestLine);
    }
    Some(match version.get(FORM.len())? {
        b'\r' | b'\n' => Fault::VersionUnsupported,
        _ => Fault::BadRequestLine,
    })
}

fn field_name_fault(lines: &[u8]) -> Fault {
    for line in lines.split(|&byte| byte == b'\n') {
        let name_ends = line.iter().position(|&byte| !is_token_byte(byte));
        match name_ends.and_then(|at| Some((at, *line.get(at)?))) {
            Some((0, b' ' | b'\t')) => return Fault::ObsFold,
            Some((1.., b' ' | b'\t')) => return Fault::SpaceBeforeColon,
            Some((1.., b':')) | None => {}
            Some(_) => return Fault::BadHeader,
        }
    }
    Fault::BadHeader
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A field value's byte: visible, space, tab, or above ASCII (RFC 9110, section 5.5).
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// What comes after the request line.
pub(super) fn field_lines(head: &[u8]) -> &[u8] {
    let head = after_empty_lines(head);
    memchr::memchr(b'\n', head).and_then(|at| head.get(at + 1..)).unwrap_or_default()
}

/// Empty lines before a request are skipped (RFC 9112, section 2.2).
pub(super) fn after_empty_lines(mut head: &[u8]) -> &[u8] {
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    head
}

#[cfg(test)]
mod tests;
