//! Clients with cookie jars of their own, as people have them: each finds its way back to every session that it is the
//! host of, with several at a time, whatever its clock says. A client that has lost its token is told so.
//!
//! Not run again over HTTPS: TLS does not change requests and answers.

use std::process::{Command, Stdio};

use crate::harness::{Curl, MOUNT, MessageSession, Party, Relay, Role, RunningCurl, needs};

/// Where `scripts/test` puts Python's packages, if the system's Python has not got them.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python3");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/messages/clients.py");

/// Clocks of clients, as `faketime` has them: right, and two hours wrong, twice as much as a cookie lasts.
const CLOCKS: [Option<&str>; 3] = [None, Some("+2h"), Some("-2h")];

/// A command of a client with this clock. Where this machine has no `faketime`, notes so and returns `None`.
fn by_clock(clock: Option<&str>, program: &str) -> Option<Command> {
    let Some(offset) = clock else { return Some(Command::new(program)) };
    if !needs("faketime", Command::new("faketime").arg("--version").output().is_ok()) {
        return None;
    }
    let mut command = Command::new("faketime");
    command.args(["-f", offset, program]);
    Some(command)
}

fn expect_python_to_converse(library: &str, package: &str) {
    let has_package = |python: &str| {
        let import = Command::new(python).args(["-c", &format!("import {package}")]).output();
        import.is_ok_and(|done| done.status.success())
    };
    let python = [PYTHON, "python3"].into_iter().find(|it| has_package(it));
    needs("python", python.is_some());
    let Some(python) = python else { return };
    let relay = Relay::with(2, &[]);
    for clock in CLOCKS {
        let Some(mut command) = by_clock(clock, python) else { continue };
        command.args([SCRIPT, &relay.url(""), MOUNT, library]).stdin(Stdio::null());
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{library} {clock:?}: {said}");
    }
}

#[test]
fn pythons_requests_finds_back_to_its_sessions() {
    expect_python_to_converse("requests", "requests");
}

#[test]
fn pythons_standard_library_finds_back_to_its_sessions() {
    expect_python_to_converse("urllib", "urllib.request");
}

/// A curl of the client that has the jar; prints the answer's body, status, role and location.
fn curl(relay: &Relay, clock: Option<&str>, target: &str, arguments: &str) -> Option<Curl> {
    let jar = "-sS -b jar -c jar -w |%{http_code}|%header{x-role}|%header{location}";
    let curl = Curl::with(by_clock(clock, "curl")?, jar).within(relay.directory());
    let curl = arguments.split_whitespace().fold(curl, |curl, argument| curl.arg(argument));
    Some(curl.arg(relay.url(target)))
}

/// Body, status, role and location.
fn told(curl: RunningCurl) -> [String; 4] {
    let outcome = curl.finish().expect(0);
    let words: Vec<_> = outcome.text().split('|').map(str::to_owned).collect();
    words.try_into().expect("four words")
}

#[test]
fn curl_finds_back_to_its_sessions() {
    for clock in CLOCKS {
        let relay = Relay::with(2, &[]);
        let ask = |target: &str, arguments: &str| curl(&relay, clock, target, arguments);
        if ask("/", "").is_none() {
            continue;
        }
        let ask = |target: &str, arguments: &str| ask(target, arguments).unwrap().start();
        let issue = || {
            let [_, status, role, location] = told(ask(MOUNT, "-X PUT"));
            assert_eq!((status.as_str(), role.as_str()), ("201", "host"));
            location.strip_prefix(&relay.url("")).expect("a URL of this relay").to_owned()
        };
        let locations = [issue(), issue(), issue()];
        for location in &locations {
            for _ in 0..2 {
                let host = ask(location, "");
                let guest = Curl::new("-sS -d hello").arg(relay.url(location)).run();
                assert_eq!(told(host), ["hello", "200", "host", ""], "{clock:?}");
                guest.expect(0);
            }
        }
        assert_eq!(told(ask(&locations[0], "-H X-Timeout:1"))[1..3], ["504", "host"]);
        for location in &locations {
            assert_eq!(told(ask(location, "-X DELETE"))[1..3], ["200", "host"], "{clock:?}");
            assert_eq!(told(ask(location, "-I"))[1..3], ["404", "guest"], "{clock:?}");
        }
    }
}

/// The clients, and the roles they get: one with the token, one without, and one with another.
fn clients(session: &MessageSession) -> Vec<(Party, Role)> {
    let bearer = |token: &str| format!("x=y\r\nAuthorization: Bearer {token}");
    let guest = || session.guest();
    vec![
        (session.host(), Role::Host),
        (guest().says_cookie(format!("token={}", session.token)), Role::Host),
        (guest().says_cookie(bearer(&session.token)), Role::Host),
        (guest().says_cookie(format!("token=old; token=\"{}\"", session.token)), Role::Host),
        (guest(), Role::Guest),
        (guest().says_cookie("token=\"of-a-session-that-was\""), Role::Guest),
        (guest().says_cookie(bearer("of-a-session-that-was")), Role::Guest),
        (guest().says_cookie("token="), Role::Guest),
    ]
}

type Fields = &'static [(&'static str, &'static str)];

/// Requests to a session, each with the status of its answer: to the host, and to a guest.
const ANSWERED_AT_ONCE: [(&str, Fields, [u16; 2]); 12] = [
    ("HEAD", &[], [200, 200]),
    ("GET", &[("X-Timeout", "0")], [400, 400]),
    ("GET", &[("X-Timeout", "1")], [504, 504]),
    ("POST", &[("X-Timeout", "1"), ("Content-Length", "0")], [504, 504]),
    ("POST", &[("Content-Length", "9999999999999")], [413, 413]),
    ("POST", &[("Content-Length", "0"), ("X-Receipt", "maybe")], [400, 400]),
    ("GET", &[("Purpose", "prefetch")], [503, 503]),
    ("GET", &[("Service-Worker", "script")], [403, 403]),
    ("PATCH", &[], [405, 405]),
    ("PUT", &[("X-Peer-Address", "127.0.0.1")], [400, 403]),
    ("PUT", &[("Content-Length", "5")], [400, 400]),
    ("DELETE", &[], [200, 403]),
];

#[test]
fn every_answer_says_what_its_client_is_taken_for() {
    let relay = Relay::with(1, &["limits.body_bytes_max = \"1GiB\""]);
    for (method, fields, statuses) in ANSWERED_AT_ONCE {
        let number = clients(&relay.message_session()).len();
        let client = |index| clients(&relay.message_session()).swap_remove(index);
        let mut all: Vec<_> = (0..number).map(client).collect();
        for (client, _) in &mut all {
            client.ask(method, fields);
        }
        for (client, role) in &mut all {
            let answer = client.read_response();
            let want = statuses[usize::from(*role == Role::Guest)];
            assert_eq!(
                (answer.head.status, answer.head.role()),
                (want, *role),
                "{method} {fields:?}"
            );
        }
    }
}

#[test]
fn what_is_answered_later_says_it_as_well() {
    let mut relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for role in Role::BOTH {
        let session = relay.message_session();
        let waits = || {
            let mut party = session.party(role);
            party.poll();
            party
        };
        let mut first = waits();
        segment.wait_until_held(1);
        let refused = waits().read_response().expect_error(409);
        assert_eq!(refused.head.role(), role);
        session.delete().expect_empty(200);
        assert_eq!(first.read_response().expect_error(410).head.role(), role);
    }
    let session = relay.message_session();
    let mut waiting = Role::BOTH.map(|role| (session.party(role), role));
    for (party, _) in &mut waiting {
        party.poll();
    }
    segment.wait_until_held(2);
    relay.signal(nix::sys::signal::Signal::SIGQUIT);
    for (party, role) in &mut waiting {
        assert_eq!(party.read_response().expect_error(503).head.role(), *role);
    }
    assert_eq!(relay.wait(), 0);
}

#[test]
fn what_is_answered_about_no_session_is_a_guests() {
    let relay = Relay::with(1, &[]);
    let unknown = format!("{MOUNT}/{}", "A".repeat(28));
    let cookie = [("Cookie", "token=\"of-a-session-that-was\"")];
    for (method, target, status) in [
        ("GET", unknown.as_str(), 404),
        ("GET", "/session/no/key", 404),
        ("OPTIONS", &unknown, 405),
        ("GET", MOUNT, 405),
        ("PUT", "/session?timeout=0", 400),
    ] {
        let answer = relay.connect().request(method, target, &cookie).read_response();
        assert_eq!((answer.head.status, answer.head.role()), (status, Role::Guest), "{target}");
    }
    let issued = relay.connect().request("PUT", MOUNT, &cookie).read_response().expect(201);
    assert_eq!(issued.head.role(), Role::Host);
    let exchange = relay.session();
    let answer = relay.connect().request("HEAD", &exchange.path, &cookie).read_response();
    assert_eq!(answer.expect(200).head.field("X-Role"), None);
}
