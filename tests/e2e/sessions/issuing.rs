//! Clients that may ask for a session, where the configuration restricts that: clients with a token from a file, and
//! those of certain addresses. A client needs only the key to use a session.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use protocols::{over_both, over_http};
use tempfile::TempDir;

use crate::harness::{BINARY, Curl, Payload, Raw, Relay, Response, eventually};
use crate::processes::reload::{expect_failure, text};

const NEVER_ISSUED: &str = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const TOKEN: &str = "correct-horse-battery-staple";
const OTHER: &str = "0123456789abcdef==";
const WRONG: &str = "correct-horse-battery-stapler";
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const FROM_INSIDE: &str = "auth.issue_addresses = [\"127.0.0.2\", \"2001:db8::/32\"]";

/// A file of tokens, and the line that names it.
fn tokens() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokens");
    write(&path, &format!("# of the tests\n{TOKEN}\n{OTHER} # another\n"));
    let line = format!("auth.issue_tokens = {path:?}");
    (directory, line)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A request for a session, by either API.
fn ask(raw: &mut Raw, api: (&str, &str), fields: &[(&str, &str)]) -> Response {
    raw.request(api.0, api.1, fields).read_response()
}

const APIS: [(&str, &str); 2] = [("POST", "/"), ("PUT", "/session")];

#[over_both]
fn sessions_are_issued_for_a_token_alone() {
    let (_directory, line) = tokens();
    let relay = Relay::with(1, &[&line]);
    let mut raw = relay.connect();
    for api in APIS {
        let refused = ask(&mut raw, api, &[]).expect_error(401);
        assert_eq!(refused.head.must("WWW-Authenticate"), "Bearer realm=\"idontstore\"");
        assert!(!refused.head.closes(), "{:#?}", refused.head);
        for wrong in [WRONG, "# of the tests", "="] {
            let bearer = format!("Bearer {wrong}");
            let refused = ask(&mut raw, api, &[("Authorization", &bearer)]).expect_error(401);
            assert!(refused.head.must("WWW-Authenticate").contains("invalid_token"));
            assert!(!refused.text().contains(wrong), "{}", refused.text());
        }
        // Neither another scheme nor a cookie counts as a token here.
        for field in [("Authorization", "Basic dTpw"), ("Cookie", "token=correct-horse")] {
            ask(&mut raw, api, &[field]).expect_error(401);
        }
        for right in [TOKEN, OTHER] {
            let bearer = format!("bearer {right}");
            ask(&mut raw, api, &[("Authorization", &bearer)]).expect(201);
        }
    }
}

#[over_both]
fn a_session_is_used_without_the_token_that_it_was_asked_for_with() {
    let (directory, line) = tokens();
    let relay = Relay::with(2, &[&line]);
    let payload = Payload::new(1, 100_000);
    let file = directory.path().join("payload");
    payload.write_file(&file);
    let ask = || Curl::new("-sS --fail-with-body -X POST").arg(relay.url("/"));
    let refused = ask().run().expect(22);
    assert!(refused.text().contains("a token is needed"), "{}", refused.text());
    let issued = ask().arg("-H").arg(format!("Authorization: Bearer {TOKEN}")).run().expect(0);
    let url = issued.text().trim().to_owned();
    let received = directory.path().join("received");
    let receiver = Curl::new("-fsS -o").arg(&received).arg(&url).start();
    Curl::new("-sS --fail-with-body -T").arg(&file).arg(&url).run().expect(0);
    receiver.finish().expect(0);
    payload.assert_file(&received);
    // The issuer's own token deletes a session, the operator's does not.
    let bearer = format!("Bearer {TOKEN}");
    let mut raw = relay.connect();
    let fields = [("Authorization", bearer.as_str()), ("Accept", "application/json")];
    let issued = raw.request("POST", "/", &fields).read_response().expect(201);
    let document: serde_json::Value = serde_json::from_slice(&issued.body).unwrap();
    let path = format!("/{}", document["key"].as_str().unwrap());
    raw.request("DELETE", &path, &fields[..1]).read_response().expect_error(403);
    let own = format!("Bearer {}", document["token"].as_str().unwrap());
    raw.request("DELETE", &path, &[("Authorization", &own)]).read_response().expect(200);
}

#[over_http("TLS does not change requests and answers")]
fn sessions_are_issued_to_certain_addresses_and_a_proxy_may_speak_for_them() {
    let lines = [FROM_INSIDE, "trusted_proxies = [\"127.0.0.7\"]"];
    let relay = Relay::with(1, &lines);
    let from = |source| Raw::connect_from(source, relay.address());
    for api in APIS {
        ask(&mut from(INSIDE), api, &[]).expect(201);
        let refused = ask(&mut from(OUTSIDE), api, &[]).expect_error(403);
        assert_eq!(refused.head.field("WWW-Authenticate"), None);
        // The relay believes this field from the proxy alone.
        let claim = ("X-Forwarded-For", "127.0.0.2");
        ask(&mut from(OUTSIDE), api, &[claim]).expect_error(403);
        ask(&mut from(PROXY), api, &[claim]).expect(201);
        ask(&mut from(PROXY), api, &[("X-Forwarded-For", "2001:db8:7::1")]).expect(201);
        ask(&mut from(PROXY), api, &[("X-Forwarded-For", "2001:db9::1")]).expect_error(403);
    }
}

#[over_http("TLS does not change requests and answers")]
fn a_token_or_an_address_is_enough_where_there_are_both() {
    let (_directory, line) = tokens();
    let relay = Relay::with(1, &[FROM_INSIDE, &line]);
    let from = |source| Raw::connect_from(source, relay.address());
    let bearer = format!("Bearer {TOKEN}");
    ask(&mut from(INSIDE), APIS[0], &[]).expect(201);
    ask(&mut from(INSIDE), APIS[0], &[("Authorization", "Bearer nonsense")]).expect(201);
    ask(&mut from(OUTSIDE), APIS[0], &[]).expect_error(401);
    ask(&mut from(OUTSIDE), APIS[0], &[("Authorization", &bearer)]).expect(201);
}

#[over_http("TLS does not change requests and answers")]
fn wrong_tokens_are_guesses_and_no_token_is_none() {
    let (_directory, line) = tokens();
    // The limit is so low that requests at any speed reach it in some second.
    let relay = Relay::with(2, &[&line, "limits.unknown_keys_per_second_max = 1"]);
    let mut raw = Raw::connect_from(OUTSIDE, relay.address());
    for _ in 0..20 {
        ask(&mut raw, APIS[0], &[]).expect_error(401);
    }
    let (wrong, right) = (format!("Bearer {WRONG}"), format!("Bearer {TOKEN}"));
    let wrong = [("Authorization", wrong.as_str())];
    let right = [("Authorization", right.as_str())];
    eventually("a key too many, which is no wrong token", || {
        let guessed = raw.get(NEVER_ISSUED).read_response().status();
        ask(&mut raw, APIS[0], &right).expect(201);
        (guessed == 429).then_some(())
    });
    eventually("a guess too many, and then the right token does not help", || {
        let answer = ask(&mut raw, APIS[0], &wrong);
        if answer.status() != 429 {
            return None;
        }
        assert_eq!(answer.head.must("Retry-After"), "1");
        (ask(&mut raw, APIS[0], &right).status() == 429).then_some(())
    });
    // The limit does not hold back another address, and this address only until the second is over.
    let mut inside = Raw::connect_from(INSIDE, relay.address());
    ask(&mut inside, APIS[0], &right).expect(201);
    eventually("the second is over", || {
        (ask(&mut raw, APIS[0], &right).status() == 201).then_some(())
    });
}

#[over_http("TLS does not change requests and answers")]
fn tokens_are_read_anew_by_a_reload_and_a_bad_file_changes_nothing() {
    let (directory, line) = tokens();
    let path = directory.path().join("tokens");
    let relay = Relay::with(1, &[&line]);
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(&mut relay.connect(), APIS[0], &[("Authorization", &bearer)]).status()
    };
    write(&path, "another-token-of-ours\n");
    assert_eq!((status(TOKEN), status("another-token-of-ours")), (201, 401), "not before");
    relay.reload(1, &[&line]);
    assert_eq!((status(TOKEN), status("another-token-of-ours")), (401, 201));
    write(&path, "a-secret-with a-space\n");
    let refused = relay.request("reload").output().unwrap();
    expect_failure(&refused, 1, &["bad `issue_tokens`", "line 1 is not a token"]);
    assert!(!text(&refused).contains("a-secret"), "{}", text(&refused));
    assert!(!relay.errors().contains("a-secret"), "{}", relay.errors());
    assert_eq!(status("another-token-of-ours"), 201);
    fs::remove_file(&path).unwrap();
    let refused = relay.request("reload").output().unwrap();
    expect_failure(&refused, 1, &["No such file"]);
    let tested =
        Command::new(BINARY).arg("-t").arg("-c").arg(relay.config_path()).output().unwrap();
    assert!(!tested.status.success() && text(&tested).contains("No such file"), "{tested:?}");
    relay.reload(1, &[]);
    assert_eq!(status("nobody-asks-for-one"), 201);
}

#[over_http("TLS does not change requests and answers")]
fn tokens_survive_an_upgrade() {
    let (_directory, line) = tokens();
    let relay = Relay::with(1, &[&line]);
    relay.upgrade(1, &[&line]);
    let bearer = format!("Bearer {TOKEN}");
    ask(&mut relay.connect(), APIS[0], &[]).expect_error(401);
    ask(&mut relay.connect(), APIS[0], &[("Authorization", &bearer)]).expect(201);
}

#[over_http("TLS does not change requests and answers")]
fn a_token_of_the_operator_is_written_down_nowhere() {
    let (directory, line) = tokens();
    let log = directory.path().join("access.log");
    let access = format!("log.access = {log:?}");
    let relay = Relay::with(1, &[&line, &access, "log.level = \"trace\""]);
    let session = format!("Bearer {TOKEN}");
    let mut raw = relay.connect();
    ask(&mut raw, APIS[0], &[("Authorization", &session)]).expect(201);
    ask(&mut raw, APIS[0], &[("Authorization", &format!("Bearer {WRONG}"))]).expect_error(401);
    let logged = eventually("both requests are in the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    });
    assert!(!logged.contains("correct-horse"), "{logged}");
    assert!(!relay.errors().contains("correct-horse"), "{}", relay.errors());
}
