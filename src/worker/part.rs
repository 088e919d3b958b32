//! The part of a file that a request asks for or brings, and the identity of the file.
//!
//! The routes ask here before anything is taken. A request whose part is unclear is refused: a part never passes for
//! the whole.

use super::request::single;
use crate::api::{Answer, OfferedFile, RequestInfo};
use crate::http::{
    ByteRange, Fault, FileName, Framing, Method, Request, Status, Tail, byte_range, content_range,
    upload_offset,
};
use crate::relay::{Env, Offer};
use crate::session::{FileIdentity, FileTag, SessionKey};
use shm::Want;

/// Bytes of an `ETag` that a sender may give its file, quotes included.
const TAG_BYTES_MAX: usize = 256;
/// Base64 digits of a SHA-256 digest.
const SHA256_DIGITS: usize = 44;

/// A sender's description of its file, apart from the part.
pub(super) struct Described<'r> {
    /// The key of its session.
    pub(super) key: &'r SessionKey,
    /// The file is in a form.
    pub(super) is_form: bool,
    pub(super) name: Option<&'r FileName>,
}

/// The part that a receiver asks for.
pub(super) fn want(request: &Request<'_>) -> Want {
    let mut ranges = request.fields("range");
    let range = ranges.next().and_then(byte_range).filter(|_| ranges.next().is_none());
    let Some(ByteRange { first, last }) = range else { return Want::Whole };
    // The range ends at a byte that no file has.
    if last == Some(u64::MAX) {
        return Want::Whole;
    }
    let of = match request.field("if-range") {
        None => None,
        // A tag that is none of ours names another file.
        Some(tag) => match FileTag::parse(tag) {
            Some(tag) => Some(tag.to_word()),
            None => return Want::Whole,
        },
    };
    Want::Rest { from: first, last, of }
}

/// Refuses a receiver that asks for the rest of a message: it would append the next message to what it has.
pub(super) fn refuse_rest(request: &Request<'_>, info: &RequestInfo) -> Result<(), Answer> {
    match want(request) {
        Want::Rest { from: 1.., last: None, of: None } => {
            let text = "a message cannot be resumed: ask without Range";
            Err(Answer::error(Status::Conflict, text, info))
        }
        _ => Ok(()),
    }
}

/// Refuses a part of a message.
pub(super) fn refuse_part(request: &Request<'_>, info: &RequestInfo) -> Result<(), Answer> {
    match start(request, false, info)? {
        0 => Ok(()),
        _ => Err(Answer::bad_request("a message is sent whole, from byte 0", info)),
    }
}

/// The part that a sender of a file offers.
pub(super) fn offer(
    env: &Env,
    request: &Request<'_>,
    described: Described<'_>,
    info: &RequestInfo,
) -> Result<Offer, Answer> {
    let start = start(request, described.is_form, info)?;
    let length = match request.framing {
        Framing::Length(length) if !described.is_form => length,
        _ => return Ok(Offer { start, file: None }),
    };
    let bytes_max = env.config.limits.body_bytes_max;
    let total = start.checked_add(length).filter(|total| *total <= bytes_max);
    let total = total.ok_or_else(|| Answer::fault(Fault::BodyTooLarge { bytes_max }, info))?;
    let name = described.name.map(FileName::as_str);
    let identity = identity(request, info)?.unwrap_or(FileIdentity::Name(name));
    let tag = FileTag::of(&env.segment.secret(), described.key, total, identity);
    Ok(Offer { start, file: Some(OfferedFile { total, tag }) })
}

/// The offset of the body in the whole file.
fn start(request: &Request<'_>, is_form: bool, info: &RequestInfo) -> Result<u64, Answer> {
    let length = match request.framing {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    let range = match single(request, "content-range", info)? {
        None => None,
        Some(field) => {
            let tail = length.and_then(|length| content_range(field, length));
            Some(tail.ok_or_else(|| Answer::bad_request(RANGE_HELP, info))?)
        }
    };
    let offset = match single(request, "upload-offset", info)? {
        None => None,
        Some(field) => Some(upload_offset(field).ok_or_else(|| {
            Answer::bad_request("Upload-Offset: a number of bytes, of at most 15 digits", info)
        })?),
    };
    let start = match (range, offset) {
        (Some(Tail { start, .. }), Some(offset)) if start != offset => {
            let text = "Content-Range and Upload-Offset name two beginnings";
            return Err(Answer::bad_request(text, info));
        }
        // curl says the range of the rest of its file then, but sends the beginning (`-C S --data-binary @FILE`).
        (Some(Tail { start: 1.., .. }), _) if request.method == Method::Post => {
            let text = "a part of a file with its Content-Range is sent by PUT: curl -C S -T FILE";
            return Err(Answer::bad_request(text, info));
        }
        (Some(Tail { start, .. }), _) => start,
        (None, offset) => offset.unwrap_or(0),
    };
    if start > 0 && is_form {
        return Err(Answer::bad_request("a form is sent whole: send the file by PUT", info));
    }
    Ok(start)
}

/// The help for a user whose client wrote something else.
const RANGE_HELP: &str = "Content-Range: bytes S-(T-1)/T with Content-Length: T-S, the rest of a \
     file of T bytes up to its end (curl -C S -T FILE; not with -T - and not with -r)";

/// The identity that a sender gives its file.
fn identity<'r>(
    request: &Request<'r>,
    info: &RequestInfo,
) -> Result<Option<FileIdentity<'r>>, Answer> {
    for field in request.fields("repr-digest") {
        if let Some(digest) = sha256(field, info)? {
            return Ok(Some(FileIdentity::Sha256(digest)));
        }
    }
    match single(request, "etag", info)? {
        None => Ok(None),
        Some(tag) if is_strong_tag(tag) => Ok(Some(FileIdentity::Tag(tag))),
        // A weak tag does not tell two files apart.
        Some(tag) if tag.strip_prefix(b"W/").is_some_and(is_strong_tag) => Ok(None),
        Some(_) => Err(Answer::bad_request("ETag: a text in quotes, of at most 254 bytes", info)),
    }
}

/// A strong tag, as RFC 9110 has it (section 8.8.3).
fn is_strong_tag(tag: &[u8]) -> bool {
    let inner = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
    let is_fit = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
    tag.len() <= TAG_BYTES_MAX && inner.is_some_and(|inner| inner.iter().all(is_fit))
}

/// The SHA-256 in a `Repr-Digest` (RFC 9530), in base64.
fn sha256<'r>(field: &'r [u8], info: &RequestInfo) -> Result<Option<&'r [u8]>, Answer> {
    let mut members = field.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let Some(value) = members.find_map(|member| member.strip_prefix(b"sha-256=")) else {
        return Ok(None);
    };
    let digits = value.strip_prefix(b":").and_then(|value| value.strip_suffix(b":"));
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    match digits {
        Some(digits) if digits.len() == SHA256_DIGITS && digits.iter().all(is_digit) => {
            Ok(Some(digits))
        }
        _ => Err(Answer::bad_request("Repr-Digest: sha-256=:BASE64:", info)),
    }
}
