//! How many instructions the parts take, under callgrind, beside `counts.txt`, which says how many they
//! took. Unlike time, that is the same on a busy machine, so a gate can be strict about it.
//!
//! - `--compare`: fails when a part takes over 5 % more; says as well when one takes over 5 % less.
//! - `--write`: writes the file anew.
//! - Otherwise, as under a plain `cargo bench`, does the work and counts nothing.
//!
//! Each piece of work has a process of its own, so none depends on what was done before it. The process does the work
//! once uncounted, so that the counts leave out what a first call finds out (which CPU this is). The function that
//! does the work is never inlined: how a compiler weaves it into a caller depends on all of this program, and an edit
//! elsewhere in it moved a count by 8 %.
//!
//! Counts belong to one compiler, C library and kind of CPU (`memchr`, `httparse` and the C library have code for
//! several; valgrind's CPU is always the same, but it has AVX2 only if the real CPU has). The file says which. If any
//! of them differs, a growth is shown and skips the step instead of failing it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "work/callgrind.rs"]
mod callgrind;
#[path = "../wire/benches/cases/chunked.rs"]
mod chunked;
#[path = "../wire/benches/cases/forms.rs"]
mod forms;
#[path = "../wire/benches/cases/heads.rs"]
mod heads;
#[path = "work/lanes.rs"]
mod lanes;

use heads::{BROWSER_GET, CURL_FORM, CURL_GET};
use shm::Doorbell;
use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A distinctive name: callgrind counts within functions that have it in theirs.
const COUNTED: &str = "instructions_are_counted_here";

/// A name, and what sets its work up and hands it to [`count`].
const WORK: &[(&str, fn())] = &[
    ("head: curl GET", || head(CURL_GET, usize::MAX)),
    ("head: curl -F", || head(CURL_FORM, usize::MAX)),
    ("head: browser GET", || head(BROWSER_GET, usize::MAX)),
    ("head: browser GET in pieces of 100 bytes", || head(BROWSER_GET, 100)),
    ("head: curl -F byte by byte", || head(CURL_FORM, 1)),
    ("chunked: 1 MiB by 64 KiB", || dechunk(64 << 10)),
    ("chunked: 1 MiB by 4 KiB", || dechunk(4 << 10)),
    ("chunked: 1 MiB by one byte", || dechunk(1)),
    ("form: 1 MiB, random, whole", || form(&forms::random(), usize::MAX / 2)),
    ("form: 1 MiB, random", || form(&forms::random(), forms::FEED_BYTES)),
    ("form: 1 MiB, near misses", || form(&forms::near_misses(), forms::FEED_BYTES)),
    ("form: 1 MiB, line ends", || form(&forms::repeated("\r\n--"), forms::FEED_BYTES)),
    ("ring: 1000 chunks, one in flight", || ring(1000, 1)),
    ("ring: 1000 chunks, eight in flight", || ring(125, 8)),
    ("session: 100 exchanges", exchanges),
    ("bell: 1000 rings, each heard awake", || bell(heard_awake)),
    ("bell: 1000 sleeps and wakings", || bell(woken)),
    ("bell: 4096 of 65536 sessions at once", || bell(crowd)),
];

fn head(head: &str, step: usize) {
    let head = head.as_bytes().to_vec();
    count(|| assert_eq!(heads::read(&head, step), head.len()));
}

fn dechunk(http_chunk_bytes: usize) {
    let body = chunked::chunked(http_chunk_bytes);
    // Decoding is done in place.
    let mut bodies = [body.clone(), body].into_iter();
    let mut body = Vec::new();
    count(|| {
        body = bodies.next().unwrap();
        assert_eq!(chunked::decode(&mut body), chunked::PAYLOAD_BYTES);
    });
}

fn form(file: &[u8], feed_bytes: usize) {
    let form = forms::form(file);
    count(|| assert_eq!(forms::read(&form, feed_bytes), file.len()));
}

fn ring(rounds: u64, in_flight: u64) {
    let segment = lanes::segment(8);
    let shared = segment.shared();
    let (mut sender, mut receiver) = lanes::pair(shared, lanes::issue(shared));
    count(|| (0..rounds).for_each(|_| lanes::pass(in_flight, shared, &mut sender, &mut receiver)));
}

fn exchanges() {
    let segment = lanes::segment(8);
    count(|| (0..100).for_each(|_| lanes::exchange(segment.shared())));
}

fn bell(work: fn(&Doorbell<'_>)) {
    let sessions: Vec<AtomicU64> = (0..1024).map(|_| AtomicU64::new(0)).collect();
    let summary: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    let parked = AtomicU32::new(0);
    count(|| work(&Doorbell::new(&summary, &sessions, &parked)));
}

#[inline(never)]
fn heard_awake(bell: &Doorbell<'_>) {
    for session in 0..1000 {
        assert!(!bell.ring(session));
        bell.take(|heard| assert_eq!(heard, session));
    }
}

#[inline(never)]
fn woken(bell: &Doorbell<'_>) {
    for session in 0..1000 {
        assert!(bell.park() && bell.ring(session));
        bell.unpark();
        bell.take(|heard| assert_eq!(heard, session));
    }
}

#[inline(never)]
fn crowd(bell: &Doorbell<'_>) {
    let mut heard = 0;
    (0..65536).step_by(16).for_each(|session| assert!(!bell.ring(session)));
    bell.take(|_| heard += 1);
    assert_eq!(heard, 4096);
}

fn count(mut work: impl FnMut()) {
    work();
    instructions_are_counted_here(&mut work);
}

#[inline(never)]
fn instructions_are_counted_here(work: &mut dyn FnMut()) {
    work();
    // The call above must not become a jump, which would not come back here.
    black_box(());
}

fn main() -> ExitCode {
    // Cargo adds `--bench`; what else we do not know is for criterion.
    let arguments: Vec<_> = env::args().skip(1).filter(|it| it != "--bench").collect();
    let names = WORK.iter().map(|(name, _)| *name);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--compare"] => return callgrind::compare(COUNTED, names),
        ["--write"] => return callgrind::write(COUNTED, names),
        ["--one", one] => WORK.iter().filter(|(name, _)| *name == one).for_each(|(_, work)| work()),
        _ => WORK.iter().for_each(|(_, work)| work()),
    }
    ExitCode::SUCCESS
}
