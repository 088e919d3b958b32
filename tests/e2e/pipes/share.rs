//! The pipes that lanes hold: none where a side is encrypted, two at most, as many as are free in mid-transfer, and the
//! same ones after a reload.
//!
//! Not run again over HTTPS: encrypted payload does not pass through pipes.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{
    Counters, Payload, Pid, Placement, Raw, Reading, Relay, Response, Segment, Session, Shape,
    Strace, eventually, send_part, send_payload, stays,
};
use crate::pipes::passing::{all_are_empty, spliced_bytes};
use crate::processes::reload::expect_children;

/// Bytes that a pipe holds.
const PIPE_BYTES: u64 = 1 << 20;
/// Pipes that a lane holds, at most.
const LANE_PIPES_MAX: usize = 2;
/// A transfer in which nothing moves for so long stands still.
const STANDSTILL: Duration = Duration::from_millis(300);
/// Bytes that a receiver reads before it stands still.
const READ_BYTES: u64 = 1 << 20;

/// The bytes that splice(2) moves in the workers that serve now, while `act` goes on.
fn spliced_while(relay: &Relay, act: impl FnOnce()) -> u64 {
    let workers = relay.worker_pids();
    let mut strace = Strace::watch(&workers, "splice", &relay.path("trace"));
    act();
    strace.detach();
    workers.iter().map(|pid| spliced_bytes(&strace.text(*pid))).sum()
}

/// The pipes for payload that a process has open: those with both ends open, each by the number of its read end.
pub(crate) fn payload_pipes(pid: Pid) -> BTreeMap<String, u32> {
    let mut ends: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, link) in pid.fds().into_iter().filter(|(_, link)| link.starts_with("pipe:")) {
        ends.entry(link).or_default().push(number);
    }
    ends.retain(|_, ends| ends.len() == 2);
    ends.into_iter().map(|(link, ends)| (link, ends[0])).collect()
}

/// A transfer whose receiver stands still, so that its lane is full.
pub(crate) struct Standing {
    pub(crate) reading: Reading,
    pub(crate) sending: JoinHandle<Response>,
}

impl Standing {
    /// Starts a transfer of a payload that is more than all buffers hold.
    #[track_caller]
    pub(crate) fn new(
        segment: &Segment,
        session: &Session,
        payload: &Payload,
        (mut receiver, mut sender): (Raw, Raw),
    ) -> Self {
        receiver.get(&session.path);
        let (path, bytes) = (session.path.clone(), payload.clone());
        let sending = thread::spawn(move || {
            let sent = send_payload(&mut sender, &path, &bytes, Shape::Length);
            sender.try_read_response().unwrap_or_else(|e| panic!("{e}; sending gave {sent:?}"))
        });
        let mut reading = receiver.reading(payload);
        reading.read_to(READ_BYTES);
        stays("all stands still", STANDSTILL, || {
            let Counters { bytes_in, bytes_out, .. } = segment.sum();
            (bytes_in, bytes_out)
        });
        Self { reading, sending }
    }

    /// Goes on to the end.
    #[track_caller]
    pub(crate) fn finish(self, payload: &Payload) {
        self.reading.rest().expect_all(payload);
        let answer = self.sending.join().unwrap().expect(200);
        assert_eq!(answer.head.delivered_bytes(), payload.len());
    }
}

#[test]
fn what_is_encrypted_on_one_side_passes_by_chunk() {
    let relay = Relay::https(2, &["[[listener]]\naddress = \"127.0.0.1:0\""]);
    let (encrypted, plain) = (relay.address(), relay.listener(1));
    for (receivers, senders) in [(encrypted, plain), (plain, encrypted)] {
        let (session, payload) = (relay.session(), Payload::new(6, 8 << 20));
        let bytes = spliced_while(&relay, || {
            let receiver = Session { address: receivers, ..session.clone() }.receiver(&payload);
            let sender = Session { address: senders, ..session.clone() };
            let answer = sender.sender(&payload, Shape::Length).join().unwrap().expect(200);
            assert_eq!(answer.head.delivered_bytes(), payload.len());
            receiver.join().unwrap().expect_all(&payload);
        });
        assert_eq!(bytes, 0, "from {senders} to {receivers}");
    }
    // The test would have seen a pipe: over plain HTTP it sees one.
    let (session, payload) = (relay.session(), Payload::new(7, 8 << 20));
    let session = Session { address: plain, ..session };
    assert!(spliced_while(&relay, || session.transfer(&payload, Shape::Length)) > 0);
}

#[test]
fn a_receiver_that_stands_still_holds_two_pipes_and_its_chunks_at_most() {
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &["memory.pipes = 6"]);
        let (segment, session, payload) =
            (relay.segment(), relay.session(), Payload::new(8, 64 << 20));
        let pair = relay.pair(&segment, placement);
        let before = segment.sum();
        let standing = Standing::new(&segment, &session, &payload, pair);
        let (now, pipes, chunks) = (segment.sum(), segment.pipes().0, segment.chunks_held());
        let (taken, given) = (now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out);
        assert_eq!(pipes, LANE_PIPES_MAX, "{placement:?}");
        assert!(chunks <= segment.lane_chunks(), "{chunks} chunks");
        let bound = pipes as u64 * PIPE_BYTES + chunks * segment.chunk_bytes();
        assert!(taken > given && taken - given <= bound, "in {taken}, out {given}, bound {bound}");
        standing.finish(&payload);
    }
}

/// Sends and receives the next bytes of a payload, up to `count` in all.
fn go_on(sender: &mut Raw, reading: &mut Reading, payload: &Payload, count: u64) {
    let from = reading.bytes();
    thread::scope(|scope| {
        scope.spawn(|| send_part(sender, payload, from..count).unwrap());
        reading.read_to(count);
    });
}

#[test]
fn pipes_that_others_hold_are_done_without_in_mid_transfer_and_used_again_later() {
    const PART_BYTES: u64 = 8 << 20;
    let relay = Relay::with(2, &["memory.pipes = 1"]);
    let (segment, session, payload) =
        (relay.segment(), relay.session(), Payload::new(9, 4 * PART_BYTES));
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    send_part(&mut sender, &payload, 0..READ_BYTES).unwrap();
    let mut reading = receiver.reading(&payload);
    reading.read_to(READ_BYTES);
    let by_pipe = |sender: &mut Raw, reading: &mut Reading, part| {
        spliced_while(&relay, || go_on(sender, reading, &payload, part * PART_BYTES))
    };
    assert!(by_pipe(&mut sender, &mut reading, 1) > 0, "one is free");

    eventually("a lane with nothing to send holds none", || (segment.pipes().0 == 0).then_some(()));
    let (other, other_payload) = (relay.session(), Payload::new(10, 64 << 20));
    let pair = relay.pair(&segment, Placement::TwoWorkers);
    let standing = Standing::new(&segment, &other, &other_payload, pair);
    assert_eq!(segment.pipes().0, 1);
    assert_eq!(by_pipe(&mut sender, &mut reading, 2), 0, "another holds it");

    standing.finish(&other_payload);
    assert!(by_pipe(&mut sender, &mut reading, 3) > 0, "it is free again");
    go_on(&mut sender, &mut reading, &payload, payload.len());
    reading.rest().expect_all(&payload);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
}

/// A call that moved bytes, as strace shows it: its name, its first descriptor and the bytes.
fn moved(line: &str) -> Option<(&str, &str, u64)> {
    let (name, arguments) = line.split_once('(')?;
    let result = line.rsplit_once(" = ")?.1.trim().strip_prefix("0x")?;
    Some((name, arguments.split(',').next()?, u64::from_str_radix(result, 16).ok()?))
}

/// Lists the reads from each socket, in the order of the calls: whether by pipe, and how many bytes.
fn taken_from_sockets(text: &str) -> Vec<Vec<(bool, u64)>> {
    let mut taken: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, from, bytes) in text.lines().filter_map(moved) {
        taken.entry(from).or_default().push((name == "splice", bytes));
    }
    // Workers read pipes by splice(2) alone; from each socket they receive at least a head by other calls.
    taken.into_values().filter(|calls| calls.iter().any(|(by_pipe, _)| !by_pipe)).collect()
}

#[test]
fn transfers_with_fewer_pipes_than_they_are_arrive_whole_by_pipe_and_chunk_in_turn() {
    const MUCH_BYTES: u64 = 1 << 20;
    let relay = Relay::with(2, &["memory.pipes = 2"]);
    let (segment, fds, workers) = (relay.segment(), relay.fd_counts(), relay.worker_pids());
    let sessions: Vec<_> = (0..6).map(|_| relay.session()).collect();
    let mut strace = Strace::watch(&workers, "splice,recvfrom", &relay.path("trace"));
    thread::scope(|scope| {
        for (seed, session) in (20..).zip(&sessions) {
            scope.spawn(move || session.transfer(&Payload::new(seed, 32 << 20), Shape::Length));
        }
    });
    strace.detach();
    let calls = workers.iter().flat_map(|pid| taken_from_sockets(&strace.text(*pid)));
    let mixed = calls.filter(|calls| {
        let bytes = |by_pipe: bool| -> u64 {
            calls.iter().filter(|(by, _)| *by == by_pipe).map(|(_, bytes)| bytes).sum()
        };
        let turns = calls.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        println!("{} by pipe, {} by chunk, {turns} turns", bytes(true), bytes(false));
        bytes(true) > MUCH_BYTES && bytes(false) > MUCH_BYTES && turns > 2
    });
    assert!(mixed.count() > 0, "no transfer by both");
    relay.expect_nothing_held(&segment, &fds);
}

#[test]
fn a_reload_under_a_transfer_leaves_all_their_pipes() {
    const PART_BYTES: u64 = 8 << 20;
    let relay = Relay::with(2, &[]);
    let (segment, session, payload) =
        (relay.segment(), relay.session(), Payload::new(21, 3 * PART_BYTES));
    let pipes: Vec<_> = payload_pipes(relay.master()).into_keys().collect();
    assert_eq!(pipes.len(), 4);
    let before = (relay.master().fds().len(), relay.fd_counts());
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    send_part(&mut sender, &payload, 0..READ_BYTES).unwrap();
    let mut reading = receiver.reading(&payload);
    reading.read_to(READ_BYTES);
    go_on(&mut sender, &mut reading, &payload, PART_BYTES);

    let old = relay.worker_pids();
    relay.reload(2, &[]);
    let mut strace = Strace::watch(&old, "splice", &relay.path("old"));
    go_on(&mut sender, &mut reading, &payload, 2 * PART_BYTES);
    // Meanwhile the new ones use the same pipes.
    let new = relay.worker_pids();
    assert!(new.iter().all(|pid| !old.contains(pid)));
    for pid in &new {
        assert_eq!(payload_pipes(*pid).into_keys().collect::<Vec<_>>(), pipes);
    }
    let next = Payload::new(22, PART_BYTES);
    assert!(spliced_while(&relay, || relay.session().transfer(&next, Shape::Length)) > 0);
    go_on(&mut sender, &mut reading, &payload, payload.len());
    strace.detach();
    let bytes: u64 = old.iter().map(|pid| spliced_bytes(&strace.text(*pid))).sum();
    assert!(bytes > 2 * PART_BYTES, "{bytes} bytes by those that drain");
    reading.rest().expect_all(&payload);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    drop(sender);

    for _ in 0..19 {
        relay.reload(2, &[]);
    }
    expect_children(&relay, 2);
    eventually("as many descriptors as before", || {
        ((relay.master().fds().len(), relay.fd_counts()) == before).then_some(())
    });
    eventually("every pipe is empty", || all_are_empty(&relay, &segment).then_some(()));
}
