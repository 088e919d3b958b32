//! Long polls end when they were asked to: `504` within half a second of `X-Timeout` or `?timeout=`.

use std::thread;
use std::time::{Duration, Instant};

use protocols::{over_both, over_http};

use crate::harness::{MessageSession, Relay, Response, Role};

/// How far from the time asked for an answer may come.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Where a request says how long it waits.
#[derive(Clone, Copy, Debug)]
enum Said {
    Field,
    Query,
    Nowhere,
}

/// Waits with no other party; returns the answer and the time it took.
fn wait(
    session: &MessageSession,
    role: Role,
    method: &str,
    said: Said,
    seconds: &str,
) -> (Response, Duration) {
    let query = format!("?timeout={seconds}");
    let (query, field) = match said {
        Said::Field => ("", Some(("X-Timeout", seconds))),
        Said::Query => (query.as_str(), None),
        Said::Nowhere => ("", None),
    };
    let body = (method == "POST").then_some(("Content-Length", "5"));
    let fields: Vec<_> = field.into_iter().chain(body).collect();
    let mut party = session.party(role);
    let begun = Instant::now();
    party.ask_with_query(method, query, &fields);
    if body.is_some() {
        party.send(b"hello");
    }
    (party.read_response(), begun.elapsed())
}

#[track_caller]
fn expect_504_after(answer: Response, took: Duration, asked: Duration) {
    let answer = answer.expect_empty(504);
    assert!(took.abs_diff(asked) <= TOLERANCE, "asked for {asked:?}, took {took:?}");
    assert_eq!(answer.head.field("X-Bytes-Delivered"), None, "nothing was");
}

#[over_http("load is tested once")]
fn heavy_a_wait_lasts_as_long_as_it_asks() {
    let relay = Relay::with(2, &[]);
    let sessions: Vec<_> = (0..24).map(|_| relay.message_session()).collect();
    thread::scope(|scope| {
        for (i, session) in sessions.iter().enumerate() {
            let role = Role::BOTH[i % 2];
            let method = ["GET", "POST"][i / 2 % 2];
            let said = [Said::Field, Said::Query][i / 4 % 2];
            let seconds = 1 + i as u64 / 8;
            scope.spawn(move || {
                let (answer, took) = wait(session, role, method, said, &seconds.to_string());
                expect_504_after(answer, took, Duration::from_secs(seconds));
            });
        }
    });
    assert_eq!(relay.segment().places_held(), 0);
    sessions.iter().for_each(|session| session.pass(Role::Guest, b"still there"));
}

#[over_http("load is tested once")]
fn heavy_the_configuration_says_how_long_others_wait_and_at_most() {
    let relay =
        Relay::with(2, &["timeouts.wait_timeout = \"1s\"", "messages.wait_timeout_max = \"2s\""]);
    let sessions: Vec<_> = (0..16).map(|_| relay.message_session()).collect();
    let asked = [
        (Said::Nowhere, "", 1),
        (Said::Field, "2", 2),
        (Said::Field, "30", 2),
        (Said::Query, "99999999999999999999999999", 2),
    ];
    thread::scope(|scope| {
        for (i, session) in sessions.iter().enumerate() {
            let (role, method) = (Role::BOTH[i % 2], ["GET", "POST"][i / 2 % 2]);
            let (said, seconds, want) = asked[i / 4];
            scope.spawn(move || {
                let (answer, took) = wait(session, role, method, said, seconds);
                expect_504_after(answer, took, Duration::from_secs(want));
            });
        }
    });
}

#[over_http("TLS does not change requests and answers")]
fn what_is_no_number_of_seconds_is_400() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    for seconds in ["0", "-1", "1.5", "30abc", "soon", "0x10", ""] {
        for method in ["GET", "POST"] {
            for said in [Said::Field, Said::Query] {
                let (answer, _) = wait(&session, Role::Host, method, said, seconds);
                let answer = answer.expect_error(400);
                // A body that was not read ends the connection.
                assert_eq!(answer.head.closes(), method == "POST", "{method} {said:?} {seconds:?}");
            }
        }
    }
    session.pass(Role::Host, b"no place was taken");
}

#[over_both]
fn a_message_that_comes_in_time_is_no_timeout() {
    let relay = Relay::with(2, &[]);
    let session = relay.message_session();
    let mut guest = session.guest();
    guest.ask("GET", &[("X-Timeout", "20")]);
    session.host().post("text/plain", b"hello").expect_delivered(5);
    assert_eq!(guest.read_response().expect(200).body, b"hello");
}

#[over_both]
fn after_a_timeout_the_connection_goes_on() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut guest = session.guest();
    for _ in 0..2 {
        guest.ask("GET", &[("X-Timeout", "1")]).read_response().expect_empty(504);
    }
    guest.poll();
    session.host().post("text/plain", b"hello").expect_delivered(5);
    assert_eq!(guest.read_response().expect(200).body, b"hello");
}
