//! The access log: a line for each request, which agrees with the client's view and with the counters, shows no secret,
//! and is a line whatever a client sends.
//!
//! Not run again over HTTPS: logs do not depend on TLS.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{
    ADMIN, AccessLog, BINARY, Entry, Metrics, Payload, Raw, Relay, Role, Session, Shape,
    eventually, stays,
};

fn relay_with(log: &AccessLog, workers: usize, more: &[&str]) -> Relay {
    let keys = log.keys();
    let lines: Vec<_> = keys.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Relay::with(workers, &lines)
}

/// The one line of this role and status.
fn only<'e>(entries: &'e [Entry], role: &str, status: u16) -> &'e Entry {
    let mut found =
        entries.iter().filter(|it| it.role.as_deref() == Some(role) && it.status == status);
    let entry = found.next().unwrap_or_else(|| panic!("no {role} {status} in {entries:#?}"));
    assert!(found.next().is_none(), "two of {role} {status} in {entries:#?}");
    entry
}

#[test]
fn a_transfer_has_a_line_for_each_side_and_one_for_its_issue() {
    for log in [AccessLog::combined(), AccessLog::json()] {
        let relay = relay_with(&log, 2, &[]);
        let session = relay.session();
        let mut receiver = relay.connect();
        let agent = [("User-Agent", "a \"receiver\""), ("Referer", "http://elsewhere/page")];
        receiver.request("GET", &session.path, &agent);
        // The receiver waits long enough to show in the line, from when it has its place.
        let segment = relay.segment();
        eventually("it waits", || (segment.places_held() == 1).then_some(()));
        receiver.expect_silence(Duration::from_millis(50));
        let payload = Payload::new(1, 300_000);
        let sender = session.sender(&payload, Shape::Chunked(9999));
        receiver.read_response().expect(200);
        sender.join().unwrap().expect(200);
        let entries = log.entries(3);
        let issue = entries.iter().find(|it| it.status == 201).expect("an issue");
        let hash = issue.session.clone().expect("the session's hash");
        assert!(hash.len() == 12 && hash.bytes().all(|it| it.is_ascii_hexdigit()), "{hash}");
        assert_eq!(issue.summary(), "POST / HTTP/1.1 201 - -");
        assert_eq!((issue.wait, issue.transfer, issue.payload), (None, None, None));
        assert_eq!(issue.bytes, session.url.len() as u64 + 1);
        let [sender, receiver] = ["sender", "receiver"].map(|role| only(&entries, role, 200));
        assert_eq!(sender.summary(), format!("PUT /{hash} HTTP/1.1 200 sender delivered"));
        assert_eq!(receiver.summary(), format!("GET /{hash} HTTP/1.1 200 receiver complete"));
        for side in [sender, receiver] {
            assert_eq!(side.session.as_ref(), Some(&hash));
            assert_eq!(side.api.as_deref(), Some("exchange"));
            assert_eq!(side.payload, Some(300_000));
            assert!(side.client.is_loopback());
            assert!(side.transfer.is_some_and(|it| it < 10.0), "{side:?}");
        }
        assert_eq!(sender.bytes, "delivered 300000 bytes\n".len() as u64);
        assert_eq!(receiver.bytes, 300_000);
        assert!(receiver.wait >= Some(0.05) && sender.wait < receiver.wait, "{entries:#?}");
        assert_eq!(receiver.user_agent.as_deref(), Some("a \\x22receiver\\x22"));
        assert_eq!(receiver.referer.as_deref(), Some("http://elsewhere/-"));
        assert_eq!((&sender.user_agent, &sender.referer), (&None, &None));
    }
}

/// A request of one client, by a trusted proxy.
fn forwarded(relay: &Relay, path: &str, client: &str) -> Raw {
    let mut raw = relay.connect();
    raw.request("GET", path, &[("X-Forwarded-For", client)]);
    raw
}

#[test]
fn a_request_that_is_turned_away_names_its_session_and_the_next_one_none() {
    let log = AccessLog::combined();
    let lines = ["trusted_proxies = [\"127.0.0.1\"]", "limits.connections_per_address_max = 1"];
    let relay = relay_with(&log, 1, &lines);
    let session = relay.message_session();
    let waiting = forwarded(&relay, &session.path, "192.0.2.1");
    relay.segment().wait_until_held(1);
    let answer = forwarded(&relay, &session.path, "192.0.2.1").read_response();
    answer.expect_error(429);
    forwarded(&relay, "/", "192.0.2.2").read_response().expect(200);
    let entries = log.entries(3);
    let [issue, refused, usage] = entries.as_slice() else { panic!("{entries:#?}") };
    assert_eq!((issue.status, refused.status, usage.status), (201, 429, 200));
    assert!(issue.session.is_some() && refused.session == issue.session, "{entries:#?}");
    assert_eq!(usage.session, None);
    drop(waiting);
}

#[test]
fn a_log_that_is_made_is_not_everybodys_to_read() {
    let log = AccessLog::combined();
    let relay = relay_with(&log, 1, &[]);
    let mode = fs::metadata(log.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    drop(relay);
}

/// All that was answered and how every place was left, by the metrics' names, as the lines have it.
fn counted(entries: &[Entry]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut count = |name: String| *counts.entry(name).or_insert(0) += 1;
    for entry in entries {
        if entry.status != 499 {
            count(format!("answers_total{{code=\"{}\"}}", entry.status));
        }
        if let (Some(role), Some(api), Some(end)) = (&entry.role, &entry.api, &entry.end) {
            count(format!("{role}s_done_total{{api=\"{api}\",outcome=\"{end}\"}}"));
        }
    }
    counts
}

/// The same as the metrics have it.
fn measured(now: &Metrics, before: &Metrics) -> BTreeMap<String, u64> {
    let names = ["answers_total", "senders_done_total", "receivers_done_total"];
    let grown = now.since(before).into_iter();
    let ours = grown.filter(|(series, _)| names.iter().any(|name| series.starts_with(name)));
    ours.map(|(series, count)| (series.to_owned(), count)).collect()
}

/// Every way in which a request can end without waiting long. Returns how many there were.
fn all_kinds(relay: &Relay) -> usize {
    let mut lines = 0;
    let mut ask = |request: &[u8], status: u16| {
        let mut raw = relay.connect();
        raw.send(request);
        raw.finish();
        assert_eq!(raw.read_response().status(), status, "{}", String::from_utf8_lossy(request));
        lines += 1;
    };
    let head = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    ask(head("GET", "/").as_bytes(), 200);
    ask(head("HEAD", "/").as_bytes(), 200);
    ask(head("DELETE", "/").as_bytes(), 405);
    ask(head("BREW", "/pot").as_bytes(), 405);
    ask(head("GET", "/favicon.ico").as_bytes(), 404);
    ask(head("GET", "/session/x").as_bytes(), 404);
    ask(head("GET", "/a b").as_bytes(), 400);
    ask(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n", 400);
    ask(b"GET / HTTP/3.0\r\n\r\n", 505);
    ask(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000)).as_bytes(), 414);
    ask(b"PUT /session HTTP/1.1\r\nHost: h\r\nX-Type: odd\r\n\r\n", 400);
    let deleted = relay.session();
    ask(head("DELETE", &deleted.path).as_bytes(), 403);
    let bearer = format!("Host: h\r\nAuthorization: Bearer {}", deleted.token);
    ask(head("DELETE", &deleted.path).replace("Host: h", &bearer).as_bytes(), 200);
    ask(head("GET", &deleted.path).as_bytes(), 404);
    lines + 1 + transfers(relay) + messages(relay)
}

fn begun(session: &Session) -> (Raw, Raw) {
    let (mut receiver, _, sender) = session.half();
    assert_eq!(receiver.read_exactly(5), b"hello");
    (receiver, sender)
}

/// Sessions that are issued have lines as well.
fn transfers(relay: &Relay) -> usize {
    relay.session().transfer(&Payload::new(1, 1000), Shape::Form);
    // A receiver leaves midway; the sender left midway; both wait in vain; one leaves while it waits.
    let session = relay.session();
    let (receiver, mut sender) = begun(&session);
    receiver.reset();
    sender.read_response().expect(502);
    let (mut receiver, sender) = begun(&session);
    sender.reset();
    assert!(receiver.is_gone_within(Duration::from_secs(5)));
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    // A second receiver finds the place taken.
    eventually("it has its place", || {
        (relay.metrics().value("waits{role=\"receiver\"}") == 1).then_some(())
    });
    relay.connect().get(&session.path).read_response().expect(409);
    receiver.finish();
    assert!(receiver.is_gone_within(Duration::from_secs(5)));
    relay.connect().put(&session.path, b"").read_response().expect(504);
    relay.connect().get(&session.path).read_response().expect(504);
    3 + 1 + 2 + 2 + 2 + 2
}

fn messages(relay: &Relay) -> usize {
    let session = relay.message_session();
    session.pass(Role::Host, b"hello");
    session.pass(Role::Guest, b"hello yourself");
    session.host().ask_with_query("GET", "?timeout=1", &[]).read_response().expect(504);
    let mut waiting = session.guest();
    waiting.poll();
    eventually("it waits", || {
        (relay.metrics().value("waits{role=\"receiver\"}") == 1).then_some(())
    });
    session.delete().expect(200);
    waiting.read_response().expect(410);
    session.guest().poll().read_response().expect(404);
    1 + 4 + 1 + 3
}

#[test]
fn lines_agree_with_what_is_counted() {
    for log in [AccessLog::combined(), AccessLog::json()] {
        let relay = relay_with(&log, 2, &[ADMIN, "timeouts.wait_timeout = \"300ms\""]);
        let before = relay.metrics();
        let lines = all_kinds(&relay);
        let entries = log.entries(lines);
        assert_eq!(counted(&entries), measured(&relay.metrics(), &before));
        let summaries: Vec<_> = entries.iter().map(Entry::summary).collect();
        for wanted in [
            "GET / HTTP/1.1 200 - -",
            "BREW /pot HTTP/1.1 405 - -",
            "GET /favicon.ico HTTP/1.1 404 - -",
            "GET /a b HTTP/1.1 400 - -",
            "\\x16\\x03\\x01\\x02\\x00 nonsense 400 - -",
            "PUT /session HTTP/1.1 400 - -",
            "PUT /session HTTP/1.1 201 - -",
            "GET /- HTTP/1.1 404 - -",
            "GET /session/- HTTP/1.1 404 - -",
        ] {
            assert!(summaries.iter().any(|it| it == wanted), "{wanted:?} in {summaries:#?}");
        }
        assert!(
            entries.iter().any(|it| it.status == 499 && it.role.as_deref() == Some("receiver"))
        );
        let cut = entries.iter().find(|it| it.end.as_deref() == Some("cut")).expect("one is cut");
        assert_eq!((cut.status, cut.bytes, cut.payload), (200, 5, Some(5)));
        let head = entries.iter().find(|it| it.summary().starts_with("HEAD")).unwrap();
        assert_eq!(head.bytes, 0);
    }
}

#[test]
fn no_key_or_token_is_in_the_log() {
    for log in [AccessLog::combined(), AccessLog::json()] {
        let relay = relay_with(&log, 2, &["timeouts.wait_timeout = \"100ms\""]);
        let exchange = relay.session();
        exchange.transfer(&Payload::new(1, 1000), Shape::Length);
        let open = relay.session();
        let message = relay.message_session_by("/session", &[("X-Type", "secure")]);
        let key = message.path.trim_start_matches("/session/").to_owned();
        let named = [("X-Peer-Address", "127.0.0.1")];
        message.host().ask("PUT", &named).read_response().expect(200);
        message.pass(Role::Host, b"hello");
        let secrets =
            [&exchange.key, &exchange.token, &open.key, &open.token, &key, &message.token];
        let mut lines = 1 + 2 + 1 + 1 + 1 + 2;
        for secret in secrets {
            let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let paths = [
                format!("/{secret}"),
                format!("/x/{secret}"),
                format!("/{secret}x"),
                format!("/{encoded}"),
                format!("/session/{secret}/more"),
                format!("/session{secret}"),
                format!("/?key={secret}"),
                format!("http://h/{secret}#{secret}"),
            ];
            for path in paths {
                let cookie = format!("token=\"{secret}\"");
                let referer = format!("{}{secret}", relay.url("/"));
                let fields = [
                    ("Referer", referer.as_str()),
                    ("User-Agent", secret),
                    ("Cookie", &cookie),
                    ("Authorization", secret),
                    ("Connection", "close"),
                ];
                let target = path.replace("http://h", &relay.url(""));
                relay.connect().request("GET", &target, &fields).read_response();
                lines += 1;
            }
            let method = format!("{secret} / HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut raw = relay.connect();
            raw.send(method.as_bytes());
            raw.read_response();
            lines += 1;
        }
        log.entries(lines);
        let text = log.text() + &relay.errors();
        for secret in secrets {
            let encoded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
            // The log must not have enough of a secret to guess the rest.
            for hidden in [&secret[..16], &secret[secret.len() - 16..], &encoded[..48]] {
                assert!(!text.contains(hidden), "{hidden} in\n{text}");
            }
        }
    }
}

#[test]
fn nothing_a_client_sends_forges_a_line() {
    for log in [AccessLog::combined(), AccessLog::json()] {
        let relay = relay_with(&log, 1, &["limits.head_bytes_max = \"64KiB\""]);
        let forged = "\" 200 0 \"-\" \"-\" session=- end=delivered";
        let long = "x;".repeat(4096);
        let high: String = ('\u{a0}'..='\u{ff}').collect();
        let agents =
            [forged, &long, &high, "\\x22", "a\tb", "\\", "\",\"status\":200,\"x\":\"", "-"];
        let mut lines = 0;
        for agent in agents {
            let path = format!("/?{}", "y.".repeat(4000));
            let fields = [("User-Agent", agent), ("Referer", agent), ("Connection", "close")];
            relay.connect().request("GET", &path, &fields).read_response().expect(200);
            lines += 1;
        }
        for line in [
            &b"GET /\" HTTP/1.1\r\n\r\n"[..],
            b"GET /\x7f\xff\\ HTTP/1.1\r\n\r\n",
            b"GET /a\rGET /b HTTP/1.1\r\n\r\n",
            b"GET /a\n127.0.0.1 - - [] HTTP/1.1\r\n\r\n",
        ] {
            let mut raw = relay.connect();
            raw.send(line);
            raw.read_response();
            lines += 1;
        }
        let entries = log.entries(lines);
        assert!(entries.iter().all(|it| it.end.is_none() && it.client.is_loopback()));
        let agents: Vec<_> = entries.iter().filter_map(|it| it.user_agent.as_deref()).collect();
        assert!(agents.iter().any(|it| it.starts_with("\\x22 200 0 ")), "{agents:#?}");
        assert!(agents.iter().any(|it| it.starts_with("x;x;") && it.ends_with("...")));
        assert!(agents.iter().any(|it| it.starts_with("\\xC2\\xA0")));
        assert!(agents.contains(&"\\x5Cx22"));
        let requests: Vec<_> = entries.iter().filter_map(|it| it.request.as_deref()).collect();
        assert!(requests.iter().any(|it| it.starts_with("GET /?y.y.") && it.ends_with("...")));
        assert!(requests.contains(&"GET /\\x22 HTTP/1.1"), "{requests:#?}");
    }
}

#[test]
fn the_client_is_the_one_that_the_proxy_names() {
    let log = AccessLog::combined();
    let relay = relay_with(&log, 1, &["trusted_proxies = [\"127.0.0.1\"]"]);
    for client in ["192.0.2.7", "2001:db8::7"] {
        let fields = [("X-Forwarded-For", client)];
        relay.connect().request("GET", "/", &fields).read_response().expect(200);
    }
    let clients: Vec<_> = log.entries(2).iter().map(|it| it.client.to_string()).collect();
    assert_eq!(clients, ["192.0.2.7", "2001:db8::7"]);
}

#[test]
fn each_request_of_a_connection_has_its_line() {
    let log = AccessLog::json();
    let relay = relay_with(&log, 1, &[]);
    let mut raw = relay.connect();
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    raw.send((head("/") + &head("/a") + &head("/b")).as_bytes());
    for status in [200, 404, 404] {
        raw.read_response().expect(status);
    }
    let entries = log.entries(3);
    let requests: Vec<_> = entries.iter().map(|it| it.request.clone().unwrap()).collect();
    assert_eq!(requests, ["GET / HTTP/1.1", "GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
}

#[test]
fn an_answer_that_was_not_taken_counts_for_what_was_sent_of_it() {
    let log = AccessLog::combined();
    let relay = relay_with(&log, 1, &[]);
    let one = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut raw = relay.connect();
    raw.send(one.as_bytes());
    let whole = raw.read_response().expect(200).body.len() as u64;
    // More answers than the line and both sockets hold.
    let mut raw = Raw::connect_with_receive_buffer(relay.address(), 4096);
    raw.send(one.repeat(10_000).as_bytes());
    let lines = || log.text().matches('\n').count();
    let answered = stays("the line is full", Duration::from_millis(300), lines);
    assert!((2..10_000).contains(&answered), "{answered}");
    raw.reset();
    let entries = log.entries(answered + 1);
    let (last, others) = entries.split_last().unwrap();
    assert!(others.iter().all(|it| it.bytes == whole));
    assert!(last.bytes < whole, "{last:?}");
}

#[test]
fn who_is_cut_off_by_a_stop_has_a_line() {
    let log = AccessLog::json();
    let mut relay = relay_with(&log, 1, &["timeouts.stop_timeout = \"200ms\""]);
    let session = relay.session();
    let (_receiver, _sender) = begun(&session);
    let mut waiting = relay.connect();
    waiting.get(&relay.session().path);
    relay.segment().wait_until_held(3);
    relay.signal(Signal::SIGQUIT);
    waiting.read_response().expect(503);
    assert_eq!(relay.wait(), 0);
    let entries = log.entries(5);
    let stopped: Vec<_> =
        entries.iter().filter(|it| it.end.as_deref() == Some("worker_stopped")).collect();
    assert_eq!(stopped.len(), 3, "{entries:#?}");
    let cut = stopped.iter().find(|it| it.status == 200).expect("a receiver that was cut");
    assert_eq!((cut.bytes, cut.payload), (5, Some(5)));
    assert!(stopped.iter().any(|it| it.status == 0), "the sender was told nothing");
}

#[test]
fn a_reload_takes_up_another_log_and_another_format() {
    let (first, second) = (AccessLog::combined(), AccessLog::json());
    let relay = relay_with(&first, 1, &[]);
    relay.connect().get("/").read_response().expect(200);
    let keys = second.keys();
    relay.reload(1, &keys.each_ref().map(String::as_str));
    relay.connect().get("/a").read_response().expect(404);
    relay.reload(1, &[]);
    relay.connect().get("/b").read_response().expect(404);
    first.entries(1);
    second.entries(1);
    let open = |path: &str| relay.master().fds().iter().any(|(_, link)| link == path);
    for log in [first, second] {
        eventually("it is closed", || (!open(log.path().to_str().unwrap())).then_some(()));
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_told_at_once() {
    let log = AccessLog::combined();
    let relay = relay_with(&log, 1, &[]);
    let before = relay.worker_pids();
    let bad = log.path().join("below-a-file");
    relay.configure(1, &[&format!("log.access = {bad:?}")]);
    let told = |output: std::process::Output, code: i32| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(
            text.contains(&format!("cannot write to {} (log.access)", bad.display())),
            "{text}"
        );
    };
    told(relay.request("reload").output().unwrap(), 1);
    let run = |args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("-c").arg(relay.config_path()).args(args).output().unwrap()
    };
    told(run(&["-t"]), 78);
    told(run(&[]), 1);
    assert_eq!(relay.worker_pids(), before);
    // A test of the configuration does not create the log.
    let new = log.path().with_file_name("new.log");
    relay.configure(1, &[&format!("log.access = {new:?}")]);
    assert!(run(&["-t"]).status.success());
    assert!(!new.exists());
}

#[test]
fn without_a_log_nothing_is_written_down() {
    let relay = Relay::with(1, &[]);
    relay.session().transfer(&Payload::new(1, 1000), Shape::Length);
    let files = relay.worker_pids()[0].fds();
    assert!(!files.iter().any(|(_, link)| link.contains("access")), "{files:?}");
}
