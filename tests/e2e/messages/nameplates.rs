//! Nameplates: a few digits lead one guest to a session, the first that comes, and nobody else.

use std::thread;
use std::time::Duration;

use protocols::{over_both, over_http};

use crate::harness::{AccessLog, MOUNT, Raw, Relay, Response, eventually};

/// What two guests have drawn.
const MARK: &str = "0123456789abcdefABCDEF-_";
const OTHER: &str = "another-guest-of-somebody";

/// A guest that waits in vain is told so soon.
const SOON: &str = "messages.wait_timeout = \"200ms\"";

/// A session with a nameplate, and what its parties have to say.
struct Named {
    key_path: String,
    path: String,
    token: String,
}

impl Named {
    fn issue(relay: &Relay) -> Self {
        Self::issue_on(&mut relay.connect())
    }

    fn issue_on(raw: &mut Raw) -> Self {
        let answer = raw.request("PUT", &format!("{MOUNT}?nameplate"), &[]).read_response();
        let head = answer.expect_empty(201).head;
        assert_eq!(head.must("X-Type"), "nameplate");
        let digits = head.must("X-Nameplate");
        assert!((4..=6).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit()));
        let cookie = head.token_cookie().expect("a token");
        let path = format!("{MOUNT}/n/{digits}");
        Self { key_path: cookie.path, path, token: format!("token=\"{}\"", cookie.token) }
    }

    fn host(&self, raw: &mut Raw, method: &str, fields: &[(&str, &str)]) {
        let fields: Vec<_> = fields.iter().copied().chain([("Cookie", &*self.token)]).collect();
        raw.request(method, &self.key_path, &fields);
    }

    /// The host sends a message, on a connection of its own.
    fn send(&self, relay: &Relay, body: &'static [u8]) -> thread::JoinHandle<Response> {
        let mut raw = relay.connect();
        self.host(&mut raw, "POST", &[("Content-Length", &body.len().to_string())]);
        raw.send(body);
        thread::spawn(move || raw.read_response())
    }

    /// What a guest is told that asks with this mark, and waits for as long as is configured.
    fn ask(&self, relay: &Relay, path: &str, mark: Option<&str>) -> Response {
        relay.connect().request("GET", path, &brings(mark)).read_response()
    }
}

/// The field with a guest's mark.
fn brings(mark: Option<&str>) -> Vec<(&str, &str)> {
    mark.map(|mark| ("X-Guest", mark)).into_iter().collect()
}

#[over_both]
fn the_first_guest_that_comes_by_the_nameplate_is_the_only_one() {
    let relay = Relay::with(2, &[SOON]);
    let session = Named::issue(&relay);
    let sending = session.send(&relay, b"hello");
    let answer = session.ask(&relay, &session.path, Some(MARK)).expect(200);
    assert_eq!((&*answer.body, answer.head.must("X-Role")), (&b"hello"[..], "guest"));
    assert_eq!(answer.head.field("Set-Cookie"), None);
    sending.join().unwrap().expect(200);
    // The mark opens both paths, and nothing else does.
    for path in [&session.path, &session.key_path] {
        session.ask(&relay, path, Some(MARK)).expect(504);
        let refused = session.ask(&relay, path, Some(OTHER)).expect_error(403);
        assert_eq!(refused.head.must("X-Role"), "guest");
        session.ask(&relay, path, None).expect_error(400);
        let mut guest = relay.connect();
        guest.request("DELETE", path, &brings(Some(OTHER))).read_response().expect_error(403);
    }
    let sending = session.send(&relay, b"again");
    assert_eq!(session.ask(&relay, &session.path, Some(MARK)).expect(200).body, b"again");
    sending.join().unwrap().expect(200);
    let mut guest = relay.connect();
    guest.request("DELETE", &session.path, &brings(Some(MARK))).read_response().expect(200);
    session.ask(&relay, &session.path, Some(MARK)).expect_error(404);
    let mut host = relay.connect();
    session.host(&mut host, "HEAD", &[]);
    host.read_response().expect(404);
}

#[over_http("TLS does not change requests and answers")]
fn a_guest_comes_again_though_its_first_answer_was_lost() {
    let relay = Relay::with(2, &[SOON]);
    let session = Named::issue(&relay);
    let mut lost = relay.connect();
    lost.request("GET", &session.path, &brings(Some(MARK)));
    eventually("the guest is there", || {
        let look = relay.connect().request("HEAD", &session.key_path, &[]).read_response();
        (look.head.status == 403).then_some(())
    });
    drop(lost);
    session.ask(&relay, &session.path, Some(MARK)).expect(504);
}

#[over_http("TLS does not change requests and answers")]
fn looks_previews_and_bad_requests_make_nobody_the_guest() {
    let relay = Relay::with(1, &[SOON, "limits.nameplates_per_minute_max = 0"]);
    let session = Named::issue(&relay);
    let mut raw = relay.connect();
    let look = raw.request("HEAD", &session.path, &brings(Some(OTHER))).read_response();
    assert_eq!(look.expect(200).head.field("Set-Cookie"), None);
    let preview = [("User-Agent", "WhatsApp/2.23.20.0"), ("X-Guest", OTHER)];
    raw.request("GET", &session.path, &preview).read_response().expect(200);
    for bad in ["short", "not plain characters!", &"x".repeat(65)] {
        session.ask(&relay, &session.path, Some(bad)).expect_error(400);
    }
    let target = format!("{}?timeout=never", session.path);
    relay.connect().request("GET", &target, &brings(Some(OTHER))).read_response().expect_error(400);
    let with_body = [("Content-Length", "1"), ("X-Guest", OTHER)];
    relay.connect().request("GET", &session.path, &with_body).read_response().expect_error(400);
    // The path is the guest's alone: the host's token means nothing here.
    let mut host = relay.connect();
    host.request("GET", &session.path, &[("Cookie", &session.token)]).read_response().expect(400);
    session.ask(&relay, &session.path, Some(MARK)).expect(504);
    relay
        .connect()
        .request("HEAD", &session.path, &brings(Some(OTHER)))
        .read_response()
        .expect(403);
    relay.connect().request("HEAD", &session.path, &brings(Some(MARK))).read_response().expect(200);
    let put = relay.connect().request("PUT", &session.path, &brings(Some(MARK))).read_response();
    assert_eq!(put.expect_error(405).head.must("Allow"), "GET, HEAD, POST, DELETE");
}

#[over_http("TLS does not change requests and answers")]
fn without_a_message_it_is_over_soon_and_with_one_it_lives_on() {
    let relay = Relay::with(2, &[SOON, "timeouts.nameplate_lifetime = \"2s\""]);
    let (left, used) = (Named::issue(&relay), Named::issue(&relay));
    let sending = used.send(&relay, b"hello");
    used.ask(&relay, &used.path, Some(MARK)).expect(200);
    sending.join().unwrap().expect(200);
    eventually("it is over", || {
        thread::sleep(Duration::from_millis(100));
        let mut host = relay.connect();
        left.host(&mut host, "HEAD", &[]);
        (host.read_response().head.status == 404).then_some(())
    });
    left.ask(&relay, &left.path, Some(MARK)).expect_error(404);
    used.ask(&relay, &used.path, Some(MARK)).expect(504);
}

#[over_http("TLS does not change requests and answers")]
fn a_secure_session_has_no_nameplate_and_a_document_has_it() {
    let relay = Relay::with(1, &[SOON]);
    let target = format!("{MOUNT}?nameplate=true");
    let mut raw = relay.connect();
    raw.request("PUT", &target, &[("X-Type", "secure")]).read_response().expect_error(400);
    raw.request("PUT", &format!("{target}&secure=true"), &[]).read_response().expect_error(400);
    for wrong in ["0", "no", "48213"] {
        let target = format!("{MOUNT}?nameplate={wrong}");
        raw.request("PUT", &target, &[]).read_response().expect_error(400);
    }
    let no = raw.request("PUT", &format!("{MOUNT}?nameplate=false"), &[]).read_response();
    assert_eq!(no.expect(201).head.field("X-Nameplate"), None);
    let answer = raw.request("PUT", &target, &[("Accept", "application/json")]).read_response();
    let answer = answer.expect(201);
    let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(document["nameplate"], *answer.head.must("X-Nameplate"));
    assert_eq!((&document["type"], &document["expires_in"]), (&"nameplate".into(), &600.into()));
}

/// Nothing that a stranger asks tells more often than is configured whether a session has a nameplate.
#[over_http("TLS does not change requests and answers")]
fn known_and_unknown_nameplates_are_told_apart_only_so_often_a_minute() {
    let preview = [("User-Agent", "WhatsApp/2.23.20.0")];
    let prefetch = [("Sec-Purpose", "prefetch")];
    let other = [("X-Guest", OTHER)];
    let ways: [(&str, &[(&str, &str)]); 6] = [
        ("GET", &other),
        ("HEAD", &[]),
        ("DELETE", &other),
        ("GET", &[]),
        ("GET", &preview),
        ("GET", &prefetch),
    ];
    for (method, fields) in ways {
        let relay = Relay::with(1, &[SOON, "limits.nameplates_per_minute_max = 8"]);
        let session = Named::issue(&relay);
        session.ask(&relay, &session.path, Some(MARK)).expect(504);
        let mut statuses = Vec::new();
        for guess in 0..20 {
            let unknown = format!("{MOUNT}/n/{}", 900_000 + guess);
            for path in [&unknown, &session.path] {
                let answer = relay.connect().request(method, path, fields).read_response();
                statuses.push(answer.head.status);
            }
        }
        // A minute may begin in the midst of it.
        let told = statuses.iter().filter(|status| **status != 429).count();
        assert!((7..=16).contains(&told), "{method}: {statuses:?}");
        // The guest itself is never refused for what others guess, nor is the host.
        session.ask(&relay, &session.path, Some(MARK)).expect(504);
        let mut host = relay.connect();
        session.host(&mut host, "HEAD", &[]);
        host.read_response().expect(200);
    }
}

#[over_http("TLS does not change requests and answers")]
fn of_many_guests_that_come_at_once_one_gets_the_message() {
    let relay = Relay::with(4, &["limits.nameplates_per_minute_max = 0"]);
    for _ in 0..10 {
        let session = Named::issue(&relay);
        let sending = session.send(&relay, b"for one");
        let guests: Vec<_> = (0..12)
            .map(|number| {
                let (mut raw, path) = (relay.connect(), session.path.clone());
                let mark = format!("the-guest-of-number-{number}");
                thread::spawn(move || {
                    raw.request("GET", &path, &brings(Some(&mark))).read_response().head.status
                })
            })
            .collect();
        let statuses: Vec<_> = guests.into_iter().map(|it| it.join().unwrap()).collect();
        sending.join().unwrap().expect(200);
        let got = statuses.iter().filter(|status| **status == 200).count();
        let refused = statuses.iter().filter(|status| **status == 403).count();
        assert_eq!((got, refused), (1, 11), "{statuses:?}");
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_nameplate_outlives_the_worker_that_issued_it_and_a_reload() {
    let relay = Relay::with(2, &[SOON]);
    let segment = relay.segment();
    let mut raw = relay.on_worker(0, &segment, || relay.connect());
    let sessions = [Named::issue_on(&mut raw), Named::issue_on(&mut raw)];
    relay.worker_pids()[0].signal(nix::sys::signal::Signal::SIGKILL);
    sessions[0].ask(&relay, &sessions[0].path, Some(MARK)).expect(504);
    relay.reload(2, &[SOON]);
    sessions[0].ask(&relay, &sessions[0].path, Some(MARK)).expect(504);
    sessions[0].ask(&relay, &sessions[0].path, Some(OTHER)).expect_error(403);
    sessions[1].ask(&relay, &sessions[1].path, Some(OTHER)).expect(504);
}

#[over_http("logs do not depend on TLS")]
fn the_log_tells_which_session_it_is_and_no_nameplate() {
    let log = AccessLog::combined();
    let keys = log.keys();
    let lines: Vec<_> = keys.iter().map(String::as_str).chain([SOON]).collect();
    let relay = Relay::with(1, &lines);
    let session = Named::issue(&relay);
    session.ask(&relay, &session.path, Some(MARK)).expect(504);
    let mut host = relay.connect();
    session.host(&mut host, "HEAD", &[]);
    host.read_response().expect(200);
    session.ask(&relay, &format!("{MOUNT}/n/999999"), Some(MARK)).expect(404);
    let entries = log.entries(4);
    let named: Vec<_> = entries.iter().filter_map(|entry| entry.session.as_deref()).collect();
    assert!(named.len() == 3 && named.iter().all(|hash| *hash == named[0]), "{entries:#?}");
    let digits = session.path.rsplit('/').next().unwrap();
    for hidden in [digits, "999999", MARK] {
        assert!(!log.text().contains(&format!("/{hidden}")), "{hidden} in {}", log.text());
    }
}
