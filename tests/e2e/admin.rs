//! The admin listener as whoever runs the relay sees it: metrics that count what happened, a status that shows what
//! happens, health and readiness, all on an address of its own, with no key in any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{
    ADMIN, BINARY, Ending, MessageSession, Metrics, PATIENCE, Payload, Placement, Raw, Relay,
    Shape, Stopped, eventually,
};

/// Connections to the admin listener that one worker has at a time.
const ADMIN_CONNECTIONS_MAX: usize = 16;

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

fn status_command(config: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("status").arg("-c").arg(config).stdin(Stdio::null());
    command.output().expect("running the binary")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads what is on its standard input by the official parser: the format is its argument. Prints each sample.
const PYTHON_READER: &str = "
import sys
if sys.argv[1] == 'openmetrics':
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.type != 'unknown', family
    for sample in family.samples:
        print(sample.name, sorted(sample.labels.items()), int(sample.value))
";

/// What Python makes of `text`; `None` where this machine has no such library.
fn read_by_python(format: &str, text: &str) -> Option<BTreeSet<String>> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PYTHON_READER, format]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reader = command.stderr(Stdio::piped()).spawn().ok()?;
    reader.stdin.take().unwrap().write_all(text.as_bytes()).ok();
    let output = reader.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    if errors.contains("No module named") {
        return None;
    }
    assert!(output.status.success(), "{format}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

fn unix_get(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("the admin socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until these counters have grown so much since `before`, and no others have. What the two ends of a transfer
/// count may come a moment after the answer.
#[track_caller]
fn expect_moved(relay: &Relay, before: &Metrics, expected: &[(&str, u64)]) {
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    let begun = Instant::now();
    loop {
        let now = relay.metrics();
        let grown = now.since(before);
        if grown == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{grown:#?}, not {expected:#?}");
    }
}

#[test]
fn the_table_in_the_docs_is_what_metrics_prints() {
    let relay = Relay::https(1, &[ADMIN]);
    let metrics = relay.metrics();
    let printed: Vec<_> = metrics.families.values().collect();
    let printed: BTreeSet<String> = printed
        .iter()
        .map(|it| {
            let labels: Vec<_> = it.labels.iter().map(|label| format!("`{label}`")).collect();
            let help = it.help.trim_end_matches('.');
            format!("| `{}` | {} | {} | {help} |", it.sample, it.kind, labels.join(", "))
        })
        .collect();
    let docs = fs::read_to_string(DOCUMENTED).unwrap();
    let rows = docs.lines().filter(|line| line.starts_with("| `idontstore_"));
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    let missing: Vec<_> = printed.difference(&documented).collect();
    let vain: Vec<_> = documented.difference(&printed).collect();
    assert!(missing.is_empty() && vain.is_empty(), "not in docs: {missing:#?}\nvain: {vain:#?}");
}

#[test]
fn a_transfer_moves_its_counters_and_no_others() {
    let relay = Relay::with(2, &[ADMIN]);
    let segment = relay.segment();
    for placement in [Placement::SameWorker, Placement::TwoWorkers] {
        let before = relay.metrics();
        let session = relay.session();
        let payload = Payload::new(1, 300_000);
        let (mut receiver, mut sender) = relay.pair(&segment, placement);
        receiver.get(&session.path);
        sender.put(&session.path, &payload.bytes());
        receiver.read_checked(&payload).expect_all(&payload);
        sender.read_response().expect(200);
        let expected = [
            ("connections_accepted_total", 3),
            ("requests_total", 3),
            ("answers_total{code=\"200\"}", 2),
            ("answers_total{code=\"201\"}", 1),
            ("sessions_issued_total{kind=\"exchange\"}", 1),
            ("sessions_ended_total{cause=\"complete\"}", 1),
            ("transfers_begun_total{api=\"exchange\"}", 1),
            ("senders_done_total{api=\"exchange\",outcome=\"delivered\"}", 1),
            ("receivers_done_total{api=\"exchange\",outcome=\"complete\"}", 1),
            ("payload_received_bytes_total", 300_000),
            ("payload_sent_bytes_total", 300_000),
        ];
        expect_moved(&relay, &before, &expected);
    }
}

#[test]
fn refusals_are_counted_by_what_they_are() {
    let relay = Relay::with(2, &[ADMIN, "limits.unknown_keys_per_second_max = 1000000"]);
    let session = relay.session();
    let mut waiting = relay.connect();
    waiting.get(&session.path);
    eventually("it waits", || {
        (relay.metrics().value("waits{role=\"receiver\"}") == 1).then_some(())
    });
    let before = relay.metrics();
    relay.connect().get(&session.path).read_response().expect_error(409);
    relay.connect().get(&format!("/{}", "A".repeat(28))).read_response().expect_error(404);
    relay.connect().request("DELETE", &session.path, &[]).read_response().expect_error(403);
    relay.connect().send(b"nonsense\r\n\r\n");
    let expected = [
        ("connections_accepted_total", 4),
        ("requests_total", 3),
        ("answers_total{code=\"400\"}", 1),
        ("answers_total{code=\"403\"}", 1),
        ("answers_total{code=\"404\"}", 1),
        ("answers_total{code=\"409\"}", 1),
        ("unknown_keys_total", 1),
    ];
    expect_moved(&relay, &before, &expected);
}

#[test]
fn limits_that_are_hit_are_counted_by_their_keys() {
    let lines = [
        ADMIN,
        "limits.unknown_keys_per_second_max = 1",
        "limits.sessions_per_address_max = 1",
        "limits.connections_max = 2",
    ];
    let relay = Relay::with(1, &lines);
    let hit =
        |limit: &str| relay.metrics().value(&format!("limits_hit_total{{limit=\"{limit}\"}}"));
    let unknown = format!("/{}", "A".repeat(28));
    let mut one = relay.connect();
    eventually("a guess too many", || {
        one.get(&unknown).read_response();
        (hit("unknown_keys_per_second_max") > 0).then_some(())
    });
    eventually("a session too many", || {
        one.request("POST", "/", &[]).read_response();
        (hit("sessions_per_address_max") > 0).then_some(())
    });
    let mut two = relay.connect();
    two.get("/").read_response().expect(200);
    let mut three = relay.connect();
    assert!(three.is_gone_within(Duration::from_secs(5)));
    assert_eq!(hit("connections_max"), 1);
    assert_eq!(hit("connections_per_address_max"), 0);
}

#[test]
fn messages_are_counted_apart_and_a_sender_that_left_is_no_success() {
    let relay = Relay::with(2, &[ADMIN]);
    let before = relay.metrics();
    let MessageSession { path: location, token, .. } = relay.message_session();
    let cookie = format!("token=\"{token}\"");
    let mut host = relay.connect();
    host.request("GET", &location, &[("Cookie", &cookie)]);
    let mut guest = relay.connect();
    guest.request("POST", &location, &[("Content-Length", "5")]).send(b"hello");
    assert_eq!(host.read_response().expect(200).body, b"hello");
    guest.read_response().expect(200);
    host.request("GET", &location, &[("Cookie", &cookie)]);
    guest.request("POST", &location, &[("Content-Length", "9")]).send(b"hell");
    let head = host.read_head();
    drop(guest);
    assert_ne!(host.read_body(&head, |_| ()), Ending::Complete);
    let expected = [
        ("connections_accepted_total", 3),
        ("requests_total", 5),
        ("answers_total{code=\"200\"}", 3),
        ("answers_total{code=\"201\"}", 1),
        ("sessions_issued_total{kind=\"basic\"}", 1),
        ("transfers_begun_total{api=\"messages\"}", 2),
        ("senders_done_total{api=\"messages\",outcome=\"delivered\"}", 1),
        ("senders_done_total{api=\"messages\",outcome=\"sender_left\"}", 1),
        ("receivers_done_total{api=\"messages\",outcome=\"complete\"}", 1),
        ("receivers_done_total{api=\"messages\",outcome=\"cut\"}", 1),
        ("payload_received_bytes_total", 9),
        ("payload_sent_bytes_total", 9),
    ];
    expect_moved(&relay, &before, &expected);
}

#[test]
fn sessions_are_counted_to_their_end() {
    let lines = [ADMIN, "timeouts.session_lifetime = \"1s\"", "memory.sessions_max = 1"];
    let relay = Relay::with(1, &lines);
    let live = |relay: &Relay| relay.metrics().value("sessions_live{kind=\"exchange\"}");
    let deleted = relay.session();
    assert_eq!(live(&relay), 1);
    let bearer = format!("Bearer {}", deleted.token);
    let delete = [("Authorization", bearer.as_str())];
    relay.connect().request("DELETE", &deleted.path, &delete).read_response().expect(200);
    assert_eq!(live(&relay), 0);
    let expiring = relay.session();
    relay.connect().get(&expiring.path).read_response().expect_error(410);
    let forgotten = relay.session();
    eventually("its lifetime is over", || {
        (relay.status()["sessions"]["expired"] == 1).then_some(())
    });
    assert_eq!(live(&relay), 0, "{forgotten:?}");
    let metrics = relay.metrics();
    assert_eq!(metrics.value("sessions_ended_total{cause=\"deleted\"}"), 1);
    assert_eq!(metrics.value("sessions_ended_total{cause=\"expired\"}"), 1);
    // The only slot is needed.
    relay.session();
    assert_eq!(relay.metrics().value("sessions_ended_total{cause=\"expired\"}"), 2);
    assert_eq!(relay.metrics().value("sessions_ended_total{cause=\"complete\"}"), 0);
}

#[test]
fn what_a_killed_worker_counted_stays() {
    let relay = Relay::with(2, &[ADMIN]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(1, 100_000);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    sender.put(&session.path, &payload.bytes());
    receiver.read_checked(&payload).expect_all(&payload);
    sender.read_response().expect(200);
    let before = relay.metrics();
    for victim in relay.worker_pids() {
        victim.signal(Signal::SIGKILL);
        assert!(victim.is_gone_within(Duration::from_secs(5)));
    }
    expect_moved(&relay, &before, &[("workers_died_total", 2), ("workers_forked_total", 2)]);
    eventually("both are back", || {
        (relay.metrics().value("workers{state=\"serving\"}") == 2).then_some(())
    });
    assert_eq!(relay.metrics().value("connections_open"), 0);
    let status = relay.status();
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(
            (&worker["state"], &worker["epoch"]),
            (&"serving".into(), &1.into()),
            "{status}"
        );
    }
}

#[test]
fn the_status_shows_a_running_transfer_and_no_key() {
    let relay = Relay::with(2, &[ADMIN]);
    let segment = relay.segment();
    let session = relay.session();
    let payload = Payload::new(1, 1_000_000);
    let (mut receiver, mut sender) = relay.pair(&segment, Placement::TwoWorkers);
    receiver.get(&session.path);
    eventually("it waits", || (relay.status()["waits"]["receivers"] == 1).then_some(()));
    sender
        .request("PUT", &session.path, &[("Content-Length", "1000000")])
        .send(&payload.bytes()[..400_000]);
    receiver.read_checked_part(&payload, 400_000);
    let status = eventually("its bytes show", || {
        let status = relay.status();
        (status["transfers"]["shown"][0]["bytes"] == 400_000).then_some(status)
    });
    let shown = &status["transfers"]["shown"][0];
    assert_eq!(status["transfers"]["running"]["exchange"], 1, "{status}");
    assert_eq!(status["sessions"]["live"]["exchange"], 1, "{status}");
    assert_eq!(status["waits"]["receivers"], 0, "{status}");
    assert_eq!((&shown["kind"], &shown["direction"]), (&"exchange".into(), &"forth".into()));
    assert_eq!((&shown["sender_worker"], &shown["receiver_worker"]), (&1.into(), &0.into()));
    assert_eq!(shown["session"].as_str().unwrap().len(), 12, "{status}");
    assert!(shown["age_seconds"].as_f64().unwrap() < 60.0, "{status}");
    assert!(shown["bytes_per_second"].as_u64().unwrap() > 0, "{status}");
    for page in ["/status", "/metrics"] {
        let said = relay.ask_admin(page).expect(200).text().to_owned();
        assert!(!said.contains(&session.key) && !said.contains(&session.token), "{said}");
    }
    sender.send(&payload.bytes()[400_000..]);
    receiver.read_exactly(600_000);
    sender.read_response().expect(200);
    eventually("it is over", || {
        relay.status()["transfers"]["shown"].as_array().unwrap().is_empty().then_some(())
    });
}

#[test]
fn readiness_ends_with_a_graceful_stop_and_the_rest_goes_on() {
    let mut relay = Relay::with(2, &[ADMIN]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    let head = receiver.read_head();
    assert_eq!(relay.ask_admin("/readyz").expect(200).text(), "ready\n");
    relay.signal(Signal::SIGQUIT);
    eventually("it is not ready", || (relay.ask_admin("/readyz").status() == 503).then_some(()));
    assert_eq!(relay.ask_admin("/healthz").expect(200).text(), "alive\n");
    assert_eq!(relay.metrics().value("transfers_running{api=\"exchange\"}"), 1);
    assert_eq!(relay.status()["ready"], false);
    // Who only looks on keeps nobody from stopping.
    let idle = TcpStream::connect(relay.admin()).unwrap();
    sender.send(b"world");
    assert_eq!(receiver.read_body(&head, |_| ()), Ending::Complete);
    sender.read_response().expect(200);
    assert_eq!(relay.wait(), 0, "{}", relay.errors());
    drop(idle);
}

#[test]
fn while_all_drain_it_is_asked_and_not_ready() {
    let relay = Relay::with(2, &[ADMIN]);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.signal(Signal::SIGWINCH);
    eventually("all drain, and one is left", || {
        (relay.worker_pids().is_empty() && relay.master().children().len() == 1).then_some(())
    });
    for _ in 0..3 {
        relay.ask_admin("/readyz").expect(503);
        relay.ask_admin("/healthz").expect(200);
    }
    assert_eq!(relay.status()["ready"], false);
    // New workers answer, and the old one goes on with what it has.
    relay.signal(Signal::SIGHUP);
    eventually("it is ready", || (relay.ask_admin("/readyz").status() == 200).then_some(()));
    relay.connect().put(&session.path, b"hello").read_response().expect(200);
    assert_eq!(receiver.read_response().expect(200).text(), "hello");
}

#[test]
fn who_came_before_the_last_worker_left_is_answered() {
    let relay = Relay::with(1, &[ADMIN]);
    let worker = relay.worker_pids()[0];
    let stopped = Stopped::hold(&[worker]);
    relay.signal(Signal::SIGWINCH);
    eventually("it is told", || relay.errors().contains("SIGWINCH").then_some(()));
    let mut asking: Vec<_> = (0..4).map(|_| Raw::connect(relay.admin())).collect();
    for raw in &mut asking {
        raw.get("/readyz");
    }
    drop(stopped);
    for raw in &mut asking {
        raw.read_response().expect(503);
    }
    drop(asking);
    assert!(worker.is_gone_within(PATIENCE));
}

#[test]
fn a_page_of_somebody_elses_name_is_told_nothing() {
    let relay = Relay::with(1, &[ADMIN]);
    let port = relay.admin().port();
    let ask = |line: &str, host: &str| {
        let mut raw = Raw::connect(relay.admin());
        raw.send(format!("GET {line}\r\n{host}\r\n").as_bytes());
        raw.read_response()
    };
    for page in ["/status", "/metrics", "/readyz"] {
        let line = format!("{page} HTTP/1.1");
        for name in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io"] {
            let answer = ask(&line, &format!("Host: {name}:{port}\r\n")).expect_error(403);
            assert!(answer.text().contains("localhost"), "{}", answer.text());
        }
        for name in ["127.0.0.1", "[::1]", "192.0.2.1", "localhost", "LocalHost"] {
            ask(&line, &format!("Host: {name}:{port}\r\n")).expect(200);
            ask(&line, &format!("Host: {name}\r\n")).expect(200);
        }
        ask(&format!("{page} HTTP/1.0"), "").expect(200);
    }
    ask("http://evil.example/status HTTP/1.1", "Host: evil.example\r\n").expect_error(403);
}

#[test]
fn metrics_are_told_in_the_format_that_is_asked_for() {
    let relay = Relay::with(2, &[ADMIN]);
    relay.session().transfer(&Payload::new(1, 100_000), Shape::Length);
    // So that each answer tells the same.
    eventually("all clients are gone", || {
        (relay.metrics().value("connections_open") == 0).then_some(())
    });
    let ask = |fields: &[(&str, &str)]| {
        Raw::connect(relay.admin()).request("GET", "/metrics", fields).read_response().expect(200)
    };
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let newer = ask(&[("Accept", prometheus_3)]);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(newer.head.must("Content-Type"), content_type);
    Metrics::parse(newer.text());
    for fields in [&[][..], &[("Accept", "text/plain;version=0.0.4")], &[("Accept", "*/*")]] {
        let older = ask(fields);
        assert_eq!(older.head.must("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(older.head.must("Vary"), "Accept");
        let text = older.text();
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        for line in [
            "# TYPE idontstore_payload_sent_bytes_total counter",
            "idontstore_payload_sent_bytes_total 100000",
            "# TYPE idontstore_build_info gauge",
            "# TYPE idontstore_segment_bytes gauge",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in {text}");
        }
        // What is said of a family bears the name that its samples have.
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        // Nobody asks for a name that was not there: both formats tell the same.
        let Some(read) = read_by_python("prometheus", text) else { continue };
        assert_eq!(Some(read), read_by_python("openmetrics", newer.text()));
    }
}

#[test]
fn names_that_are_configured_are_answered_also_after_a_reload() {
    let name = "admin.hosts = [\"Relay.example\", \"idontstore_1\"]";
    let relay = Relay::with(2, &[ADMIN, name]);
    let ask = |name: &str| {
        let mut raw = Raw::connect(relay.admin());
        raw.send(format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes());
        raw.read_response()
    };
    for name in ["relay.example", "RELAY.EXAMPLE:9180", "idontstore_1:9180", "localhost"] {
        ask(name).expect(200);
    }
    for name in ["example", "evil.relay.example", "relay.example.evil.example"] {
        assert!(ask(name).expect_error(403).text().contains("admin.hosts"));
    }
    relay.reload(2, &[ADMIN, "admin.hosts = [\"other.example\"]"]);
    ask("other.example").expect(200);
    ask("relay.example").expect_error(403);
}

#[test]
fn a_unix_socket_is_opened_to_a_group_and_closed_by_a_reload() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("admin.sock");
    let listen = format!("admin.listen = \"unix:{}\"", path.display());
    let relay = Relay::with(1, &[&listen, "admin.group = \"4100010\"", "admin.mode = \"0660\""]);
    let about = || {
        let file = fs::metadata(&path).unwrap();
        (file.mode() & 0o777, file.gid())
    };
    // Asks as another user of this group.
    let is_answered = |group: u32| {
        let group = format!("--regid={group}");
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=4100011",
            &group,
            "--clear-groups",
            "curl",
            "-fsS",
            "--unix-socket",
        ]);
        let output = command.arg(&path).arg("http://admin/readyz").output().unwrap();
        output.status.success()
    };
    assert_eq!(about(), (0o660, 4_100_010));
    assert!(is_answered(4_100_010) && !is_answered(4_100_012));
    relay.reload(1, &[&listen, "admin.group = \"4100012\"", "admin.mode = \"0660\""]);
    assert_eq!(about(), (0o660, 4_100_012));
    assert!(!is_answered(4_100_010) && is_answered(4_100_012));
    relay.upgrade(1, &[&listen, "admin.group = \"4100012\"", "admin.mode = \"0660\""]);
    assert!(!is_answered(4_100_010) && is_answered(4_100_012));
    relay.reload(1, &[&listen]);
    assert_eq!(about().0, 0o600);
    assert!(!is_answered(4_100_012));
    assert!(unix_get(&path, "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_two_listeners_have_nothing_in_common() {
    let relay = Relay::with(1, &[ADMIN]);
    let session = relay.session();
    for page in ["/healthz", "/readyz", "/metrics", "/status"] {
        relay.connect().get(page).read_response().expect_error(404);
        relay.ask_admin(page).expect(200);
        let mut head = Raw::connect(relay.admin());
        let answer = head.request("HEAD", page, &[]).read_response().expect(200);
        let mut refused = Raw::connect(relay.admin());
        refused.send(format!("HEAD {page} HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(refused.read_head().status, 400);
        refused.expect_close();
        assert!(answer.body.is_empty());
        head.expect_close();
        let fields = [("Content-Length", "5")];
        let mut posting = Raw::connect(relay.admin());
        posting.request("POST", page, &fields).send(b"hello");
        let answer = posting.read_response().expect_error(405);
        assert_eq!(answer.head.must("Allow"), "GET, HEAD");
        posting.expect_close();
    }
    for page in ["/", "/metrics/", &session.path, "/session"] {
        relay.ask_admin(page).expect_error(404);
    }
    let mut admin = Raw::connect(relay.admin());
    admin.send(b"GET /metrics\r\n\r\n");
    admin.read_response().expect_error(400);
    let before = relay.metrics();
    // Who looks on is not counted.
    expect_moved(&relay, &before, &[]);
}

#[test]
fn a_crowd_at_the_admin_listener_is_bounded_and_harms_nobody() {
    let relay = Relay::with(1, &[ADMIN]);
    let mut silent: Vec<_> =
        (0..ADMIN_CONNECTIONS_MAX).map(|_| Raw::connect(relay.admin())).collect();
    let endless = vec![b'x'; 20_000];
    for raw in &mut silent {
        raw.send(b"GET /metrics HTTP/1.1\r\n");
    }
    eventually("no more are taken", || {
        Raw::connect(relay.admin()).is_gone_within(Duration::from_millis(200)).then_some(())
    });
    relay.session().transfer(&Payload::new(1, 100_000), Shape::Length);
    // One that sends too much is refused, and makes room.
    let _ = silent[0].try_send(&endless);
    silent[0].read_response().expect_error(431);
    silent.remove(0);
    relay.metrics();
    for raw in &mut silent {
        assert!(raw.is_gone_within(Duration::from_secs(15)), "it is waited for without end");
    }
    relay.metrics();
}

#[test]
fn a_unix_socket_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    // A socket that was left behind is no hindrance.
    drop(UnixListener::bind(&path).unwrap());
    let relay = Relay::with(2, &[&format!("admin.listen = \"unix:{}\"", path.display())]);
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(unix_get(&path, "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(unix_get(&path, "/metrics").contains("\nidontstore_connections_open 0\n"));
    let output = status_command(&relay.config_path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).starts_with("idontstore "), "{output:?}");
}

#[test]
fn the_status_command_prints_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let relay = Relay::with(2, &[&format!("admin.listen = \"unix:{}\"", path.display())]);
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    receiver.read_head();
    let said = eventually("the transfer is listed", || {
        let output = status_command(&relay.config_path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        Some(text(&output.stdout)).filter(|said| said.contains("5B"))
    });
    for part in ["serving", "1 live", "1 running", "forth", "worker"] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    assert!(!said.contains(&session.key) && !said.contains(&session.token), "{said}");
}

#[test]
fn the_status_command_says_why_it_knows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("some.toml");
    let path = directory.path().join("admin.sock");
    let ask = |listen: &str, reasons: &[&str]| {
        fs::write(&config, format!("[admin]\nlisten = \"{listen}\"\n")).unwrap();
        let output = status_command(&config);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = text(&output.stderr);
        for reason in reasons {
            assert!(said.contains(reason), "{reason:?} in {said}");
        }
    };
    ask("none", &["no admin listener", "[admin]"]);
    ask("127.0.0.1:0", &["chosen at each start"]);
    let unix = format!("unix:{}", path.display());
    ask(&unix, &["does not answer", &unix, "No such file"]);
    let stranger = UnixListener::bind(&path).unwrap();
    let answering = thread::spawn(move || {
        let (mut stream, _) = stranger.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"version\":\"\x1b[2J\"}").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    ask(&unix, &["not the admin listener"]);
    answering.join().unwrap();
}

#[test]
fn an_admin_listener_that_cannot_be_opened_is_a_failed_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("some.toml");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = held.local_addr().unwrap();
    let missing = format!("unix:{}/missing/admin.sock", directory.path().display());
    let lines = "[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\n";
    for (listen, tested) in [(held.to_string(), 0), (missing, 78)] {
        fs::write(&config, format!("{lines}listen = \"{listen}\"\n")).unwrap();
        let run = |option: &[&str]| {
            let mut command = Command::new(BINARY);
            command.arg("-c").arg(&config).args(option).stdin(Stdio::null()).output().unwrap()
        };
        let output = run(&[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let reason = format!("cannot open the admin listener {listen}: ");
        assert!(text(&output.stderr).contains(&reason), "{output:?}");
        // Who holds the address may be the relay whose next configuration this is.
        assert_eq!(run(&["-t"]).status.code(), Some(tested), "{listen}");
    }
}
