//! The two dialects, as a connection speaks them: what it reads first, and the words that it writes.

use super::seeking::Refused;
use crate::http::Status;
use crate::pair::{Dialect, tlv, transit};

/// What the client of a pair asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A transit client brings the name of its pair.
    Token { token: transit::PairingToken, side: Option<transit::Side> },
    /// A TLV client asks for a code.
    NewCode,
    /// A TLV client brings a code.
    Code(String),
}

/// Reads what the client asks for at the front of `inbox`, and how many bytes that took. `None`: not all has come.
pub(super) fn read(dialect: Dialect, inbox: &[u8]) -> Result<Option<(Asked, usize)>, String> {
    match dialect {
        Dialect::Transit => match transit::handshake(inbox) {
            Ok(Some(it)) => Ok(Some((Asked::Token { token: it.token, side: it.side }, it.bytes))),
            Ok(None) => Ok(None),
            Err(bad) => Err(bad.to_string()),
        },
        Dialect::Tlv => match tlv::Request::parse(inbox) {
            Ok(Some((tlv::Request::RegisterSender, bytes))) => Ok(Some((Asked::NewCode, bytes))),
            Ok(Some((tlv::Request::RegisterReceiver(code), bytes))) => {
                Ok(Some((Asked::Code(code.as_str().to_owned()), bytes)))
            }
            Ok(None) => Ok(None),
            Err(fault) => Err(fault.to_string()),
        },
    }
}

/// The name of the dialect, as the access log writes it.
pub(super) fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Transit => "transit",
        Dialect::Tlv => "tlv",
    }
}

/// Tells a sender its code.
pub(super) fn write_code(out: &mut Vec<u8>, lifetime_s: u32, code: &str) {
    if let Some(code) = tlv::Code::new(code) {
        write(out, &tlv::Reply::Code { lifetime_s, code });
    }
}

/// Tells a client that its peer is there.
pub(super) fn write_paired(dialect: Dialect, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Transit => out.extend_from_slice(transit::OK),
        Dialect::Tlv => write(out, &tlv::Reply::Paired),
    }
}

/// Tells a client that it goes on waiting, where its dialect has a word for that.
pub(super) fn write_waiting(dialect: Dialect, out: &mut Vec<u8>) {
    if dialect == Dialect::Tlv {
        write(out, &tlv::Reply::Waiting);
    }
}

/// Tells a client why its connection ends. Transit has two such lines of its own; for other reasons the client gets a
/// line that a person can read.
pub(super) fn write_refusal(dialect: Dialect, out: &mut Vec<u8>, why: &Why<'_>) {
    match (dialect, why) {
        (Dialect::Transit, Why::Malformed(_)) => out.extend_from_slice(transit::BAD_HANDSHAKE),
        (Dialect::Transit, Why::Impatient) => out.extend_from_slice(transit::IMPATIENT),
        (Dialect::Transit, Why::Refused(Refused { text, .. })) => {
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
        }
        (Dialect::Tlv, why) => {
            let text = match why {
                Why::Malformed(text) => text,
                Why::Impatient => "no byte may come before PAIRED",
                Why::Refused(Refused { text, .. }) => text,
            };
            write(out, &tlv::Reply::Error { status: why.status().code(), text });
        }
    }
}

/// Why the relay ends a connection before it is paired.
#[derive(Debug)]
pub(super) enum Why<'t> {
    /// The client's first bytes say nothing.
    Malformed(&'t str),
    /// The client sent more before it was told that its peer is there.
    Impatient,
    /// The relay has no place for it.
    Refused(Refused),
}

impl Why<'_> {
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Malformed(_) | Self::Impatient => Status::BadRequest,
            Self::Refused(Refused { status, .. }) => *status,
        }
    }
}

fn write(out: &mut Vec<u8>, reply: &tlv::Reply<'_>) {
    // Only a text or a code that is too long is refused, and the relay has none.
    let _ = reply.encode(out);
}
