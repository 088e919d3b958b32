//! Host and guest: which party gets whose messages, which is told that a place is taken, and whose cookie is renewed.

use std::time::{Duration, SystemTime};

use protocols::{over_both, over_http};

use crate::harness::{MOUNT, MessageSession, Relay, Role};

const MEANWHILE: Duration = Duration::from_millis(150);

#[over_both]
fn each_partys_message_answers_the_others_poll() {
    let relay = Relay::with(2, &[]);
    let (segment, session) = (relay.segment(), relay.message_session());
    for from in Role::BOTH {
        for sender_first in [false, true] {
            let (mut receiver, mut sender) = (session.party(from.other()), session.party(from));
            if sender_first {
                sender.post("text/plain", b"hello");
                segment.wait_until_held(1);
                receiver.poll();
            } else {
                receiver.poll();
                segment.wait_until_held(1);
                sender.post("text/plain", b"hello");
            }
            assert_eq!(receiver.read_response().expect(200).body, b"hello");
            sender.expect_delivered(5);
            segment.wait_until_held(0);
        }
    }
}

#[over_both]
fn nobody_hears_himself() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    for role in Role::BOTH {
        let (mut receiver, mut sender) = (session.party(role), session.party(role));
        receiver.poll();
        sender.post("text/plain", b"hello");
        receiver.expect_silence(MEANWHILE);
        sender.expect_silence(MEANWHILE);
        let mut other = session.party(role.other());
        assert_eq!(other.poll().read_response().expect(200).body, b"hello");
        sender.expect_delivered(5);
        other.post("text/plain", b"and back").expect_delivered(8);
        assert_eq!(receiver.read_response().expect(200).body, b"and back");
    }
}

#[over_both]
fn a_party_may_receive_and_send_at_the_same_time() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.message_session();
    let mut receivers = Role::BOTH.map(|role| session.party(role));
    // Each is the other party to the receiver beside it.
    let mut senders = Role::BOTH.map(|role| session.party(role.other()));
    for receiver in &mut receivers {
        receiver.poll();
    }
    for sender in &mut senders {
        sender.ask("POST", &[("Content-Length", "10")]).send(b"hello");
    }
    let mut coming = Vec::new();
    for receiver in &mut receivers {
        let mut message = receiver.read_coming();
        message.expect(receiver, b"hello");
        coming.push(message);
    }
    assert_eq!(segment.places_held(), 4);
    for ((sender, receiver), message) in senders.iter_mut().zip(&mut receivers).zip(coming) {
        sender.send(b"world");
        assert_eq!(message.rest(receiver).0, b"world");
        sender.expect_delivered(10);
    }
    segment.wait_until_held(0);
}

#[over_both]
fn a_wrong_token_is_a_guests() {
    let relay = Relay::with(1, &[]);
    let (session, other) = (relay.message_session(), relay.message_session());
    for cookie in ["token=\"\"", "token=", "token=\"x\"", &format!("token=\"{}\"", other.token)] {
        let mut stranger = session.guest().says_cookie(cookie);
        stranger.poll();
        session.host().post("text/plain", b"to a guest").expect_delivered(10);
        let answer = stranger.read_response().expect(200);
        assert_eq!(
            (answer.body.as_slice(), answer.head.field("Set-Cookie")),
            (&b"to a guest"[..], None)
        );
    }
}

#[over_both]
fn a_second_receiver_is_told_409() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.message_session();
    for role in Role::BOTH {
        let mut first = session.party(role);
        first.poll();
        segment.wait_until_held(1);
        let mut second = session.party(role);
        for _ in 0..3 {
            let answer = second.poll().read_response().expect_error(409);
            assert!(!answer.head.closes());
        }
        session.party(role.other()).post("text/plain", b"to the first").expect_delivered(12);
        assert_eq!(first.read_response().expect(200).body, b"to the first");
        second.poll();
        session.party(role.other()).post("text/plain", b"now you").expect_delivered(7);
        assert_eq!(second.read_response().expect(200).body, b"now you");
    }
}

#[over_both]
fn who_has_read_a_message_may_ask_for_the_next_on_another_connection() {
    let relay = Relay::with(2, &[]);
    for (level, in_chunks) in [("sent", false), ("sent", true), ("acked", false), ("acked", true)] {
        let session = relay.message_session();
        let mut last = session.guest();
        last.poll();
        for _ in 0..30 {
            let (mut sender, mut next) = (session.host(), session.guest());
            let framing = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
            sender.ask("POST", &[framing[usize::from(in_chunks)], ("X-Receipt", level)]);
            if in_chunks {
                sender.send_chunk(b"hello");
                sender.send_last_chunk();
            } else {
                sender.send(b"hello");
            }
            assert_eq!(last.read_response().expect(200).body, b"hello");
            next.poll();
            sender.expect_delivered(5);
            last = next;
        }
    }
}

#[over_both]
fn a_second_sender_is_told_409() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let session = relay.message_session();
    for role in Role::BOTH {
        let mut first = session.party(role);
        first.post("text/plain", b"");
        segment.wait_until_held(1);
        let mut second = session.party_from(role, [127, 0, 0, 2]);
        second.post("text/plain", b"me too").read_response().expect_error(409);
        assert_eq!(session.party(role.other()).poll().read_response().expect(200).body, b"");
        first.expect_delivered(0);
    }
}

/// When the cookie of an answer to the host expires, in seconds from now; `None` for an answer without one.
fn renewed_for(session: &MessageSession, head: &crate::harness::Head) -> Option<u64> {
    let cookie = head.token_cookie()?;
    assert_eq!((&cookie.token, &cookie.path), (&session.token, &session.path));
    Some(cookie.expires.duration_since(SystemTime::now()).expect("a time to come").as_secs())
}

#[over_both]
fn the_hosts_cookie_is_renewed_and_a_guest_gets_none() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"100s\""]);
    let lifetime = 97..=101;
    let session = relay.message_session();
    for role in Role::BOTH {
        let expect = |head: &crate::harness::Head| {
            let renewed = renewed_for(&session, head);
            match role {
                Role::Host => assert!(renewed.is_some_and(|s| lifetime.contains(&s)), "{head:#?}"),
                Role::Guest => assert_eq!(renewed, None, "{head:#?}"),
            }
        };
        let (mut party, mut peer) = (session.party(role), session.party(role.other()));
        peer.poll();
        expect(&party.post("text/plain", b"hello").expect_delivered(5).head);
        peer.read_response().expect(200);
        peer.post("text/plain", b"hello");
        expect(&party.poll().read_response().expect(200).head);
        peer.expect_delivered(5);
        peer.poll();
        party.post_in_chunks().send_chunk(b"hello");
        party.send_last_chunk();
        expect(&party.expect_delivered(5).head);
        peer.read_response().expect(200);
        expect(&party.ask("GET", &[("X-Timeout", "1")]).read_response().expect_empty(504).head);
        party.ask("POST", &[("X-Timeout", "1"), ("Content-Length", "0")]);
        expect(&party.read_response().expect_empty(504).head);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_cookie_lasts_as_long_as_its_session_was_asked_for() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session_by(&format!("{MOUNT}?timeout=50"), &[]);
    let answer = session.host().ask("GET", &[("X-Timeout", "1")]).read_response().expect_empty(504);
    let renewed = renewed_for(&session, &answer.head);
    assert!(renewed.is_some_and(|seconds| (46..=51).contains(&seconds)), "{renewed:?}");
}

/// A client may keep a stale cookie of the same name, or send the token in another form.
#[over_http("TLS does not change requests and answers")]
fn the_token_is_found_beside_others() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut host = session.guest().says_cookie(format!("token=stale; token=\"{}\"", session.token));
    host.ask("HEAD", &[]).read_response().expect(200).head.token_cookie().expect("it is the host");
    let bearer = format!("Bearer {}", session.token);
    let mut host = session.guest().says_cookie("token=stale");
    let answer = host.ask("HEAD", &[("Authorization", &bearer)]).read_response().expect(200);
    answer.head.token_cookie().expect("it is the host");
}
