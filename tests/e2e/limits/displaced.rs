//! When all sessions are in use, a session without clients gives way; when all connections are open, an idle one does.
//! The network that has the most loses one, and only to a network that has fewer.

use std::net::{IpAddr, Ipv4Addr};

use protocols::over_both;

use crate::harness::{ADMIN, Payload, Raw, Relay, Session, Shape};

/// Eight addresses that may have five sessions each fill it.
const FORTY: [&str; 2] = ["memory.sessions_max = 40", "limits.sessions_per_address_max = 5"];

fn greedy(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 8, number).into()
}

/// Returns the answer to `client`, which asks for a session through a proxy.
fn ask(relay: &Relay, client: &str) -> u16 {
    let fields = [("X-Forwarded-For", client)];
    relay.connect().request("POST", "/", &fields).read_response().status()
}

/// How often `source` is issued a session, of so many `tries`.
fn fill(relay: &Relay, source: IpAddr, tries: usize) -> usize {
    let mut raw = Raw::connect_from(source, relay.address());
    let mut statuses = (0..tries).map(|_| raw.request("POST", "/", &[]).read_response().status());
    let issued = statuses.by_ref().take_while(|status| *status == 201).count();
    assert!(statuses.all(|status| matches!(status, 201 | 429 | 503)));
    issued
}

fn is_known(session: &Session) -> bool {
    session.connect().request("HEAD", &session.path, &[]).read_response().status() == 200
}

#[over_both]
fn who_fills_the_relay_with_sessions_loses_them_to_who_has_fewer() {
    let relay = Relay::with(2, &[&FORTY[..], &[ADMIN]].concat());
    let issued: usize = (1..=9).map(|number| fill(&relay, greedy(number), 8)).sum();
    assert_eq!(relay.segment().sessions_live(), 40);
    assert!(issued >= 40, "{issued}");
    // Our sessions are issued all the same, survive more requests from the others, and work.
    let ours: Vec<_> = (0..3).map(|_| relay.session()).collect();
    (1..=9).for_each(|number| _ = fill(&relay, greedy(number), 8));
    assert!(ours.iter().all(is_known));
    for (seed, session) in (1..).zip(&ours) {
        session.transfer(&Payload::new(seed, 100_000), Shape::Length);
    }
    let displaced = relay.metrics().value("sessions_ended_total{cause=\"displaced\"}");
    assert!(displaced >= 3, "{displaced}");
}

#[over_both]
fn a_session_that_somebody_is_in_is_not_displaced() {
    let relay = Relay::with(1, &["memory.sessions_max = 4", "limits.sessions_per_address_max = 0"]);
    let sessions: Vec<_> = (0..4).map(|_| relay.session()).collect();
    let mut receivers: Vec<_> = sessions.iter().map(Session::connect).collect();
    for (receiver, session) in receivers.iter_mut().zip(&sessions) {
        receiver.get(&session.path);
    }
    relay.segment().wait_until_held(4);
    assert_eq!(fill(&relay, greedy(1), 3), 0);
    drop(receivers.pop());
    relay.segment().wait_until_held(3);
    assert_eq!(fill(&relay, greedy(1), 1), 1);
    assert!(!is_known(&sessions[3]));
    assert!(sessions[..3].iter().all(is_known));
}

#[over_both]
fn the_networks_of_one_site_have_a_share_in_common() {
    let relay = Relay::with(2, &[&FORTY[..], &["trusted_proxies = [\"127.0.0.0/8\"]"]].concat());
    let site = |network: usize| format!("2001:db8:7:{network:x}::1");
    let statuses: Vec<_> = (0..20).map(|i| ask(&relay, &site(i))).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 10, "{statuses:?}");
    assert!(statuses[10..].iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(ask(&relay, "2001:db8:8::1"), 201, "another site");
}

/// A single worker has all connections.
const TWENTY: [&str; 2] = ["limits.connections_max = 20", "limits.connections_per_address_max = 0"];

#[over_both]
fn idle_connections_give_way_to_who_has_fewer() {
    let relay = Relay::with(1, &TWENTY);
    let mut idle: Vec<_> = (0..20).map(|_| Raw::connect_from(greedy(1), relay.address())).collect();
    for raw in &mut idle {
        raw.get("/").read_response().expect(200);
    }
    // Another connection of this address is turned away, and an address that has none is served.
    let mut more = Raw::connect_from(greedy(1), relay.address());
    let _ = more.try_request("GET", "/", &[]);
    assert_eq!(more.read_response().status(), 503);
    relay.session().transfer(&Payload::new(1, 100_000), Shape::Form);
    let is_gone = |raw: &mut Raw| {
        raw.try_request("GET", "/", &[]).is_err() || raw.try_read_response().is_err()
    };
    let gone = idle.iter_mut().map(is_gone).filter(|gone| *gone);
    assert!((1..20).contains(&gone.count()));
}

#[over_both]
fn who_waits_gives_way_visibly_and_who_transfers_does_not() {
    let relay = Relay::with(1, &TWENTY);
    let sessions: Vec<_> = (0..19).map(|_| relay.session()).collect();
    let mut waiting: Vec<_> = sessions.iter().map(Session::connect).collect();
    for (raw, session) in waiting.iter_mut().zip(&sessions) {
        raw.get(&session.path);
    }
    relay.segment().wait_until_held(19);
    let mut sender = sessions[0].connect();
    sender.request("PUT", &sessions[0].path, &[("Content-Length", "5")]).send(b"abc");
    waiting[0].read_head();
    let mut other = Raw::connect_from(greedy(1), relay.address());
    other.get("/").read_response().expect(200);
    sender.send(b"de");
    sender.read_response().expect(200);
    assert_eq!(waiting[0].read_exactly(5), b"abcde");
    let told =
        waiting[1..].iter_mut().filter_map(|raw| raw.has_news().then(|| raw.read_response()));
    let told: Vec<_> = told.map(|answer| answer.expect_error(503)).collect();
    assert_eq!(told.len(), 1);
}
