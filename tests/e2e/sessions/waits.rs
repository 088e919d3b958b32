//! Waits of the exchange: as long as the request asks by `X-Timeout` or `?timeout=`, up to the configured maximum, and at
//! the end a line that says which party did not come.

use std::thread;
use std::time::{Duration, Instant};

use protocols::over_both;

use crate::harness::{Curl, Payload, Relay, Response, Session, Shape};

/// The requests of each kind, and the peer that each waits for.
const KINDS: [(&str, &str); 3] = [("GET", "sender"), ("PUT", "receiver"), ("POST", "receiver")];

/// Where a request says how long it waits.
#[derive(Clone, Copy, Debug)]
enum Said {
    Field,
    Query,
    Nowhere,
}

/// Waits with no other party; returns the answer and the time it took.
fn wait(session: &Session, method: &str, said: Said, seconds: &str) -> (Response, Duration) {
    let (target, field) = match said {
        Said::Field => (session.path.clone(), Some(("X-Timeout", seconds))),
        Said::Query => (format!("{}?timeout={seconds}", session.path), None),
        Said::Nowhere => (session.path.clone(), None),
    };
    let body = (method != "GET").then_some(("Content-Length", "5"));
    let fields: Vec<_> = field.into_iter().chain(body).collect();
    let mut raw = session.connect();
    let begun = Instant::now();
    raw.request(method, &target, &fields);
    if body.is_some() {
        let _ = raw.try_send(b"hello");
    }
    (raw.read_response(), begun.elapsed())
}

/// Each kind of request waits on a session of its own, all at once.
fn expect_waits(relay: &Relay, asked: &[(Said, &str, u64)]) {
    thread::scope(|scope| {
        for (said, seconds, want) in asked {
            for (method, who) in KINDS {
                let session = relay.session();
                scope.spawn(move || {
                    let (answer, took) = wait(&session, method, *said, seconds);
                    let answer = answer.expect_error(504);
                    assert_eq!(answer.text(), format!("no {who} came within {want} s\n"));
                    // The relay counts whole milliseconds.
                    let least = Duration::from_millis(want * 1000 - 10);
                    assert!(took >= least, "{took:?} instead of {want} s");
                    assert_eq!(answer.head.field("X-Bytes-Delivered"), None, "nothing was");
                });
            }
        }
    });
    assert_eq!(relay.segment().places_held(), 0);
}

#[over_both]
fn a_wait_lasts_as_long_as_it_asks_within_the_configured_most() {
    let relay =
        Relay::with(2, &["timeouts.wait_timeout = \"1s\"", "exchange.wait_timeout_max = \"3s\""]);
    let asked = [
        (Said::Nowhere, "", 1),
        (Said::Field, "2", 2),
        (Said::Query, "2", 2),
        (Said::Field, "30", 3),
        (Said::Query, "99999999999999999999999999", 3),
    ];
    expect_waits(&relay, &asked);
}

#[over_both]
fn nobody_who_asks_gets_less_than_who_does_not() {
    let lines = ["timeouts.wait_timeout = \"2s\"", "exchange.wait_timeout_max = \"1s\""];
    let relay = Relay::with(1, &lines);
    expect_waits(&relay, &[(Said::Nowhere, "", 2), (Said::Field, "30", 2), (Said::Query, "1", 1)]);
}

#[over_both]
fn what_is_no_number_of_seconds_is_400() {
    let relay = Relay::with(1, &[]);
    let session = relay.session();
    for seconds in ["0", "-1", "+1", "1.5", "30abc", "soon", "0x10", ""] {
        for (method, _) in KINDS {
            for said in [Said::Field, Said::Query] {
                let (answer, _) = wait(&session, method, said, seconds);
                let answer = answer.expect_error(400);
                // A body that was not read ends the connection.
                assert_eq!(answer.head.closes(), method != "GET", "{method} {said:?} {seconds:?}");
            }
        }
    }
    session.transfer(&Payload::new(1, 5000), Shape::Length);
}

#[over_both]
fn a_file_that_comes_in_time_is_no_timeout() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.request("GET", &session.path, &[("X-Timeout", "60")]);
    let mut sender = relay.connect();
    let target = format!("{}/name.txt?timeout=60", session.path);
    sender.put(&target, b"hello").read_response().expect(200);
    let answer = receiver.read_response().expect(200);
    assert_eq!(answer.body, b"hello");
    assert!(answer.head.must("Content-Disposition").contains("name.txt"));
}

#[over_both]
fn curl_prints_who_did_not_come() {
    let relay = Relay::with(1, &[]);
    let session = relay.session();
    let sent = Curl::new("-sS --fail-with-body -H X-Timeout:1 -d hello").arg(&session.url).run();
    assert_eq!(sent.expect(22).text(), "no receiver came within 1 s\n");
    let asked = format!("{}?timeout=1", session.url);
    let received = Curl::new("-sS --fail-with-body").arg(&asked).run();
    assert_eq!(received.expect(22).text(), "no sender came within 1 s\n");
}
