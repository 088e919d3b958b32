//! The form of every answer, and the requests that are not part of an exchange: usage, `HEAD`, prefetches, service
//! workers, wrong methods and unknown keys.

use std::time::{Duration, SystemTime};

use protocols::{over_both, over_http};

use crate::harness::{Curl, Payload, Relay, Shape};

/// A key that has the form of one and was never issued.
const NEVER_ISSUED: &str = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[over_http("TLS does not change requests and answers")]
fn the_root_tells_how_to_use_it() {
    let relay = Relay::start();
    let answer = relay.connect().get("/").read_response().expect(200);
    assert!(answer.head.must("Content-Type").starts_with("text/plain"));
    for word in ["curl", "-f", "--fail-with-body"] {
        assert!(answer.text().contains(word), "{word} in {}", answer.text());
    }
    let head = relay.connect().request("HEAD", "/", &[]).read_response().expect(200);
    assert!(head.body.is_empty());
}

#[over_http("TLS does not change requests and answers")]
fn every_answer_carries_date_and_server() {
    let relay = Relay::start();
    let session = relay.session();
    for (method, path, status) in [
        ("GET", "/", 200),
        ("POST", "/", 201),
        ("GET", NEVER_ISSUED, 404),
        ("DELETE", session.path.as_str(), 403),
        ("HEAD", session.path.as_str(), 200),
        ("PATCH", session.path.as_str(), 405),
    ] {
        let answer = relay.connect().request(method, path, &[]).read_response().expect(status);
        assert_eq!(answer.head.must("Server"), "idontstore");
        let date = httpdate::parse_http_date(answer.head.must("Date")).expect("an HTTP date");
        let off = SystemTime::now().duration_since(date).unwrap_or_else(|e| e.duration());
        assert!(off < Duration::from_secs(3), "{off:?}");
    }
}

#[over_http("TLS does not change requests and answers")]
fn head_tells_whether_the_key_lives_and_never_waits() {
    let relay = Relay::start();
    let session = relay.session();
    let mut raw = relay.connect();
    raw.request("HEAD", &session.path, &[]).read_response().expect(200);
    raw.request("HEAD", NEVER_ISSUED, &[]).read_response().expect(404);
    session.transfer(&Payload::new(1, 100), Shape::Length);
    raw.request("HEAD", &session.path, &[]).read_response().expect(404);
}

#[over_both]
fn head_and_prefetch_leave_a_waiting_transfer_alone() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(2, 3000);
    let sender = session.sender(&payload, Shape::Length);
    relay.connect().request("HEAD", &session.path, &[]).read_response().expect(200);
    for field in [
        ("Sec-Purpose", "prefetch"),
        ("Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
    ] {
        relay.connect().request("GET", &session.path, &[field]).read_response().expect_error(503);
    }
    relay.connect().request("GET", &session.path, &[("Service-Worker", "script")]).read_response();
    session.receiver(&payload).join().unwrap().expect_all(&payload);
    sender.join().unwrap().expect(200);
}

#[over_http("TLS does not change requests and answers")]
fn a_service_worker_script_is_refused() {
    let relay = Relay::start();
    let session = relay.session();
    let answer = relay
        .connect()
        .request("GET", &session.path, &[("Service-Worker", "script")])
        .read_response();
    assert!((400..500).contains(&answer.status()), "{:#?}", answer.head);
    let status = answer.status();
    answer.expect_error(status);
}

#[over_http("TLS does not change requests and answers")]
fn other_methods_are_405_with_what_is_allowed() {
    let relay = Relay::start();
    let session = relay.session();
    for (path, allowed) in [
        ("/", vec!["GET", "HEAD", "POST"]),
        (&session.path, vec!["GET", "HEAD", "POST", "PUT", "DELETE"]),
    ] {
        for method in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer =
                relay.connect().request(method, path, &[]).read_response().expect_error(405);
            let allow: Vec<_> = answer.head.must("Allow").split(',').map(str::trim).collect();
            for name in &allowed {
                assert!(allow.contains(name), "{name} for {path} in {allow:?}");
            }
        }
    }
    for method in ["PUT", "DELETE"] {
        relay
            .connect()
            .request(method, "/", &[("Content-Length", "0")])
            .read_response()
            .expect_error(405);
    }
}

#[over_http("TLS does not change requests and answers")]
fn never_issued_and_dead_keys_answer_alike() {
    let relay = Relay::start();
    let session = relay.session();
    session.transfer(&Payload::new(3, 10), Shape::Length);
    let (key, flipped) = (session.key.clone(), if session.key.ends_with('A') { 'B' } else { 'A' });
    let almost = format!("/{}{flipped}", &key[..key.len() - 1]);
    let other_slot = format!("/____{}", &key[4..]);
    let bodies: Vec<_> =
        [session.path.as_str(), NEVER_ISSUED, &almost, &other_slot, &format!("{almost}/name")]
            .map(|path| relay.connect().get(path).read_response().expect_error(404))
            .into_iter()
            .map(|r| {
                (r.body, r.head.fields.into_iter().filter(|(n, _)| n != "Date").collect::<Vec<_>>())
            })
            .collect();
    assert!(bodies.windows(2).all(|w| w[0] == w[1]), "{bodies:#?}");
    for method in ["POST", "PUT"] {
        let fields = [("Content-Length", "5")];
        let mut raw = relay.connect();
        raw.request(method, &session.path, &fields).send(b"hello");
        raw.read_response().expect_error(404);
    }
}

#[over_http("TLS does not change requests and answers")]
fn errors_are_problems_in_json_on_request() {
    let relay = Relay::start();
    let fields = [("Accept", "application/problem+json")];
    let answer = relay.connect().request("GET", NEVER_ISSUED, &fields).read_response().expect(404);
    assert_eq!(answer.head.must("Content-Type"), "application/problem+json");
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(problem.get("status").and_then(|s| s.as_u64()), Some(404));
    assert!(problem.get("title").is_some_and(|t| t.is_string()), "{problem}");
}

#[over_http("TLS does not change requests and answers")]
fn an_error_for_curl_is_a_line_and_an_exit_code() {
    let relay = Relay::start();
    let url = relay.url(NEVER_ISSUED);
    let plain = Curl::new("-sS").arg(&url).run().expect(0);
    assert!(!plain.text().contains('<') && plain.text().ends_with('\n'), "{:?}", plain.text());
    Curl::new("-fsS").arg(&url).run().expect(22);
    Curl::new("-sS --fail-with-body").arg(&url).run().expect(22);
}

#[over_http("TLS does not change requests and answers")]
fn relayed_answers_are_safe_in_a_browser() {
    let relay = Relay::start();
    let session = relay.session();
    let payload = Payload::new(4, 50);
    let receiver = session.receiver(&payload);
    session.sender(&payload, Shape::Length).join().unwrap().expect(200);
    let head = receiver.join().unwrap().head;
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "sandbox; default-src 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("X-Robots-Tag", "none"),
        ("Server", "idontstore"),
        ("Content-Disposition", "attachment"),
    ] {
        assert_eq!(head.must(name), value, "{name}");
    }
    head.must("Date");
}

#[over_both]
fn connections_are_kept_and_pipelines_answered_in_order() {
    let relay = Relay::start();
    let session = relay.session();
    let mut raw = relay.connect();
    let one = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all =
        [one("GET", "/"), one("GET", NEVER_ISSUED), one("GET", "/"), one("DELETE", &session.path)]
            .concat();
    raw.send(all.as_bytes());
    for status in [200, 404, 200, 403] {
        raw.read_response().expect(status);
    }
    raw.request("GET", "/", &[("Connection", "close")]);
    let last = raw.read_response().expect(200);
    assert!(last.head.closes());
    raw.expect_close();
}

#[over_both]
fn a_pipelined_request_waits_behind_a_transfer() {
    let relay = Relay::start();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path).get("/");
    let mut sender = relay.connect();
    sender.put(&session.path, b"first").get("/");
    assert_eq!(receiver.read_response().expect(200).body, b"first");
    assert!(receiver.read_response().expect(200).text().contains("curl"));
    assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), 5);
    assert!(sender.read_response().expect(200).text().contains("curl"));
}

#[over_both]
fn one_pair_of_kept_connections_serves_many_exchanges() {
    let relay = Relay::with(2, &[]);
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    for round in 0..50 {
        let session = relay.session();
        let payload = Payload::new(round, round * 700);
        if round % 2 == 0 {
            receiver.get(&session.path);
            sender.put(&session.path, &payload.bytes());
        } else {
            sender.put(&session.path, &payload.bytes());
            receiver.get(&session.path);
        }
        receiver.read_checked(&payload).expect_all(&payload);
        assert_eq!(sender.read_response().expect(200).head.delivered_bytes(), payload.len());
    }
}

#[over_both]
fn http_1_0_is_answered_and_closed_unless_it_asks_to_stay() {
    let relay = Relay::start();
    let mut raw = relay.connect();
    raw.send(b"GET / HTTP/1.0\r\n\r\n");
    raw.read_response().expect(200);
    raw.expect_close();
    let mut raw = relay.connect();
    for _ in 0..2 {
        raw.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = raw.read_response().expect(200);
        assert!(answer.head.must("Connection").eq_ignore_ascii_case("keep-alive"));
    }
}
