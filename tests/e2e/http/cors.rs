//! Pages of other origins: what their browsers ask first, and what they are allowed to read. If the configuration names
//! no origins, answers say nothing about it.

use protocols::{over_both, over_http};

use crate::harness::{Head, Payload, Raw, Relay, Response, Shape};

const PAGE: &str = "https://page.example";
const ORIGIN: (&str, &str) = ("Origin", PAGE);
/// Another page beside it, so that the answer depends on which one asks.
const LISTED: &str = "cors.origins = [\"http://localhost:3000\", \"https://page.example\"]";
const ANY: &str = "cors.origins = [\"*\"]";
/// A key that has the form of one and was never issued.
const NEVER_ISSUED: &str = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// The fields that a page reads of an answer.
const READ: [&str; 4] = ["Location", "X-Bytes-Delivered", "Content-Disposition", "Retry-After"];

fn preflight(raw: &mut Raw, path: &str, origin: &str, method: &str) -> Response {
    let fields = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization,x-timeout"),
    ];
    raw.request("OPTIONS", path, &fields).read_response().expect(204)
}

#[track_caller]
fn expect_granted(head: &Head, origin: &str) {
    assert_eq!(head.must("Access-Control-Allow-Origin"), origin);
    assert_eq!(head.field("Vary"), (origin != "*").then_some("Origin"));
    let exposed: Vec<_> = head.must("Access-Control-Expose-Headers").split(", ").collect();
    assert!(READ.iter().all(|name| exposed.contains(name)), "{exposed:?}");
    assert_eq!(head.field("Access-Control-Allow-Credentials"), None);
}

#[track_caller]
fn expect_not_granted(head: &Head) {
    assert!(!head.fields.iter().any(|(name, _)| name.starts_with("Access-Control")), "{head:#?}");
    assert_eq!(head.must("Vary"), "Origin");
}

/// All fields but `Date`, which differs from answer to answer.
fn lasting(head: Head) -> Vec<(String, String)> {
    head.fields.into_iter().filter(|(name, _)| name != "Date").collect()
}

#[over_both]
fn a_page_of_a_listed_origin_exchanges_a_file() {
    let relay = Relay::with(2, &[LISTED]);
    let mut raw = relay.connect();
    let fields = [ORIGIN, ("Accept", "application/json")];
    let issued = raw.request("POST", "/", &fields).read_response().expect(201);
    expect_granted(&issued.head, PAGE);
    let document: serde_json::Value = serde_json::from_slice(&issued.body).unwrap();
    let path = format!("/{}", document["key"].as_str().unwrap());
    let mut receiver = relay.connect();
    receiver.request("GET", &path, &[ORIGIN]);
    let sent = raw.request("PUT", &path, &[ORIGIN, ("Content-Length", "5")]);
    sent.send(b"hello");
    let report = sent.read_response().expect(200);
    expect_granted(&report.head, PAGE);
    let received = receiver.read_response().expect(200);
    expect_granted(&received.head, PAGE);
    assert_eq!(received.body, b"hello");
    let sandbox = received.head.must("Content-Security-Policy");
    assert!(sandbox.starts_with("sandbox"), "{sandbox}");
    let gone = raw.request("GET", &path, &[ORIGIN]).read_response().expect_error(404);
    expect_granted(&gone.head, PAGE);
}

#[over_both]
fn a_page_hosts_a_message_session_with_its_token_alone() {
    let relay = Relay::with(1, &[LISTED]);
    let fields = [ORIGIN, ("Accept", "application/json"), ("X-Type", "basic")];
    let issued = relay.connect().request("PUT", "/session", &fields).read_response().expect(201);
    expect_granted(&issued.head, PAGE);
    let document: serde_json::Value = serde_json::from_slice(&issued.body).unwrap();
    let url = issued.head.must("Location");
    assert_eq!(document["url"], url);
    let path = url.strip_prefix(&relay.url("")).unwrap().to_owned();
    let bearer = format!("Bearer {}", document["token"].as_str().unwrap());
    let mut host = relay.connect();
    host.request("GET", &path, &[ORIGIN, ("Authorization", &bearer)]);
    let mut guest = relay.connect();
    guest.request("POST", &path, &[ORIGIN, ("Content-Length", "2")]).send(b"hi");
    let received = host.read_response().expect(200);
    assert_eq!((received.body.as_slice(), received.head.must("X-Role")), (&b"hi"[..], "host"));
    expect_granted(&received.head, PAGE);
    expect_granted(&guest.read_response().expect(200).head, PAGE);
}

#[over_http("TLS does not change requests and answers")]
fn preflights_are_granted_to_listed_origins_alone() {
    let relay = Relay::with(1, &[LISTED]);
    let session = relay.session();
    let mut raw = relay.connect();
    for path in ["/", &session.path, NEVER_ISSUED, "/session", "/session/x", "/no/such/path", "*"] {
        let granted = preflight(&mut raw, path, PAGE, "PUT").head;
        expect_granted(&granted, PAGE);
        let methods = granted.must("Access-Control-Allow-Methods");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            assert!(methods.split(", ").any(|it| it == method), "{methods}");
        }
        let fields = granted.must("Access-Control-Allow-Headers").to_ascii_lowercase();
        for field in ["authorization", "content-type", "x-timeout", "x-receipt", "range"] {
            assert!(fields.split(", ").any(|it| it == field), "{fields}");
        }
        granted.must("Access-Control-Max-Age").parse::<u32>().unwrap();
        assert_eq!(granted.field("Access-Control-Allow-Private-Network"), None);
        assert!(granted.must("Allow").ends_with("OPTIONS"), "{granted:#?}");
        for other in ["https://evil.example", "null", "https://page.example.evil.example", ""] {
            expect_not_granted(&preflight(&mut raw, path, other, "PUT").head);
        }
    }
    let private = [
        ORIGIN,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Private-Network", "true"),
    ];
    let head = raw.request("OPTIONS", "/", &private).read_response().expect(204).head;
    assert_eq!(head.must("Access-Control-Allow-Private-Network"), "true");
}

#[over_http("TLS does not change requests and answers")]
fn a_preflight_consumes_nothing_and_tells_nothing_of_a_key() {
    let relay = Relay::with(1, &[LISTED, "limits.unknown_keys_per_second_max = 1"]);
    let session = relay.session();
    let payload = Payload::new(1, 1000);
    let receiver = session.receiver(&payload);
    relay.segment().wait_until_held(1);
    let mut raw = relay.connect();
    for method in ["GET", "PUT", "DELETE"] {
        let heads = [&session.path, NEVER_ISSUED, "/x"]
            .map(|path| lasting(preflight(&mut raw, path, PAGE, method).head));
        assert!(heads.windows(2).all(|pair| pair[0] == pair[1]), "{heads:#?}");
    }
    let message = relay.message_session();
    let bearer = format!("Bearer {}", message.token);
    let told = [&message.path, "/session/x"].map(|path| {
        let fields = [ORIGIN, ("Access-Control-Request-Method", "GET"), ("Authorization", &bearer)];
        lasting(raw.request("OPTIONS", path, &fields).read_response().expect(204).head)
    });
    assert_eq!(told[0], told[1]);
    assert!(told[0].contains(&("X-Role".to_owned(), "guest".to_owned())), "{told:#?}");
    // The requests before this one count as no guesses.
    raw.get(NEVER_ISSUED).read_response().expect_error(404);
    session.sender(&payload, Shape::Length).join().unwrap().expect(200);
    receiver.join().unwrap().expect_all(&payload);
}

#[over_http("TLS does not change requests and answers")]
fn options_without_an_origin_says_what_is_allowed() {
    let relay = Relay::with(1, &[ANY]);
    let session = relay.session();
    let mut raw = relay.connect();
    for (path, allowed, role) in [
        ("/", "GET, HEAD, POST, OPTIONS", None),
        (&session.path, "GET, HEAD, POST, PUT, DELETE, OPTIONS", None),
        ("/session", "PUT, OPTIONS", Some("guest")),
        ("/session/x", "GET, HEAD, POST, PUT, DELETE, OPTIONS", Some("guest")),
        ("*", "GET, HEAD, POST, PUT, DELETE, OPTIONS", None),
    ] {
        let answer = raw.request("OPTIONS", path, &[]).read_response().expect(204);
        assert_eq!(answer.head.must("Allow"), allowed);
        assert_eq!(answer.head.field("X-Role"), role, "{path}");
        assert_eq!(answer.head.field("Access-Control-Allow-Methods"), None);
    }
    let refused = raw.request("PATCH", "/", &[]).read_response().expect_error(405);
    assert_eq!(refused.head.must("Allow"), "GET, HEAD, POST, OPTIONS");
    raw.request("OPTIONS", "/", &[("Content-Length", "1")]).read_response().expect_error(400);
    let mut raw = relay.connect();
    raw.request("OPTIONS", "/session", &[("Content-Length", "1")]);
    assert_eq!(raw.read_response().expect_error(400).head.must("X-Role"), "guest");
}

#[over_http("TLS does not change requests and answers")]
fn refusals_can_be_read_by_the_page_as_well() {
    let patient = Relay::with(1, &[LISTED]);
    let hasty = Relay::with(1, &[LISTED, "timeouts.head_timeout = \"300ms\""]);
    for (head, status) in [
        ("GET / HTTP/2.5\r\nHost: a\r\nOrigin: https://page.example\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nOrigin: https://page.example\r\nContent-Length: x\r\n\r\n", 400),
        // The rest never comes.
        ("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n", 408),
    ] {
        let relay = if status == 408 { &hasty } else { &patient };
        let mut raw = relay.connect();
        raw.send(head.as_bytes());
        expect_granted(&raw.read_response().expect_error(status).head, PAGE);
        let mut raw = relay.connect();
        raw.send(head.replace("page", "evil").as_bytes());
        expect_not_granted(&raw.read_response().expect_error(status).head);
    }
}

#[over_http("TLS does not change requests and answers")]
fn any_origin_is_told_the_same() {
    let relay = Relay::with(1, &[ANY, "limits.connections_max = 1"]);
    let mut raw = relay.connect();
    for fields in [&[ORIGIN][..], &[("Origin", "null")], &[]] {
        let answer = raw.request("GET", "/", fields).read_response().expect(200);
        expect_granted(&answer.head, "*");
    }
    expect_granted(&preflight(&mut raw, NEVER_ISSUED, "http://192.0.2.1:81", "GET").head, "*");
    let mut beyond = relay.connect();
    let _ = beyond.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_granted(&beyond.read_response().expect_error(503).head, "*");
}

#[over_http("TLS does not change requests and answers")]
fn without_origins_nothing_is_said_of_them() {
    let relay = Relay::start();
    let session = relay.session();
    let mut raw = relay.connect();
    for (method, path) in
        [("GET", "/"), ("OPTIONS", "/"), ("OPTIONS", "*"), ("HEAD", &session.path), ("GET", "/x")]
    {
        let told = [&[][..], &[ORIGIN, ("Access-Control-Request-Method", "PUT")]]
            .map(|fields| raw.request(method, path, fields).read_response());
        let [plain, from_page] = told.map(|it| (it.status(), it.body, lasting(it.head)));
        assert_eq!(plain, from_page);
        let is_said =
            |(name, _): &(String, String)| name.starts_with("Access-Control") || name == "Vary";
        assert!(!plain.2.iter().any(is_said), "{plain:?}");
        assert_eq!(plain.0 == 405, method == "OPTIONS");
    }
}
