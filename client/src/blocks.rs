//! The file on the line: an age file in blocks, each `length u32 | bytes`, and a length of 0 behind the last.
//!
//! The first block has the header and the nonce, each further one a sealed chunk. [`Sealing`] makes them of a source, and
//! [`Opening`] makes the file of them again. Invariant: a length from the line allocates no more than [`BLOCK_BYTES_MAX`].

use std::io::{self, Read};

use blake3::Hasher;
use wire::age::{
    CHUNK_BYTES, FILE_KEY_BYTES, FileKey, HEADER_BYTES, Header, Identity, NONCE_BYTES, Opener,
    SEALED_CHUNK_BYTES, SECRET_BYTES, Sealer, TAG_BYTES,
};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::offer::Sent;

/// Bytes of a block's length.
const LENGTH_BYTES: usize = 4;
/// The longest block.
const BLOCK_BYTES_MAX: usize = SEALED_CHUNK_BYTES;
/// What stands behind the last block.
pub(crate) const END: [u8; LENGTH_BYTES] = [0; LENGTH_BYTES];

/// A file that is about to be sealed, for an identity of its own.
#[derive(Debug)]
pub(crate) struct Sealing {
    identity: Identity,
    first: Vec<u8>,
    sealer: Sealer,
}

impl Sealing {
    /// Draws all secrets anew: two files never share one.
    pub(crate) fn draw() -> Result<Self, ClientError> {
        let identity =
            Identity::new(&*random::<SECRET_BYTES>()?).map_err(|_| ClientError::System)?;
        let file_key = FileKey::new(*random::<FILE_KEY_BYTES>()?);
        let nonce = random::<NONCE_BYTES>()?;
        let mut first =
            Header::write(&identity.recipient(), &file_key, &*random::<SECRET_BYTES>()?)
                .map_err(|_| ClientError::System)?;
        first.extend_from_slice(&*nonce);
        let sealer = Sealer::new(&file_key, &nonce).map_err(|_| ClientError::System)?;
        Ok(Self { identity, first, sealer })
    }

    /// The identity as text, for the receiver alone.
    pub(crate) fn identity(&self) -> Zeroizing<String> {
        Zeroizing::new(self.identity.to_string())
    }

    /// Seals all of `source`, a block at a time. `sink` returns whether it wants more.
    pub(crate) fn seal(
        mut self,
        source: &mut impl Read,
        mut sink: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<Sent, SealError> {
        let mut hasher = Hasher::new();
        let mut bytes = 0_u64;
        let mut block = begin(self.first.len());
        block.extend_from_slice(&self.first);
        let mut wants_more = sink(block);
        let mut chunk = read_chunk(source)?;
        while wants_more {
            // A chunk is the last if nothing stands behind it, so the next is read before this is sealed.
            let is_full = chunk.len() == LENGTH_BYTES + CHUNK_BYTES;
            let next = if is_full { read_chunk(source)? } else { begin(0) };
            let is_last = next.len() == LENGTH_BYTES;
            let text = chunk.get(LENGTH_BYTES..).unwrap_or_default();
            hasher.update(text);
            bytes = bytes.saturating_add(text.len() as u64);
            chunk.extend_from_slice(&[0; TAG_BYTES]);
            let sealed = chunk.len().saturating_sub(LENGTH_BYTES);
            set_length(&mut chunk, sealed);
            let room = chunk.get_mut(LENGTH_BYTES..).unwrap_or_default();
            self.sealer.seal(room, is_last).map_err(|_| SealError::System)?;
            wants_more = sink(chunk) && !is_last;
            chunk = next;
        }
        Ok(Sent { bytes, blake3: hasher.finalize().to_hex().to_string() })
    }
}

/// Why a source was not sealed.
#[derive(Debug)]
pub(crate) enum SealError {
    Source(io::Error),
    System,
}

impl From<io::Error> for SealError {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

/// A block with room for its length and a chunk.
fn begin(bytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(LENGTH_BYTES + SEALED_CHUNK_BYTES);
    block.extend_from_slice(&END);
    set_length(&mut block, bytes);
    block
}

fn set_length(block: &mut [u8], bytes: usize) {
    let length = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    block.iter_mut().zip(length).for_each(|(to, from)| *to = from);
}

/// A block whose text is the next chunk of `source`: full, unless it is the last.
fn read_chunk(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut block = begin(0);
    source.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut block)?;
    Ok(block)
}

/// Random bytes.
fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, ClientError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|_| ClientError::System)?;
    Ok(bytes)
}

/// Reads the next block. `None`: there are no more.
pub(crate) fn read_block(line: &mut impl Read) -> Result<Option<Vec<u8>>, ClientError> {
    let mut length = END;
    line.read_exact(&mut length).map_err(ClientError::line)?;
    let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if bytes > BLOCK_BYTES_MAX {
        return Err(ClientError::Forged(format!("a block of {bytes} bytes")));
    }
    let mut block = vec![0; bytes];
    line.read_exact(&mut block).map_err(ClientError::line)?;
    Ok((bytes > 0).then_some(block))
}

/// A file that comes, block by block.
#[derive(Debug)]
pub(crate) struct Opening {
    identity: Identity,
    opener: Option<Opener>,
    hasher: Hasher,
    bytes: u64,
    /// The length that was offered.
    bytes_max: u64,
    text: Vec<u8>,
}

impl Opening {
    /// A file that `identity` opens, and that has `offered` bytes if that is known.
    pub(crate) fn new(identity: &str, offered: Option<u64>) -> Result<Self, ClientError> {
        let identity = identity.parse().map_err(|it| forged(&it))?;
        Ok(Self {
            identity,
            opener: None,
            hasher: Hasher::new(),
            bytes: 0,
            bytes_max: offered.unwrap_or(u64::MAX),
            text: vec![0; CHUNK_BYTES],
        })
    }

    /// Opens the next block. Returns the bytes of the file in it.
    pub(crate) fn open(&mut self, block: &[u8]) -> Result<&[u8], ClientError> {
        let Some(opener) = &mut self.opener else {
            self.opener = Some(begin_opening(&self.identity, block)?);
            return Ok(&[]);
        };
        let text = opener.open(block, &mut self.text).map_err(|it| forged(&it))?;
        self.hasher.update(text);
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(ClientError::Forged("it is longer than offered".to_owned()));
        }
        Ok(text)
    }

    /// There are no more blocks. Returns what has come, if that is a whole file.
    pub(crate) fn finish(self) -> Result<Sent, ClientError> {
        match self.opener {
            Some(opener) => opener.finish().map_err(|it| forged(&it))?,
            None => return Err(ClientError::Forged("the file has no header".to_owned())),
        }
        Ok(Sent { bytes: self.bytes, blake3: self.hasher.finalize().to_hex().to_string() })
    }
}

/// Opens the header, and takes the nonce behind it.
fn begin_opening(identity: &Identity, first: &[u8]) -> Result<Opener, ClientError> {
    let header = first.get(..HEADER_BYTES).unwrap_or(first);
    let found = Header::parse(header).map_err(|it| forged(&it))?;
    let (Some((header, taken)), Some((_, nonce))) =
        (found, first.split_last_chunk::<NONCE_BYTES>())
    else {
        return Err(ClientError::Forged("the header is not whole".to_owned()));
    };
    if taken + NONCE_BYTES != first.len() {
        return Err(ClientError::Forged("the header is not alone in its block".to_owned()));
    }
    let file_key = header.open(identity).map_err(|it| forged(&it))?;
    Opener::new(&file_key, nonce).map_err(|it| forged(&it))
}

fn forged(fault: &impl std::error::Error) -> ClientError {
    ClientError::Forged(fault.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// Seals `text`: the identity, the blocks as they stand on the line, and what the sender says of them.
    fn sealed(text: &[u8]) -> (Zeroizing<String>, Vec<Vec<u8>>, Sent) {
        let sealing = Sealing::draw().unwrap();
        let identity = sealing.identity();
        let mut blocks = Vec::new();
        let sent = sealing.seal(&mut &*text, |block| {
            blocks.push(block);
            true
        });
        (identity, blocks, sent.unwrap())
    }

    fn opened(
        identity: &str,
        blocks: &[Vec<u8>],
        offered: u64,
    ) -> Result<(Vec<u8>, Sent), ClientError> {
        let line = [blocks.concat(), END.to_vec()].concat();
        let mut line = &*line;
        let mut opening = Opening::new(identity, Some(offered))?;
        let mut text = Vec::new();
        while let Some(block) = read_block(&mut line)? {
            text.extend_from_slice(opening.open(&block)?);
        }
        assert!(line.is_empty());
        Ok((text, opening.finish()?))
    }

    #[test]
    fn every_length_arrives_as_it_was() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_001]
        {
            let text: Vec<u8> = (0..=250).cycle().take(bytes).collect();
            let (identity, blocks, sent) = sealed(&text);
            assert_eq!(blocks.len(), 1 + bytes.div_ceil(CHUNK_BYTES).max(1), "{bytes}");
            let (found, has) = opened(&identity, &blocks, bytes as u64).unwrap();
            assert!(found == text && has == sent && sent.bytes == bytes as u64, "{bytes}");
            assert_eq!(sent.blake3, blake3::hash(&text).to_hex().as_str());
        }
    }

    #[test]
    fn blocks_that_are_dropped_repeated_swapped_or_changed_do_not_open() {
        let (identity, blocks, _) = sealed(&[7; 3 * CHUNK_BYTES + 5]);
        let refused = |blocks: &[Vec<u8>]| {
            let found = opened(&identity, blocks, u64::MAX);
            assert!(matches!(found, Err(ClientError::Forged(_))), "{found:?}");
        };
        for at in 0..blocks.len() {
            let mut without = blocks.clone();
            without.remove(at);
            refused(&without);
            let mut twice = blocks.clone();
            twice.insert(at, blocks[at].clone());
            refused(&twice);
            let mut changed = blocks.clone();
            *changed[at].last_mut().unwrap() ^= 1;
            refused(&changed);
        }
        let mut swapped = blocks.clone();
        swapped.swap(1, 2);
        refused(&swapped);
        refused(&[]);
        // Two files have nothing in common.
        let (other, _, _) = sealed(&[7; 3 * CHUNK_BYTES + 5]);
        assert!(opened(&other, &blocks, u64::MAX).is_err());
        let longer = opened(&identity, &blocks, 3 * CHUNK_BYTES as u64 + 4);
        assert!(matches!(longer, Err(ClientError::Forged(_))), "{longer:?}");
    }

    #[test]
    fn a_length_from_the_line_allocates_nothing() {
        let found = read_block(&mut &u32::MAX.to_be_bytes()[..]);
        assert!(matches!(found, Err(ClientError::Forged(_))), "{found:?}");
        assert!(matches!(read_block(&mut &[0, 0, 0, 9, 1][..]), Err(ClientError::Left)));
    }
}
