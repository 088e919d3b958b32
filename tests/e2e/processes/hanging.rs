//! Workers that hang: stopped, or in a loop without end. The master kills and replaces them, their clients hear of it,
//! and no other worker is taken for hung, however little time the machine has.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;

use crate::harness::{Fault, Payload, Pid, Relay, Shape, Stopped, Strace, eventually};
use crate::processes::reload::{Ended, exchange, expect_children};

const LIMIT: Duration = Duration::from_secs(1);
const HANG_TIMEOUT: &str = "timeouts.hang_timeout = \"1s\"";

/// Writes a jump to itself where `pid` goes on.
#[cfg(target_arch = "x86_64")]
fn send_into_a_loop(pid: Pid) {
    const JUMP: i64 = 0xfeeb;
    let pid = nix::unistd::Pid::from_raw(pid.0);
    ptrace::attach(pid).unwrap();
    waitpid(pid, None).unwrap();
    let at = ptrace::getregs(pid).unwrap().rip as ptrace::AddressType;
    let word = ptrace::read(pid, at).unwrap();
    ptrace::write(pid, at, (word & !0xffff) | JUMP).unwrap();
    ptrace::detach(pid, None).unwrap();
}

/// Waits until another worker has replaced `hung`.
#[track_caller]
fn expect_replaced(relay: &Relay, hung: Pid, workers: usize) {
    eventually("it is replaced", || {
        let now = relay.worker_pids();
        (now.len() == workers && !now.contains(&hung)).then_some(())
    });
    assert!(relay.errors().contains("killing a worker that hangs"), "{}", relay.errors());
    expect_children(relay, workers);
}

#[test]
fn a_stopped_worker_is_replaced_in_time() {
    let relay = Relay::with(2, &[HANG_TIMEOUT]);
    // A busy machine may be late in some rounds; an idle one never is.
    let mut rounds = 0;
    loop {
        let worker = relay.worker_pids()[1];
        let begun = Instant::now();
        worker.signal(Signal::SIGSTOP);
        expect_replaced(&relay, worker, 2);
        let taken = begun.elapsed();
        assert!(taken >= LIMIT * 3 / 4, "{taken:?}");
        exchange(&relay);
        rounds += 1;
        if taken <= LIMIT + Duration::from_secs(1) {
            break;
        }
        assert!(rounds < 5, "{taken:?} until it was replaced");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_worker_in_an_endless_loop_is_replaced() {
    let relay = Relay::with(1, &[HANG_TIMEOUT]);
    let worker = relay.worker_pids()[0];
    send_into_a_loop(worker);
    let mut client = relay.connect();
    client.get("/");
    expect_replaced(&relay, worker, 1);
    client.read_response().expect(200);
    exchange(&relay);
}

#[test]
fn who_was_served_by_a_hung_worker_hears_of_it() {
    let relay = Relay::with(2, &[HANG_TIMEOUT]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.on_worker(0, &segment, || relay.connect());
    receiver.get(&session.path);
    segment.wait_until_held(1);
    let mut sender = relay.on_worker(1, &segment, || relay.connect());
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    receiver.read_head();
    let hung = relay.worker_pids()[0];
    hung.signal(Signal::SIGSTOP);
    let answer = sender.read_response().expect_error(502);
    assert!(answer.text().contains("peer worker lost"), "{}", answer.text());
    expect_replaced(&relay, hung, 2);
    exchange(&relay);
}

#[test]
fn one_that_hangs_while_it_drains_is_ended() {
    let relay = Relay::with(1, &[HANG_TIMEOUT]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    let old = relay.worker_pids()[0];
    relay.reload(1, &[HANG_TIMEOUT]);
    old.signal(Signal::SIGSTOP);
    expect_children(&relay, 1);
    assert!(relay.errors().contains("killing a worker that hangs"), "{}", relay.errors());
    eventually("its place is free", || (segment.places_held() == 0).then_some(()));
}

#[test]
fn a_master_that_stood_still_blames_nobody() {
    let relay = Relay::with(2, &[HANG_TIMEOUT]);
    let workers = relay.worker_pids();
    let everybody: Vec<_> = workers.iter().copied().chain([relay.master()]).collect();
    let stopped = Stopped::hold(&everybody);
    thread::sleep(3 * LIMIT);
    // The master goes on first.
    relay.master().signal(Signal::SIGCONT);
    thread::sleep(LIMIT / 4);
    drop(stopped);
    exchange(&relay);
    thread::sleep(2 * LIMIT);
    assert_eq!(relay.worker_pids(), workers, "{}", relay.errors());
}

#[test]
fn heavy_a_starved_machine_hangs_nobody() {
    // Runs for longer by hand: `STARVED_SECONDS=60`.
    let seconds = std::env::var("STARVED_SECONDS").map_or(15, |text| text.parse().unwrap());
    let cpus = thread::available_parallelism().unwrap().get();
    let relay = Relay::with(cpus, &["timeouts.hang_timeout = \"3s\""]);
    let workers = relay.worker_pids();
    let mut stress = Command::new("stress-ng");
    stress.args(["--cpu", &(8 * cpus).to_string(), "--timeout", &format!("{seconds}s")]);
    let mut stress =
        Ended(stress.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("stress-ng"));
    let payload = Payload::new(1, 1 << 20);
    let mut exchanges = 0;
    while stress.0.try_wait().unwrap().is_none() {
        relay.session().transfer(&payload, Shape::Length);
        exchanges += 1;
    }
    assert!(exchanges > 0);
    assert_eq!(relay.worker_pids(), workers, "{}", relay.errors());
    assert!(!relay.errors().contains("hangs"), "{}", relay.errors());
}

/// The kernel wakes one worker for a connection. If that one stops before it accepts, another takes it.
#[test]
fn a_connection_that_a_hung_worker_was_woken_for_is_served_by_another() {
    let relay = Relay::with(2, &[]);
    let fault = Fault { calls: "accept4", effect: "error=ECONNABORTED:signal=SIGSTOP", when: "1" };
    let [victim, _] = relay.worker_pids()[..] else { panic!("two workers") };
    let strace = Strace::attach_fault(victim, &relay.path("strace"), &fault);
    eventually("the worker that was woken hangs", || {
        let mut client = relay.connect();
        client.get("/").read_response().expect(200);
        (strace.injected() > 0).then_some(())
    });
    victim.signal(Signal::SIGCONT);
}
