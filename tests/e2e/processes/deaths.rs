//! The cause of a worker's death makes no difference to others: its own clients lose their connections, and no other
//! client loses anything.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    Payload, Pid, Raw, Relay, Segment, Session, Shape, eventually, eventually_within, needs,
};

/// How a worker may die.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// A signal, such as the kernel sends for a fault of the program. A worker that panics dies of `SIGABRT`.
    Signal(Signal),
    /// An allocation that fails.
    Exhaustion,
    /// The kernel kills it, as its control group has no memory left.
    OutOfMemory,
}

/// A control group that may have next to no memory.
struct Poverty(PathBuf);

impl Poverty {
    /// `None` where this machine or this user cannot have one. Version 2, or 1.
    fn new() -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
        let limits = ["memory.max", "memory.limit_in_bytes"];
        roots.iter().zip(limits).find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(format!("idontstore-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            let mut limit = File::options().write(true).open(group.0.join(limit)).ok()?;
            limit.write_all(b"65536").ok().map(|()| group)
        })
    }

    fn take(&self, pid: Pid) {
        fs::write(self.0.join("cgroup.procs"), pid.0.to_string()).unwrap();
    }
}

impl Drop for Poverty {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Connections that make a worker need memory.
fn need_memory(relay: &Relay, worker: Pid) {
    let mut crowd = Vec::new();
    eventually("it dies", || {
        if let Ok(mut one) = TcpStream::connect(relay.address()) {
            let _ = one.write_all(&[b'x'; 12_000]);
            crowd.push(one);
        }
        (!worker.is_alive()).then_some(())
    });
}

impl Death {
    /// The words that the log must have for it.
    fn cause(self) -> &'static str {
        match self {
            Self::Signal(signal) => signal.as_str(),
            Self::Exhaustion => "SIGABRT",
            Self::OutOfMemory => "SIGKILL",
        }
    }

    /// Lets `worker` of `relay` die. Returns `false` if this machine has no control group to let it die so.
    fn strike(self, relay: &Relay, worker: Pid) -> bool {
        match self {
            // The runtime's handler of faults checks whether the stack has overflowed. After any other fault it lets the
            // instruction fault again, so a signal that is sent by hand has to be sent again.
            Self::Signal(signal) => eventually("it dies", || {
                worker.signal(signal);
                (!worker.is_alive()).then_some(())
            }),
            Self::Exhaustion => {
                let pid = worker.0.to_string();
                let limit = Command::new("prlimit").args(["--pid", &pid, "--as=4096"]).status();
                assert!(limit.unwrap().success());
                need_memory(relay, worker);
            }
            Self::OutOfMemory => {
                let Some(poverty) = Poverty::new() else { return false };
                poverty.take(worker);
                need_memory(relay, worker);
            }
        }
        true
    }
}

/// A transfer that has relayed a part.
struct Half {
    session: Session,
    receiver: Raw,
    sender: Raw,
}

const HALF_BYTES: usize = 500_000;
/// How soon the count of acknowledged bytes is stored, at the latest.
const STORED_WITHIN: Duration = Duration::from_secs(2);

impl Half {
    fn begin(relay: &Relay, segment: &Segment, payload: &Payload, workers: [usize; 2]) -> Self {
        let session = relay.session();
        let [mut receiver, mut sender] =
            workers.map(|worker| relay.on_worker(worker, segment, || relay.connect()));
        receiver.get(&session.path);
        let length = payload.len().to_string();
        sender.request("PUT", &session.path, &[("Content-Length", &length)]);
        sender.send(&payload.bytes()[..HALF_BYTES]);
        receiver.read_checked_part(payload, HALF_BYTES as u64);
        Self { session, receiver, sender }
    }
}

/// Every fault is covered: an overflowing stack is a SEGV as well, or an ABRT by the handler that has noticed it, and a
/// panic is an ABRT.
#[test]
fn whatever_a_worker_dies_of_harms_only_what_it_served() {
    let signals =
        [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE];
    let deaths = signals.map(Death::Signal).into_iter();
    for death in deaths.chain([Death::Exhaustion, Death::OutOfMemory]) {
        // Only a process of the same user can set limits.
        let user = if matches!(death, Death::Exhaustion) { "user = \"root\"" } else { "" };
        let relay = Relay::with(3, &["limits.connections_per_address_max = 0", user]);
        let segment = relay.segment();
        let fds = relay.fd_counts();
        let payload = Payload::new(1, 1 << 20);
        let begin = |workers| Half::begin(&relay, &segment, &payload, workers);
        let [mut to_victim, mut from_victim, mut other] = [[0, 1], [1, 0], [1, 2]].map(begin);
        let victim = relay.worker_pids()[0];
        if !needs("cgroups", death.strike(&relay, victim)) {
            continue;
        }

        let answer = to_victim.sender.read_response().expect_error(502);
        assert!(answer.text().contains("peer worker lost"), "{death:?}: {}", answer.text());
        for cut in [&mut to_victim.receiver, &mut from_victim.receiver, &mut from_victim.sender] {
            assert!(cut.is_gone_within(Duration::from_secs(5)), "{death:?}");
        }
        let rest = &payload.bytes()[HALF_BYTES..];
        other.sender.send(rest);
        assert_eq!(other.receiver.read_exactly(rest.len()), rest, "{death:?}");
        other.sender.read_response().expect(200);

        eventually("it is replaced", || {
            let pids = relay.worker_pids();
            (pids.len() == 3 && !pids.contains(&victim)).then_some(())
        });
        let line = format!("a worker died worker=0 cause={:?}", death.cause());
        let errors = relay.errors();
        assert_eq!(errors.matches(&line).count(), 1, "{death:?}: {errors}");
        assert_eq!(errors.matches("a worker died").count(), 1, "{death:?}: {errors}");
        for Half { session, .. } in [to_victim, from_victim] {
            session.transfer(&payload, Shape::Length);
        }
        drop(other);
        relay.expect_nothing_held(&segment, &fds);
    }
}

fn expect_a_count_after_a_death(relay: &Relay) {
    let segment = relay.segment();
    let payload = Payload::new(5, 1 << 20);
    let Half { session, receiver, mut sender } = Half::begin(relay, &segment, &payload, [0, 1]);
    let count = HALF_BYTES as u64;
    eventually_within(STORED_WITHIN, "what is acknowledged is stored", || {
        (segment.delivered_bytes() == count).then_some(())
    });
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    let answer = sender.read_response().expect_error(502);
    assert!(answer.text().contains("peer worker lost"), "{}", answer.text());
    assert_eq!(answer.head.delivered_bytes(), count);
    drop((session, receiver));
}

#[test]
fn a_sender_whose_receivers_worker_died_is_told_how_much_was_acknowledged() {
    expect_a_count_after_a_death(&Relay::with(2, &[]));
    expect_a_count_after_a_death(&Relay::https(2, &[]));
}

/// The count leaves out bytes that stand in the worker's socket because the receiver reads nothing.
#[test]
fn a_count_after_a_death_is_never_too_high() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let payload = Payload::new(6, 8 << 20);
    let session = relay.session();
    let connect = || Raw::connect_with_receive_buffer(relay.address(), 4096);
    let mut receiver = relay.on_worker(0, &segment, connect);
    receiver.get(&session.path);
    let mut sender = relay.on_worker(1, &segment, || relay.connect());
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    sender.send(&payload.bytes()[..1 << 20]);
    eventually_within(STORED_WITHIN, "something is stored", || {
        (segment.delivered_bytes() > 0).then_some(())
    });
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    let counted = sender.read_response().expect_error(502).head.delivered_bytes();
    let checked = receiver.read_checked(&payload);
    checked.expect_cut();
    assert!(counted <= checked.bytes, "{counted} were counted, {} came", checked.bytes);
}
