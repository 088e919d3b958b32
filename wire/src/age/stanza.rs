//! Lines of a header: the grammar of stanzas, for any type.
//!
//! A stanza is a line `-> TYPE ARGUMENT...` and a body: base64 without padding, in lines of 64 characters and a shorter
//! last line, which may be empty. Invariant: lines are judged from the front, each once it is complete or too long, so no
//! outcome depends on how the bytes were cut.

use data_encoding::BASE64_NOPAD;

use super::fault::HeaderFault;

/// The most bytes of a stanza, all its lines together. The longest that are in use wrap a key for a post-quantum recipient,
/// and take less than 2 KiB.
pub const STANZA_BYTES_MAX: usize = 8192;

/// Bytes that a full line of a body stands for, in 64 characters.
const LINE_BYTES: usize = 48;

/// The reason why there is no header yet.
pub(super) enum Stop {
    Incomplete,
    Fault(HeaderFault),
}

impl From<HeaderFault> for Stop {
    fn from(fault: HeaderFault) -> Self {
        Self::Fault(fault)
    }
}

/// A wrapped file key, for a recipient of any type. Invariant: the grammar holds.
pub(super) struct Stanza<'b> {
    words: &'b [u8],
    body: &'b [u8],
}

impl<'b> Stanza<'b> {
    /// Type and arguments.
    pub(super) fn words(&self) -> impl Iterator<Item = &'b [u8]> {
        self.words.split(|&byte| byte == b' ')
    }

    /// The lines of the body, without the last line feed.
    pub(super) fn body(&self) -> &'b [u8] {
        self.body
    }
}

/// The bytes of a header that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Lines<'b> {
    rest: &'b [u8],
    /// Bytes that the header may still take.
    left: usize,
}

impl<'b> Lines<'b> {
    pub(super) fn new(bytes: &'b [u8], left: usize) -> Self {
        Self { rest: bytes, left }
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Takes `expected`, which has to come next.
    pub(super) fn expect(&mut self, expected: &[u8], fault: HeaderFault) -> Result<(), Stop> {
        let left = self.left.checked_sub(expected.len()).ok_or(HeaderFault::HeaderTooLong)?;
        if let Some(rest) = self.rest.strip_prefix(expected) {
            *self = Self { rest, left };
            Ok(())
        } else if expected.starts_with(self.rest) {
            Err(Stop::Incomplete)
        } else {
            Err(fault.into())
        }
    }

    /// Takes the next stanza; `None` if what comes next begins no stanza.
    pub(super) fn stanza(&mut self) -> Result<Option<Stanza<'b>>, Stop> {
        let mut lines = Self { left: self.left.min(STANZA_BYTES_MAX), ..*self };
        let fault = if self.left <= STANZA_BYTES_MAX {
            HeaderFault::HeaderTooLong
        } else {
            HeaderFault::StanzaTooLong
        };
        match lines.expect(b"-> ", HeaderFault::Line) {
            Err(Stop::Fault(_)) => return Ok(None),
            other => other?,
        }
        let words = lines.line(fault)?;
        let is_word = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        if !words.split(|&byte| byte == b' ').all(is_word) {
            return Err(HeaderFault::Line.into());
        }
        let body = lines.rest;
        while is_full(lines.line(fault)?)? {}
        let taken = self.rest.len().saturating_sub(lines.rest.len());
        let body_bytes = body.len().saturating_sub(lines.rest.len());
        let body = body.get(..body_bytes).and_then(|it| it.strip_suffix(b"\n"));
        *self = Self { rest: lines.rest, left: self.left.saturating_sub(taken) };
        Ok(Some(Stanza { words, body: body.unwrap_or_default() }))
    }

    /// Takes the next line, without its line feed; `fault` if no line feed comes in time.
    pub(super) fn line(&mut self, fault: HeaderFault) -> Result<&'b [u8], Stop> {
        let visible = self.rest.get(..self.left).unwrap_or(self.rest);
        let Some(end) = memchr::memchr(b'\n', visible) else {
            let is_whole = visible.len() == self.left;
            return Err(if is_whole { fault.into() } else { Stop::Incomplete });
        };
        let (line, rest) = self.rest.split_at_checked(end).ok_or(Stop::Incomplete)?;
        self.rest = rest.get(1..).unwrap_or_default();
        self.left = self.left.saturating_sub(end).saturating_sub(1);
        Ok(line)
    }
}

/// Whether a line of a body is full, so that another one follows.
fn is_full(line: &[u8]) -> Result<bool, HeaderFault> {
    let mut decoded = [0; LINE_BYTES];
    let bytes = BASE64_NOPAD.decode_len(line.len()).map_err(|_| HeaderFault::Body)?;
    let decoded = decoded.get_mut(..bytes).ok_or(HeaderFault::Body)?;
    BASE64_NOPAD.decode_mut(line, decoded).map_err(|_| HeaderFault::Body)?;
    Ok(bytes == LINE_BYTES)
}

/// The bytes that `text` says in base64; `None` if it is not the one text for so many bytes.
pub(super) fn decoded<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_long_enough = BASE64_NOPAD.decode_len(text.len()) == Ok(N);
    (is_long_enough && BASE64_NOPAD.decode_mut(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Writes the text of `bytes` in base64.
pub(super) fn encode(bytes: &[u8], out: &mut String) {
    BASE64_NOPAD.encode_append(bytes, out);
}
