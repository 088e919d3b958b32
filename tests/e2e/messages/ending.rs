//! The end of a session, by `DELETE` or by time: every pending operation is told `410` at once, and all later ones `404`.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use protocols::{over_both, over_http};

use crate::harness::{Ending, MOUNT, MessageSession, Party, Relay, Role, TokenCookie};

/// The time within which a pending operation is answered.
const AT_ONCE: Duration = Duration::from_millis(250);

/// All operations that can be pending in one session: a receiver and a sender of each role. None of them has sent a
/// byte of a body.
fn four_pending(session: &MessageSession) -> Vec<Party> {
    let mut pending = Vec::new();
    for role in Role::BOTH {
        let (mut receiver, mut sender) = (session.party(role), session.party(role.other()));
        receiver.poll();
        sender.ask("POST", &[("Content-Length", "5")]);
        pending.extend([receiver, sender]);
    }
    pending
}

/// Starts a long poll of each role.
fn two_polls(session: &MessageSession) -> Vec<Party> {
    Role::BOTH
        .map(|role| {
            let mut party = session.party(role);
            party.poll();
            party
        })
        .into()
}

/// Asks on `host` for the end of a session; returns how long the slowest of `pending` then took.
fn slowest_after_delete(host: &mut Party, pending: &mut [Party]) -> Duration {
    let begun = Instant::now();
    host.ask("DELETE", &[]);
    // Read one after the other: the time of the last is the most that any of them took.
    let answers: Vec<_> = pending.iter_mut().map(|party| party.read_response()).collect();
    let took = begun.elapsed();
    answers.into_iter().for_each(|answer| {
        answer.expect_error(410);
    });
    host.read_response().expect_empty(200);
    took
}

#[over_http("load is tested once")]
fn heavy_delete_answers_a_hundred_pending_operations_at_once() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let sessions: Vec<_> = (0..25).map(|_| relay.message_session()).collect();
    let mut pending: Vec<_> = sessions.iter().map(four_pending).collect();
    segment.wait_until_held(100);
    for (session, pending) in sessions.iter().zip(&mut pending) {
        let took = slowest_after_delete(&mut session.host(), pending);
        assert!(took < AT_ONCE, "{took:?}");
    }
    assert_eq!(segment.places_held(), 0);
}

#[over_both]
fn heavy_deleting_fifty_sessions_answers_a_hundred_polls_at_once() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let sessions: Vec<_> = (0..50).map(|_| relay.message_session()).collect();
    let mut pending: Vec<_> = sessions.iter().flat_map(two_polls).collect();
    segment.wait_until_held(100);
    let mut hosts: Vec<_> = sessions.iter().map(MessageSession::host).collect();
    let begun = Instant::now();
    hosts.iter_mut().for_each(|host| {
        host.ask("DELETE", &[]);
    });
    let answers: Vec<_> = pending.iter_mut().map(|party| party.read_response()).collect();
    let took = begun.elapsed();
    answers.into_iter().for_each(|answer| {
        answer.expect_error(410);
    });
    assert!(took < AT_ONCE, "{took:?}");
    for mut host in hosts {
        host.read_response().expect_empty(200);
    }
}

#[over_http("load is tested once")]
fn heavy_each_of_a_hundred_sessions_ends_at_once_in_a_burst() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let sessions: Vec<_> = (0..100).map(|_| relay.message_session()).collect();
    let (told, answered) = mpsc::channel();
    let mut hosts = Vec::new();
    for (number, session) in sessions.iter().enumerate() {
        let mut poll = session.party(Role::BOTH[number % 2]);
        poll.poll();
        hosts.push(session.host());
        let told = told.clone();
        thread::spawn(move || {
            let answer = poll.read_response();
            told.send((number, Instant::now(), answer)).unwrap();
        });
    }
    segment.wait_until_held(100);
    let asked: Vec<_> = hosts
        .iter_mut()
        .map(|host| {
            let now = Instant::now();
            host.ask("DELETE", &[]);
            now
        })
        .collect();
    for (number, at, answer) in answered.iter().take(100) {
        answer.expect_error(410);
        let took = at - asked[number];
        assert!(took < AT_ONCE, "poll {number}: {took:?}");
    }
}

#[over_both]
fn a_deleted_session_is_unknown_and_its_cookie_is_taken_back() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let answer = session.delete().expect_empty(200);
    assert_eq!(answer.head.token_cookie(), Some(TokenCookie::expired(&session.path)));
    expect_unknown(&session);
}

/// Checks that every request of either role gets `404` and an expired cookie.
#[track_caller]
fn expect_unknown(session: &MessageSession) {
    for role in Role::BOTH {
        for method in ["GET", "POST", "DELETE", "PUT", "HEAD"] {
            let fields = [("Content-Length", "0"), ("X-Peer-Address", "127.0.0.1")];
            let answer = session.party(role).ask(method, &fields).read_response();
            let answer =
                if method == "HEAD" { answer.expect(404) } else { answer.expect_error(404) };
            let cookie = answer.head.token_cookie();
            assert_eq!(cookie, Some(TokenCookie::expired(&session.path)), "{role:?} {method}");
        }
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_key_never_issued_is_answered_as_one_that_is_dead() {
    let relay = Relay::with(1, &[]);
    let mut never = relay.message_session();
    let dead = relay.message_session();
    dead.delete().expect_empty(200);
    let last = if never.path.ends_with('A') { "B" } else { "A" };
    never.path.replace_range(never.path.len() - 1.., last);
    expect_unknown(&never);
    let answer = |session: &MessageSession| {
        let answer = session.guest().poll().read_response();
        let names: Vec<_> = answer.head.fields.into_iter().map(|(name, _)| name).collect();
        (answer.head.status, names, answer.body)
    };
    assert_eq!(answer(&never), answer(&dead));
}

#[over_both]
fn only_the_host_deletes() {
    let relay = Relay::with(1, &[]);
    let (session, other) = (relay.message_session(), relay.message_session());
    let wrong =
        [format!("token=\"{}\"", other.token), "token=\"\"".to_owned(), "token=x".to_owned()];
    session.guest().ask("DELETE", &[]).read_response().expect_error(403);
    for cookie in wrong {
        let mut party = session.guest().says_cookie(cookie);
        party.ask("DELETE", &[]).read_response().expect_error(403);
    }
    session.pass(Role::Guest, b"still there");
}

#[over_http("TLS does not change requests and answers")]
fn the_token_is_known_in_each_of_its_forms() {
    let relay = Relay::with(1, &[]);
    for form in ["token=\"TOKEN\"", "token=TOKEN", "a=b; token=\"TOKEN\"; c=d"] {
        let session = relay.message_session();
        let mut host = session.guest().says_cookie(form.replace("TOKEN", &session.token));
        host.ask("DELETE", &[]).read_response().expect_empty(200);
    }
    let session = relay.message_session();
    let bearer = format!("Bearer {}", session.token);
    let mut host = session.guest();
    host.ask("DELETE", &[("Authorization", &bearer)]).read_response().expect_empty(200);
}

#[over_both]
fn a_message_on_its_way_is_cut_visibly() {
    let relay = Relay::with(2, &[]);
    for in_chunks in [false, true] {
        let session = relay.message_session();
        let (mut receiver, mut sender) = (session.host(), session.guest());
        receiver.poll();
        if in_chunks {
            sender.post_in_chunks().send_chunk(b"hello");
        } else {
            sender.ask("POST", &[("Content-Length", "10")]).send(b"hello");
        }
        let mut message = receiver.read_coming();
        message.expect(&mut receiver, b"hello");
        session.delete().expect_empty(200);
        let answer = sender.read_response().expect_error(410);
        assert!(answer.head.delivered_bytes() <= 5);
        message.expect_cut(&mut receiver);
    }
}

#[over_both]
fn expiry_ends_every_wait_with_410() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    let target = format!("{MOUNT}?timeout=2");
    let begun = Instant::now();
    let session = relay.message_session_by(&target, &[]);
    let mut polls = two_polls(&session);
    for poll in &mut polls {
        poll.read_response().expect_error(410);
    }
    let lived = begun.elapsed();
    assert!(lived > Duration::from_millis(1500), "only {lived:?}");
    expect_unknown(&session);
    segment.wait_until_held(0);

    let session = relay.message_session_by(&target, &[]);
    let mut sender = session.host();
    sender.post("text/plain", b"hello").read_response().expect_error(410);
    expect_unknown(&session);
}

#[over_both]
fn waiting_does_not_prolong_a_session_and_a_message_does() {
    let relay = Relay::with(2, &["timeouts.session_lifetime = \"3s\""]);
    let segment = relay.segment();
    let session = relay.message_session();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        session.pass(Role::Guest, b"alive");
        thread::sleep(Duration::from_millis(200));
    }
    let last = Instant::now();
    session.pass(Role::Host, b"the last one");
    let mut polls = two_polls(&session);
    segment.wait_until_held(2);
    for poll in &mut polls {
        poll.read_response().expect_error(410);
    }
    let lived = last.elapsed();
    assert!(lived > Duration::from_millis(2500), "only {lived:?} from the last message");
    expect_unknown(&session);
}

/// The end of the lifetime does not cut a running message, which keeps the session alive: for clients that wait in the
/// other lane, and for the host.
#[over_both]
fn a_session_lives_while_a_message_runs() {
    let relay = Relay::with(2, &[]);
    let target = format!("{MOUNT}?timeout=1");
    let session = relay.message_session_by(&target, &[]);
    let (mut sender, mut receiver, mut waits) = (session.guest(), session.host(), session.guest());
    receiver.poll();
    waits.poll();
    sender.post_in_chunks().send_chunk(b"hello");
    let mut message = receiver.read_coming();
    message.expect(&mut receiver, b"hello");
    waits.expect_silence(Duration::from_millis(2500));
    session.host().ask("HEAD", &[]).read_response().expect(200);
    sender.send_last_chunk();
    sender.expect_delivered(5);
    assert_eq!(message.rest(&mut receiver).1, Ending::Complete);
    session.host().post("text/plain", b"still here").expect_delivered(10);
    assert_eq!(waits.read_response().expect(200).body, b"still here");
    // The session is deleted at the end of another message.
    receiver.poll();
    sender.post_in_chunks().send_chunk(b"hello");
    let mut message = receiver.read_coming();
    message.expect(&mut receiver, b"hello");
    waits.poll().expect_silence(Duration::from_millis(1500));
    session.delete().expect_empty(200);
    sender.read_response().expect_error(410);
    waits.read_response().expect_error(410);
    message.expect_cut(&mut receiver);
    expect_unknown(&session);
}
