//! The beginning of a segment: a new one is allocated and sealed, an attached one is checked first.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use process::{Exit, fork};
use shm::{
    AttachError, Census, CreateError, Direction, Geometry, GeometryError, Life, Owner, Segment,
    Terms, WorkerId,
};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

const GEOMETRY: Geometry = Geometry {
    sessions: 3,
    connections: 9,
    chunks: 5,
    chunk_bytes: 4096,
    lane_chunks: 2,
    pipes: 4,
};
const HEADER_BYTES: usize = 4096;
const CONNECTIONS_WORD: usize = 2;
const CHUNK_COUNT_WORD: usize = 3;
const LANE_CHUNKS_WORD: usize = 5;
const PIPES_WORD: usize = 6;
const MAGIC_WORD: usize = 7;

/// A copy of a segment's header in a file of `bytes`, with `patches` of (word, value), sealed so.
fn copy_of(segment: &Segment, bytes: usize, patches: &[(usize, u64)], seals: SealFlag) -> OwnedFd {
    let original = File::from(segment.fd().try_clone_to_owned().unwrap());
    let mut header = [0; HEADER_BYTES];
    original.read_exact_at(&mut header, 0).unwrap();
    for (word, value) in patches {
        header[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
    }
    let fd = memfd_create("copy", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let file = File::from(fd);
    file.write_all_at(&header, 0).unwrap();
    file.set_len(bytes as u64).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file.into()
}

fn attach_patched(patches: &[(usize, u64)]) -> Result<Segment, AttachError> {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    Segment::attach(copy_of(&segment, segment.len(), patches, seals))
}

#[test]
fn all_of_a_new_segment_is_free_and_allocated() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    assert_eq!(segment.geometry(), GEOMETRY);
    assert_eq!(segment.shared().census(), Census::default());
    assert_eq!(segment.shared().sessions(), 3);
    assert_eq!((segment.shared().pool().len(), segment.shared().pool().pipes()), (5, 4));
    assert!((0..3).all(|slot| segment.shared().find(slot).is_none()));
    let stat = fstat(segment.fd()).unwrap();
    assert_eq!(usize::try_from(stat.st_size).unwrap(), segment.len());
    let allocated = usize::try_from(stat.st_blocks * 512).unwrap();
    assert!(allocated >= segment.len(), "{allocated} of {} bytes", segment.len());
}

#[test]
fn a_segment_can_neither_shrink_nor_grow_nor_be_unsealed() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let length = i64::try_from(segment.len()).unwrap();
    assert_eq!(ftruncate(segment.fd(), length - 4096), Err(Errno::EPERM));
    assert_eq!(ftruncate(segment.fd(), 0), Err(Errno::EPERM));
    assert_eq!(ftruncate(segment.fd(), length + 4096), Err(Errno::EPERM));
    let more = fcntl(segment.fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
    assert_eq!(more, Err(Errno::EPERM), "the seals are not final");
}

#[test]
fn who_attaches_sees_the_same_words_and_bytes() {
    let ours = Segment::create(&GEOMETRY).unwrap();
    let theirs = Segment::attach(ours.fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(theirs.geometry(), GEOMETRY);
    let owner = Owner::new(WorkerId::new(7).unwrap(), 0);
    ours.keep_secret(&[7; 32]);
    assert_eq!((ours.secret(), theirs.secret()), ([7; 32], [7; 32]));
    ours.ticket_keys().put(&[8; 32], 5);
    let keys = theirs.ticket_keys();
    assert_eq!((keys.current(), keys.drawn_ms(), keys.key(1)), (1, 5, Some([8; 32])));
    assert_eq!(theirs.secret(), [7; 32], "they lie apart");
    let terms = Terms { key: [1; 32], token: [2; 32], kind: 3, lifetime_ms: 99, account: None };
    let session = ours.shared().issue(owner, &terms, 1).unwrap();
    assert_eq!(theirs.shared().life(session), Ok(Some(Life::Live)));
    let found = theirs.shared().find(session.slot).unwrap();
    assert_eq!((found.terms, found.guest, found.expires_ms), (terms, None, 100));

    let mut sender =
        ours.shared().take_sender(session.lane(Direction::Forth), owner, false).unwrap();
    let mut receiver =
        theirs.shared().take_receiver(session.lane(Direction::Forth), owner, false).unwrap();
    assert_eq!(ours.shared().begin(&sender, b"name"), Ok(Some(owner)));
    assert_eq!(receiver.attach(theirs.shared()).unwrap().announcement().unwrap(), b"name");
    let mut reserved = sender.attach(ours.shared()).unwrap().reserve().unwrap().unwrap();
    ours.bytes_mut(&mut reserved)[10..15].copy_from_slice(b"bytes");
    sender.attach(ours.shared()).unwrap().publish(reserved, 10..15);
    let mut attached = receiver.attach(theirs.shared()).unwrap();
    let piece = attached.next_published().unwrap().unwrap();
    assert_eq!(theirs.bytes(&piece), b"bytes");
}

#[test]
fn a_segment_that_gets_no_memory_is_an_error_and_not_a_signal() {
    // The child is a process of its own, as the limit holds for the whole process.
    let child = fork(|| {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        // SAFETY: the pointer leads to a limit on this stack, and the call only reads it.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
        // SAFETY: ignoring a signal runs no handler.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
        let large = Geometry { chunks: 1024, ..GEOMETRY };
        match Segment::create(&large) {
            Err(CreateError::Memory { bytes, errno: Errno::EFBIG }) => {
                assert!(bytes > 1024 * 4096, "{bytes} bytes were asked for");
            }
            other => panic!("{other:?}"),
        }
        Segment::create(&GEOMETRY).unwrap();
        0
    });
    assert_eq!(child.wait(), Exit::Code(0));
}

#[test]
fn more_than_there_is_memory_for_is_refused_before_the_kernel_kills_for_it() {
    let tebibyte = Geometry { chunks: 1 << 20, chunk_bytes: 1 << 20, ..GEOMETRY };
    match Segment::create(&tebibyte) {
        Err(CreateError::Memory { errno: Errno::ENOMEM, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_impossible_geometry_is_refused_before_anything_is_made() {
    let create = |geometry| match Segment::create(&geometry) {
        Err(CreateError::Geometry(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(create(Geometry { sessions: 0, ..GEOMETRY }), GeometryError::Sessions(0));
    assert_eq!(create(Geometry { connections: 0, ..GEOMETRY }), GeometryError::Connections(0));
    assert_eq!(create(Geometry { chunks: 0, ..GEOMETRY }), GeometryError::TooLarge(0));
    assert_eq!(create(Geometry { chunk_bytes: 6000, ..GEOMETRY }), GeometryError::ChunkBytes(6000));
    assert_eq!(create(Geometry { lane_chunks: 17, ..GEOMETRY }), GeometryError::LaneChunks(17));
    assert_eq!(create(Geometry { pipes: 257, ..GEOMETRY }), GeometryError::Pipes(257));
}

#[test]
fn a_faithful_copy_is_accepted() {
    // Or the refusals below would show nothing.
    assert_eq!(attach_patched(&[]).unwrap().geometry(), GEOMETRY);
}

#[test]
fn a_file_that_can_shrink_is_refused() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    for seals in [SealFlag::empty(), SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL] {
        let copy = copy_of(&segment, segment.len(), &[], seals);
        assert!(matches!(Segment::attach(copy), Err(AttachError::Unsealed)), "{seals:?}");
    }
}

#[test]
fn a_file_that_has_no_seals_is_refused() {
    let file = File::open("/proc/self/exe").unwrap();
    match Segment::attach(file.into()) {
        Err(AttachError::Os("reading the seals", _)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_magic_number_is_refused() {
    for magic in [0, 1, u64::MAX] {
        match attach_patched(&[(MAGIC_WORD, magic)]) {
            Err(AttachError::Format { found }) => assert_eq!(found, magic),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_size_than_the_header_says_is_refused() {
    let segment = Segment::create(&GEOMETRY).unwrap();
    let length = segment.len();
    for bytes in [HEADER_BYTES, length - 4096, length - 1, length + 1, length + 4096] {
        match Segment::attach(copy_of(&segment, bytes, &[], SealFlag::F_SEAL_SHRINK)) {
            Err(AttachError::Size { found, expected }) => {
                assert_eq!((found, expected), (bytes as u64, length as u64));
            }
            other => panic!("{bytes} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_file_shorter_than_a_header_is_refused() {
    let fd = memfd_create("empty", MFdFlags::MFD_ALLOW_SEALING).unwrap();
    fcntl(fd.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    match Segment::attach(fd) {
        Err(AttachError::Size { found: 0, expected: 4096 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_layout_is_refused() {
    let cases = [
        (0, 1),
        (CONNECTIONS_WORD, 90),
        (CHUNK_COUNT_WORD, 4),
        (LANE_CHUNKS_WORD, 3),
        (PIPES_WORD, 0),
    ];
    for case in cases {
        match attach_patched(&[case]) {
            Err(AttachError::Layout { found, ours }) => assert_ne!(found, ours),
            other => panic!("word {} set to {}: {other:?}", case.0, case.1),
        }
    }
}

#[test]
fn an_impossible_geometry_in_the_header_is_refused() {
    for word in 1..MAGIC_WORD {
        // There may be no pipes.
        for value in [if word == PIPES_WORD { 257 } else { 0 }, u64::MAX, 1 << 32] {
            match attach_patched(&[(word, value)]) {
                Err(AttachError::Geometry(_)) => {}
                other => panic!("word {word} set to {value}: {other:?}"),
            }
        }
    }
}
