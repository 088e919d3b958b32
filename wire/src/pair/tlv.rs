//! TLV: messages of type, length and value, with which programs send and receive a file over bare TCP.
//!
//! A message is `type u8 | length u32 | value`. All numbers are big-endian. The value has as many bytes as
//! the length says.
//!
//! | type | name | said by | value |
//! |---|---|---|---|
//! | `0x01` | `REGISTER_SENDER` | sender | empty |
//! | `0x02` | `REGISTER_RECEIVER` | receiver | the code: visible ASCII, 1 to 4096 bytes |
//! | `0x81` | `CODE` | relay | lifetime in seconds, `u32`; the code: visible ASCII, 1 to 4092 bytes |
//! | `0x82` | `WAITING` | relay | empty |
//! | `0x83` | `PAIRED` | relay | empty |
//! | `0x84` | `ERROR` | relay | status as in HTTP, `u16`; text: UTF-8, up to 4094 bytes |
//!
//! The highest bit of a type tells who says it. No HTTP request and no TLS record begins with a client's
//! type, so one port serves all three.
//!
//! The worker reads a [`Request`] and writes [`Reply`]s; a client does the reverse. Invariant: the header
//! alone decides whether a value is waited for, what is read borrows from the input, and all that is
//! written is read back as it was.

mod fault;
mod message_type;

use core::fmt;

pub use fault::Fault;
pub use message_type::MessageType;

/// Bytes of type and length.
pub const HEADER_BYTES: usize = 5;

/// The longest value of any message.
pub const VALUE_BYTES_MAX: usize = 4096;

/// The word that a sender gets from the relay and a receiver brings. Invariant: visible ASCII, and not
/// empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code<'b>(&'b str);

impl<'b> Code<'b> {
    /// Takes a text; `None` if it is empty, or has other bytes than visible ASCII.
    #[must_use]
    pub fn new(text: &'b str) -> Option<Self> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_visible && !text.is_empty()).then_some(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(self) -> &'b str {
        self.0
    }
}

/// Shows no character: with the code, anybody could take the file.
impl fmt::Debug for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// A message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'b> {
    /// A sender asks for a code.
    RegisterSender,
    /// A receiver asks for the sender that has this code.
    RegisterReceiver(Code<'b>),
}

/// A message of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// A sender's code, and how long it waits for a receiver.
    Code {
        /// Seconds from now on.
        lifetime_s: u32,
        /// The text to tell the receiver.
        code: Code<'b>,
    },
    /// The peer has not come yet.
    Waiting,
    /// The peer is there. All that follows is the peer's.
    Paired,
    /// The relay is about to close the connection.
    Error {
        /// A status as in HTTP. No number is refused.
        status: u16,
        /// The reason, for a person; possibly empty, and possibly with control characters.
        text: &'b str,
    },
}

impl<'b> Request<'b> {
    /// Reads the message at the front of `bytes`, and how many bytes it took; `None` as long as it is not
    /// complete.
    ///
    /// # Errors
    /// A [`Fault`], as soon as type, header or value show it.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<(Self, usize)>, Fault> {
        let Some((kind, value)) = message(bytes, true)? else { return Ok(None) };
        let request = match kind {
            MessageType::RegisterSender => Self::RegisterSender,
            MessageType::RegisterReceiver => Self::RegisterReceiver(code(kind, value)?),
            kind => return Err(Fault::WrongDirection { kind }),
        };
        Ok(Some((request, taken(value))))
    }

    /// Writes the message at the end of `out`.
    ///
    /// # Errors
    /// [`Fault::TooLong`]; then nothing is written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::RegisterSender => write(out, MessageType::RegisterSender, &[], ""),
            Self::RegisterReceiver(code) => {
                write(out, MessageType::RegisterReceiver, &[], code.as_str())
            }
        }
    }
}

impl<'b> Reply<'b> {
    /// Reads the message at the front of `bytes`, and how many bytes it took; `None` as long as it is not
    /// complete.
    ///
    /// # Errors
    /// A [`Fault`], as soon as type, header or value show it.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<(Self, usize)>, Fault> {
        let Some((kind, value)) = message(bytes, false)? else { return Ok(None) };
        let reply = match kind {
            MessageType::Code => {
                let (lifetime_s, text) = number(kind, value)?;
                Self::Code { lifetime_s: u32::from_be_bytes(lifetime_s), code: code(kind, text)? }
            }
            MessageType::Waiting => Self::Waiting,
            MessageType::Paired => Self::Paired,
            MessageType::Error => {
                let (status, text) = number(kind, value)?;
                Self::Error { status: u16::from_be_bytes(status), text: utf8(kind, text)? }
            }
            kind => return Err(Fault::WrongDirection { kind }),
        };
        Ok(Some((reply, taken(value))))
    }

    /// Writes the message at the end of `out`.
    ///
    /// # Errors
    /// [`Fault::TooLong`]; then nothing is written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Code { lifetime_s, code } => {
                write(out, MessageType::Code, &lifetime_s.to_be_bytes(), code.as_str())
            }
            Self::Waiting => write(out, MessageType::Waiting, &[], ""),
            Self::Paired => write(out, MessageType::Paired, &[], ""),
            Self::Error { status, text } => {
                write(out, MessageType::Error, &status.to_be_bytes(), text)
            }
        }
    }
}

/// The type and the value at the front of `bytes`, from a client or from the relay.
fn message(bytes: &[u8], from_client: bool) -> Result<Option<(MessageType, &[u8])>, Fault> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let kind = MessageType::of(first).ok_or(Fault::UnknownType { byte: first })?;
    if kind.is_request() != from_client {
        return Err(Fault::WrongDirection { kind });
    }
    let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let value_bytes = value_bytes(kind, u32::from_be_bytes(length))?;
    Ok(rest.get(..value_bytes).map(|value| (kind, value)))
}

/// The length of a value, if a message of this type may have it.
fn value_bytes(kind: MessageType, length: u32) -> Result<usize, Fault> {
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes > VALUE_BYTES_MAX {
        Err(Fault::TooLong { value_bytes: length })
    } else if !kind.value_bytes().contains(&bytes) {
        Err(Fault::WrongLength { kind, value_bytes: length })
    } else {
        Ok(bytes)
    }
}

/// The bytes of a message that has this value.
fn taken(value: &[u8]) -> usize {
    HEADER_BYTES.saturating_add(value.len())
}

/// The number at the front of a value, and the bytes behind it.
fn number<const N: usize>(kind: MessageType, value: &[u8]) -> Result<([u8; N], &[u8]), Fault> {
    let value_bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let (number, rest) =
        value.split_first_chunk().ok_or(Fault::WrongLength { kind, value_bytes })?;
    Ok((*number, rest))
}

fn code(kind: MessageType, bytes: &[u8]) -> Result<Code<'_>, Fault> {
    Code::new(utf8(kind, bytes)?).ok_or(Fault::NotText { kind })
}

fn utf8(kind: MessageType, bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::NotText { kind })
}

/// Writes a message whose value is a number and a text, or nothing.
fn write(out: &mut Vec<u8>, kind: MessageType, number: &[u8], text: &str) -> Result<(), Fault> {
    let length = number.len().saturating_add(text.len());
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    value_bytes(kind, length)?;
    out.push(kind.number());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(number);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
