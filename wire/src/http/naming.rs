//! The names of faults in a head: which one it is when `httparse` refuses, and what `httparse` lets pass.
//!
//! `head` calls this once a head is refused, and for bare line feeds before. Invariant: the fault is the
//! first in the bytes, and does not depend on how they were cut.

use httparse::Error;

use super::Fault;
use super::grammar::is_token_byte;
use super::request::HEADER_FIELDS_CEILING;

/// Whether a line of the head ends in a line feed alone, which `httparse` takes for a line end.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head)
        .any(|at| !head.get(..at).is_some_and(|before| before.ends_with(b"\r")))
}

/// Finds the first byte that may stand nowhere in a head. Returns how many bytes come before the byte that
/// makes the fault certain, and the fault: a carriage return is bare only because of the byte after it.
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

/// Names the fault of a head that does not end within its limit: the method or the target is to blame if
/// there is nothing else.
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

/// Judges the third word of a request line. `HTTP/`, a digit, a dot and a digit is a version that the
/// relay does not speak: `505`. Anything else is no request line. Returns `None` while it may still become
/// a version.
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

/// The bytes after the request line.
pub(super) fn field_lines(head: &[u8]) -> &[u8] {
    let head = after_empty_lines(head);
    memchr::memchr(b'\n', head).and_then(|at| head.get(at + 1..)).unwrap_or_default()
}

/// Skips the empty lines before a request (RFC 9112, section 2.2).
pub(super) fn after_empty_lines(mut head: &[u8]) -> &[u8] {
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    head
}
