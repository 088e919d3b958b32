//! Transit: the line with which a client of Magic Wormhole asks its relay for the other client.
//!
//! The line is `please relay TOKEN` or `please relay TOKEN for side SIDE`, and a line feed. The worker
//! calls [`handshake`] on all it has read of a connection until the line is complete. Invariant: a byte
//! that no good line has there is refused as soon as it has come, and a token is in no `Debug`.

use core::fmt;

/// Bytes of the longest good line, far below the 1024 that the original relay allows. A caller that has so many is never
/// told to wait for more.
pub const LINE_BYTES_MAX: usize =
    OPENING.len() + size_of::<PairingToken>() + FOR_SIDE.len() + size_of::<Side>() + LINE_END.len();

/// The answer to both clients once they are paired; all that follows is theirs.
pub const OK: &[u8] = b"ok\n";

/// The answer to a client whose line is refused.
pub const BAD_HANDSHAKE: &[u8] = b"bad handshake\n";

/// The answer to a client that sends more than the line before it was told [`OK`].
pub const IMPATIENT: &[u8] = b"impatient\n";

const OPENING: &[u8] = b"please relay ";
const FOR_SIDE: &[u8] = b" for side ";
const LINE_END: &[u8] = b"\n";

/// The name that both clients of a pair bring, as hexadecimal text.
///
/// The text stays as it came. The original compares text, so tokens that differ in the case of a letter
/// are two tokens there, and here.
pub type PairingToken = [u8; 64];

/// The text that tells the connections of one client from those of the other.
pub type Side = [u8; 16];

/// A complete line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// The name of the pair. Both clients bring the same.
    pub token: PairingToken,
    /// The client's side; `None` if the line has none, as older clients write it.
    pub side: Option<Side>,
    /// Bytes of the line, with its line feed. A client that has sent more is impatient.
    pub bytes: usize,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.side.as_ref().and_then(|side| std::str::from_utf8(side).ok());
        f.debug_struct("Handshake")
            .field("side", &side)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The bytes do not begin such a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHandshake;

impl fmt::Display for BadHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a transit client must begin with `please relay`, a token and perhaps its side")
    }
}

impl std::error::Error for BadHandshake {}

/// The reason why there is no handshake yet.
enum Stop {
    Incomplete,
    Bad,
}

/// Reads the line at the front of `bytes`; `None` as long as it is not complete.
///
/// # Errors
/// [`BadHandshake`], as soon as no further bytes could make it a line.
pub fn handshake(bytes: &[u8]) -> Result<Option<Handshake>, BadHandshake> {
    match line(bytes) {
        Ok(handshake) => Ok(Some(handshake)),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Bad) => Err(BadHandshake),
    }
}

fn line(bytes: &[u8]) -> Result<Handshake, Stop> {
    let rest = after(bytes, OPENING)?;
    let (token, rest) = hexadecimal(rest)?;
    let (side, rest) = match rest.first() {
        Some(b' ') => {
            let (side, rest) = hexadecimal(after(rest, FOR_SIDE)?)?;
            (Some(side), rest)
        }
        _ => (None, rest),
    };
    let rest = after(rest, LINE_END)?;
    Ok(Handshake { token, side, bytes: bytes.len().saturating_sub(rest.len()) })
}

/// The bytes behind `expected`.
fn after<'b>(bytes: &'b [u8], expected: &[u8]) -> Result<&'b [u8], Stop> {
    match bytes.strip_prefix(expected) {
        Some(rest) => Ok(rest),
        None if expected.starts_with(bytes) => Err(Stop::Incomplete),
        None => Err(Stop::Bad),
    }
}

/// The next `N` digits, and the bytes behind them.
///
/// The original takes underscores and all letters as well. Its documents promise hexadecimal digits, and
/// its clients send small ones. To take more later breaks no client; to take less would.
fn hexadecimal<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Stop> {
    if !bytes.iter().take(N).all(u8::is_ascii_hexdigit) {
        return Err(Stop::Bad);
    }
    let (digits, rest) = bytes.split_first_chunk().ok_or(Stop::Incomplete)?;
    Ok((*digits, rest))
}

#[cfg(test)]
mod tests;
