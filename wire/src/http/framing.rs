//! The rules that keep a message from being understood in two ways.
//!
//! `head` calls this. `httparse` is lenient where it helps a client and leaves `Host`,
//! `Content-Length` and `Transfer-Encoding` to its caller. A relay behind a proxy must not be lenient, so
//! each rule is here, with a test of its own. (The two rules of a body, the chunk line and the
//! trailers, are the state machine in `chunked`; its tests stand beside the ones of this file.)
//! Invariant: each message that is accepted has exactly one end.

use httparse::Header;

use super::Fault;
use super::host::host;
use super::request::{Framing, Version};

/// The message as its fields describe it.
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

    /// Checks that `chunked` comes last: otherwise no reader knows where the body ends (RFC 9112, section
    /// 6.3). A coding in front of it is only not implemented.
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

/// Reads one plain decimal number: no sign, no list, not empty. Leading zeros change nothing.
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

#[cfg(test)]
mod tests;
