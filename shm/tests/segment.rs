//! Making a segment and mapping one that exists: what is promised of it, and what is turned down.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)]

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::fstat;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, ftruncate};
use shm::{AttachError, CreateError, Geometry, GeometryError, Owner, Segment, WorkerId};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

const GEOMETRY: Geometry = Geometry { sessions: 4, chunks: 8, chunk_bytes: 8192, lane_chunks: 4 };

const FINGERPRINT: usize = 0;
const SESSIONS: usize = 1;
const CHUNKS: usize = 2;
const CHUNK_BYTES: usize = 3;
const LANE_CHUNKS: usize = 4;
const MAGIC: usize = 5;
const HEADER_WORDS: usize = 6;

fn segment() -> Segment {
    Segment::create(&GEOMETRY).unwrap()
}

fn fd(segment: &Segment) -> OwnedFd {
    segment.fd().try_clone_to_owned().unwrap()
}

/// The header of a segment as it lies in the file.
fn header(segment: &Segment) -> [u64; HEADER_WORDS] {
    let file = File::from(fd(segment));
    std::array::from_fn(|word| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, word as u64 * 8).unwrap();
        u64::from_le_bytes(bytes)
    })
}

/// A file that says of itself what `header` says, sealed like a segment.
fn forge(header: &[u64], file_bytes: usize) -> OwnedFd {
    let fd = unsealed(header, file_bytes);
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).unwrap();
    fd
}

fn unsealed(header: &[u64], file_bytes: usize) -> OwnedFd {
    let fd = memfd_create("forged", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&fd, i64::try_from(file_bytes).unwrap()).unwrap();
    let file = File::from(fd);
    for (word, index) in header.iter().zip(0..) {
        file.write_all_at(&word.to_le_bytes(), index * 8).unwrap();
    }
    file.into()
}

/// A segment's header with one word replaced, in a file of the segment's size.
fn tampered(index: usize, word: u64) -> OwnedFd {
    let segment = segment();
    let mut header = header(&segment);
    header[index] = word;
    forge(&header, segment.len())
}

#[test]
fn a_segment_is_sealed_against_shrinking_and_growing() {
    let segment = segment();
    let length = i64::try_from(segment.len()).unwrap();
    assert_eq!(ftruncate(segment.fd(), length - 4096), Err(Errno::EPERM));
    assert_eq!(ftruncate(segment.fd(), length + 4096), Err(Errno::EPERM));
    assert_eq!(
        fcntl(segment.fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)),
        Err(Errno::EPERM)
    );
}

#[test]
fn a_segment_is_allocated_as_a_whole_and_closed_on_exec() {
    let segment = segment();
    let stat = fstat(segment.fd()).unwrap();
    assert_eq!(usize::try_from(stat.st_size).unwrap(), segment.len());
    assert_eq!(usize::try_from(stat.st_blocks).unwrap() * 512, segment.len());
    let flags = fcntl(segment.fd(), FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
}

#[test]
fn two_mappings_are_one_segment() {
    let ours = segment();
    let theirs = Segment::attach(fd(&ours)).unwrap();
    assert_eq!((theirs.geometry(), theirs.len()), (GEOMETRY, ours.len()));

    let owner = Owner::new(WorkerId::new(1).unwrap(), 0);
    let session = ours.shared().issue(owner, &[1; 32], &[2; 32], 0, 1).unwrap();
    assert_eq!(theirs.shared().find(session.slot).unwrap().session, session);
    let mut receiver = theirs.shared().take_receiver(session, owner, false).unwrap();
    let mut sender = ours.shared().take_sender(session, owner, false).unwrap();
    ours.shared().begin(&sender, b"").unwrap().unwrap();
    let mut filling = sender.reserve(ours.shared()).unwrap().unwrap();
    ours.bytes_mut(&mut filling)[10..15].copy_from_slice(b"hello");
    sender.publish(ours.shared(), filling, 10..15).unwrap();
    let piece = receiver.next(theirs.shared()).unwrap().unwrap();
    assert_eq!(theirs.bytes(&piece), b"hello");
}

#[test]
fn every_chunk_has_bytes_of_its_own() {
    let segment = Segment::create(&Geometry { sessions: 8, lane_chunks: 1, ..GEOMETRY }).unwrap();
    let (shared, owner) = (segment.shared(), Owner::new(WorkerId::new(0).unwrap(), 0));
    let mut taken: Vec<_> = (0..8u8)
        .map(|number| {
            let session = shared.issue(owner, &[number; 32], &[0; 32], 0, 1).unwrap();
            let mut sender = shared.take_sender(session, owner, false).unwrap();
            let mut filling = sender.reserve(shared).unwrap().unwrap();
            segment.bytes_mut(&mut filling).fill(number);
            filling
        })
        .collect();
    for (filling, number) in taken.iter_mut().zip(0u8..) {
        let bytes = segment.bytes_mut(filling);
        assert_eq!(bytes.len(), GEOMETRY.chunk_bytes);
        assert!(bytes.iter().all(|byte| *byte == number), "chunk {number}");
    }
    assert_eq!(shared.census().chunks_held, 8);
}

#[test]
fn an_impossible_geometry_is_refused() {
    for (geometry, expected) in [
        (Geometry { sessions: 0, ..GEOMETRY }, GeometryError::Sessions(0)),
        (Geometry { chunks: 0, ..GEOMETRY }, GeometryError::TooLarge(0)),
        (Geometry { chunk_bytes: 5000, ..GEOMETRY }, GeometryError::ChunkBytes(5000)),
        (Geometry { lane_chunks: 17, ..GEOMETRY }, GeometryError::LaneChunks(17)),
    ] {
        let error = Segment::create(&geometry).unwrap_err();
        assert!(matches!(error, CreateError::Geometry(found) if found == expected), "{error:?}");
    }
}

/// In a process of its own, because a limit holds for the whole process. The limit on file sizes
/// stands for a full memory: both make the allocation fail.
#[test]
fn a_lack_of_memory_is_an_error_at_creation() {
    // SAFETY: the child makes one segment and exits, without running anything of this process.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let code = match create_without_memory() {
                Err(CreateError::Memory { bytes, errno: Errno::EFBIG }) if bytes > 65536 => 0,
                Err(_) => 1,
                Ok(_) => 2,
            };
            // SAFETY: ends the child alone, running no destructor of the parent's.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
}

fn create_without_memory() -> Result<Segment, CreateError> {
    // SAFETY: ignoring a signal installs no handler. By default this one would end the process.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 65536, 65536).unwrap();
    Segment::create(&GEOMETRY)
}

#[test]
fn what_could_be_shrunk_is_not_mapped() {
    let segment = segment();
    let error = Segment::attach(unsealed(&header(&segment), segment.len())).unwrap_err();
    assert!(matches!(error, AttachError::Unsealed), "{error:?}");
}

#[test]
fn what_has_no_seals_at_all_is_not_mapped() {
    let error = Segment::attach(File::open("/dev/null").unwrap().into()).unwrap_err();
    assert!(matches!(error, AttachError::Os(..)), "{error:?}");
}

#[test]
fn a_faithful_copy_is_mapped() {
    let segment = segment();
    assert!(Segment::attach(forge(&header(&segment), segment.len())).is_ok());
}

#[test]
fn another_format_is_not_mapped() {
    for magic in [0, u64::MAX, header(&segment())[MAGIC] + 1] {
        let error = Segment::attach(tampered(MAGIC, magic)).unwrap_err();
        assert!(matches!(error, AttachError::Format { found } if found == magic), "{error:?}");
    }
}

#[test]
fn another_layout_is_not_mapped() {
    let error = Segment::attach(tampered(FINGERPRINT, 7)).unwrap_err();
    assert!(matches!(error, AttachError::Layout { found: 7, .. }), "{error:?}");
    for (index, word) in [(SESSIONS, 5), (CHUNKS, 7), (CHUNK_BYTES, 4096), (LANE_CHUNKS, 3)] {
        let error = Segment::attach(tampered(index, word)).unwrap_err();
        assert!(matches!(error, AttachError::Layout { .. }), "word {index}: {error:?}");
    }
}

#[test]
fn half_as_many_chunks_of_twice_the_size_are_another_layout() {
    let segment = segment();
    let mut header = header(&segment);
    (header[CHUNKS], header[CHUNK_BYTES]) = (4, 16384);
    let error = Segment::attach(forge(&header, segment.len())).unwrap_err();
    assert!(matches!(error, AttachError::Layout { .. }), "{error:?}");
}

#[test]
fn an_impossible_header_is_not_mapped() {
    for index in [SESSIONS, CHUNKS, CHUNK_BYTES, LANE_CHUNKS] {
        for word in [0, u64::MAX, 1 << 32 | 1] {
            let error = Segment::attach(tampered(index, word)).unwrap_err();
            assert!(matches!(error, AttachError::Geometry(_)), "word {index}: {error:?}");
        }
    }
}

#[test]
fn another_size_is_not_mapped() {
    let segment = segment();
    let header = header(&segment);
    for size in [segment.len() - 4096, segment.len() + 4096, 4096] {
        let error = Segment::attach(forge(&header, size)).unwrap_err();
        let (found, expected) = (size as u64, segment.len() as u64);
        assert!(
            matches!(error, AttachError::Size { found: f, expected: e } if (f, e) == (found, expected)),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_without_a_header_is_not_mapped() {
    for size in [0, 8, 4095] {
        let error = Segment::attach(forge(&[], size)).unwrap_err();
        assert!(matches!(error, AttachError::Size { .. }), "{error:?}");
    }
}
