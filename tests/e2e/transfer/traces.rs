//! A body leaves nothing behind: nothing on any disk, and nothing in shared memory that another session gets. The bodies
//! here repeat a mark that each test draws, so that the test recognizes a piece of one anywhere.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use protocols::over_both;

use crate::harness::{Payload, Pid, Raw, Relay, Shape, Strace, eventually, needs_root_to_look_in};

const MARK_BYTES: usize = 64;
const MARKED_BYTES: u64 = 256 << 20;
const SHAPES: [Shape; 3] = [Shape::Length, Shape::Chunked(3000), Shape::Form];

fn new_mark() -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    File::open("/dev/urandom").unwrap().read_exact(&mut mark).unwrap();
    mark
}

/// Bytes that `pids` have caused to be written to disks.
fn written_bytes(pids: &[Pid]) -> u64 {
    let written = |pid: &Pid| {
        let io = pid.read("io");
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.unwrap().parse::<u64>().unwrap()
    };
    pids.iter().map(written).sum()
}

/// Regular files in `directory` and `levels` levels of directories below it.
fn files(directory: &Path, levels: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && levels > 0 => {
                found.extend(files(&entry.path(), levels - 1))
            }
            _ => {}
        }
    }
    found
}

fn holds(path: &Path, mark: &[u8]) -> bool {
    // A file that is gone or unreadable by now is not the relay's: the relay's files would stay, or be open.
    fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, mark).is_some())
}

#[over_both]
fn heavy_a_body_leaves_nothing_on_any_disk() {
    if !needs_root_to_look_in() {
        return;
    }
    let relay = Relay::with(2, &[]);
    let mark = new_mark();
    let payload = Payload::of(&mark, MARKED_BYTES);
    let (workers, begun) = (relay.worker_pids(), SystemTime::now());
    let before = written_bytes(&workers);
    // Calls that name a file, or make one without a name; and accept4(2), which workers do make, to show that strace sees
    // calls.
    let calls = "%file,memfd_create,open_by_handle_at,socket,accept4";
    let mut strace = Strace::watch(&workers, calls, &relay.path("trace"));
    for shape in [Shape::Length, Shape::Form] {
        relay.session().transfer(&payload, shape);
    }
    strace.detach();
    let text: String = workers.iter().map(|pid| strace.text(*pid)).collect();
    let (accepted, others): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.starts_with("accept4("));
    assert!(!accepted.is_empty() && others.is_empty(), "{others:#?}");
    assert_eq!(written_bytes(&workers) - before, 0);

    let is_new = |path: &PathBuf| {
        let changed = fs::metadata(path).and_then(|it| it.modified());
        changed.is_ok_and(|at| at + Duration::from_secs(1) >= begun)
    };
    let directories =
        ["/tmp", "/var/tmp", "/dev/shm", "/run", "."].map(|it| files(Path::new(it), 1));
    let suspects = directories.into_iter().flatten().chain(files(relay.directory(), 3));
    let found: Vec<_> = suspects.filter(is_new).filter(|it| holds(it, &mark)).collect();
    assert!(found.is_empty(), "{found:?}");
    let kept = relay.path("kept");
    payload.write_file(&kept);
    assert!(holds(&kept, &mark), "it would have been found");
}

/// Counts the marks among the segment's bytes.
fn marked_bytes(relay: &Relay, mark: &[u8]) -> u64 {
    let mut bytes = Vec::new();
    relay.segment().file().read_to_end(&mut bytes).unwrap();
    memchr::memmem::find_iter(&bytes, mark).count() as u64 * MARK_BYTES as u64
}

/// Makes a transfer whose sender leaves after a part of its body; returns the bytes that its receiver got.
fn cut_short(relay: &Relay, payload: &Payload, sent: usize, length: &(&str, &str)) -> Vec<u8> {
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender: Raw = relay.connect();
    sender.request("PUT", &session.path, &[*length]);
    let bytes = payload.bytes();
    match length.0 {
        "Content-Length" => sender.send(&bytes[..sent]),
        _ => sender.send_chunk(&bytes[..sent]),
    }
    let head = receiver.read_head();
    let (mut sender, mut got) = (Some(sender), Vec::new());
    receiver.read_body(&head, |bytes| {
        got.extend_from_slice(bytes);
        // The sender leaves only now: the relay passes on no byte that it has not relayed before the leave.
        sender.take_if(|_| got.len() >= sent);
    });
    got
}

#[over_both]
fn no_session_is_given_what_another_left_in_the_segment() {
    // Few chunks, so that all are used again soon.
    let relay = Relay::with(
        2,
        &[
            "memory.segment_bytes = \"8MiB\"",
            "memory.chunk_bytes = \"64KiB\"",
            "memory.lane_bytes_max = \"256KiB\"",
        ],
    );
    let mark = new_mark();
    let marked = Payload::of(&mark, 4 << 20);
    eventually("most chunks hold the mark", || {
        relay.session().transfer(&marked, Shape::Length);
        (marked_bytes(&relay, &mark) > 3 << 20).then_some(())
    });
    for round in 0..40 {
        let payload = Payload::new(round, 1 + round * 997);
        for shape in SHAPES {
            // The transfer checks every byte, and their number.
            relay.session().transfer(&payload, shape);
        }
    }
    let payload = Payload::new(7, 100_000);
    let bytes = payload.bytes();
    for sent in [1, 1000, 65_536, 65_537, 99_999] {
        for length in [("Content-Length", "100000"), ("Transfer-Encoding", "chunked")] {
            let got = cut_short(&relay, &payload, sent, &length);
            assert_eq!(got.len(), sent, "{length:?}");
            assert!(got == bytes[..sent], "{length:?}, {sent} bytes");
        }
    }
    assert!(marked_bytes(&relay, &mark) > 0, "there would have been something to give");
}
