//! Processes that die: a worker killed under load harms only what it served, comes back, and leaves nothing behind; and
//! no worker outlives its master.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::faults::Start;
use crate::harness::{
    Ending, Fault, Payload, Pid, Placement, Raw, Relay, Segment, Session, Shape, Stopped,
    eventually, eventually_within,
};
use crate::processes::upgrade::installed;

/// How soon both sides of a broken transfer must know.
const NEWS_WITHIN: Duration = Duration::from_millis(100);
/// How soon all processes of a killed master must be gone.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
const TRANSFERS: usize = 60;
const TRANSFER_BYTES: u64 = 3 << 20;
/// Bytes that a sender gives between two looks at its socket, and how long it rests then: the machine must not be so busy
/// that the clients themselves notice late.
const SLICE_BYTES: usize = 64 << 10;
const REST: Duration = Duration::from_millis(15);

/// A connection and the worker that accepted it.
fn connect_seen(relay: &Relay, segment: &Segment) -> (Raw, usize) {
    let before: Vec<_> = segment.all().iter().map(|c| c.accepted).collect();
    let raw = relay.connect();
    let worker = eventually("someone accepts", || {
        segment.all().iter().zip(&before).position(|(now, then)| now.accepted > *then)
    });
    (raw, worker)
}

/// How one side of a transfer ended, and when it knew.
struct Verdict {
    ok: bool,
    what: String,
    at: Instant,
}

fn send_paced(mut raw: Raw, session: &Session, payload: &Payload) -> Verdict {
    let verdict = |ok, what| Verdict { ok, what, at: Instant::now() };
    raw.request("PUT", &session.path, &[("Content-Length", &payload.len().to_string())]);
    let mut offset = 0;
    while offset < payload.len() {
        let slice = payload.at(offset);
        let slice = &slice[..slice.len().min(SLICE_BYTES)];
        if raw.try_send(slice).is_err() || raw.has_news() {
            break;
        }
        offset += slice.len() as u64;
        thread::sleep(REST);
    }
    match raw.try_read_response() {
        Ok(answer) => {
            let whole = answer.status() == 200 && answer.head.delivered_bytes() == payload.len();
            verdict(whole, format!("{} {}", answer.status(), answer.text()))
        }
        Err(e) => verdict(false, format!("no answer: {e}")),
    }
}

fn receive(mut raw: Raw, session: &Session, payload: &Payload) -> Verdict {
    raw.get(&session.path);
    let mut bytes = 0;
    let mut wrong = None;
    let (ok, what) = match raw.try_read_head() {
        Ok(head) if head.status == 200 => {
            let ending = raw.read_body(&head, |piece| {
                wrong = wrong.or(payload.first_difference(bytes, piece));
                bytes += piece.len() as u64;
            });
            (
                ending == Ending::Complete && bytes == payload.len(),
                format!("{bytes} bytes, {ending:?}"),
            )
        }
        Ok(head) => (false, format!("{}", head.status)),
        Err(e) => (false, format!("no head: {e}")),
    };
    let at = Instant::now();
    assert_eq!(wrong, None, "foreign or misplaced bytes");
    Verdict { ok, what, at }
}

/// Connects again and again until told to stop; every connect must be taken.
fn knock(relay: &Relay, stop: &AtomicBool) -> usize {
    let mut knocks = 0;
    while !stop.load(Ordering::Relaxed) {
        match TcpStream::connect(relay.address()) {
            Ok(_) => knocks += 1,
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                panic!("refused after {knocks} knocks")
            }
            Err(e) => panic!("knocking: {e}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    knocks
}

#[over_both]
fn heavy_a_worker_killed_under_sixty_transfers_harms_only_its_own() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let sessions: Vec<_> = (0..TRANSFERS).map(|_| relay.session()).collect();
    let payloads: Vec<_> = (0..TRANSFERS).map(|i| Payload::new(i as u64, TRANSFER_BYTES)).collect();
    let pairs: Vec<_> = sessions
        .iter()
        .map(|_| (connect_seen(&relay, &segment), connect_seen(&relay, &segment)))
        .collect();
    let placed: Vec<_> =
        pairs.iter().map(|((_, receiver), (_, sender))| (*receiver, *sender)).collect();
    let victim = placed[0].0;
    let victim_pid = relay.worker_pids()[victim];
    let bytes_before = segment.sum().bytes_in;
    let stop = AtomicBool::new(false);
    let finished = AtomicUsize::new(0);
    let (killed_at, verdicts) = thread::scope(|scope| {
        let knocking = scope.spawn(|| knock(&relay, &stop));
        let finished = &finished;
        let running: Vec<_> = pairs
            .into_iter()
            .zip(sessions.iter().zip(&payloads))
            .map(|(((receiver, _), (sender, _)), (session, payload))| {
                let receiving = scope.spawn(move || receive(receiver, session, payload));
                let sending = scope.spawn(move || {
                    let verdict = send_paced(sender, session, payload);
                    finished.fetch_add(1, Ordering::Relaxed);
                    verdict
                });
                (receiving, sending)
            })
            .collect();
        let third = TRANSFERS as u64 * TRANSFER_BYTES / 3;
        // A sender whose receiver has had no byte would go on waiting for another receiver.
        eventually("a third has moved, and some to each receiver", || {
            let moved = segment.sum().bytes_in - bytes_before;
            (moved > third && segment.receiving() == TRANSFERS).then_some(())
        });
        assert_eq!(finished.load(Ordering::Relaxed), 0, "all run when the worker dies");
        let killed_at = Instant::now();
        victim_pid.signal(Signal::SIGKILL);
        let verdicts: Vec<_> =
            running.into_iter().map(|(r, s)| (r.join().unwrap(), s.join().unwrap())).collect();
        eventually("the worker is back", || {
            let pids = relay.worker_pids();
            (pids.len() == 4 && !pids.contains(&victim_pid)).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        assert!(knocking.join().unwrap() > 20);
        (killed_at, verdicts)
    });
    for ((receiver_on, sender_on), (receiver, sender)) in placed.iter().zip(&verdicts) {
        let place = format!(
            "receiver on {receiver_on}: {}; sender on {sender_on}: {}",
            receiver.what, sender.what
        );
        if *receiver_on != victim && *sender_on != victim {
            assert!(receiver.ok && sender.ok, "untouched by {victim}, yet {place}");
            continue;
        }
        assert!(!receiver.ok && !sender.ok, "an end on {victim}, yet {place}");
        for verdict in [receiver, sender] {
            let after = verdict.at.duration_since(killed_at);
            assert!(after <= NEWS_WITHIN, "{after:?} to know, {place}");
        }
        if *sender_on != victim {
            assert!(
                sender.what.starts_with("502 ") && sender.what.contains("peer worker lost"),
                "{place}"
            );
        }
    }
    assert!(verdicts.iter().any(|(r, _)| r.ok), "some pair had no end on the victim");
    for session in &sessions {
        let over = relay.connect().request("HEAD", &session.path, &[]).read_response().status();
        if over == 200 {
            session.transfer(&Payload::new(99, 100_000), Shape::Length);
        }
    }
    relay.expect_nothing_held(&segment, &fds);
    assert_eq!(segment.sessions_live(), 0, "every key was used up");
}

#[over_both]
fn each_side_hears_at_once_when_the_others_worker_dies() {
    for victim in [0, 1] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let fds = relay.fd_counts();
        let session = relay.session();
        let payload = Payload::new(1, 1 << 20);
        let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
        receiver.get(&session.path);
        sender
            .request("PUT", &session.path, &[("Content-Length", "1048576")])
            .send(&payload.bytes()[..500_000]);
        receiver.read_checked_part(&payload, 500_000);
        relay.worker_pids()[victim].signal(Signal::SIGKILL);
        let begun = Instant::now();
        if victim == 0 {
            let answer = sender.read_response().expect_error(502);
            assert!(answer.text().contains("peer worker lost"), "{}", answer.text());
            assert!(answer.head.delivered_bytes() <= 500_000);
        } else {
            assert!(receiver.is_gone_within(Duration::from_secs(5)));
        }
        assert!(begun.elapsed() < NEWS_WITHIN, "{:?}", begun.elapsed());
        drop((receiver, sender));
        eventually("the worker is back", || (relay.worker_pids().len() == 2).then_some(()));
        session.transfer(&payload, Shape::Form);
        relay.expect_nothing_held(&segment, &fds);
    }
}

#[over_both]
fn a_pair_that_has_not_begun_leaves_nothing_behind() {
    for victim in [0, 1] {
        let relay = Relay::with(2, &[]);
        let segment = relay.segment();
        let fds = relay.fd_counts();
        let session = relay.session();
        let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
        receiver.get(&session.path);
        let fields = [("Content-Length", "5"), ("Expect", "100-continue")];
        sender.request("PUT", &session.path, &fields).read_continue();
        relay.worker_pids()[victim].signal(Signal::SIGKILL);
        let lost = if victim == 0 { &mut receiver } else { &mut sender };
        assert!(lost.is_gone_within(Duration::from_secs(5)));
        eventually("the worker is back", || (relay.worker_pids().len() == 2).then_some(()));
        // The other side either waits on for a new peer or was told; no client is left half-paired.
        let payload = Payload::new(4, 5);
        if victim == 0 {
            sender.patience(Duration::from_millis(200));
            match sender.try_read_response() {
                Ok(answer) => drop(answer.expect_error(502)),
                Err(_) => drop(sender),
            }
        } else {
            drop(receiver);
        }
        segment.wait_until_held(0);
        session.transfer(&payload, Shape::Length);
        relay.expect_nothing_held(&segment, &fds);
    }
}

/// Makes one transfer after another until told to stop; a side that says all went well must be right.
fn transfer_on_and_on(relay: &Relay, seed: u64, stop: &AtomicBool) -> usize {
    let mut completed = 0;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let issued = relay.connect().request("POST", "/", &[]).try_read_response();
        let Ok(issued) = issued else { continue };
        let url = issued.head.must("Location").to_owned();
        let path = url.strip_prefix(&relay.url("")).unwrap().to_owned();
        let payload = Payload::new(seed * 1_000_000 + number, (seed * number * 7919) % 300_000);
        let (mut receiver, mut sender) = (relay.connect(), relay.connect());
        let (received, sent) = thread::scope(|scope| {
            let receiving = scope.spawn(|| {
                receiver.patience(Duration::from_secs(30));
                receiver.try_request("GET", &path, &[]).ok()?;
                let answer = receiver.try_read_response().ok()?;
                (answer.status() == 200).then_some(answer)
            });
            let sending = scope.spawn(|| {
                let length = payload.len().to_string();
                let head = sender.try_request("PUT", &path, &[("Content-Length", &length)]);
                let _ = head.and_then(|()| payload.write_to(&mut sender));
                sender.try_read_response().ok()
            });
            let sent = sending.join().unwrap();
            if sent.as_ref().is_none_or(|answer| answer.status() != 200) {
                // The receiver may wait for another sender, but none will come.
                let bearer = issued.head.must("Set-Cookie").split(';').next().unwrap().to_owned();
                let _ = relay.connect().try_request("DELETE", &path, &[("Cookie", &bearer)]);
            }
            (receiving.join().unwrap(), sent)
        });
        if let Some(answer) = &received {
            assert_eq!(payload.first_difference(0, &answer.body), None, "foreign bytes");
            let whole = answer.ending == Ending::Complete;
            assert!(!whole || answer.body.len() as u64 == payload.len(), "short and complete");
        }
        if sent.is_some_and(|answer| answer.status() == 200) {
            let answer = received.expect("delivered without a receiver");
            assert_eq!(answer.ending, Ending::Complete);
            completed += 1;
        }
    }
    completed
}

#[over_http("load is tested once")]
fn heavy_workers_killed_again_and_again_under_load_leak_nothing() {
    let lines = ["timeouts.session_lifetime = \"20s\"", "limits.sessions_per_address_max = 0"];
    let relay = Relay::with(4, &lines);
    let segment = relay.segment();
    let fds = relay.fd_counts();
    let stop = AtomicBool::new(false);
    let completed: usize = thread::scope(|scope| {
        let (relay, stop) = (&relay, &stop);
        let loops: Vec<_> = (1..=12)
            .map(|seed| scope.spawn(move || transfer_on_and_on(relay, seed, stop)))
            .collect();
        for round in 0..20 {
            thread::sleep(Duration::from_millis(250));
            let pids = relay.worker_pids();
            if let Some(pid) = pids.get(round % pids.len().max(1)) {
                pid.signal(Signal::SIGKILL);
            }
        }
        stop.store(true, Ordering::Relaxed);
        loops.into_iter().map(|l| l.join().unwrap()).sum()
    });
    assert!(completed > 50, "{completed} transfers between the deaths");
    eventually_within(Duration::from_secs(60), "all are back", || {
        (relay.worker_pids().len() == 4).then_some(())
    });
    relay.expect_nothing_held(&segment, &fds);
    relay.session().transfer(&Payload::new(9, 1_000_000), Shape::Length);
}

#[over_both]
fn a_place_held_by_a_dead_workers_wait_is_free_again() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.session();
    let mut waiting = relay.on_worker(0, &segment, || relay.connect());
    waiting.get(&session.path);
    segment.wait_until_held(1);
    relay.worker_pids()[0].signal(Signal::SIGKILL);
    assert!(waiting.is_gone_within(Duration::from_secs(5)));
    segment.wait_until_held(0);
    session.transfer(&Payload::new(2, 1000), Shape::Length);
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn workers_that_die_again_and_again_come_back_with_patience() {
    let relay = Relay::with(2, &[]);
    let survivor = relay.worker_pids()[0];
    let begun = Instant::now();
    let mut deaths = 0;
    let mut last = None;
    while begun.elapsed() < Duration::from_secs(3) {
        let young = relay.worker_pids().into_iter().find(|p| *p != survivor && Some(*p) != last);
        if let Some(pid) = young {
            pid.signal(Signal::SIGKILL);
            last = Some(pid);
            deaths += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!((2..100).contains(&deaths), "{deaths} lives in three seconds");
    assert!(survivor.is_alive());
    relay.session().transfer(&Payload::new(3, 1000), Shape::Length);
    eventually_within(Duration::from_secs(60), "both are back", || {
        (relay.worker_pids().len() == 2 && relay.worker_pids().iter().all(|p| p.is_alive()))
            .then_some(())
    });
}

#[over_both]
fn workers_leave_when_the_master_dies() {
    let mut relay = Relay::with(4, &[]);
    let workers = relay.worker_pids();
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    relay.kill_master();
    for worker in &workers {
        assert!(
            Pid::is_gone_within(*worker, Duration::from_secs(3)),
            "{worker:?} outlives its master"
        );
    }
    assert!(waiting.is_gone_within(Duration::from_secs(3)));
    assert!(TcpStream::connect(relay.address()).is_err(), "nobody holds the port");
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_master_killed_before_it_serves_leaves_nobody() {
    // The workers stop at their first call of epoll_create1(2).
    let (calls, effect, when) = ("epoll_create1", "signal=SIGSTOP", "1");
    let start = Start::with(&Fault { calls, effect, when });
    eventually("workers stand still", || {
        let children = start.master().children();
        let still = |p: &Pid| p.read("status").contains("\nState:\tt");
        (children.len() == 2 && children.iter().all(still)).then_some(())
    });
    start.master().signal(Signal::SIGKILL);
    eventually_within(LEAVE_WITHIN, "all are gone", || {
        start.master().group().is_empty().then_some(())
    });
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_master_killed_while_others_drain_or_stand_still_leaves_nobody() {
    let mut relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    relay.segment().wait_until_held(1);
    relay.reload(2, &[]);
    let children = relay.master().children();
    assert_eq!(children.len(), 3, "one drains");
    let _stopped = Stopped::hold(&children);
    relay.kill_master();
    for child in children {
        assert!(child.is_gone_within(LEAVE_WITHIN), "{child:?} outlives its master");
    }
    assert!(waiting.is_gone_within(LEAVE_WITHIN));
    assert!(TcpStream::connect(relay.address()).is_err(), "nobody holds the port");
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_master_killed_during_an_upgrade_leaves_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let mut relay = Relay::of(&program, 2, &["timeouts.start_timeout = \"60s\""]);
    let new = directory.path().join("new");
    fs::write(&new, "#!/bin/sh\nexec sleep 60\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, &program).unwrap();
    relay.signal(Signal::SIGUSR2);
    let sleeps = |p: &Pid| p.title() == "sleep 60";
    let children = eventually("the new program is tried", || {
        let children = relay.master().children();
        children.iter().any(sleeps).then_some(children)
    });
    assert_eq!(children.len(), 3);
    relay.kill_master();
    for child in children {
        assert!(child.is_gone_within(LEAVE_WITHIN), "{child:?} outlives its master");
    }
}
