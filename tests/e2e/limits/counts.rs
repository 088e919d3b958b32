//! Limits on all that a stranger can make grow: connections and sessions, in all and of one address, guesses of keys, and
//! the answers at the bounds. An address is limited over all workers together, so most tests have four.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocols::{over_both, over_http};

use crate::harness::{
    ADMIN, BINARY, Head, Payload, Raw, Relay, Response, Session, Shape, eventually,
};

/// Two clients of different addresses, neither of them the tests' usual one.
const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const MODEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// A proxy that is trusted where a test says so.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

/// A large table of permits, so that two addresses next to never need the same entry in it: one of them would then be
/// refused its last permit.
const ROOMY: &str = "limits.connections_max = 100000";

/// The program, with `lines`, that may open so many `files`.
fn with_open_files(files: usize, lines: &[&str]) -> Relay {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={files}:{files}")).arg(BINARY).stdin(Stdio::null());
    Relay::run(command, 1, lines, None)
}

#[over_http("processes, files and sockets do not depend on TLS")]
fn a_limit_that_a_worker_cannot_reach_is_told_with_all_that_it_opens_counted() {
    const CONNECTIONS: usize = 300;
    let lines = ["limits.connections_max = 300", "memory.pipes = 4", ADMIN];
    let others = Relay::with(1, &lines).fd_counts()[0];
    for (files, is_told) in [(CONNECTIONS + others, false), (CONNECTIONS + others - 1, true)] {
        let relay = with_open_files(files, &lines);
        let said = relay.errors();
        assert_eq!(
            said.contains(
                "the open-file limit is too low: one worker could not hold all connections"
            ),
            is_told,
            "{files}: {said}"
        );
    }
}

/// A connection from `source` that was answered, and the status.
fn ask_from(relay: &Relay, source: IpAddr) -> (Raw, u16) {
    let mut raw = Raw::connect_from(source, relay.address());
    // A client that is turned away may have its answer before it asks.
    let _ = raw.try_request("GET", "/", &[]);
    let status = raw.try_read_response().map_or(0, |answer| answer.status());
    (raw, status)
}

/// Connections from `source` that are served, until one is not.
fn fill_from(relay: &Relay, source: IpAddr) -> Vec<Raw> {
    let mut held = Vec::new();
    loop {
        match ask_from(relay, source) {
            (raw, 200) => held.push(raw),
            (_, status) => {
                assert_eq!(status, 429, "after {} were served", held.len());
                return held;
            }
        }
    }
}

/// Opens `count` connections from `source`, all that it can have, once its earlier connections are gone.
fn hold_from(relay: &Relay, source: IpAddr, count: usize) -> Vec<Raw> {
    eventually(&format!("{source} can have {count} connections"), || {
        let held = fill_from(relay, source);
        assert!(held.len() <= count, "{} connections", held.len());
        (held.len() == count).then_some(held)
    })
}

fn expect_429(answer: &Response, text: &str) {
    assert_eq!(answer.status(), 429, "{:#?}", answer.head);
    assert_eq!(answer.head.must("Retry-After"), "1");
    assert!(answer.text().contains(text), "{:?}", answer.text());
}

/// A session that `source` was issued, on a connection of its own. `None`: it has too many.
fn session_from(relay: &Relay, source: IpAddr) -> Option<Session> {
    let mut raw = Raw::connect_from(source, relay.address());
    let answer = raw.request("POST", "/", &[]).read_response();
    if answer.status() == 429 {
        expect_429(&answer, "too many sessions from this address");
        assert!(!answer.head.closes(), "{:#?}", answer.head);
        return None;
    }
    let answer = answer.expect(201);
    let url = answer.head.must("Location").to_owned();
    let path = url.strip_prefix(&relay.url("")).expect(&url).to_owned();
    let cookie = answer.head.must("Set-Cookie").strip_prefix("token=").unwrap().to_owned();
    Some(Session {
        address: relay.address(),
        key: path.trim_start_matches('/').to_owned(),
        token: cookie.split(';').next().unwrap().trim_matches('"').to_owned(),
        url,
        path,
    })
}

/// Sessions that `source` is issued, until it is not.
fn sessions_from(relay: &Relay, source: IpAddr) -> Vec<Session> {
    std::iter::from_fn(|| session_from(relay, source)).collect()
}

fn delete(session: &Session) {
    let bearer = format!("Bearer {}", session.token);
    let mut raw = session.connect();
    raw.request("DELETE", &session.path, &[("Authorization", &bearer)]).read_response().expect(200);
}

#[over_both]
fn connections_beyond_the_limit_are_not_served_and_the_others_are() {
    let relay = Relay::with(2, &["limits.connections_max = 20"]);
    let segment = relay.segment();
    let session = relay.session();
    eventually("the issuer is gone", || (segment.sum().open == 0).then_some(()));
    let mut held: Vec<_> = (0..20).map(|_| relay.connect()).collect();
    for raw in &mut held {
        raw.get("/").read_response().expect(200);
    }
    let mut beyond = relay.connect();
    beyond.patience(Duration::from_secs(3));
    let _ = beyond.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = beyond.try_read_response().unwrap();
    assert_eq!(answer.status(), 503, "{:#?}", answer.head);
    drop(beyond);
    let (mut receiver, mut sender) = (held.pop().unwrap(), held.pop().unwrap());
    receiver.get(&session.path);
    sender.put(&session.path, b"inside");
    assert_eq!(receiver.read_response().expect(200).body, b"inside");
    sender.read_response().expect(200);
    drop((receiver, sender, held));
    eventually("room again", || (segment.sum().open == 0).then_some(()));
    relay.session().transfer(&Payload::new(1, 10), Shape::Length);
}

#[over_http("TLS does not change requests and answers")]
fn sessions_are_given_back_one_for_one() {
    let relay = Relay::with(2, &["memory.sessions_max = 5"]);
    let segment = relay.segment();
    for round in 0..40 {
        let session = relay.session();
        if round % 2 == 0 {
            session.transfer(&Payload::new(round, 100), Shape::Length);
        } else {
            let bearer = format!("Bearer {}", session.token);
            let mut raw = relay.connect();
            raw.request("DELETE", &session.path, &[("Authorization", &bearer)])
                .read_response()
                .expect(200);
        }
        assert_eq!(segment.sessions_live(), 0, "round {round}");
    }
}

#[over_both]
fn an_address_has_exactly_its_connections_over_all_workers() {
    let relay = Relay::with(4, &[ROOMY, "limits.connections_per_address_max = 13"]);
    let segment = relay.segment();
    for _ in 0..3 {
        let held = fill_from(&relay, GREEDY);
        assert_eq!(held.len(), 13);
        let busy = segment.all().iter().filter(|worker| worker.open > 0).count();
        assert!(busy > 1, "one worker has them all");
        let mut beyond = Raw::connect_from(GREEDY, relay.address());
        let answer = beyond.read_response();
        expect_429(&answer, "too many connections from this address");
        assert!(answer.head.closes(), "{:#?}", answer.head);
        beyond.expect_close();
        // Meanwhile another address is served as usual.
        let session = session_from(&relay, MODEST).unwrap();
        session.transfer(&Payload::new(1, 1000), Shape::Length);
        hold_from(&relay, MODEST, 13);
        drop((held, beyond));
        hold_from(&relay, GREEDY, 13);
        eventually("all are gone", || (segment.sum().open == 0).then_some(()));
    }
}

#[over_both]
fn those_that_are_turned_away_do_not_fill_the_relay() {
    let lines = ["limits.connections_max = 40", "limits.connections_per_address_max = 4"];
    let relay = Relay::with(4, &lines);
    let _flood: Vec<_> = (0..200).map(|_| Raw::connect_from(GREEDY, relay.address())).collect();
    let modest = (0..8).map(|i| IpAddr::V4(Ipv4Addr::new(127, 0, 1, i)));
    // The greedy address has 4 connections that are served, and 4 that are told why they are not.
    let held: Vec<_> =
        modest.flat_map(|source| [(); 4].map(|()| ask_from(&relay, source))).collect();
    // A client may find its last entry in the table taken by another.
    let served = held.iter().filter(|(_, status)| *status == 200).count();
    assert!(served >= 31, "{served} of 32 are served");
}

/// Connections that get the reason why they are not served, and stay.
fn turned_away(count: usize, connect: impl Fn() -> Raw) -> Vec<Raw> {
    let connected = (0..count).map(|_| {
        let mut raw = connect();
        assert!(matches!(raw.read_response().status(), 429 | 503));
        raw
    });
    connected.collect()
}

#[over_both]
fn those_that_are_turned_away_do_not_keep_a_full_relay_full() {
    let lines = ["limits.connections_max = 32", "timeouts.linger_timeout = \"60s\""];
    let relay = Relay::with(1, &lines);
    let segment = relay.segment();
    let ask = |raw: &mut Raw| raw.get("/").read_response().expect(200);
    let mut held: Vec<_> = (0..32).map(|_| relay.connect()).collect();
    held.iter_mut().for_each(|raw| drop(ask(raw)));
    let _stay = turned_away(4, || relay.connect());
    for _ in 0..3 {
        drop(held.pop());
        eventually("one has left", || (segment.sum().open == 31).then_some(()));
        let mut next = relay.connect();
        ask(&mut next);
        held.push(next);
    }
    // No more than an eighth of them get the reason.
    assert!(relay.connect().is_gone_within(Duration::from_secs(10)), "it is told as well");
}

#[over_http("TLS does not change requests and answers")]
fn those_that_a_balancer_names_and_that_are_turned_away_do_not_fill_the_relay() {
    let lines = [
        "trusted_proxies = [\"127.0.0.7\"]",
        "limits.connections_max = 32",
        "limits.connections_per_address_max = 4",
        "timeouts.linger_timeout = \"60s\"",
        "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true",
    ];
    let relay = Relay::with(1, &lines);
    let segment = relay.segment();
    let named = || {
        let mut raw = Raw::connect_from(PROXY, relay.listener(1));
        raw.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n");
        raw
    };
    let mut served: Vec<_> = (0..4).map(|_| named()).collect();
    served.iter_mut().for_each(|raw| drop(raw.get("/").read_response().expect(200)));
    let _stay = turned_away(4, named);
    let _more: Vec<_> = (0..40).map(|_| named()).collect();
    eventually("they count for nobody", || (segment.sum().open == 4).then_some(()));
    for last in 0..20 {
        let mut raw =
            Raw::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), relay.address());
        raw.get("/").read_response().expect(200);
        served.push(raw);
    }
}

#[over_both]
fn one_that_is_turned_away_leaves_soon_whatever_it_does() {
    let lines = [
        "limits.connections_per_address_max = 8",
        "timeouts.linger_timeout = \"500ms\"",
        "timeouts.head_timeout = \"60s\"",
        "timeouts.handshake_timeout = \"60s\"",
    ];
    let relay = Relay::https(1, &lines);
    let mut served: Vec<_> = (0..8).map(|_| relay.connect()).collect();
    served.iter_mut().for_each(|raw| drop(raw.get("/").read_response().expect(200)));
    // The client never sends a byte of TLS.
    let mut silent = Raw::connect_plain(relay.address());
    assert!(silent.is_gone_within(Duration::from_secs(10)), "it may stay");
}

#[over_both]
fn connections_are_unlimited_where_the_configuration_says_so() {
    let lines = ["limits.connections_per_address_max = 0", "limits.sessions_per_address_max = 0"];
    let relay = Relay::with(1, &lines);
    let held: Vec<_> = (0..1100).map(|_| ask_from(&relay, GREEDY)).collect();
    assert!(held.iter().all(|(_, status)| *status == 200));
    assert!((0..1100).all(|_| session_from(&relay, MODEST).is_some()));
}

#[over_http("TLS does not change requests and answers")]
fn an_address_has_exactly_its_sessions_over_all_workers() {
    let relay = Relay::with(4, &[ROOMY, "limits.sessions_per_address_max = 9"]);
    let mut sessions = sessions_from(&relay, GREEDY);
    assert_eq!(sessions.len(), 9);
    assert!(session_from(&relay, MODEST).is_some(), "another's sessions are its own");
    sessions.pop().unwrap().transfer(&Payload::new(1, 1000), Shape::Length);
    delete(&sessions.pop().unwrap());
    let freed = sessions_from(&relay, GREEDY);
    assert_eq!(freed.len(), 2, "one was complete, one was deleted");
    // A transfer that failed leaves the session, and its issuer's share, as they were.
    let mut sender = sessions[0].connect();
    sender.request("PUT", &sessions[0].path, &[("Content-Length", "7")]).send(b"abc");
    let mut receiver = sessions[0].connect();
    receiver.get(&sessions[0].path).read_head();
    drop((sender, receiver));
    assert!(session_from(&relay, GREEDY).is_none());
}

#[over_both]
fn sessions_that_expire_make_room_for_their_issuer() {
    let lines =
        [ROOMY, "limits.sessions_per_address_max = 4", "timeouts.session_lifetime = \"2s\""];
    let relay = Relay::with(4, &lines);
    let mut rounds = 0;
    for _ in 0..6 {
        let began = Instant::now();
        let sessions = sessions_from(&relay, GREEDY);
        // If that took longer than a session lives, the place of a session may have been reused.
        if began.elapsed() < Duration::from_secs(2) {
            assert_eq!(sessions.len(), 4);
            rounds += 1;
        }
        if rounds == 2 {
            return;
        }
        // Only their issuer looks at these sessions: no client takes a place in them or leaves one.
        for session in &sessions {
            eventually("it has expired", || {
                let head = session.connect().request("HEAD", &session.path, &[]).read_response();
                (head.status() == 404).then_some(())
            });
        }
    }
    panic!("too slow a machine: {rounds} of 2 rounds were quick enough to tell");
}

#[over_http("TLS does not change requests and answers")]
fn guesses_beyond_the_budget_are_429_while_good_keys_work() {
    let relay = Relay::with(4, &[]);
    let good = relay.session();
    let dead = relay.session();
    delete(&dead);
    let never = format!("/{}", "A".repeat(good.key.len()));
    let ask = |source, path: &str| {
        let mut raw = Raw::connect_from(source, relay.address());
        raw.request("HEAD", path, &[]).read_response()
    };
    // The relay counts 20 guesses in each second of its clock that this loop touches.
    let began = Instant::now();
    let all: Vec<_> = (0..60).map(|_| ask(GREEDY, &never).status()).collect();
    let counted = all.iter().filter(|status| **status == 404).count();
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!((20..=20 * seconds).contains(&counted), "{all:?}");
    assert!(all.iter().all(|status| matches!(status, 404 | 429)), "{all:?}");
    eventually("all in one second", || {
        (0..40).for_each(|_| drop(ask(GREEDY, &never)));
        let before = ask(GREEDY, &never);
        let known = ask(GREEDY, &good.path).expect(200);
        // Two addresses may meet in one word of the table, though not again and again.
        if ask(MODEST, &never).status() != 404 {
            return None;
        }
        drop(known);
        let answers = [before, ask(GREEDY, &dead.path), ask(GREEDY, &format!("{never}/"))];
        let told = answers.iter().all(|answer| answer.status() == 429);
        let same = |head: &Head| {
            head.fields.iter().filter(|(name, _)| name != "Date").cloned().collect::<Vec<_>>()
        };
        assert!(!told || answers.iter().all(|answer| same(&answer.head) == same(&answers[0].head)));
        told.then_some(())
    });
    // A client with too many guesses can still use a connection.
    let mut raw = Raw::connect_from(GREEDY, relay.address());
    let answer = eventually("one too many", || {
        let answer = raw.get(&never).read_response();
        (answer.status() == 429).then_some(answer)
    });
    expect_429(&answer, "too many unknown session keys from this address");
    assert!(!answer.head.closes());
    good.transfer(&Payload::new(2, 1000), Shape::Length);
    eventually("the next second", || {
        (raw.get(&never).read_response().status() == 404).then_some(())
    });
}

#[over_both]
fn a_killed_worker_leaves_its_addresses_their_whole_share() {
    let lines =
        [ROOMY, "limits.connections_per_address_max = 12", "limits.sessions_per_address_max = 6"];
    let relay = Relay::with(4, &lines);
    let segment = relay.segment();
    let sessions = sessions_from(&relay, MODEST);
    assert_eq!(sessions.len(), 6);
    for _ in 0..4 {
        let mut held = hold_from(&relay, GREEDY, 12);
        let busiest = (0..4).max_by_key(|worker| segment.counters(*worker).open).unwrap();
        let dying = relay.worker_pids()[busiest];
        dying.signal(Signal::SIGKILL);
        eventually("another lives", || {
            let pids = relay.worker_pids();
            (pids.len() == 4 && !pids.contains(&dying)).then_some(())
        });
        held.retain_mut(|raw| !raw.is_gone_within(Duration::from_millis(20)));
        assert!(held.len() < 12, "the dead one had none");
        hold_from(&relay, GREEDY, 12 - held.len());
    }
    // Sessions outlive the workers that issued them, and so do their permits.
    assert!(session_from(&relay, MODEST).is_none());
    sessions.iter().for_each(delete);
    assert_eq!(sessions_from(&relay, MODEST).len(), 6);
}

/// A `GET` of `path` for `client`, by the proxy.
fn forward(raw: &mut Raw, path: &str, client: &str) {
    raw.request("GET", path, &[("X-Forwarded-For", client)]);
}

#[over_http("TLS does not change requests and answers")]
fn behind_a_trusted_proxy_each_client_has_its_own_share() {
    let lines = [
        ROOMY,
        "trusted_proxies = [\"127.0.0.7\"]",
        "limits.connections_per_address_max = 2",
        "limits.sessions_per_address_max = 0",
    ];
    let relay = Relay::with(4, &lines);
    let connect = || Raw::connect_from(PROXY, relay.address());
    let wait_for = |client| {
        let mut raw = connect();
        forward(&mut raw, &relay.session().path, client);
        raw
    };
    let segment = relay.segment();
    let all_wait = |count| {
        segment.wait_until_held(count);
    };
    // A proxy's connection counts for the client of its last request at most.
    let mut idle: Vec<_> = (0..10).map(|_| connect()).collect();
    for (number, raw) in idle.iter_mut().enumerate() {
        for client in ["192.0.2.1".to_owned(), format!("198.51.100.{number}")] {
            forward(raw, "/", &client);
            raw.read_response().expect(200);
        }
    }
    let waiting = [wait_for("192.0.2.1"), wait_for("192.0.2.1")];
    all_wait(2);
    for raw in &mut idle[..2] {
        forward(raw, "/", "192.0.2.1");
        let answer = raw.read_response();
        expect_429(&answer, "too many connections from this address");
        assert!(answer.head.closes());
        raw.expect_close();
    }
    forward(&mut idle[3], "/", "192.0.2.2");
    idle[3].read_response().expect(200);
    drop(waiting);
    all_wait(0);
    eventually("room for the first", || {
        let mut raw = connect();
        forward(&mut raw, "/", "192.0.2.1");
        (raw.read_response().status() == 200).then_some(())
    });
    // A subscriber has a whole IPv6 network.
    let _waiting = [wait_for("2001:db8:0:1::1"), wait_for("2001:db8:0:1:ffff::")];
    all_wait(2);
    forward(&mut idle[4], "/", "2001:db8:0:1::3");
    idle[4].read_response().expect_error(429);
    forward(&mut idle[5], "/", "2001:db8:0:2::1");
    idle[5].read_response().expect(200);
}

#[over_http("TLS does not change requests and answers")]
fn behind_a_balancer_a_connection_counts_once_its_client_is_named() {
    let lines = [
        ROOMY,
        "trusted_proxies = [\"127.0.0.7\"]",
        "limits.connections_per_address_max = 2",
        "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true",
    ];
    let relay = Relay::with(4, &lines);
    let mut nameless: Vec<_> =
        (0..5).map(|_| Raw::connect_from(PROXY, relay.listener(1))).collect();
    for (number, raw) in nameless.iter_mut().enumerate() {
        raw.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1000 80\r\n");
        if number < 2 {
            raw.get("/").read_response().expect(200);
        } else {
            expect_429(&raw.read_response(), "too many connections from this address");
            raw.expect_close();
        }
    }
    let mut other = Raw::connect_from(PROXY, relay.listener(1));
    other.send(b"PROXY TCP4 192.0.2.2 192.0.2.9 1000 80\r\n");
    other.get("/").read_response().expect(200);
}
