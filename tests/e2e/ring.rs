//! The bytes really go through the ring: what the segment's counters hold while a side stands still, where the workers'
//! system calls read and write, and how far a sender gets when no chunk comes back.

use std::fs;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    MEMFD_NAME, Payload, Pid, Placement, Relay, Shape, eventually, send_payload, stays,
};

#[test]
fn a_stopped_receiver_holds_at_most_a_lane_of_chunks() {
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let session = relay.session();
        let (mut receiver, mut sender) = relay.pair(&segment, placement);
        let before = segment.sum();
        receiver.get(&session.path);
        sender.patience(Duration::from_millis(500));
        let payload = Payload::new(1, 200 << 20);
        assert!(
            send_payload(&mut sender, &session.path, &payload, Shape::Length).is_err(),
            "it must stall"
        );
        let held = stays("the lane is full", Duration::from_millis(300), || segment.chunks_held());
        assert!((1..=segment.lane_chunks()).contains(&held), "{held} of {}", segment.lane_chunks());
        let now = segment.sum();
        let (taken, given) = (now.bytes_in - before.bytes_in, now.bytes_out - before.bytes_out);
        let bound = segment.lane_chunks() * segment.chunk_bytes();
        assert!(taken > given && taken - given <= bound, "in {taken}, out {given}, bound {bound}");
        assert_eq!(segment.places_held(), 2);
    }
}

#[test]
fn without_acknowledged_chunks_the_sender_stops_at_the_lanes_capacity() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(2, 100 << 20);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    let before = segment.sum();
    receiver.get(&session.path);
    let fields = [("Content-Length", "104857600"), ("Expect", "100-continue")];
    sender.request("PUT", &session.path, &fields).read_continue();
    assert_eq!(segment.places_held(), 2);
    let receivers_worker = relay.worker_pids()[0];
    receivers_worker.signal(Signal::SIGSTOP);
    eventually("the receiver's worker stands still", || {
        receivers_worker.is_stopped().then_some(())
    });
    let sending = thread::spawn({
        let payload = payload.clone();
        move || {
            let mut offset = 0;
            while offset < payload.len() {
                let slice = payload.at(offset);
                sender.send(slice);
                offset += slice.len() as u64;
            }
            sender.read_response()
        }
    });
    let capacity = segment.lane_chunks() * segment.chunk_bytes();
    let stopped_at = stays("the sender stops", Duration::from_millis(500), || {
        (segment.sum().bytes_in - before.bytes_in, segment.chunks_held())
    });
    assert_eq!(stopped_at, (capacity, segment.lane_chunks()), "(bytes in, chunks held)");
    assert_eq!(segment.sum().bytes_out, before.bytes_out);
    receivers_worker.signal(Signal::SIGCONT);
    receiver.read_checked(&payload).expect_all(&payload);
    assert_eq!(sending.join().unwrap().expect(200).head.delivered_bytes(), payload.len());
}

/// strace on some processes; it lets go of them when it ends.
struct Strace(Child);

impl Strace {
    fn attach(pids: &[Pid], output: &std::path::Path) -> Self {
        let mut command = Command::new("strace");
        let calls = "recvfrom,recvmsg,read,readv,sendto,sendmsg,write,writev,splice";
        command
            .args([
                "-qq",
                "-f",
                "-e",
                &format!("trace={calls}"),
                "-e",
                &format!("raw={calls}"),
                "-o",
            ])
            .arg(output);
        for pid in pids {
            command.args(["-p", &pid.0.to_string()]);
        }
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace must be installed");
        let tracer = format!("TracerPid:\t{}\n", child.id());
        let strace = Self(child);
        eventually("strace has attached", || {
            pids.iter().all(|p| p.read("status").contains(&tracer)).then_some(())
        });
        strace
    }

    fn detach(&mut self) {
        Pid(i32::try_from(self.0.id()).unwrap()).signal(Signal::SIGINT);
        let child = &mut self.0;
        eventually("strace ends", || child.try_wait().unwrap());
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Where the segment lies in a process.
fn segment_addresses(pid: Pid) -> Range<u64> {
    let maps = pid.read("maps");
    let line = maps.lines().find(|l| l.contains(MEMFD_NAME)).expect("the segment is mapped");
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap()
}

/// One traced call that moved bytes: `PID name(0xfd, 0xaddress, ...) = bytes`.
struct Call<'t> {
    pid: i32,
    name: &'t str,
    address: u64,
    bytes: u64,
}

fn number(text: &str) -> Option<u64> {
    match text.trim().strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.trim().parse().ok(),
    }
}

fn parse_call(line: &str) -> Option<Call<'_>> {
    let (pid, rest) = line.split_once(' ')?;
    let (name, rest) = rest.trim_start().split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ")?;
    let address = number(arguments.split(',').nth(1)?)?;
    let bytes = number(result.split(' ').next()?)?;
    Some(Call { pid: pid.parse().ok()?, name, address, bytes })
}

/// A call that moves no more than this may be about heads and bells.
const HEAD_BYTES: u64 = 16 << 10;

#[test]
fn payload_is_received_into_the_segment_and_sent_from_it() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(3, 30 << 20);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    let workers = relay.worker_pids();
    let trace = relay.path("trace");
    let mut strace = Strace::attach(&workers, &trace);
    receiver.get(&session.path);
    let reading = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    send_payload(&mut sender, &session.path, &payload, Shape::Length).unwrap();
    reading.join().unwrap().expect_all(&payload);
    sender.read_response().expect(200);
    strace.detach();
    let trace = fs::read_to_string(trace).unwrap();
    let calls: Vec<_> = trace.lines().filter_map(parse_call).collect();
    let moved = |pid: Pid, names: &[&str]| {
        let inside = segment_addresses(pid);
        let mine = calls.iter().filter(|c| c.pid == pid.0 && names.contains(&c.name));
        let (within, outside): (Vec<_>, Vec<_>) = mine.partition(|c| inside.contains(&c.address));
        let large = outside.iter().filter(|c| c.bytes > HEAD_BYTES).count();
        assert_eq!(large, 0, "{large} large calls of {names:?} outside the segment");
        within.iter().map(|c| c.bytes).sum::<u64>()
    };
    let received = moved(workers[1], &["recvfrom", "read", "recvmsg", "readv"]);
    let sent = moved(workers[0], &["sendto", "write", "sendmsg", "writev"]);
    // The first bytes of a body may come with its head.
    assert!(
        (payload.len() - HEAD_BYTES..=payload.len()).contains(&received),
        "received {received}\n{trace:.2000}"
    );
    assert!(
        (payload.len() - HEAD_BYTES..=payload.len()).contains(&sent),
        "sent {sent}\n{trace:.2000}"
    );
}

#[test]
fn pairs_share_the_chunks_of_a_small_segment() {
    let relay = Relay::with(2, &["memory.segment_bytes = \"8MiB\""]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let payload = Payload::new(4, 8 << 20);
    let sessions: Vec<_> = (0..60).map(|_| relay.session()).collect();
    let receivers: Vec<_> = sessions.iter().map(|s| s.receiver(&payload)).collect();
    let senders: Vec<_> = sessions.iter().map(|s| s.sender(&payload, Shape::Length)).collect();
    receivers.into_iter().for_each(|r| r.join().unwrap().expect_all(&payload));
    senders.into_iter().for_each(|s| {
        assert_eq!(s.join().unwrap().expect(200).head.delivered_bytes(), payload.len())
    });
    relay.expect_nothing_held(&segment, &fds);
}
