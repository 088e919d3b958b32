//! The address of a request's client, and the name that it has for this server: behind trusted proxies, and in spite of
//! all other proxies. The tests read the relay's findings from its log, which has a line for each session that it issues.
//!
//! Not run again over HTTPS: these tests choose HTTP or HTTPS themselves.

use nix::sys::signal::Signal;

use crate::harness::{Curl, MOUNT, Raw, Relay, eventually};

const DEBUG: &str = "log.level = \"debug\"";
const PROXY: &str = "127.0.0.2";
const STRANGER: &str = "127.0.0.3";
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\", \"fd00::/8\"]";
const BALANCED: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true";
const TCP4: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 80\r\n";

/// A relay whose first listener is for HTTP proxies, and whose second is for balancers.
fn trusting(lines: &[&str]) -> Relay {
    Relay::with(1, &[lines, &[DEBUG, TRUSTED, BALANCED]].concat())
}

fn from(source: &str, relay: &Relay) -> Raw {
    Raw::connect_from(source.parse().unwrap(), relay.address())
}

/// A connection of a trusted balancer, which has sent nothing yet.
fn balanced(relay: &Relay) -> Raw {
    Raw::connect_from(PROXY.parse().unwrap(), relay.listener(1))
}

/// Asks for a session; gives the `Location` and the client that the relay has seen.
#[track_caller]
fn issue(relay: &Relay, raw: &mut Raw, fields: &[(&str, &str)]) -> (String, String) {
    let answer = raw.request("POST", "/", fields).read_response().expect(201);
    (answer.head.must("Location").to_owned(), last_client(relay))
}

/// Returns the line that was logged before the answer.
fn last_client(relay: &Relay) -> String {
    let log = relay.errors();
    let line = log.lines().rfind(|line| line.contains("a session was issued")).expect(&log);
    line.rsplit("client=").next().unwrap().trim().to_owned()
}

#[test]
fn nobody_is_believed_by_default() {
    let relay = Relay::with(1, &[DEBUG]);
    let fields = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "relay.example"),
        ("Forwarded", "for=203.0.113.7;proto=https;host=relay.example"),
        ("X-Real-IP", "203.0.113.7"),
    ];
    let (location, client) = issue(&relay, &mut relay.connect(), &fields);
    assert!(location.starts_with(&relay.url("/")), "{location}");
    assert_eq!(client, "127.0.0.1");
    let (_, client) = issue(&relay, &mut from(STRANGER, &relay), &fields);
    assert_eq!(client, STRANGER);
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let relay = trusting(&[]);
    let fields = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")];
    for (source, client, scheme) in
        [(PROXY, "203.0.113.7", "https://"), (STRANGER, STRANGER, "http://")]
    {
        let (location, found) = issue(&relay, &mut from(source, &relay), &fields);
        assert!(location.starts_with(scheme), "{location}");
        assert_eq!(found, client);
    }
}

#[test]
fn the_chain_is_walked_from_the_right() {
    let relay = trusting(&[]);
    // A proxy's connection carries requests of many clients.
    let mut proxy = from(PROXY, &relay);
    for (lists, client) in [
        (&[][..], PROXY),
        (&["203.0.113.7"], "203.0.113.7"),
        (&["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7, 10.0.0.1,10.9.9.9"], "203.0.113.7"),
        (&["198.51.100.1", "203.0.113.7", "10.0.0.1"], "203.0.113.7"),
        (&["198.51.100.1, 10.0.0.1", "203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7:8080, [fd00::1]:443"], "203.0.113.7"),
        (&["2001:db8::7, 127.0.0.2"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["::ffff:203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7, ::ffff:10.0.0.1"], "203.0.113.7"),
        (&["203.0.113.7, unknown, 10.0.0.1"], "10.0.0.1"),
        (&["203.0.113.7, nonsense"], PROXY),
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (&[""], PROXY),
    ] {
        let fields: Vec<_> = lists.iter().map(|list| ("X-Forwarded-For", *list)).collect();
        let (_, found) = issue(&relay, &mut proxy, &fields);
        assert_eq!(found, client, "{lists:?}");
    }
}

#[test]
fn urls_and_cookies_follow_the_scheme_and_host_of_the_client() {
    let relay = trusting(&[]);
    let mut proxy = from(PROXY, &relay);
    let own = relay.address().to_string();
    for (fields, origin) in [
        (&[("X-Forwarded-Proto", "https")][..], format!("https://{own}/")),
        (&[("X-Forwarded-Proto", "HTTPS")], format!("https://{own}/")),
        (&[("X-Forwarded-Proto", "http, https")], format!("https://{own}/")),
        (&[("X-Forwarded-Proto", "https, http")], format!("http://{own}/")),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")],
            format!("http://{own}/"),
        ),
        (&[("X-Forwarded-Proto", "wss")], format!("http://{own}/")),
        (&[("X-Forwarded-Proto", "https;q=1")], format!("http://{own}/")),
        (&[("X-Forwarded-Host", "relay.example")], "http://relay.example/".to_owned()),
        (&[("X-Forwarded-Host", "a.example, b.example:81")], "http://b.example:81/".to_owned()),
        (&[("X-Forwarded-Host", "not a host")], format!("http://{own}/")),
        (&[("X-Forwarded-Host", "<b>")], format!("http://{own}/")),
        (
            &[("X-Forwarded-Host", "relay.example"), ("X-Forwarded-Proto", "https")],
            "https://relay.example/".to_owned(),
        ),
    ] {
        let answer = proxy.request("POST", "/", fields).read_response().expect(201);
        assert!(answer.head.must("Location").starts_with(&origin), "{fields:?}: {:?}", answer.head);
        assert_eq!(answer.text().trim_end(), answer.head.must("Location"));
        let cookie = answer.head.must("Set-Cookie");
        let is_secure = cookie.split("; ").any(|attribute| attribute == "Secure");
        assert_eq!(is_secure, origin.starts_with("https:"), "{cookie}");
        let answer = proxy.request("PUT", MOUNT, fields).read_response().expect_empty(201);
        let location = answer.head.must("Location");
        let path = location.strip_prefix(origin.trim_end_matches('/')).expect("the same origin");
        assert!(path.starts_with(&format!("{MOUNT}/")), "{location}");
        let cookie = answer.head.must("Set-Cookie");
        assert!(cookie.contains(&format!("; Path={path};")), "the path alone: {cookie}");
        assert_eq!(cookie.ends_with("; Secure"), origin.starts_with("https:"), "{cookie}");
        let usage = proxy.request("GET", "/", fields).read_response().expect(200);
        assert!(usage.text().contains(&origin), "{}", usage.text());
    }
    let fields = [("X-Forwarded-Proto", "https"), ("Accept", "application/json")];
    let answer = proxy.request("POST", "/", &fields).read_response().expect(201);
    assert!(answer.text().contains(&format!("\"url\":\"https://{own}/")), "{}", answer.text());
    let answer = proxy.request("PUT", MOUNT, &fields).read_response().expect(201);
    let url = format!("\"url\":\"https://{own}{MOUNT}/");
    assert!(answer.text().contains(&url), "{}", answer.text());
}

#[test]
fn a_balancer_says_who_has_connected() {
    let relay = trusting(&[]);
    for (line, client) in [
        (TCP4, "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 80\r\n", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 0 65535\r\n", "203.0.113.7"),
        (b"PROXY UNKNOWN\r\n", PROXY),
        (b"PROXY UNKNOWN anything at all\r\n", PROXY),
    ] {
        let mut raw = balanced(&relay);
        raw.send(line);
        for _ in 0..2 {
            assert_eq!(issue(&relay, &mut raw, &[]).1, client);
        }
    }
    // curl plays the balancer: the client it names is itself.
    let url = format!("http://{}/", relay.listener(1));
    let interface = ["--interface", PROXY];
    let curl = Curl::new("-fsSX POST --haproxy-protocol").arg(url);
    interface.into_iter().fold(curl, Curl::arg).run().expect(0);
    assert_eq!(last_client(&relay), PROXY);
}

#[test]
fn the_line_may_come_in_any_pieces() {
    let relay = trusting(&[]);
    let mut raw = balanced(&relay);
    for byte in [TCP4, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"].concat() {
        raw.send(&[byte]);
    }
    raw.read_response().expect(201);
    assert_eq!(last_client(&relay), "203.0.113.7");
    let whole = [TCP4, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    for cut in 1..whole.len() {
        let (begins, rest) = whole.split_at(cut);
        let mut raw = balanced(&relay);
        raw.send(begins);
        raw.send(rest);
        raw.read_response().expect(200);
    }
}

#[test]
fn what_is_no_proxy_line_is_400_and_never_read_as_a_request() {
    let relay = trusting(&[]);
    let request = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n";
    for line in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324\r\n",
        b"PROXY TCP4 203.0.113.007 192.0.2.1 56324 80\r\n",
        b"PROXY TCP4 203.0.113.7 nowhere 56324 80\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 80\n",
        b"PROXY TCP6 203.0.113.7 192.0.2.1 56324 80\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 80 \r\n",
        b"PROXY SCTP 203.0.113.7 192.0.2.1 56324 80\r\n",
        &[b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat(),
    ] {
        let mut raw = balanced(&relay);
        let _ = raw.try_send(&[line, request].concat());
        let answer = raw.read_response().expect_error(400);
        assert!(answer.head.closes() && answer.text().contains("PROXY"), "{answer:?}");
        raw.finish();
        raw.expect_close();
    }
    let log = relay.errors();
    assert!(!log.contains("a session was issued"), "{log}");
    // A second line is no request either.
    let mut raw = balanced(&relay);
    raw.send(&[TCP4, TCP4].concat());
    raw.read_response().expect_error(400);
}

#[test]
fn a_slow_proxy_line_is_408_and_a_silent_balancer_is_left() {
    let relay = trusting(&["timeouts.head_timeout = \"400ms\""]);
    let (mut slow, mut silent) = (balanced(&relay), balanced(&relay));
    slow.send(&TCP4[..TCP4.len() - 1]);
    slow.read_response().expect_error(408);
    silent.expect_close();
    // Each byte is new, and none of them gains time: all of them would take two seconds.
    let mut trickling = balanced(&relay);
    let line = format!("PROXY UNKNOWN {:x<90}", "");
    let mut is_unanswered = |byte: &u8| {
        trickling.send(&[*byte]);
        !(0..20).any(|_| trickling.has_news())
    };
    let sent = line.as_bytes().iter().take_while(|byte| is_unanswered(byte)).count();
    assert!(sent < line.len(), "{sent} bytes");
    trickling.read_response().expect_error(408);
}

#[test]
fn only_trusted_balancers_may_connect_to_their_listener() {
    let relay = trusting(&[]);
    for says in [TCP4, b""] {
        let mut raw = Raw::connect_from(STRANGER.parse().unwrap(), relay.listener(1));
        let _ = raw.try_send(says);
        let answer = raw.read_response().expect_error(400);
        assert!(answer.head.closes(), "{answer:?}");
        raw.finish();
        raw.expect_close();
    }
    assert!(relay.errors().contains(&format!("remote={STRANGER}")), "{}", relay.errors());
}

#[test]
fn elsewhere_a_proxy_line_is_a_bad_request() {
    let relay = trusting(&[]);
    for source in [PROXY, STRANGER] {
        let mut raw = from(source, &relay);
        raw.send(&[TCP4, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        raw.read_response().expect_error(400);
    }
}

#[test]
fn a_proxy_behind_a_balancer_is_trusted_by_its_own_address() {
    let relay = trusting(&[]);
    let fields = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")];
    for (line, client, scheme) in [
        (&b"PROXY TCP4 10.0.0.1 192.0.2.1 56324 80\r\n"[..], "203.0.113.9", "https://"),
        (b"PROXY TCP6 fd00::1 fd00::2 56324 80\r\n", "203.0.113.9", "https://"),
        (TCP4, "203.0.113.7", "http://"),
        // The relay does not know which client these fields are about.
        (b"PROXY UNKNOWN\r\n", PROXY, "http://"),
    ] {
        let mut raw = balanced(&relay);
        raw.send(line);
        let (location, found) = issue(&relay, &mut raw, &fields);
        assert!(location.starts_with(scheme), "{location}");
        assert_eq!(found, client);
    }
}

#[test]
fn a_transfer_passes_through_balancers() {
    let relay = trusting(&[]);
    let session = relay.session();
    let (mut receiver, mut sender) = (balanced(&relay), balanced(&relay));
    receiver.send(TCP4);
    receiver.get(&session.path);
    sender.send(b"PROXY UNKNOWN\r\n");
    sender.put(&session.path, b"through");
    assert_eq!(receiver.read_response().expect(200).body, b"through");
    sender.read_response().expect(200);
}

#[test]
fn a_stopping_relay_does_not_wait_for_a_proxy_line() {
    let mut relay = trusting(&["timeouts.head_timeout = \"60s\""]);
    let segment = relay.segment();
    let mut silent = balanced(&relay);
    eventually("it is there", || (segment.sum().open == 1).then_some(()));
    relay.signal(Signal::SIGQUIT);
    silent.expect_close();
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
}
