//! Test bodies that need no memory: a payload is a seed and a length, its bytes repeat a random block whose size is
//! a prime, so that bytes moved by any number of chunks, or taken from another payload, are noticed at their offset.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Block size of small payloads, bytes. Prime: no chunk size is a multiple of it.
const BLOCK_BYTES: usize = 65_521;
/// Block size of payloads above [`LARGE_BYTES`]: long slices, so that a test does not measure its own speed.
const LARGE_BLOCK_BYTES: usize = 1_048_573;
const LARGE_BYTES: u64 = 16 << 20;

/// A body of `len` bytes determined by its seed.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    block: Arc<[u8]>,
    len: u64,
}

impl Payload {
    pub(crate) fn new(seed: u64, len: u64) -> Self {
        let block_bytes = if len > LARGE_BYTES { LARGE_BLOCK_BYTES } else { BLOCK_BYTES };
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut block = Vec::with_capacity(block_bytes + 8);
        while block.len() < block_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        block.truncate(block_bytes);
        Self { block: block.into(), len }
    }

    /// A payload that repeats `mark`.
    pub(crate) fn of(mark: &[u8], len: u64) -> Self {
        Self { block: mark.repeat(LARGE_BLOCK_BYTES / mark.len()).into(), len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on, as far as they lie side by side; empty at the end.
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        let start = usize::try_from(offset % self.block.len() as u64).unwrap();
        let left = self.len.saturating_sub(offset);
        let slice = &self.block[start..];
        &slice[..slice.len().min(usize::try_from(left).unwrap_or(usize::MAX))]
    }

    /// The offset of the first byte of `bytes` that differs from this payload's byte there.
    pub(crate) fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let want = self.at(at);
            let take = want.len().min(bytes.len() - done);
            let got = &bytes[done..done + take];
            if take == 0 {
                return Some(at);
            }
            if got != &want[..take] {
                let within = got.iter().zip(want).position(|(a, b)| a != b).unwrap();
                return Some(at + within as u64);
            }
            done += take;
        }
        None
    }

    /// All of it in memory: for small payloads.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        self.write_to(&mut all).unwrap();
        all
    }

    pub(crate) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut offset = 0;
        while offset < self.len {
            let slice = self.at(offset);
            out.write_all(slice)?;
            offset += slice.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn write_file(&self, path: &Path) {
        self.write_to(&mut File::create(path).unwrap()).unwrap();
    }

    /// Panics unless the file holds exactly this payload.
    #[track_caller]
    pub(crate) fn assert_file(&self, path: &Path) {
        let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let n = file.read(&mut buffer).unwrap();
            if n == 0 {
                break;
            }
            assert_eq!(
                self.first_difference(offset, &buffer[..n]),
                None,
                "wrong byte in {}",
                path.display()
            );
            offset += n as u64;
        }
        assert_eq!(offset, self.len, "length of {}", path.display());
    }
}
