//! The header: the file key, wrapped for each recipient, and a MAC under that file key.
//!
//! A receiver calls [`Header::parse`] on all it has read of a file until the header is complete, and [`Header::open`]
//! with its identity. Invariant: a parsed header borrows from the input, and a file key comes out only if the MAC of the
//! whole header is right.

use core::fmt;

use super::crypto::{FileKey, SECRET_BYTES, WRAPPED_BYTES, agreed_cipher, private_key, public_key};
use super::fault::HeaderFault;
use super::keys::{Identity, Recipient};
use super::stanza::{Lines, Stanza, Stop, decoded, encode};

/// Bytes of a header that [`Header::write`] has written.
pub const HEADER_BYTES: usize = 168;

/// The most bytes of a header. A caller that has so many is never told to wait for more.
pub const HEADER_BYTES_MAX: usize = 65_536;

/// The most stanzas of a header. Each stanza of the type X25519 costs its reader a key agreement.
pub const STANZAS_MAX: usize = 512;

const VERSION: &[u8] = b"age-encryption.org/v1\n";
const TYPE: &[u8] = b"X25519";
/// The beginning of the last line. The MAC covers these bytes and all before them.
const END: &[u8] = b"---";

/// A complete header. Invariant: its stanzas keep to the grammar.
#[derive(Clone, Copy)]
pub struct Header<'b> {
    stanzas: Lines<'b>,
    text: &'b [u8],
    mac: [u8; 32],
}

impl<'b> Header<'b> {
    /// Writes the header of a file for one recipient. The caller has drawn `ephemeral` for this file alone.
    ///
    /// # Errors
    /// [`HeaderFault::WeakKey`] or [`HeaderFault::Library`].
    pub fn write(
        recipient: &Recipient,
        file_key: &FileKey,
        ephemeral: &[u8; SECRET_BYTES],
    ) -> Result<Vec<u8>, HeaderFault> {
        let private = private_key(ephemeral)?;
        let share = public_key(&private)?;
        let cipher = agreed_cipher(&private, recipient.bytes(), &salt(&share, recipient))
            .ok_or(HeaderFault::WeakKey)?;
        let mut text = String::with_capacity(HEADER_BYTES);
        text.push_str("age-encryption.org/v1\n-> X25519 ");
        encode(&share, &mut text);
        text.push('\n');
        encode(&file_key.wrap(&cipher)?, &mut text);
        text.push_str("\n---");
        let mac = file_key.mac(text.as_bytes())?;
        text.push(' ');
        encode(&mac, &mut text);
        text.push('\n');
        Ok(text.into_bytes())
    }

    /// Reads the header at the front of `bytes`, and how many bytes it took; `None` as long as it is not complete.
    ///
    /// # Errors
    /// A [`HeaderFault`], as soon as a line shows it.
    pub fn parse(bytes: &'b [u8]) -> Result<Option<(Self, usize)>, HeaderFault> {
        match read(bytes) {
            Ok(found) => Ok(Some(found)),
            Err(Stop::Incomplete) => Ok(None),
            Err(Stop::Fault(fault)) => Err(fault),
        }
    }

    /// The file key, out of the first stanza that opens with `identity`.
    ///
    /// # Errors
    /// [`HeaderFault::NoMatch`] if the file is for others. [`HeaderFault::X25519`] or [`HeaderFault::WeakKey`] if a
    /// stanza before the right one is malformed, as the format demands. [`HeaderFault::Mac`] if the header was changed.
    pub fn open(&self, identity: &Identity) -> Result<FileKey, HeaderFault> {
        let mut lines = self.stanzas;
        while let Ok(Some(stanza)) = lines.stanza() {
            if let Some(file_key) = unwrapped(&stanza, identity)? {
                let is_right = file_key.is_mac(self.text, &self.mac)?;
                return if is_right { Ok(file_key) } else { Err(HeaderFault::Mac) };
            }
        }
        Err(HeaderFault::NoMatch)
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

fn read(bytes: &[u8]) -> Result<(Header<'_>, usize), Stop> {
    let mut lines = Lines::new(bytes, HEADER_BYTES_MAX);
    lines.expect(VERSION, HeaderFault::Version)?;
    let stanzas = lines;
    let mut count = 0_usize;
    while lines.stanza()?.is_some() {
        count = count.saturating_add(1);
        if count > STANZAS_MAX {
            return Err(HeaderFault::TooManyStanzas.into());
        }
    }
    lines.expect(END, HeaderFault::Line)?;
    let text_bytes = bytes.len().saturating_sub(lines.rest().len());
    let line = lines.line(HeaderFault::HeaderTooLong)?;
    let mac = line.strip_prefix(b" ").and_then(decoded).filter(|_| count > 0);
    let mac = mac.ok_or(HeaderFault::MacLine)?;
    let text = bytes.get(..text_bytes).unwrap_or_default();
    let taken = bytes.len().saturating_sub(lines.rest().len());
    Ok((Header { stanzas, text, mac }, taken))
}

/// The file key in a stanza; `None` if the stanza is for another recipient, or of another type.
fn unwrapped(stanza: &Stanza<'_>, identity: &Identity) -> Result<Option<FileKey>, HeaderFault> {
    let mut words = stanza.words();
    if words.next() != Some(TYPE) {
        return Ok(None);
    }
    let share = words.next().and_then(decoded::<32>).filter(|_| words.next().is_none());
    let wrapped = decoded::<WRAPPED_BYTES>(stanza.body());
    let (Some(share), Some(wrapped)) = (share, wrapped) else { return Err(HeaderFault::X25519) };
    let salt = salt(&share, &identity.recipient());
    let cipher = agreed_cipher(identity.private(), &share, &salt).ok_or(HeaderFault::WeakKey)?;
    Ok(FileKey::unwrap(&cipher, &wrapped))
}

/// The salt that binds a wrapping key to both public keys.
fn salt(share: &[u8; 32], recipient: &Recipient) -> [u8; 64] {
    let mut salt = [0; 64];
    salt.iter_mut().zip(share.iter().chain(recipient.bytes())).for_each(|(to, from)| *to = *from);
    salt
}

#[cfg(test)]
mod tests;
