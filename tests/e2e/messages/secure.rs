//! Secure sessions: only the host and the one address that it permits may use them.

use std::net::Ipv4Addr;

use protocols::{over_both, over_http};

use crate::harness::{MOUNT, MessageSession, Relay, Role, Stopped};

/// An address of this machine's own.
fn local(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

fn secure(relay: &Relay) -> MessageSession {
    relay.message_session_by(MOUNT, &[("X-Type", "secure")])
}

fn permit(session: &MessageSession, address: &str) {
    session.host().ask("PUT", &[("X-Peer-Address", address)]).read_response().expect_empty(200);
}

/// A guest at each of some addresses, by either way of asking.
#[track_caller]
fn expect_refused(session: &MessageSession, addresses: impl Iterator<Item = u8>) {
    for last in addresses {
        let mut guest = session.party_from(Role::Guest, local(last));
        guest.poll().read_response().expect_error(403);
        guest.post("text/plain", b"let me in");
        let answer = guest.read_response().expect_error(403);
        assert!(answer.head.closes(), "with a body unread");
    }
}

#[track_caller]
fn expect_passes(session: &MessageSession, guest: Ipv4Addr) {
    for from in Role::BOTH {
        let mut guest = session.party_from(Role::Guest, guest);
        let mut host = session.host();
        let (sender, receiver) = match from {
            Role::Guest => (&mut guest, &mut host),
            Role::Host => (&mut host, &mut guest),
        };
        receiver.poll();
        sender.post("text/plain", b"hello");
        assert_eq!(receiver.read_response().expect(200).body, b"hello");
        sender.expect_delivered(5);
    }
}

#[over_both]
fn a_secure_session_refuses_every_other_address() {
    let relay = Relay::with(2, &[]);
    let session = secure(&relay);
    expect_refused(&session, 1..8);
    permit(&session, "127.0.0.3");
    expect_refused(&session, [1, 2, 4, 5, 6, 7, 33, 130].into_iter());
    expect_passes(&session, local(3));
}

#[over_http("TLS does not change requests and answers")]
fn the_host_is_refused_nowhere() {
    let relay = Relay::with(2, &[]);
    let session = secure(&relay);
    permit(&session, "127.0.0.3");
    for last in 1..6 {
        let mut host = session.party_from(Role::Host, local(last));
        host.poll();
        let mut guest = session.party_from(Role::Guest, local(3));
        guest.post("text/plain", b"to you").expect_delivered(6);
        assert_eq!(host.read_response().expect(200).body, b"to you");
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_second_permit_replaces_the_first() {
    let relay = Relay::with(2, &[]);
    let session = secure(&relay);
    for allowed in [2, 3, 2, 200] {
        permit(&session, &local(allowed).to_string());
        expect_refused(&session, [1, 2, 3, 200].into_iter().filter(|last| *last != allowed));
        expect_passes(&session, local(allowed));
    }
}

#[over_both]
fn a_guest_that_waits_is_sent_away_when_another_is_permitted() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = secure(&relay);
    permit(&session, "127.0.0.2");
    let mut polls = session.party_from(Role::Guest, local(2));
    polls.poll();
    let mut sends = session.party_from(Role::Guest, local(2));
    sends.post("text/plain", b"hello");
    segment.wait_until_held(2);
    permit(&session, "127.0.0.3");
    polls.read_response().expect_error(403);
    sends.read_response().expect_error(403);
    expect_passes(&session, local(3));
}

#[over_http("TLS does not change requests and answers")]
fn an_address_of_the_other_family_permits_nobody_here() {
    let relay = Relay::with(1, &[]);
    let session = secure(&relay);
    for address in ["::1", "2001:db8::7", "2001:DB8:0:0:0:0:0:7"] {
        permit(&session, address);
        expect_refused(&session, 1..3);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_malformed_or_missing_address_is_400_and_changes_nothing() {
    let relay = Relay::with(1, &[]);
    let session = secure(&relay);
    permit(&session, "127.0.0.2");
    let values = ["", "localhost", "127.0.0", "127.0.0.2.3", "127.0.0.256", "127.0.0.0/8", ":::1"];
    for value in values {
        let fields = [("X-Peer-Address", value)];
        session.host().ask("PUT", &fields).read_response().expect_error(400);
    }
    session.host().ask("PUT", &[]).read_response().expect_error(400);
    expect_passes(&session, local(2));
    expect_refused(&session, 3..4);
}

#[over_http("TLS does not change requests and answers")]
fn only_the_host_permits() {
    let relay = Relay::with(1, &[]);
    let session = secure(&relay);
    let fields = [("X-Peer-Address", "127.0.0.1")];
    session.guest().ask("PUT", &fields).read_response().expect_error(403);
    let wrong = format!("token=\"{}x\"", session.token);
    session.guest().says_cookie(wrong).ask("PUT", &fields).read_response().expect_error(403);
    permit(&session, "127.0.0.2");
    session.party_from(Role::Guest, local(2)).ask("PUT", &fields).read_response().expect_error(403);
    expect_refused(&session, 1..2);
}

#[over_http("TLS does not change requests and answers")]
fn a_basic_session_permits_nobody_as_it_refuses_nobody() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let fields = [("X-Peer-Address", "127.0.0.2")];
    session.host().ask("PUT", &fields).read_response().expect_error(400);
    expect_passes(&session, local(5));
}

#[over_http("TLS does not change requests and answers")]
fn secure_can_be_asked_for_in_the_query() {
    let relay = Relay::with(1, &[]);
    let mut raw = relay.connect();
    let target = format!("{MOUNT}?secure=true");
    let answer = raw.request("PUT", &target, &[]).read_response().expect_empty(201);
    assert_eq!(answer.head.must("X-Type"), "secure");
    let session = relay.message_session_by(&target, &[]);
    expect_refused(&session, 1..3);
    permit(&session, "127.0.0.1");
    expect_passes(&session, local(1));
}

/// The host need not wait for the old guest to hear of it: its next message is for the new one.
#[over_http("a client of TLS sends no request before its handshake")]
fn a_message_right_after_a_permit_waits_for_the_new_guest() {
    let relay = Relay::with(1, &[]);
    let segment = relay.segment();
    for _ in 0..3 {
        let session = secure(&relay);
        permit(&session, "127.0.0.2");
        let mut old = session.party_from(Role::Guest, local(2));
        old.poll();
        segment.wait_until_held(1);
        let mut host = session.host();
        // The worker serves both requests in one turn, before the old guest has its turn.
        let stopped = Stopped::hold(&relay.worker_pids());
        host.ask("PUT", &[("X-Peer-Address", "127.0.0.3")]).post("text/plain", b"for the new one");
        drop(stopped);
        host.read_response().expect_empty(200);
        old.read_response().expect_error(403);
        let mut new = session.party_from(Role::Guest, local(3));
        new.poll();
        assert_eq!(new.read_response().expect(200).body, b"for the new one");
        host.expect_delivered(15);
        session.delete().expect_empty(200);
        segment.wait_until_held(0);
    }
}
