//! Reload: another configuration takes over, and no client notices. Sessions, waits and transfers go on across the
//! generations of workers; a bad configuration changes nothing.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::harness::{ADMIN, BINARY, Ending, Payload, Pid, Raw, Relay, Shape, Stopped, eventually};

pub(crate) fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    format!("{out}{err}")
}

#[track_caller]
pub(crate) fn expect_failure(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    for part in parts {
        assert!(text(output).contains(part), "{part:?} is missing in: {}", text(output));
    }
}

/// Waits until `count` processes are left below the master, zombies included.
#[track_caller]
pub(crate) fn expect_children(relay: &Relay, count: usize) {
    eventually(&format!("{count} workers are left"), || {
        (relay.master().children().len() == count).then_some(())
    });
}

pub(crate) fn exchange(relay: &Relay) {
    relay.session().transfer(&Payload::new(1, 100_000), Shape::Length);
}

/// Returns the listeners that the relay has opened after its start, from its log.
fn later_listeners(relay: &Relay) -> Vec<SocketAddr> {
    let errors = relay.errors();
    let addresses = errors.lines().filter_map(|line| line.split_once("listening on http://"));
    addresses.map(|(_, address)| address.trim().parse().unwrap()).collect()
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn workers_come_and_go() {
    let relay = Relay::with(1, &[]);
    for workers in [3, 1, 2, 2] {
        relay.reload(workers, &[]);
        expect_children(&relay, workers);
        exchange(&relay);
    }
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn hup_reloads_as_well() {
    let relay = Relay::with(1, &[]);
    let before = relay.worker_pids();
    relay.configure(2, &[]);
    relay.signal(Signal::SIGHUP);
    eventually("two new workers", || {
        let now = relay.worker_pids();
        (now.len() == 2 && now.iter().all(|p| !before.contains(p))).then_some(())
    });
    expect_children(&relay, 2);
    exchange(&relay);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn the_log_level_may_change() {
    let relay = Relay::with(1, &[]);
    drop(relay.session());
    relay.reload(1, &["log.level = \"debug\""]);
    let issued = || relay.errors().matches("a session was issued").count();
    assert_eq!(issued(), 0);
    drop(relay.session());
    eventually("it is logged", || (issued() == 1).then_some(()));
    relay.reload(1, &[]);
    drop(relay.session());
    assert_eq!(issued(), 1);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn listeners_come_and_go() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    relay.reload(2, &["[[listener]]\naddress = \"127.0.0.1:0\""]);
    let added = *later_listeners(&relay).first().expect("a new listener");
    Raw::connect(added).get("/").read_response().expect(200);
    exchange(&relay);

    // A client stays with the generation that has it.
    let session = relay.session();
    let mut receiver = Raw::connect(added);
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.reload(2, &[]);
    assert!(TcpStream::connect(added).is_err(), "it is closed");
    exchange(&relay);

    let again = format!("[[listener]]\naddress = \"{added}\"");
    relay.reload(2, &[&again]);
    let mut sender = Raw::connect(added);
    sender.put(&session.path, b"hello").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn the_admin_listener_stays_or_moves() {
    let relay = Relay::with(1, &[ADMIN]);
    let segment = relay.segment();
    // A client keeps the old generation alive.
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.reload(2, &[ADMIN]);
    for _ in 0..20 {
        relay.ask_admin("/readyz").expect(200);
    }
    let status = relay.status();
    assert!(status.to_string().contains("draining"), "one drains: {status}");

    let path = relay.path("admin");
    relay.reload(1, &[&format!("admin.listen = \"unix:{}\"", path.display())]);
    assert!(TcpStream::connect(relay.admin()).is_err(), "it is closed");
    let asked = Command::new(BINARY).arg("-c").arg(relay.config_path()).arg("status").output();
    assert!(asked.unwrap().status.success());
    relay.reload(1, &[]);
    assert!(UnixStream::connect(&path).is_err(), "nobody listens there");
    exchange(&relay);
    drop(receiver);
    expect_children(&relay, 1);
}

#[over_both]
fn a_wait_is_answered_by_the_next_generation() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let sessions = [relay.session(), relay.session()];
    let [mut receiver, mut sender] = [relay.connect(), relay.connect()];
    receiver.get(&sessions[0].path);
    sender.request("PUT", &sessions[1].path, &[("Content-Length", "5")]);
    segment.wait_until_held(2);
    let old = relay.master().children();
    relay.reload(2, &[]);
    assert!(old.iter().any(|p| p.title().contains("draining")), "a client waits at an old worker");

    relay.connect().put(&sessions[0].path, b"hello").read_response().expect(200);
    let answer = receiver.read_response().expect(200);
    assert_eq!((answer.text(), answer.head.closes()), ("hello", true));
    let mut late = relay.connect();
    late.get(&sessions[1].path);
    sender.send(b"world");
    assert_eq!(late.read_response().expect(200).text(), "world");
    let report = sender.read_response().expect(200);
    assert_eq!((report.head.delivered_bytes(), report.head.closes()), (5, true));
    drop((receiver, sender, late));
    expect_children(&relay, 2);
}

#[over_both]
fn a_transfer_goes_on() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let payload = Payload::new(3, 8 << 20);
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    let bytes = payload.bytes();
    let (first, rest) = bytes.split_at(3 << 20);
    let ahead = thread::spawn({
        let payload = payload.clone();
        move || receiver.read_checked(&payload)
    });
    sender.send(first);
    for _ in 0..3 {
        relay.reload(2, &[]);
    }
    sender.send(rest);
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    ahead.join().unwrap().expect_all(&payload);
    drop(sender);
    expect_children(&relay, 2);
    exchange(&relay);
}

#[over_both]
fn connections_that_stand_idle_have_their_next_request_answered() {
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    let (mut fresh, mut kept, mut idle) = (relay.connect(), relay.connect(), relay.connect());
    assert!(!kept.get("/").read_response().expect(200).head.closes());
    assert!(!idle.get("/").read_response().expect(200).head.closes());
    eventually("all are accepted", || (segment.sum().open == 3).then_some(()));
    relay.reload(1, &[]);
    for raw in [&mut kept, &mut fresh] {
        assert!(raw.get("/").read_response().expect(200).head.closes());
        raw.expect_close();
    }
    assert!(idle.is_gone_within(Duration::from_secs(5)), "an idle connection is closed");
    drop((fresh, kept, idle));
    expect_children(&relay, 1);
}

/// A client must not take a reset for a lost answer, so it must see that no worker took its request.
#[over_http("processes, files and sockets do not depend on TLS")]
fn a_request_that_crosses_the_end_of_an_idle_connection_meets_no_reset() {
    let relay = Relay::with(1, &["timeouts.linger_timeout = \"10s\""]);
    let mut idle = relay.connect();
    assert!(!idle.get("/").read_response().expect(200).head.closes());
    relay.reload(1, &["timeouts.linger_timeout = \"10s\""]);
    assert!(idle.is_gone_within(Duration::from_secs(5)), "an idle connection is closed");
    for _ in 0..2 {
        // The client did not know of the close yet.
        idle.get("/");
        idle.wait_until_acknowledged();
        let error = idle.line().take_error().unwrap();
        assert!(error.is_none(), "{error:?}");
    }
    assert!(idle.is_gone_within(Duration::from_secs(1)), "still an end");
    drop(idle);
    expect_children(&relay, 1);
}

#[over_both]
fn connections_that_come_before_a_busy_worker_knows_are_served() {
    let relay = Relay::with(1, &[]);
    // A stopped worker stands for a busy one.
    let stopped = Stopped::hold(&relay.worker_pids());
    assert!(relay.request("reload").output().unwrap().status.success());
    let serves = |p: &Pid| p.fds().iter().any(|(_, link)| link.contains("eventpoll"));
    eventually("the new one serves, and sleeps", || {
        let children = relay.master().children();
        let ready = |p: &Pid| serves(p) && p.read("wchan").contains("poll");
        (children.len() == 2 && children.iter().any(ready)).then_some(())
    });
    let mut clients: Vec<_> = (0..3).map(|_| relay.connect()).collect();
    for client in &mut clients {
        client.get("/");
    }
    drop(stopped);
    for mut client in clients {
        client.read_response().expect(200);
    }
    expect_children(&relay, 1);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_bad_configuration_changes_nothing() {
    let relay = Relay::with(2, &[]);
    let before = relay.worker_pids();
    relay.configure(2, &["timeouts.wait_timeout = \"soon\""]);
    let place = format!("{}:2:25", relay.config_path().display());
    let output = relay.request("reload").output().unwrap();
    expect_failure(&output, 1, &[&place, "allowed: a duration"]);
    relay.signal(Signal::SIGHUP);
    eventually("both are in the log", || {
        (relay.errors().matches(&place).count() == 2).then_some(())
    });

    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    relay.configure(3, &[&format!("[[listener]]\naddress = \"{address}\"")]);
    let output = relay.request("reload").output().unwrap();
    expect_failure(&output, 1, &[&format!("cannot listen on {address}")]);
    assert_eq!(relay.worker_pids(), before);
    exchange(&relay);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn what_only_a_restart_can_change_is_refused_by_name() {
    let relay = Relay::with(1, &[]);
    let before = relay.worker_pids();
    for (line, key) in [
        ("memory.segment_bytes = \"16MiB\"", "memory.segment_bytes"),
        ("memory.chunk_bytes = \"128KiB\"", "memory.chunk_bytes"),
        ("memory.lane_bytes_max = \"1MiB\"", "memory.lane_bytes_max"),
        ("memory.sessions_max = 77", "memory.sessions_max"),
        ("limits.connections_max = 99", "limits.connections_max"),
    ] {
        relay.configure(1, &[line]);
        let output = relay.request("reload").output().unwrap();
        expect_failure(&output, 1, &["only a restart can change", key]);
    }
    assert_eq!(relay.worker_pids(), before);
    exchange(&relay);
}

#[over_both]
fn at_the_drain_deadline_waits_end_and_transfers_go_on() {
    let lines = ["timeouts.drain_timeout = \"500ms\""];
    let relay = Relay::with(2, &lines);
    let segment = relay.segment();
    let [waits, runs] = [relay.session(), relay.session()];
    let mut waiting = relay.connect();
    waiting.get(&waits.path);
    let mut receiver = relay.connect();
    receiver.get(&runs.path);
    let mut sender = relay.connect();
    sender.request("PUT", &runs.path, &[("Content-Length", "10")]).send(b"hello");
    let head = receiver.read_head();
    segment.wait_until_held(3);
    let begun = Instant::now();
    relay.reload(2, &lines);
    let answer = waiting.read_response().expect_error(503);
    answer.head.must("Retry-After");
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    // The place is free again, for the next generation.
    let receiving = waits.receiver(&Payload::new(5, 1000));
    waits.sender(&Payload::new(5, 1000), Shape::Length).join().unwrap().expect(200);
    receiving.join().unwrap();

    sender.send(b"world");
    let mut body = Vec::new();
    assert_eq!(receiver.read_body(&head, |b| body.extend_from_slice(b)), Ending::Complete);
    assert_eq!(body, b"helloworld");
    sender.read_response().expect(200);
    drop((waiting, receiver, sender));
    expect_children(&relay, 2);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_further_reload_waits_until_a_generation_is_gone() {
    let lines = ["generations_max = 2"];
    let relay = Relay::with(1, &lines);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.reload(1, &lines);
    let serving = relay.worker_pids();

    relay.configure(3, &lines);
    let mut queued = Ended(relay.request("reload").spawn().unwrap());
    eventually("it is queued", || relay.errors().contains("reload waits").then_some(()));
    assert_eq!(relay.worker_pids(), serving);
    let mut said = BufReader::new(queued.0.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().starts_with("queued: "), "the client is told");
    assert!(queued.0.try_wait().unwrap().is_none(), "and waits as well");
    // The queued reload takes the latest configuration.
    relay.configure(2, &lines);
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    receiver.read_response().expect(200);
    drop(receiver);
    let code = eventually("the reload is done", || queued.0.try_wait().unwrap());
    assert!(code.success());
    let outcome = said.next().unwrap().unwrap();
    assert!(outcome.starts_with("reloaded: generation 2, workers: 2"), "{outcome}");
    eventually("two workers", || (relay.worker_pids().len() == 2).then_some(()));
    expect_children(&relay, 2);
}

/// A process that ends with the test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[over_both]
fn a_worker_that_dies_while_it_drains_is_swept_and_not_replaced() {
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    let old = relay.worker_pids();
    relay.reload(1, &[]);
    old[0].signal(Signal::SIGKILL);
    segment.wait_until_held(0);
    expect_children(&relay, 1);
    exchange(&relay);
    drop(receiver);
}

#[over_http("a client of TLS sends no request before its handshake")]
fn winch_drains_all_and_hup_begins_anew() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.signal(Signal::SIGWINCH);
    eventually("all drain", || relay.worker_pids().is_empty().then_some(()));
    // The kernel keeps the connection until a worker accepts it.
    let mut sender = relay.connect();
    sender.put(&session.path, b"hello");
    expect_children(&relay, 1);
    relay.signal(Signal::SIGHUP);
    sender.read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
    drop((receiver, sender));
    expect_children(&relay, 2);
    exchange(&relay);
}

/// Workers that a reload does not wait for any longer are ended; the log does not call them dead.
#[over_http("processes, files and sockets do not depend on TLS")]
fn a_generation_that_is_ended_for_a_reload_has_not_died() {
    let lines = ["generations_max = 2", "timeouts.reload_timeout = \"1s\"", ADMIN];
    let relay = Relay::with(1, &lines);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.reload(1, &lines);
    relay.reload(1, &lines);
    eventually("the wait is ended", || {
        receiver.is_gone_within(Duration::from_millis(1)).then_some(())
    });
    expect_children(&relay, 1);
    assert!(
        relay.errors().contains("a reload has waited for reload_timeout"),
        "{}",
        relay.errors()
    );
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
    assert_eq!(relay.metrics().value("workers_died_total"), 0);
}

/// Every worker of every generation that may live has a client to serve, under a low limit of open files.
#[over_http("processes, files and sockets do not depend on TLS")]
fn heavy_no_reload_of_thirty_two_workers_waits_before_four_generations_live() {
    const WORKERS: usize = 32;
    const GENERATIONS: usize = 4;
    let lines = [
        "timeouts.drain_timeout = \"1h\"",
        "timeouts.wait_timeout = \"1h\"",
        "limits.sessions_per_address_max = 0",
        "limits.connections_per_address_max = 0",
    ];
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 1024; exec \"$0\" \"$@\"", BINARY])
        .stdin(std::process::Stdio::null());
    let relay = Relay::run(command, WORKERS, &lines, None);
    let segment = relay.segment();
    let mut waiting = Vec::new();
    for generation in 1..GENERATIONS {
        let pids = relay.worker_pids();
        for (number, pid) in pids.iter().enumerate() {
            let record = WORKERS * (generation - 1) + number;
            let session = relay.session();
            let before = segment.counters(record).accepted;
            // The kernel decides who accepts, so the others stand still meanwhile.
            let others: Vec<_> = pids.iter().copied().filter(|other| other != pid).collect();
            let stopped = Stopped::hold(&others);
            let mut receiver = relay.connect();
            receiver.get(&session.path);
            eventually("it is accepted", || {
                (segment.counters(record).accepted > before).then_some(())
            });
            drop(stopped);
            waiting.push((session, receiver));
        }
        segment.wait_until_held(waiting.len() as u64);
        relay.reload(WORKERS, &lines);
    }
    assert!(!relay.errors().contains("the reload waits"), "{}", relay.errors());
    expect_children(&relay, WORKERS * GENERATIONS);
    exchange(&relay);
    // A client of the newest generation meets a receiver that waits at the oldest.
    let (session, mut receiver) = waiting.swap_remove(0);
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
    assert!(!relay.errors().contains("ERROR"), "{}", relay.errors());
}
