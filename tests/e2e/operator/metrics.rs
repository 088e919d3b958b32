//! Metrics count what happened: each counter moves by what a client did, no other does, and both formats can be read.
//!
//! Not run again over HTTPS: clients never see any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{
    ADMIN, Ending, MessageSession, Metrics, PATIENCE, Payload, Placement, Raw, Relay, Shape,
    eventually, needs,
};

const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

/// Reads its standard input by the official parser: the format is its argument. Prints each sample.
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

/// Returns the samples that Python reads in `text`; `None` if this machine has no such library.
fn read_by_python(format: &str, text: &str) -> Option<BTreeSet<String>> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PYTHON_READER, format]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reader = command.stderr(Stdio::piped()).spawn().ok()?;
    reader.stdin.take().unwrap().write_all(text.as_bytes()).ok();
    let output = reader.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    if !needs("python", !errors.contains("No module named")) {
        return None;
    }
    assert!(output.status.success(), "{format}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// Waits until these counters have grown so much since `before`, and no others have. The two ends of a transfer may count
/// a moment after the answer.
#[track_caller]
pub(super) fn expect_moved(relay: &Relay, before: &Metrics, expected: &[(&str, u64)]) {
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
    // The new session needs the only slot.
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
fn metrics_are_told_in_the_format_that_is_asked_for() {
    let relay = Relay::with(2, &[ADMIN]);
    relay.session().transfer(&Payload::new(1, 100_000), Shape::Length);
    // All answers must show the same numbers.
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
        // The help and type of a family bear the name of its samples.
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        // Python finds the same samples in both formats.
        let Some(read) = read_by_python("prometheus", text) else { continue };
        assert_eq!(Some(read), read_by_python("openmetrics", newer.text()));
    }
}
