//! Step 1: asking for a session. `POST /` and its answer, as a browser, curl and a script read it; and revoking the
//! session.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, SystemTime};

use protocols::{over_both, over_http};

use crate::harness::{Curl, Ending, Relay, expect_one_time};

fn is_key_text(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[over_http("TLS does not change requests and answers")]
fn names_the_session_in_location_body_and_cookie() {
    let relay = Relay::start();
    let answer = relay.connect().request("POST", "/", &[]).read_response().expect(201);
    let url = answer.head.must("Location");
    let key = url.strip_prefix(&relay.url("/")).expect("an absolute URL of this host");
    assert!(is_key_text(key, 28), "key {key:?}");
    assert_eq!(answer.text(), format!("{url}\n"));
    assert!(answer.head.must("Content-Type").starts_with("text/plain"));
    let cookie: Vec<_> = answer.head.must("Set-Cookie").split("; ").collect();
    let token = cookie[0].strip_prefix("token=").expect("the token first");
    assert!(is_key_text(token.trim_matches('"'), 24), "token {token:?}");
    let attributes: HashSet<_> = cookie[1..].iter().map(|a| a.to_string()).collect();
    let path = format!("Path=/{key}");
    for wanted in ["HttpOnly", "SameSite=Strict", path.as_str()] {
        assert!(attributes.contains(wanted), "{wanted} in {cookie:?}");
    }
    assert!(!attributes.contains("Secure"), "no Secure over plain HTTP: {cookie:?}");
}

#[over_http("TLS does not change requests and answers")]
fn url_follows_the_host_that_was_asked() {
    let relay = Relay::start();
    let mut raw = relay.connect();
    raw.send(b"POST / HTTP/1.1\r\nHost: relay.example:81\r\nContent-Length: 0\r\n\r\n");
    let answer = raw.read_response().expect(201);
    assert!(
        answer.head.must("Location").starts_with("http://relay.example:81/"),
        "{:#?}",
        answer.head
    );
}

#[over_http("TLS does not change requests and answers")]
fn tells_when_the_session_expires() {
    let relay = Relay::with(1, &["timeouts.session_lifetime = \"90s\""]);
    let before = SystemTime::now();
    let answer = relay.connect().request("POST", "/", &[]).read_response().expect(201);
    let expires =
        httpdate::parse_http_date(answer.head.must("X-Session-Expires")).expect("an HTTP date");
    let lifetime = expires.duration_since(before).expect("a time to come");
    assert!((88..=92).contains(&lifetime.as_secs()), "{lifetime:?}");
}

#[over_http("TLS does not change requests and answers")]
fn json_on_request() {
    let relay = Relay::start();
    let answer = relay
        .connect()
        .request("POST", "/", &[("Accept", "application/json")])
        .read_response()
        .expect(201);
    assert!(answer.head.must("Content-Type").starts_with("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = |name: &str| {
        json.get(name).and_then(|v| v.as_str()).unwrap_or_else(|| panic!("{name} in {json}"))
    };
    assert!(is_key_text(text("key"), 28) && is_key_text(text("token"), 24), "{json}");
    assert_eq!(text("url"), relay.url(&format!("/{}", text("key"))));
    assert_eq!(answer.head.must("Location"), text("url"));
    let expires = httpdate::parse_http_date(answer.head.must("X-Session-Expires")).unwrap();
    expect_one_time(&json, expires);
    assert_eq!(json["expires_in"], 3600);
    assert!(json.get("type").is_none(), "{json}");
}

#[over_http("TLS does not change requests and answers")]
fn curl_prints_the_url() {
    let relay = Relay::start();
    let first = Curl::new("-sX POST").arg(relay.url("")).run().expect(0);
    let url = first.text().strip_suffix('\n').expect("one line");
    assert!(is_key_text(url.strip_prefix(&relay.url("/")).unwrap(), 28), "{url}");
    let waits = Curl::new("-sI").arg(url).run().expect(0);
    assert!(waits.text().starts_with("HTTP/1.1 200 "), "{}", waits.text());
}

#[over_http("TLS does not change requests and answers")]
fn an_empty_chunked_or_counted_body_is_empty() {
    let relay = Relay::start();
    let mut raw = relay.connect();
    raw.request("POST", "/", &[("Content-Length", "0")]).read_response().expect(201);
    raw.request("POST", "/", &[("Transfer-Encoding", "chunked")]).send_last_chunk();
    raw.read_response().expect(201);
}

#[over_http("TLS does not change requests and answers")]
fn a_body_is_refused() {
    let relay = Relay::start();
    let mut raw = relay.connect();
    raw.request("POST", "/", &[("Content-Length", "5")]).send(b"hello");
    raw.read_response().expect_error(400);
    let mut raw = relay.connect();
    raw.request("POST", "/", &[("Transfer-Encoding", "chunked")]).send_chunk(b"hello");
    raw.send_last_chunk();
    raw.read_response().expect_error(400);
}

#[over_http("TLS does not change requests and answers")]
fn keys_and_tokens_are_never_twice_the_same() {
    let relay = Relay::with(4, &[]);
    let mut seen = HashSet::new();
    for _ in 0..500 {
        let session = relay.session();
        assert!(seen.insert(session.key.clone()), "key {} again", session.key);
        assert!(seen.insert(session.token.clone()), "token {} again", session.token);
    }
}

#[over_both]
fn a_thousand_connections_spread_evenly_over_the_workers() {
    let relay = Relay::with(4, &[]);
    let segment = relay.segment();
    let before = segment.all();
    for _ in 0..1000 {
        relay.connect().request("GET", "/", &[("Connection", "close")]).read_response().expect(200);
    }
    let shares: Vec<_> =
        segment.all().iter().zip(&before).map(|(a, b)| a.accepted - b.accepted).collect();
    assert_eq!(shares.iter().sum::<u64>(), 1000, "{shares:?}");
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*most * 10 <= *least * 15, "shares {shares:?}");
}

#[over_http("TLS does not change requests and answers")]
fn revoked_with_the_token_in_each_of_its_forms() {
    let relay = Relay::start();
    let forms = [
        ("Cookie", "token=TOKEN"),
        ("Cookie", "token=\"TOKEN\""),
        ("Cookie", "other=1; token=TOKEN; more=2"),
        ("Authorization", "Bearer TOKEN"),
    ];
    for (name, form) in forms {
        let session = relay.session();
        let value = form.replace("TOKEN", &session.token);
        relay
            .connect()
            .request("DELETE", &session.path, &[(name, &value)])
            .read_response()
            .expect(200);
        relay.connect().get(&session.path).read_response().expect_error(404);
        relay
            .connect()
            .request("DELETE", &session.path, &[(name, &value)])
            .read_response()
            .expect_error(404);
    }
}

#[over_http("TLS does not change requests and answers")]
fn not_revoked_without_the_token() {
    let relay = Relay::start();
    let (session, other) = (relay.session(), relay.session());
    let bearer = format!("Bearer {}", other.token);
    let cookie = format!("token={}x", session.token);
    let attempts: [&[(&str, &str)]; 5] = [
        &[],
        &[("Authorization", &bearer)],
        &[("Cookie", &cookie)],
        &[("Cookie", "token=")],
        &[("Authorization", "Basic dG9rZW4=")],
    ];
    for fields in attempts {
        relay.connect().request("DELETE", &session.path, fields).read_response().expect_error(403);
    }
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
}

#[over_both]
fn revoking_ends_every_wait_at_once() {
    let relay = Relay::with(2, &[]);
    let segment = relay.segment();
    for first in ["GET", "PUT"] {
        for worker in 0..2 {
            let session = relay.session();
            let mut waiting = relay.on_worker(worker, &segment, || relay.connect());
            let length: &[(&str, &str)] =
                if first == "PUT" { &[("Content-Length", "5")] } else { &[] };
            waiting.request(first, &session.path, length);
            segment.wait_until_held(1);
            let deleting = thread::spawn({
                let session = session.clone();
                move || {
                    let bearer = format!("Bearer {}", session.token);
                    session
                        .connect()
                        .request("DELETE", &session.path, &[("Authorization", &bearer)])
                        .read_response()
                }
            });
            waiting.patience(Duration::from_secs(3));
            waiting.read_response().expect_error(410);
            deleting.join().unwrap().expect(200);
        }
    }
}

#[over_both]
fn revoking_cuts_a_running_transfer_visibly() {
    let relay = Relay::with(2, &[]);
    let session = relay.session();
    let (mut receiver, head, mut sender) = session.half();
    assert_eq!((head.status, receiver.read_exactly(5)), (200, b"hello".to_vec()));
    let bearer = format!("Bearer {}", session.token);
    relay
        .connect()
        .request("DELETE", &session.path, &[("Authorization", &bearer)])
        .read_response()
        .expect(200);
    let answer = sender.read_response().expect_error(410);
    assert!(answer.head.delivered_bytes() <= 5);
    assert_ne!(receiver.read_body(&head, |_| panic!("more bytes")), Ending::Complete);
}
