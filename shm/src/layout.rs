//! Where everything lies in the segment, and how much of each there is.
//!
//! In this order: header (with the secret and the keys of TLS tickets), worker records, bell bitmaps, bitmaps of holdings,
//! session slots, directory, permits, guesses, bandwidth, tags and accounts of chunks and pipes, chunks. Every part begins
//! on a cache line, the chunks in the middle of a page: `docs/internals/copies.md` says why.

use crate::directory::WAYS;
use crate::doorbell::WORD_BITS;
use crate::fingerprint;
use crate::header::HEADER_BYTES;
use crate::ids::WORKER_RECORDS_MAX;
use crate::lane::LANE_CHUNKS_MAX;
use crate::record::WorkerRecord;
use crate::slot::Slot;
use std::fmt;
use std::ops::Range;

/// Sessions that one segment can have, at most: far fewer than a chunk's tag can name, and few enough for a short
/// summary of a bell.
pub const SESSIONS_MAX: u32 = 1 << 18;
/// Client connections that one segment can have permits for, at most.
pub const CONNECTIONS_MAX: u32 = 1 << 20;
/// Bytes of a chunk, at least: a page.
pub const CHUNK_BYTES_MIN: usize = 4096;
/// Pipes that one segment can have tags for, at most: each is two descriptors in every process.
pub const PIPES_MAX: u32 = 256;
/// Bytes of a chunk, at most: 20 bits of a descriptor.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

const LINE: usize = 128;
/// Seats for each connection and session, so that an address meets foreign words in at most an eighth of its own
/// seats.
const SEATS_EACH: usize = 8;
/// Words of the directory for each session: where every session has a name, a set is full for one name in 200,000.
const NAME_WORDS_EACH: usize = 4;
/// Words that guesses of unknown keys are counted in.
const GUESS_WORDS: usize = 4096;
/// Words that the reserved bandwidth of addresses is kept in.
const BANDWIDTH_WORDS: usize = 4096;
const PAGE: usize = 4096;
/// Where in a page chunks begin. The kernel's copies begin near the start of a page of its own, and some CPUs copy ten
/// times slower to a place that is up to 31 bytes behind the source within the page.
const CHUNKS_PAGE_OFFSET: usize = PAGE / 2;
/// Chunks and pipes have 22 bits of a descriptor.
const CHUNKS_BELOW: u32 = (1 << 22) - PIPES_MAX;

/// How much of everything a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Session slots, 1..=[`SESSIONS_MAX`].
    pub sessions: u32,
    /// Client connections open at once that there are permits for, 1..=[`CONNECTIONS_MAX`].
    pub connections: u32,
    /// Chunks, at least one.
    pub chunks: u32,
    /// Bytes in a chunk, a power of two.
    pub chunk_bytes: usize,
    /// Chunks a lane may hold, 1..=[`LANE_CHUNKS_MAX`].
    pub lane_chunks: usize,
    /// Pipes, at most [`PIPES_MAX`].
    pub pipes: u32,
}

/// Why a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// No sessions, or more than [`SESSIONS_MAX`].
    Sessions(u64),
    /// No connections, or more than [`CONNECTIONS_MAX`].
    Connections(u64),
    /// Not a power of two, or outside [`CHUNK_BYTES_MIN`]..=[`CHUNK_BYTES_MAX`].
    ChunkBytes(usize),
    /// Zero, or more than [`LANE_CHUNKS_MAX`].
    LaneChunks(usize),
    /// The segment has no room for one lane's chunks beside the sessions.
    TooSmall {
        /// Bytes the segment was to have.
        segment_bytes: u64,
        /// Bytes it needs at least.
        needed_bytes: u64,
    },
    /// More pipes than [`PIPES_MAX`].
    Pipes(u32),
    /// More chunks than a descriptor can name.
    TooLarge(u64),
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Sessions(n) => write!(f, "{n} sessions: 1 to {SESSIONS_MAX} are possible"),
            Self::Connections(n) => {
                write!(f, "{n} connections: 1 to {CONNECTIONS_MAX} are possible")
            }
            Self::ChunkBytes(n) => write!(
                f,
                "chunks of {n} bytes: a power of two from {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX} \
                 is possible"
            ),
            Self::LaneChunks(n) => {
                write!(f, "lanes of {n} chunks: 1 to {LANE_CHUNKS_MAX} are possible")
            }
            Self::TooSmall { segment_bytes, needed_bytes } => {
                write!(f, "a segment of {segment_bytes} bytes: {needed_bytes} are needed")
            }
            Self::Pipes(n) => write!(f, "{n} pipes: 0 to {PIPES_MAX} are possible"),
            Self::TooLarge(chunks) => write!(f, "{chunks} chunks are more than can be named"),
        }
    }
}

impl std::error::Error for GeometryError {}

/// What a segment is to hold beside as many chunks as fit.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Session slots. `None`: as many as a quarter of the segment holds.
    pub sessions: Option<u32>,
    /// Connections that have permits.
    pub connections: u32,
    /// Bytes in a chunk.
    pub chunk_bytes: usize,
    /// Chunks that one lane can hold at a time, at most.
    pub lane_chunks: usize,
    /// Pipes.
    pub pipes: u32,
}

impl Geometry {
    /// Fills a segment of `segment_bytes` with what `wanted` names and the permits for it, and the rest with chunks.
    pub fn fit(segment_bytes: u64, wanted: Wanted) -> Result<Self, GeometryError> {
        let Wanted { sessions, connections, chunk_bytes, lane_chunks, pipes } = wanted;
        let quarter = segment_bytes / 4 / size_of::<Slot>() as u64;
        let sessions =
            sessions.map_or_else(|| quarter.clamp(1, u64::from(SESSIONS_MAX)), u64::from);
        let sessions = u32::try_from(sessions).map_err(|_| GeometryError::Sessions(sessions))?;
        let least = Self { sessions, connections, chunks: 1, chunk_bytes, lane_chunks, pipes };
        let one = least.layout()?.total as u64;
        let chunk = chunk_bytes as u64;
        // A tag, an account and the rounding around them cost at most one page more for every 256 chunks.
        let per_chunk = chunk + 16;
        let spare = segment_bytes.saturating_sub(one).saturating_sub(PAGE as u64);
        let chunks = 1 + spare / per_chunk;
        if segment_bytes < one || chunks < lane_chunks as u64 {
            let needed_bytes = one + PAGE as u64 + (lane_chunks as u64 - 1) * per_chunk;
            return Err(GeometryError::TooSmall { segment_bytes, needed_bytes });
        }
        let chunks = u32::try_from(chunks)
            .ok()
            .filter(|n| *n < CHUNKS_BELOW)
            .ok_or(GeometryError::TooLarge(chunks))?;
        let geometry = Self { chunks, ..least };
        geometry.layout().map(|_| geometry)
    }

    pub(crate) fn layout(&self) -> Result<Layout, GeometryError> {
        if !(1..=SESSIONS_MAX).contains(&self.sessions) {
            return Err(GeometryError::Sessions(u64::from(self.sessions)));
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Err(GeometryError::Connections(u64::from(self.connections)));
        }
        let sizes = CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX;
        if !self.chunk_bytes.is_power_of_two() || !sizes.contains(&self.chunk_bytes) {
            return Err(GeometryError::ChunkBytes(self.chunk_bytes));
        }
        if !(1..=LANE_CHUNKS_MAX).contains(&self.lane_chunks) {
            return Err(GeometryError::LaneChunks(self.lane_chunks));
        }
        if !(1..CHUNKS_BELOW).contains(&self.chunks) {
            return Err(GeometryError::TooLarge(u64::from(self.chunks)));
        }
        if self.pipes > PIPES_MAX {
            return Err(GeometryError::Pipes(self.pipes));
        }
        Ok(Layout::of(self))
    }

    /// Words of the directory: whole sets, a power of two.
    fn name_words(&self) -> usize {
        (NAME_WORDS_EACH * self.sessions as usize).next_power_of_two().max(WAYS)
    }

    /// Words of the table of permits, a power of two.
    fn seats(&self) -> usize {
        let holders = self.connections as usize + self.sessions as usize;
        (SEATS_EACH * holders).next_power_of_two()
    }
}

/// Byte offsets of the parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) records: Range<usize>,
    pub(crate) bells: Range<usize>,
    /// Words of one bell's lower level and of its summary.
    pub(crate) bell_words: usize,
    pub(crate) summary_words: usize,
    pub(crate) holdings: Range<usize>,
    pub(crate) slots: Range<usize>,
    pub(crate) directory: Range<usize>,
    pub(crate) permits: Range<usize>,
    pub(crate) guesses: Range<usize>,
    pub(crate) bandwidth: Range<usize>,
    pub(crate) tags: Range<usize>,
    pub(crate) chunks: Range<usize>,
    pub(crate) total: usize,
    geometry: Geometry,
}

impl Layout {
    /// The sums cannot overflow: `Geometry::layout` bounds them, far below the range of `usize`.
    fn of(geometry: &Geometry) -> Self {
        let (sessions, chunks) = (geometry.sessions as usize, geometry.chunks as usize);
        let pipes = geometry.pipes as usize;
        let bell_words = sessions.div_ceil(WORD_BITS);
        let summary_words = bell_words.div_ceil(WORD_BITS);
        let bell_bytes = ((bell_words + summary_words) * 8).next_multiple_of(LINE);

        let part = |start: usize, bytes: usize| start..start + bytes;
        let records = part(HEADER_BYTES, WORKER_RECORDS_MAX * size_of::<WorkerRecord>());
        let bells = part(records.end.next_multiple_of(LINE), WORKER_RECORDS_MAX * bell_bytes);
        let holdings_bytes = (bell_words * 8).next_multiple_of(LINE);
        let holdings = part(bells.end.next_multiple_of(LINE), WORKER_RECORDS_MAX * holdings_bytes);
        let slots = part(holdings.end.next_multiple_of(LINE), sessions * size_of::<Slot>());
        let directory = part(slots.end.next_multiple_of(LINE), geometry.name_words() * 8);
        let permits = part(directory.end.next_multiple_of(LINE), geometry.seats() * 8);
        let guesses = part(permits.end.next_multiple_of(LINE), GUESS_WORDS * 8);
        let bandwidth = part(guesses.end.next_multiple_of(LINE), BANDWIDTH_WORDS * 8);
        let tags = part(bandwidth.end.next_multiple_of(LINE), 2 * (chunks + pipes) * 8);
        let chunks = part(
            tags.end.next_multiple_of(PAGE) + CHUNKS_PAGE_OFFSET,
            chunks * geometry.chunk_bytes,
        );
        let total = chunks.end;
        let geometry = *geometry;
        Self {
            records,
            bells,
            bell_words,
            summary_words,
            holdings,
            slots,
            directory,
            permits,
            guesses,
            bandwidth,
            tags,
            chunks,
            total,
            geometry,
        }
    }

    /// Byte offset of worker `index`'s bell.
    pub(crate) fn bell(&self, index: usize) -> usize {
        self.bells.start + index * (self.bells.len() / WORKER_RECORDS_MAX)
    }

    /// Byte offset of worker `index`'s bitmap of holdings, which is as long as the lower level of a bell.
    pub(crate) fn holdings(&self, index: usize) -> usize {
        self.holdings.start + index * (self.holdings.len() / WORKER_RECORDS_MAX)
    }

    /// A fingerprint of the layout: processes that disagree on it must not share a segment. The fingerprint covers
    /// where the parts lie and every field of every struct in them.
    pub(crate) fn fingerprint(&self) -> u64 {
        let parts = [
            self.records.start,
            self.bells.start,
            self.bell_words,
            self.summary_words,
            self.holdings.start,
            self.slots.start,
            self.directory.start,
            self.permits.start,
            self.guesses.start,
            self.bandwidth.start,
            self.tags.start,
            self.chunks.start,
            self.total,
            self.geometry.sessions as usize,
            self.geometry.connections as usize,
            self.geometry.chunks as usize,
            self.geometry.chunk_bytes,
            self.geometry.lane_chunks,
            self.geometry.pipes as usize,
        ];
        fingerprint::of(&parts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WANTED: Wanted = Wanted {
        sessions: None,
        connections: 8192,
        chunk_bytes: 256 << 10,
        lane_chunks: 8,
        pipes: 64,
    };

    #[test]
    fn a_segment_is_filled_and_not_overfilled() {
        for mib in [8u64, 16, 64, 1024] {
            let bytes = mib << 20;
            let geometry = Geometry::fit(bytes, WANTED).unwrap();
            let total = geometry.layout().unwrap().total as u64;
            assert!(total <= bytes, "{mib} MiB: {total} bytes");
            assert!(bytes - total < 2 * (256 << 10), "{mib} MiB: {} bytes unused", bytes - total);
        }
    }

    #[test]
    fn too_small_a_segment_says_what_it_needs() {
        let small = Wanted { sessions: Some(100), connections: 100, ..WANTED };
        let Err(GeometryError::TooSmall { needed_bytes, .. }) = Geometry::fit(1 << 20, small)
        else {
            panic!("1 MiB cannot hold 8 chunks of 256 KiB")
        };
        assert!(Geometry::fit(needed_bytes, small).is_ok());
    }

    #[test]
    fn records_leave_the_smallest_segment_to_chunks() {
        let bytes = 8u64 << 20;
        let geometry = Geometry::fit(bytes, Wanted { pipes: 16, ..WANTED }).unwrap();
        let layout = geometry.layout().unwrap();
        let records = (layout.records.len() + layout.bells.len()) as u64;
        assert!(records < bytes / 12, "{records} bytes of records and bells");
        assert!(geometry.chunks >= 16, "{} chunks", geometry.chunks);
    }
}
