//! Payload that passes through pipes, uncopied: all of it and nothing else arrives, whichever process leaves or dies
//! when.
//!
//! Not run again over HTTPS: encrypted payload does not pass through pipes.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    ADMIN, BINARY, Fault, Payload, Piece, Placement, Raw, Relay, Segment, Session, Shape, Strace,
    eventually, send_payload,
};
use crate::pipes::share::payload_pipes;

/// Few pipes for many transfers, whose chunks are small, so that the pipes' turn comes soon.
const FEW: [&str; 5] = [
    "memory.pipes = 4",
    "memory.chunk_bytes = \"64KiB\"",
    "memory.lane_bytes_max = \"256KiB\"",
    "timeouts.session_lifetime = \"2s\"",
    "limits.sessions_per_address_max = 0",
];
/// Transfers at a time.
const CROWD: u64 = 8;
const TRANSFERS: u64 = 10_000;
/// How long a receiver waits whose sender may have left without a byte.
const GIVES_UP: Duration = Duration::from_millis(50);
const KILLS: usize = 12;
/// Upper bound of the transfers that begin before the last kill.
const SESSIONS: usize = 1000;
/// Bytes that pass by chunk before the first pipe, and after the last.
const ENDS_BYTES: u64 = 4 << 20;

/// Numbers that look random, from the same seed always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn index(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }
}

/// The bytes that splice(2) has moved in what strace has written.
pub(crate) fn spliced_bytes(text: &str) -> u64 {
    let splices = text.lines().filter(|line| line.contains("splice("));
    let moved = splices.filter_map(|line| {
        let result = line.rsplit_once(" = ")?.1.trim();
        u64::from_str_radix(result.strip_prefix("0x")?, 16).ok()
    });
    moved.sum()
}

#[test]
fn payload_of_a_known_length_passes_uncopied_on_one_worker_and_across_two() {
    expect_uncopied(Shape::Length, 64 << 20);
}

#[test]
fn payload_in_long_chunks_passes_uncopied_on_one_worker_and_across_two() {
    // A payload of this length gives chunks of 65,521 bytes; curl's have 65,524.
    expect_uncopied(Shape::Chunked(usize::MAX), 16 << 20);
    expect_uncopied(Shape::Chunked(usize::MAX), 64 << 20);
}

fn expect_uncopied(shape: Shape, bytes: u64) {
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let (session, payload) = (relay.session(), Payload::new(3, bytes));
        let (mut receiver, mut sender) = relay.pair(&segment, placement);
        let workers = relay.worker_pids();
        let mut strace = Strace::watch(&workers, "splice", &relay.path("trace"));
        receiver.get(&session.path);
        let reading = thread::spawn({
            let payload = payload.clone();
            move || receiver.read_checked(&payload)
        });
        send_payload(&mut sender, &session.path, &payload, shape).unwrap();
        reading.join().unwrap().expect_all(&payload);
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
        strace.detach();
        let bytes: u64 = workers.iter().map(|pid| spliced_bytes(&strace.text(*pid))).sum();
        // Each byte moves once into a pipe and once out of it.
        assert!(bytes > 2 * (payload.len() - ENDS_BYTES), "{placement:?}: {bytes} bytes");
    }
}

/// A chunked body whose chunks suit a pipe or do not, and whose lines have all lengths.
fn motley_chunks(payload: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut body, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let bytes = [5, 9000, 40_000, 65_524, 65_536, 1 << 20][dice.index(6)];
        let (chunk, others) = rest.split_at(rest.len().min(bytes));
        let line = match dice.below(6) {
            0 => format!("{:016X}\r\n", chunk.len()),
            1 => format!("{:x};signature={}\r\n", chunk.len(), "s".repeat(100)),
            _ => format!("{:x}\r\n", chunk.len()),
        };
        body.extend([line.as_bytes(), chunk, b"\r\n"].concat());
        rest = others;
    }
    [&body[..], b"0\r\nTrailer: of it\r\n\r\n"].concat()
}

#[test]
fn chunks_of_all_lengths_arrive_whole_however_they_are_cut() {
    let relay = Relay::with(2, &[]);
    let (segment, fds) = (relay.segment(), relay.fd_counts());
    let mut dice = Dice(20);
    for round in 0..20 {
        let placement = [Placement::SameWorker, Placement::TwoWorkers][round % 2];
        let (session, payload) = (relay.session(), Payload::new(round as u64, 6 << 20));
        let (mut receiver, mut sender) = relay.pair(&segment, placement);
        receiver.get(&session.path);
        let reading = thread::spawn({
            let payload = payload.clone();
            move || receiver.read_checked(&payload)
        });
        sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
        let body = motley_chunks(&payload.bytes(), &mut dice);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let magnitude = dice.below(20);
            let bytes = 1 + dice.index(1 << magnitude);
            let (slice, others) = rest.split_at(rest.len().min(bytes));
            sender.try_send(slice).unwrap();
            rest = others;
        }
        // The next request stands directly behind the body.
        sender.get("/");
        reading.join().unwrap().expect_all(&payload);
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
        sender.read_response().expect(200);
    }
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn a_fault_between_long_chunks_ends_the_transfer_as_elsewhere() {
    let relay = Relay::with(2, &[]);
    let payload = Payload::new(6, 2 << 20);
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes].concat();
    let bytes = payload.bytes();
    let (first, second) = bytes.split_at(1 << 20);
    let (first, second) = (chunk(first), chunk(second));
    for fault in ["\r\nxyz\r\n", "\n100000\r\n", "\r\n;\r\n", "\r\nfffffffffffffffff\r\n"] {
        let session = relay.session();
        let mut receiver = relay.connect();
        receiver.get(&session.path);
        let reading = thread::spawn({
            let payload = payload.clone();
            move || receiver.read_checked(&payload)
        });
        let mut sender = relay.connect();
        sender.request("PUT", &session.path, &[("Transfer-Encoding", "chunked")]);
        for bytes in [&first[..], b"\r\n", &second, fault.as_bytes()] {
            // What comes behind the fault may find the connection closed.
            let _ = sender.try_send(bytes);
        }
        sender.read_response().expect(400);
        reading.join().unwrap().expect_cut();
    }
}

#[test]
fn what_has_to_be_looked_at_passes_by_chunk() {
    let relay = Relay::with(2, &[]);
    let (session, payload) = (relay.session(), Payload::new(4, 8 << 20));
    let workers = relay.worker_pids();
    let mut strace = Strace::watch(&workers, "splice", &relay.path("trace"));
    session.transfer(&payload, Shape::Form);
    relay.session().transfer(&payload, Shape::Chunked(10_000));
    strace.detach();
    let bytes: u64 = workers.iter().map(|pid| spliced_bytes(&strace.text(*pid))).sum();
    assert_eq!(bytes, 0);
}

#[test]
fn a_request_behind_a_body_that_passed_by_pipe_is_answered() {
    let relay = Relay::with(2, &[]);
    let (session, payload) = (relay.session(), Payload::new(5, 8 << 20));
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&session.path);
    let reading = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    send_payload(&mut sender, &session.path, &payload, Shape::Length).unwrap();
    // The request is sent before the answer has come, and so directly behind the body's last bytes.
    sender.get("/");
    reading.join().unwrap().expect_all(&payload);
    sender.read_response().expect(200);
    let usage = sender.read_response().expect(200).body;
    assert!(String::from_utf8(usage).unwrap().contains("curl"));
}

/// Sends a body that is its session's own, and may break off.
fn send(mut raw: Raw, session: &Session, payload: &Payload, leaves_at: Option<u64>) {
    raw.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    let end = leaves_at.unwrap_or(payload.len());
    let mut offset = 0;
    while offset < end {
        let slice = payload.at(offset);
        let slice = &slice[..slice.len().min(usize::try_from(end - offset).unwrap())];
        if raw.try_send(slice).is_err() {
            return;
        }
        offset += slice.len() as u64;
    }
    match leaves_at {
        Some(at) if at % 2 == 0 => raw.reset(),
        Some(_) => {}
        None => drop(raw.try_read_response()),
    }
}

/// Receives and looks at each byte; may break off. Returns how many came.
fn receive(mut raw: Raw, session: &Session, payload: &Payload, leaves_at: Option<u64>) -> u64 {
    raw.get(&session.path);
    let Ok(head) = raw.try_read_head() else { return 0 };
    let Some(mut state) = raw.body_of(&head).filter(|_| head.status == 200) else { return 0 };
    let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
    while leaves_at.is_none_or(|at| bytes < at) {
        let Piece::Bytes(n) = raw.read_piece(&mut state, &mut buffer) else { return bytes };
        assert_eq!(payload.first_difference(bytes, &buffer[..n]), None, "another's bytes");
        bytes += n as u64;
    }
    if bytes.is_multiple_of(2) {
        raw.reset();
    }
    bytes
}

/// Makes one transfer, which either side may end before its time. Returns whether all came, and should have.
fn transfer(relay: &Relay, number: u64) -> bool {
    let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let payload = Payload::new(number, (192 << 10) + dice.below(640 << 10));
    let leaves_at = Some(dice.below(payload.len()));
    let (sender_leaves, receiver_leaves) = match dice.below(4) {
        0 => (leaves_at, None),
        1 => (None, leaves_at),
        _ => (None, None),
    };
    let session = relay.session();
    let (receiver, sender) = (relay.connect(), relay.connect());
    if sender_leaves.is_some() {
        // The sender may leave before it has begun, and no other one comes.
        receiver.patience(GIVES_UP);
    }
    let received = thread::scope(|scope| {
        scope.spawn(|| send(sender, &session, &payload, sender_leaves));
        receive(receiver, &session, &payload, receiver_leaves)
    });
    if sender_leaves.or(receiver_leaves).is_none() {
        assert_eq!(received, payload.len(), "transfer {number}");
    }
    received == payload.len()
}

/// Counts how often pipes are seen held.
fn watch(segment: &Segment, stop: &AtomicBool) -> u64 {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        seen += u64::from(segment.pipes().0 > 0);
        thread::sleep(Duration::from_micros(500));
    }
    seen
}

/// Whether no lane holds a pipe, and all pipes are empty in the kernel.
pub(crate) fn all_are_empty(relay: &Relay, segment: &Segment) -> bool {
    let master = relay.master();
    let mut pipes =
        master.fds().into_iter().filter(|(fd, link)| *fd > 2 && link.starts_with("pipe:"));
    let is_empty = |fd: u32| {
        let path = format!("/proc/{}/fd/{fd}", master.0);
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        // A pipe that is closed meanwhile is no pipe for payload.
        pipe.map_or(true, |mut pipe| {
            pipe.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        })
    };
    segment.pipes() == (0, 0) && pipes.all(|(fd, _)| is_empty(fd))
}

/// A pair whose receiver takes no more, with all that its pipes can hold.
fn stall(relay: &Relay, segment: &Segment, session: &Session) -> (Raw, Raw) {
    let (mut receiver, mut sender) = relay.pair(segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    sender.patience(Duration::from_millis(300));
    let payload = Payload::new(8, 200 << 20);
    assert!(send_payload(&mut sender, &session.path, &payload, Shape::Length).is_err());
    assert!(segment.pipes().0 > 0 && !all_are_empty(relay, segment));
    (receiver, sender)
}

#[test]
fn what_a_cut_transfer_leaves_in_a_pipe_is_dropped_at_once() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for is_receiver in [true, false] {
        let (receiver, sender) = stall(&relay, &segment, &relay.session());
        let (leaves, remains) = if is_receiver { (receiver, sender) } else { (sender, receiver) };
        leaves.reset();
        drop(remains);
        eventually("every pipe is empty", || all_are_empty(&relay, &segment).then_some(()));
    }
}

#[test]
fn what_the_dead_leave_in_a_pipe_is_dropped_by_their_successors() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let ends = stall(&relay, &segment, &relay.session());
    relay.worker_pids().into_iter().for_each(|pid| pid.signal(Signal::SIGKILL));
    eventually("every pipe is empty", || all_are_empty(&relay, &segment).then_some(()));
    drop(ends);
}

#[test]
fn heavy_ten_thousand_transfers_through_four_pipes_have_no_byte_of_another() {
    let relay = Relay::with(2, &FEW);
    let (segment, fds) = (relay.segment(), relay.fd_counts());
    let (next, whole, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let seen = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&segment, &stop));
        let go_on = || {
            while let number @ ..TRANSFERS = next.fetch_add(1, Ordering::Relaxed) {
                whole.fetch_add(u64::from(transfer(&relay, number)), Ordering::Relaxed);
            }
        };
        let running: Vec<_> = (0..CROWD).map(|_| scope.spawn(go_on)).collect();
        running.into_iter().for_each(|it| it.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(whole.into_inner() >= TRANSFERS / 3);
    assert!(seen > 100, "pipes were seen held {seen} times");
    relay.expect_nothing_held(&segment, &fds);
    eventually("every pipe is empty", || all_are_empty(&relay, &segment).then_some(()));
}

#[test]
fn a_worker_killed_at_any_moment_leaves_no_byte_for_another() {
    let relay = Relay::with(2, &[&FEW[..3], &FEW[4..]].concat());
    let segment = relay.segment();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| relay.session()).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let go_on = || {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let payload = Payload::new(number as u64, 8 << 20);
                let Some(session) = sessions.get(number) else { break };
                let (receiver, sender) = (relay.connect(), relay.connect());
                thread::scope(|scope| {
                    scope.spawn(|| send(sender, session, &payload, None));
                    receive(receiver, session, &payload, None)
                });
            }
        };
        (0..CROWD).for_each(|_| drop(scope.spawn(go_on)));
        let mut dice = Dice(7);
        for kill in 0..KILLS {
            eventually("pipes are in use", || (segment.pipes().0 > 0).then_some(()));
            // The kill comes anywhere in a turn.
            thread::sleep(Duration::from_micros(dice.below(3000)));
            let workers = relay.worker_pids();
            let victim = workers[kill % workers.len()];
            victim.signal(Signal::SIGKILL);
            eventually("the worker is back", || {
                let pids = relay.worker_pids();
                (pids.len() == 2 && !pids.contains(&victim)).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    eventually("every pipe is empty", || all_are_empty(&relay, &segment).then_some(()));
    for number in 0..20 {
        relay.session().transfer(&Payload::new(1000 + number, 1 << 20), Shape::Length);
    }
}

/// Two workers with pipes, whose calls of splice(2), and their master's, meet `effect` from the `when`th on.
fn without_splice(trace: &Path, effect: &str, when: &str) -> Relay {
    let mut command = Fault { calls: "splice", effect, when }.command(trace);
    // The loader's search path depends on the user who runs the test.
    command.env_remove("LD_LIBRARY_PATH");
    command.arg(BINARY).stdin(Stdio::null());
    Relay::run(command, 2, &["memory.pipes = 4", ADMIN], None)
}

#[test]
fn where_splice_does_not_work_all_payload_passes_by_chunk() {
    let directory = tempfile::tempdir().unwrap();
    // splice(2) fails from a socket, fails to a socket, and returns a wrong count.
    for (effect, when) in [("error=EPERM", "1+"), ("error=ENOSYS", "2+"), ("retval=5", "2+")] {
        let relay = without_splice(&directory.path().join("trace"), effect, when);
        let transfer = |why: &str| {
            relay.session().transfer(&Payload::new(9, 4 << 20), Shape::Length);
            assert_eq!(relay.metrics().value("pipes"), 0, "{why}");
            let said = relay.errors();
            assert_eq!(said.matches("splice(2) does not work here").count(), 1, "{why}: {said}");
        };
        transfer("started");
        relay.reload(2, &["memory.pipes = 4", ADMIN]);
        transfer("reloaded");
        relay.upgrade(2, &["memory.pipes = 4", ADMIN]);
        transfer("upgraded");
    }
}

#[test]
fn an_upgrade_hands_on_the_pipes() {
    let relay = Relay::with(2, &[]);
    let links = || payload_pipes(relay.master()).into_keys().collect::<Vec<_>>();
    let before = links();
    assert!(!before.is_empty());
    relay.upgrade(2, &[]);
    assert_eq!(links(), before);
    let (session, payload) = (relay.session(), Payload::new(3, 16 << 20));
    let workers = relay.worker_pids();
    let mut strace = Strace::watch(&workers, "splice", &relay.path("trace"));
    session.transfer(&payload, Shape::Length);
    strace.detach();
    let bytes: u64 = workers.iter().map(|pid| spliced_bytes(&strace.text(*pid))).sum();
    assert!(bytes > 2 * (payload.len() - ENDS_BYTES), "{bytes} bytes");
}
