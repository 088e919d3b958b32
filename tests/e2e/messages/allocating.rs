//! Sessions asked for, and the paths of the message API: its mount, its methods, and the keys of either API.
//!
//! Not run again over HTTPS: TLS does not change requests and answers.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use crate::harness::{MOUNT, Relay, Response, TokenCookie, expect_one_time};

fn put(relay: &Relay, target: &str, fields: &[(&str, &str)]) -> Response {
    relay.connect().request("PUT", target, fields).read_response()
}

fn is_key(text: &str) -> bool {
    text.len() == 28 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// How long a new session's cookie lasts, seconds.
#[track_caller]
fn lifetime(answer: Response) -> u64 {
    let cookie = answer.expect_empty(201).head.token_cookie().expect("a cookie");
    let left = cookie.expires.duration_since(SystemTime::now()).expect("a time to come");
    // Dates are in whole seconds.
    (left + Duration::from_millis(999)).as_secs()
}

#[test]
fn a_session_has_an_absolute_location_a_cookie_and_a_type() {
    let relay = Relay::with(1, &[]);
    for fields in [&[][..], &[("Content-Length", "0")], &[("X-Type", "basic")]] {
        let answer = put(&relay, MOUNT, fields).expect_empty(201);
        let location = answer.head.must("Location");
        let path = location.strip_prefix(&relay.url("")).expect("a URL of this relay");
        let key = path.strip_prefix("/session/").expect("a path under the mount");
        assert!(is_key(key), "key {key:?}");
        let cookie = answer.head.token_cookie().expect("a cookie");
        assert_eq!(cookie.path, path);
        assert!(cookie.token.len() >= 22, "128 bits at least: {:?}", cookie.token);
        assert_eq!(answer.head.must("X-Type"), "basic");
        assert_eq!(answer.head.must("Cache-Control"), "no-store");
        assert!(!answer.head.closes());
    }
}

#[test]
fn json_on_request_says_all_of_it() {
    let relay = Relay::with(1, &["messages.session_lifetime_max = \"200s\""]);
    for (accept, kind, timeout, seconds) in [
        ("application/json", "basic", "90", 90),
        ("text/html, application/json;q=0.5", "secure", "500", 200),
    ] {
        let fields = [("Accept", accept), ("X-Type", kind), ("X-Timeout", timeout)];
        let answer = put(&relay, MOUNT, &fields).expect(201);
        assert_eq!(answer.head.must("Content-Type"), "application/json");
        let document: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let text = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{document}"));
        let cookie = answer.head.token_cookie().expect("a cookie");
        assert!(is_key(text("key")), "{document}");
        assert_eq!(cookie.path, format!("{MOUNT}/{}", text("key")));
        assert_eq!((text("token"), text("type")), (&*cookie.token, kind));
        assert_eq!(answer.head.must("X-Type"), kind);
        assert_eq!(text("url"), relay.url(&cookie.path));
        assert_eq!(answer.head.must("Location"), text("url"));
        assert_eq!(document["expires_in"], seconds);
        expect_one_time(&document, cookie.expires);
        let bearer = format!("Bearer {}", text("token"));
        let fields = [("Authorization", bearer.as_str())];
        relay.connect().request("DELETE", &cookie.path, &fields).read_response().expect(200);
    }
    for accept in ["*/*", "text/plain", "application/json;q=0", "application/*"] {
        put(&relay, MOUNT, &[("Accept", accept)]).expect_empty(201);
    }
}

#[test]
fn keys_and_tokens_are_drawn_anew() {
    let relay = Relay::with(2, &[]);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let session = relay.message_session();
        assert!(seen.insert(session.path) && seen.insert(session.token));
    }
}

#[test]
fn the_type_is_asked_for_by_field_or_query() {
    let relay = Relay::with(1, &[]);
    let cases = [
        (MOUNT.to_owned(), Some("secure"), "secure"),
        (format!("{MOUNT}?secure=true"), None, "secure"),
        (format!("{MOUNT}?timeout=60&secure=true"), None, "secure"),
        (format!("{MOUNT}?secure=false"), None, "basic"),
        (format!("{MOUNT}?"), None, "basic"),
    ];
    for (target, asked, want) in cases {
        let fields: Vec<_> = asked.map(|kind| ("X-Type", kind)).into_iter().collect();
        let answer = put(&relay, &target, &fields).expect_empty(201);
        assert_eq!(answer.head.must("X-Type"), want, "{target}");
    }
}

#[test]
fn an_unknown_type_is_400() {
    let relay = Relay::with(1, &[]);
    for kind in ["other", "", "secure, basic", "basic;secure"] {
        put(&relay, MOUNT, &[("X-Type", kind)]).expect_error(400);
    }
    assert_eq!(relay.segment().sessions_live(), 0);
}

#[test]
fn the_lifetime_can_be_asked_for_and_has_an_end() {
    let fields =
        ["timeouts.session_lifetime = \"90s\"", "messages.session_lifetime_max = \"200s\""];
    let relay = Relay::with(1, &fields);
    for (query, want) in [("", 90), ("?timeout=30", 30), ("?timeout=500", 200)] {
        let seconds = lifetime(put(&relay, &format!("{MOUNT}{query}"), &[]));
        assert!((want - 3..=want + 1).contains(&seconds), "{query}: {seconds} s");
    }
    let seconds = lifetime(put(&relay, MOUNT, &[("X-Timeout", "30")]));
    assert!((27..=31).contains(&seconds), "by field: {seconds} s");
    for query in ["?timeout=0", "?timeout=-5", "?timeout=1.5", "?timeout=soon", "?timeout="] {
        put(&relay, &format!("{MOUNT}{query}"), &[]).expect_error(400);
    }
}

#[test]
fn a_body_is_refused() {
    let relay = Relay::with(1, &[]);
    let mut raw = relay.connect();
    raw.put(MOUNT, b"hello").read_response().expect_error(400);
    assert_eq!(relay.segment().sessions_live(), 0);
}

#[test]
fn other_methods_are_405_and_say_which_there_are() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let cases: [(&str, &[&str], &[&str]); 2] = [
        (MOUNT, &["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"], &["PUT"]),
        (
            &session.path,
            &["OPTIONS", "PATCH", "TRACE", "BREW"],
            &["DELETE", "GET", "HEAD", "POST", "PUT"],
        ),
    ];
    for (target, methods, want) in cases {
        for method in methods {
            let answer = relay.connect().request(method, target, &[]).read_response().expect(405);
            let allowed: BTreeSet<_> = answer.head.must("Allow").split(", ").collect();
            assert_eq!(allowed, want.iter().copied().collect(), "{method} {target}");
        }
    }
}

#[test]
fn a_key_works_only_through_the_api_that_issued_it() {
    let relay = Relay::with(1, &[]);
    let (exchange, messages) = (relay.session(), relay.message_session());
    let key = messages.path.strip_prefix("/session").unwrap();
    let cookie = format!("token={}", messages.token);
    for method in ["GET", "DELETE", "POST", "PUT"] {
        let fields = [("Cookie", cookie.as_str()), ("Content-Length", "0")];
        relay.connect().request(method, key, &fields).read_response().expect_error(404);
    }
    relay.connect().request("PUT", &format!("{key}/name"), &[]).read_response().expect_error(404);
    let path = format!("{MOUNT}/{}", exchange.key);
    let cookie = format!("token={}", exchange.token);
    for method in ["GET", "DELETE", "POST", "PUT"] {
        let fields = [("Cookie", cookie.as_str()), ("Content-Length", "0")];
        let answer =
            relay.connect().request(method, &path, &fields).read_response().expect_error(404);
        assert_eq!(answer.head.token_cookie(), Some(TokenCookie::expired(&path)));
    }
    messages.pass(crate::harness::Role::Guest, b"unharmed");
    relay.connect().request("HEAD", &exchange.path, &[]).read_response().expect(200);
}

#[test]
fn the_mount_is_matched_before_keys_and_only_as_a_whole() {
    // This mount is as long as a key, and of the same letters.
    let mount = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let relay = Relay::with(1, &[&format!("messages.mount = \"{mount}\"")]);
    let session = relay.message_session_by(mount, &[]);
    assert!(session.path.starts_with(&format!("{mount}/")));
    session.pass(crate::harness::Role::Host, b"hello");
    put(&relay, MOUNT, &[]).expect_error(404);
    for target in [
        format!("{mount}A"),
        format!("{mount}/"),
        format!("{mount}/x"),
        format!("{}/", session.path),
        format!("{}/name", session.path),
    ] {
        put(&relay, &target, &[("Content-Length", "0")]).expect_error(404);
    }
}

#[test]
fn head_tells_whether_there_is_a_session_and_does_not_wait() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    for _ in 0..2 {
        session.guest().ask("HEAD", &[]).read_response().expect(200);
    }
    session.delete().expect_empty(200);
    session.guest().ask("HEAD", &[]).read_response().expect(404);
}

#[test]
fn prefetching_takes_no_message() {
    let relay = Relay::with(1, &[]);
    let session = relay.message_session();
    let mut sender = session.host();
    sender.post("text/plain", b"hello");
    for name in ["Sec-Purpose", "Purpose"] {
        let answer = session.guest().ask("GET", &[(name, "prefetch")]).read_response();
        answer.expect_error(503);
    }
    assert_eq!(session.guest().poll().read_response().expect(200).body, b"hello");
    sender.expect_delivered(5);
}

#[test]
fn no_session_slot_is_503() {
    let relay = Relay::with(1, &["memory.sessions_max = 2"]);
    let sessions = [relay.message_session(), relay.message_session()];
    let answer = put(&relay, MOUNT, &[]).expect_error(503);
    answer.head.must("Retry-After");
    sessions[0].delete().expect_empty(200);
    put(&relay, MOUNT, &[]).expect_empty(201);
}
