//! The processes as an operator sees them: titles, signals, and the end of transfers when the program stops.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::harness::{Ending, Payload, Raw, Relay, Shape, eventually, needs_root};

#[over_http("processes, files and sockets do not depend on TLS")]
fn ps_shows_who_is_who() {
    let relay = Relay::with(3, &[]);
    assert_eq!(relay.master().title(), "idontstore: master process");
    let titles: Vec<_> = relay.worker_pids().iter().map(|p| p.title()).collect();
    for (i, title) in titles.iter().enumerate() {
        let number: usize = title.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(number == i || number == i + 1, "{titles:?}");
    }
    let session = relay.session();
    for pid in [vec![relay.master()], relay.worker_pids()].concat() {
        let shown = format!("{}{}", pid.title(), pid.read("comm"));
        assert!(!shown.contains(&session.key));
    }
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn every_listener_serves_the_same_sessions() {
    let relay = Relay::with(2, &["[[listener]]\naddress = \"[::1]:0\""]);
    let said = relay.wait_for_output("listening on http://[::1]:");
    let line = said.lines().find(|l| l.starts_with("listening on http://[::1]:")).expect(&said);
    let other: SocketAddr = line.trim_start_matches("listening on http://").parse().unwrap();
    let ours = said.lines().filter(|l| l.starts_with("listening on http://")).count();
    assert_eq!(ours, 2, "{said}");
    let session = relay.session();
    let mut receiver = Raw::connect(other);
    receiver.get(&session.path);
    session.sender(&Payload::new(1, 10), Shape::Length).join().unwrap().expect(200);
    assert_eq!(receiver.read_response().expect(200).body.len(), 10);
    let issued = Raw::connect(other).request("POST", "/", &[]).read_response().expect(201);
    assert!(issued.text().starts_with(&format!("http://{other}/")), "{}", issued.text());
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn keys_and_tokens_never_enter_the_log() {
    let relay = Relay::with(2, &["log.level = \"trace\""]);
    let session = relay.session();
    session.transfer(&Payload::new(1, 1000), Shape::Length);
    let revoked = relay.session();
    let bearer = format!("Bearer {}", revoked.token);
    relay
        .connect()
        .request("DELETE", &revoked.path, &[("Authorization", &bearer)])
        .read_response()
        .expect(200);
    let log = relay.errors();
    for secret in [&session.key, &session.token, &revoked.key, &revoked.token] {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn shared_memory_never_holds_a_key_or_a_token() {
    let relay = Relay::start();
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    relay.segment().wait_until_held(1);
    let mut bytes = Vec::new();
    relay.segment().file().read_to_end(&mut bytes).unwrap();
    for secret in [&session.key, &session.token] {
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none());
    }
}

#[over_both]
fn term_and_int_stop_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut relay = Relay::with(2, &[]);
        let workers = relay.worker_pids();
        let session = relay.session();
        let (mut receiver, head, _sender) = session.half();
        let begun = Instant::now();
        relay.signal(signal);
        assert_eq!(relay.wait(), 0, "{signal}: {}", relay.errors());
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(workers.iter().all(|p| p.is_gone_within(Duration::from_secs(1))));
        assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
        assert!(TcpStream::connect(relay.address()).is_err());
    }
}

#[over_both]
fn quit_lets_running_transfers_finish() {
    let mut relay = Relay::with(2, &[]);
    let workers = relay.worker_pids();
    let session = relay.session();
    let mut idle = relay.connect();
    idle.get("/").read_response().expect(200);
    let (mut receiver, head, mut sender) = session.half();
    relay.signal(Signal::SIGQUIT);
    eventually("the port is closed", || TcpStream::connect(relay.address()).is_err().then_some(()));
    assert!(idle.is_gone_within(Duration::from_secs(5)), "an idle connection is closed");
    assert!(workers.iter().any(|p| p.is_alive()), "a transfer still runs");
    sender.send(b"world");
    let mut body = Vec::new();
    assert_eq!(receiver.read_body(&head, |b| body.extend_from_slice(b)), Ending::Complete);
    assert_eq!(body, b"helloworld");
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 10);
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!(workers.iter().all(|p| p.is_gone_within(Duration::from_secs(1))));
}

#[over_both]
fn quit_has_a_deadline() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"1s\""]);
    let session = relay.session();
    let (mut receiver, head, _sender) = session.half();
    let begun = Instant::now();
    relay.signal(Signal::SIGQUIT);
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!((900..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_ne!(receiver.read_body(&head, |_| ()), Ending::Complete);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn term_cuts_a_graceful_stop_short() {
    let mut relay = Relay::with(2, &[]);
    let session = relay.session();
    let _half = session.half();
    relay.signal(Signal::SIGQUIT);
    eventually("it is stopping", || TcpStream::connect(relay.address()).is_err().then_some(()));
    relay.signal(Signal::SIGTERM);
    let begun = Instant::now();
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[over_both]
fn quit_sends_away_a_pair_that_has_met_and_not_begun() {
    let mut relay = Relay::with(2, &["timeouts.stop_timeout = \"60s\""]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]);
    segment.wait_until_held(2);
    relay.signal(Signal::SIGQUIT);
    receiver.read_response().expect_error(503);
    sender.read_response().expect_error(503);
    drop((receiver, sender));
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
}

/// A terminal signals the master and its workers at a time.
#[over_http("processes, files and sockets do not depend on TLS")]
fn workers_that_are_stopped_with_their_master_have_not_died() {
    use std::os::unix::process::CommandExt;
    for round in 0..10 {
        let signal = [Signal::SIGINT, Signal::SIGTERM][round % 2];
        let mut command = std::process::Command::new(crate::harness::BINARY);
        command.stdin(std::process::Stdio::null()).process_group(0);
        let mut relay = Relay::run(command, 4, &[], None);
        let group = nix::unistd::Pid::from_raw(relay.master().0);
        nix::sys::signal::killpg(group, signal).unwrap();
        assert_eq!(relay.wait(), 0);
        assert!(!relay.errors().contains("ERROR"), "{signal}: {}", relay.errors());
    }
}

/// The kernel kills a worker for want of memory before its master, also a worker that was forked later and by another
/// program.
#[over_http("processes, files and sockets do not depend on TLS")]
fn workers_are_above_their_master_where_memory_runs_out() {
    let score = |pid: crate::harness::Pid| pid.read("oom_score_adj").trim().parse::<i32>().unwrap();
    let relay = Relay::with(2, &[]);
    let expect = |relay: &Relay| {
        let expected = (score(relay.master()) + 100).min(1000);
        for worker in relay.worker_pids() {
            assert_eq!(score(worker), expected);
        }
    };
    expect(&relay);
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    eventually("it is replaced", || (relay.worker_pids().len() == 2).then_some(()));
    relay.reload(3, &[]);
    expect(&relay);
    relay.upgrade(2, &[]);
    expect(&relay);
}

/// The relay as process 1, as in a container: a process that has lost its parent becomes its child, and does not stay a
/// zombie.
#[over_http("processes, files and sockets do not depend on TLS")]
fn process_1_reaps_what_has_lost_its_parent() {
    use crate::harness::Pid;
    if !needs_root() {
        return;
    }
    let mut command = std::process::Command::new("unshare");
    // The script makes a child of the shell that becomes the relay, and a process whose parent ends before it.
    let script = "sleep 0.2 & (sleep 0.4 & sleep 0.6 &) & exec \"$0\" \"$@\"";
    command.args([
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "sh",
        "-c",
        script,
        crate::harness::BINARY,
    ]);
    command.stdin(std::process::Stdio::null());
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("test.toml");
    let errors = directory.path().join("stderr");
    std::fs::write(
        &config,
        "workers = 2\nmemory.pipes = 4\n[[listener]]\naddress = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    command.arg("-c").arg(&config).stderr(std::fs::File::create(&errors).unwrap());
    let mut outside = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let said = || std::fs::read_to_string(&errors).unwrap();
    let first = eventually("the relay is process 1", || {
        let unshare = Pid(i32::try_from(outside.id()).unwrap());
        unshare.children().into_iter().find(|it| it.title().contains("master process"))
    });
    let workers = || -> Vec<Pid> {
        first.children().into_iter().filter(|it| it.title().contains("worker process")).collect()
    };
    eventually("only workers are left", || {
        (workers().len() == 2 && first.children().len() == 2).then_some(())
    });
    // The master reports the end of its own workers as ever.
    let killed = workers()[0];
    killed.signal(Signal::SIGKILL);
    eventually("it is replaced", || {
        (workers().len() == 2 && !workers().contains(&killed)).then_some(())
    });
    assert_eq!(said().matches("a worker died worker=").count(), 1, "{}", said());
    assert!(said().contains("cause=\"SIGKILL\""), "{}", said());
    first.signal(Signal::SIGQUIT);
    let status = eventually("it stops", || outside.try_wait().unwrap());
    assert!(status.success(), "{status:?}: {}", said());
}
