//! The segment: one sealed memfd, mapped before the fork. No other module turns its bytes into words and chunks.
//!
//! The kernel allocates all of it at creation, so that a full memory is an error at the start and never a SIGBUS
//! later. Seals keep it from shrinking and growing.

use crate::account::BOARD_WORDS;
use crate::bandwidth::Bandwidth;
use crate::directory::Directory;
use crate::doorbell::Doorbell;
use crate::ends::{Published, Reserved};
use crate::guesses::Guesses;
use crate::header::{
    BOARD_AT, HEADER_BYTES, HEADER_WORDS, MAGIC, REQUESTS_AT, SECRET_AT, SECRET_BYTES,
    TICKET_KEYS_AT,
};
use crate::holdings::Holdings;
use crate::ids::WORKER_RECORDS_MAX;
use crate::layout::{Geometry, GeometryError, Layout};
use crate::permit::Permits;
use crate::pool::{Buffer, Pool, PoolWords};
use crate::record::WorkerRecord;
use crate::shared::{Parts, Shared};
use crate::slot::Slot;
use crate::ticket_keys::TicketKeys;
use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

const SEALS: SealFlag =
    SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Why a segment could not be made.
#[derive(Debug)]
pub enum CreateError {
    /// The geometry is impossible.
    Geometry(GeometryError),
    /// The machine lacks the memory.
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
        /// The kernel's error.
        errno: Errno,
    },
    /// The kernel refused something else.
    Os(&'static str, std::io::Error),
}

/// Why an existing segment was not accepted.
#[derive(Debug)]
pub enum AttachError {
    /// The file is not a segment of this format.
    Format {
        /// The magic number that was found.
        found: u64,
    },
    /// The header describes an impossible geometry.
    Geometry(GeometryError),
    /// The parts lie elsewhere than this program puts them.
    Layout {
        /// The fingerprint that was found.
        found: u64,
        /// The fingerprint of this program.
        ours: u64,
    },
    /// The file has another size than its header says.
    Size {
        /// Bytes in the file.
        found: u64,
        /// Bytes by the header.
        expected: u64,
    },
    /// Another process could shrink the file under our feet.
    Unsealed,
    /// The kernel refused something.
    Os(&'static str, std::io::Error),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry(error) => error.fmt(f),
            Self::Memory { bytes, errno } => {
                write!(f, "no memory for a segment of {bytes} bytes: {}", errno.desc())
            }
            Self::Os(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { found } => write!(f, "not a segment of this format: {found:#018x}"),
            Self::Geometry(error) => error.fmt(f),
            Self::Layout { found, ours } => {
                write!(f, "segment laid out as {found:#018x}, this program's is {ours:#018x}")
            }
            Self::Size { found, expected } => {
                write!(f, "segment of {found} bytes, its header says {expected}")
            }
            Self::Unsealed => f.write_str("segment is not sealed against shrinking"),
            Self::Os(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for CreateError {}
impl std::error::Error for AttachError {}

/// A mapped segment.
#[derive(Debug)]
pub struct Segment {
    // Declared before the mapping that these fields point into, so that they are dropped first.
    shared: Shared<'static>,
    directory: Directory<'static>,
    permits: Permits<'static>,
    guesses: Guesses<'static>,
    bandwidth: Bandwidth<'static>,
    chunks: *mut u8,
    geometry: Geometry,
    map: MmapRaw,
    fd: OwnedFd,
}

// SAFETY: the pointer leads into the mapping, which lives as long as the segment. All words behind it are atomics,
// and chunk bytes are reached only through `Reserved` (exclusive) and `Published`.
unsafe impl Send for Segment {}
// SAFETY: `&Segment` gives access to atomics alone, and to chunk bytes only through `Reserved` (exclusive) and
// `Published`.
unsafe impl Sync for Segment {}

impl Segment {
    /// Makes a segment: allocated, sealed, mapped, every slot and chunk free.
    pub fn create(geometry: &Geometry) -> Result<Self, CreateError> {
        let layout = geometry.layout().map_err(CreateError::Geometry)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let os = |what| move |errno: Errno| CreateError::Os(what, errno.into());
        let fd = memfd_create("idontstore", flags).map_err(os("memfd_create"))?;
        let bytes = layout.total;
        if available_bytes().is_some_and(|available| bytes as u64 > available) {
            // The kernel would not refuse so much memory, but kill processes.
            return Err(CreateError::Memory { bytes, errno: Errno::ENOMEM });
        }
        let length = i64::try_from(bytes)
            .map_err(|_| CreateError::Memory { bytes, errno: Errno::EOVERFLOW })?;
        // A signal that is handled meanwhile undoes the allocation, so try again.
        while let Err(errno) = fallocate(&fd, FallocateFlags::empty(), 0, length) {
            if errno != Errno::EINTR {
                return Err(CreateError::Memory { bytes, errno });
            }
        }
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS)).map_err(os("sealing the segment"))?;
        let segment = Self::map(fd, geometry, &layout)
            .map_err(|error| CreateError::Os("mapping the segment", error))?;
        segment.shared.pool().clear();
        let words = Self::header_of(geometry, &layout);
        segment.header().iter().zip(words).for_each(|(to, from)| to.store(from, Ordering::Release));
        Ok(segment)
    }

    /// Maps a segment that another process made. The caller looks on, or takes over.
    pub fn attach(fd: OwnedFd) -> Result<Self, AttachError> {
        let os = |what| move |errno: Errno| AttachError::Os(what, errno.into());
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(os("reading the seals"))?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(AttachError::Unsealed);
        }
        let size = fstat(&fd).map_err(os("reading the segment's size"))?.st_size;
        let size = u64::try_from(size).unwrap_or(0);
        if size < HEADER_BYTES as u64 {
            return Err(AttachError::Size { found: size, expected: HEADER_BYTES as u64 });
        }
        let map_error = |error| AttachError::Os("mapping the segment", error);
        let head = MmapOptions::new().len(HEADER_BYTES).map_raw(&fd).map_err(map_error)?;
        let geometry = Self::read_header(&head)?;
        let layout = geometry.layout().map_err(AttachError::Geometry)?;
        let expected = layout.total as u64;
        if size != expected {
            return Err(AttachError::Size { found: size, expected });
        }
        Self::map(fd, &geometry, &layout).map_err(map_error)
    }

    fn header_of(geometry: &Geometry, layout: &Layout) -> [u64; HEADER_WORDS] {
        [
            layout.fingerprint(),
            u64::from(geometry.sessions),
            u64::from(geometry.connections),
            u64::from(geometry.chunks),
            geometry.chunk_bytes as u64,
            geometry.lane_chunks as u64,
            u64::from(geometry.pipes),
            MAGIC,
        ]
    }

    fn read_header(head: &MmapRaw) -> Result<Geometry, AttachError> {
        // SAFETY: the map is page-aligned and `HEADER_BYTES` long, more than the words read.
        let words: &[AtomicU64] = unsafe { words(head.as_mut_ptr(), HEADER_WORDS) };
        let mut read = [0; HEADER_WORDS];
        read.iter_mut().zip(words).for_each(|(to, from)| *to = from.load(Ordering::Acquire));
        let [found, sessions, connections, chunks, chunk_bytes, lane_chunks, pipes, magic] = read;
        if magic != MAGIC {
            return Err(AttachError::Format { found: magic });
        }
        // A number that does not fit becomes a number that no geometry allows.
        let geometry = Geometry {
            sessions: u32::try_from(sessions).unwrap_or(0),
            connections: u32::try_from(connections).unwrap_or(0),
            chunks: u32::try_from(chunks).unwrap_or(0),
            chunk_bytes: usize::try_from(chunk_bytes).unwrap_or(0),
            lane_chunks: usize::try_from(lane_chunks).unwrap_or(0),
            pipes: u32::try_from(pipes).unwrap_or(u32::MAX),
        };
        let ours = geometry.layout().map_err(AttachError::Geometry)?.fingerprint();
        if found == ours { Ok(geometry) } else { Err(AttachError::Layout { found, ours }) }
    }

    fn map(fd: OwnedFd, geometry: &Geometry, layout: &Layout) -> std::io::Result<Self> {
        let map = MmapOptions::new().len(layout.total).populate().map_raw(&fd)?;
        // Keeps what strangers send out of core dumps. A kernel that cannot promise it is no reason to stop.
        let _ = map.advise(Advice::DontDump);
        let base = map.as_mut_ptr();
        // SAFETY: `layout` was computed for this geometry and the map is `layout.total` long, so
        // every part lies inside; offsets are multiples of the parts' alignment and the map is
        // page-aligned; zeroed memory is a valid value of every part, as all are atomics; the
        // map outlives `shared`, which never leaves the segment except by a shorter borrow.
        let shared = unsafe { Self::borrow(base, geometry, layout) };
        // SAFETY: the ranges lie inside the map and on whole words, which are atomics, and the map outlives
        // the tables, which never leave the segment except by a shorter borrow.
        let table = |at: &Range<usize>| unsafe { words(base.add(at.start), at.len() / 8) };
        let directory = Directory::new(table(&layout.directory));
        let permits = Permits::new(table(&layout.permits));
        let guesses = Guesses::new(table(&layout.guesses));
        let bandwidth = Bandwidth::new(table(&layout.bandwidth));
        // SAFETY: the offset lies inside the map.
        let chunks = unsafe { base.add(layout.chunks.start) };
        Ok(Self {
            shared,
            directory,
            permits,
            guesses,
            bandwidth,
            chunks,
            geometry: *geometry,
            map,
            fd,
        })
    }

    /// # Safety
    /// `base` must point to a live mapping of `layout.total` bytes, page-aligned, whose bytes are
    /// only ever accessed as the parts that `layout` names.
    unsafe fn borrow(base: *mut u8, geometry: &Geometry, layout: &Layout) -> Shared<'static> {
        // SAFETY: the offsets come from `layout`, so they lie inside the mapping.
        let at = |offset: usize| unsafe { base.add(offset) };
        // SAFETY: the offset lies inside the mapping, and sizes and alignments are those that the layout was made
        // with.
        let records = unsafe {
            std::slice::from_raw_parts(
                at(layout.records.start).cast::<WorkerRecord>(),
                WORKER_RECORDS_MAX,
            )
        };
        // SAFETY: the layout has room for all slots at this offset, aligned as a `Slot`.
        let slots = unsafe {
            std::slice::from_raw_parts(
                at(layout.slots.start).cast::<Slot>(),
                geometry.sessions as usize,
            )
        };
        // SAFETY: the range lies inside the mapping, on whole words.
        let tags = unsafe { words(at(layout.tags.start), layout.tags.len() / 8) };
        let (tags, accounts) = tags.split_at(tags.len() / 2);
        let (chunks, pipes) = tags.split_at(geometry.chunks as usize);
        // SAFETY: the word lies in the header.
        let requests = unsafe { &*at(8 * REQUESTS_AT).cast::<AtomicU64>() };
        // SAFETY: the words lie in the header.
        let board = unsafe { words(at(8 * BOARD_AT), BOARD_WORDS) };
        let bells = records.iter().enumerate().map(|(index, record)| {
            let bell = layout.bell(index);
            // SAFETY: each bell has room for its words and, after them, its summary.
            let sessions = unsafe { words(at(bell), layout.bell_words) };
            // SAFETY: the summary lies behind the bell's words, in the room of the same bell.
            let summary = unsafe { words(at(bell + 8 * layout.bell_words), layout.summary_words) };
            Doorbell::new(summary, sessions, &record.parked)
        });
        let holdings = (0..WORKER_RECORDS_MAX).map(|index| {
            // SAFETY: each bitmap has room for its words.
            unsafe { words(at(layout.holdings(index)), layout.bell_words) }
        });
        let holdings = Holdings::new(holdings.collect());
        let parts = Parts {
            slots,
            pool: Pool::new(PoolWords { chunks, pipes, accounts, requests, board }),
            records,
            bells: bells.collect(),
            lane_chunks: geometry.lane_chunks,
            chunk_bytes: geometry.chunk_bytes,
        };
        Shared::new(parts).noting(holdings)
    }

    fn header(&self) -> &[AtomicU64] {
        // SAFETY: the map begins with `HEADER_BYTES` of header, all of it words.
        unsafe { words(self.map.as_mut_ptr(), HEADER_BYTES / 8) }
    }

    /// The words that keep the secret.
    fn secret_words(&self) -> &[AtomicU64] {
        let end = SECRET_AT + SECRET_BYTES / 8;
        self.header().get(SECRET_AT..end).unwrap_or_default()
    }

    /// Keeps a secret that all processes which map the segment share. The creator calls this before another process
    /// maps it.
    pub fn keep_secret(&self, secret: &[u8; SECRET_BYTES]) {
        for (word, bytes) in self.secret_words().iter().zip(secret.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Release);
        }
    }

    /// The secret; zeroes if none was kept.
    #[must_use]
    pub fn secret(&self) -> [u8; SECRET_BYTES] {
        let mut secret = [0; SECRET_BYTES];
        for (word, bytes) in self.secret_words().iter().zip(secret.as_chunks_mut::<8>().0) {
            *bytes = word.load(Ordering::Acquire).to_le_bytes();
        }
        secret
    }

    /// The keys of TLS session tickets.
    #[must_use]
    pub fn ticket_keys(&self) -> TicketKeys<'_> {
        let end = TICKET_KEYS_AT + TicketKeys::WORDS;
        TicketKeys::new(self.header().get(TICKET_KEYS_AT..end).unwrap_or_default())
    }

    /// The directory, which finds sessions by their names.
    #[must_use]
    pub fn directory(&self) -> &Directory<'_> {
        &self.directory
    }

    /// The permits, which limit how much each address may have at once.
    #[must_use]
    pub fn permits(&self) -> &Permits<'_> {
        &self.permits
    }

    /// The words that count each address's guesses.
    #[must_use]
    pub fn guesses(&self) -> &Guesses<'_> {
        &self.guesses
    }

    /// The words that pace each address's bandwidth.
    #[must_use]
    pub fn bandwidth(&self) -> &Bandwidth<'_> {
        &self.bandwidth
    }

    /// The segment's words.
    #[must_use]
    pub fn shared(&self) -> &Shared<'_> {
        &self.shared
    }

    /// The geometry that the segment was made with.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes in the segment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// A segment is never empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The segment's memfd.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Locks the segment into memory; an error if the process may not lock so much.
    pub fn lock(&self) -> std::io::Result<()> {
        self.map.lock()
    }

    /// The bytes of the chunk to fill; empty for a pipe.
    pub fn bytes_mut<'f>(&'f self, reserved: &'f mut Reserved) -> &'f mut [u8] {
        let (start, bytes) = self.span(reserved.buffer());
        // SAFETY: `span` lies inside the mapping, which the caller keeps borrowed. A `Reserved` is the only one for
        // its chunk, in all processes, from the reservation (the tag was taken by CAS, or AckRecv gave the chunk
        // back) until it is published: no other process reads or writes the chunk. A process that breaks the protocol
        // can change the bytes under us. The readers of the bytes bear that: bounds never depend on a byte that is
        // read twice.
        unsafe { std::slice::from_raw_parts_mut(self.chunks.add(start), bytes) }
    }

    /// The bytes of a published piece; empty for a pipe.
    #[must_use]
    pub fn bytes<'p>(&'p self, piece: &'p Published<'_>) -> &'p [u8] {
        let (start, chunk_bytes) = self.span(piece.buffer());
        let first = piece.start().min(chunk_bytes);
        let bytes = piece.len().min(chunk_bytes - first);
        // SAFETY: the range is clamped to a chunk inside the mapping. The piece was published, and only we can set
        // its AckRecv, which ends the borrow: until then no process writes it. A process that breaks the protocol can
        // change the bytes under us. The bytes decide nothing here, as they are only handed to the kernel.
        unsafe { std::slice::from_raw_parts(self.chunks.add(start + first), bytes) }
    }

    /// Where a chunk begins, and its length; both zero for a pipe, and for a chunk that does not exist.
    fn span(&self, buffer: Buffer) -> (usize, usize) {
        let bytes = self.geometry.chunk_bytes;
        match buffer {
            Buffer::Chunk(index) if index < self.geometry.chunks as usize => (index * bytes, bytes),
            _ => (0, 0),
        }
    }
}

/// Memory that can be had without swapping, by the kernel's estimate (proc(5), `MemAvailable`).
fn available_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// # Safety
/// `at` must be aligned to 8 and followed by `count` words that live for `'a` and are only ever
/// accessed as atomics.
unsafe fn words<'a>(at: *mut u8, count: usize) -> &'a [AtomicU64] {
    // SAFETY: the caller promises it.
    unsafe { std::slice::from_raw_parts(at.cast::<AtomicU64>(), count) }
}
