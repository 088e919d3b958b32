//! The admin listener as an operator sees it: a status that shows what happens, health and readiness, all on an address
//! of its own, with no key in any of it.
//!
//! Not run again over HTTPS: clients never see any of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::signal::Signal;

use super::metrics::expect_moved;
use crate::harness::{
    ADMIN, BINARY, Ending, PATIENCE, Payload, Placement, Raw, Relay, Shape, Stopped, eventually,
    needs_root,
};

/// Connections to the admin listener that one worker has at a time.
const ADMIN_CONNECTIONS_MAX: usize = 16;

fn status_command(config: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("status").arg("-c").arg(config).stdin(Stdio::null());
    command.output().expect("running the binary")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unix_get(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("the admin socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
    let (mut receiver, head, mut sender) = session.half();
    assert_eq!(relay.ask_admin("/readyz").expect(200).text(), "ready\n");
    relay.signal(Signal::SIGQUIT);
    eventually("it is not ready", || (relay.ask_admin("/readyz").status() == 503).then_some(()));
    assert_eq!(relay.ask_admin("/healthz").expect(200).text(), "alive\n");
    assert_eq!(relay.metrics().value("transfers_running{api=\"exchange\"}"), 1);
    assert_eq!(relay.status()["ready"], false);
    // A client of the admin listener does not keep the relay from stopping.
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
    // New workers answer, and the old one goes on with its clients.
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
    if !needs_root() {
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
    // The relay does not count requests to the admin listener.
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
    // A client that sends too much is refused, and makes room.
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
    // A socket file that was left behind does not prevent the start.
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
    let _half = session.half();
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
        // `-t` accepts an address in use: this may be the next configuration of the relay that holds it.
        assert_eq!(run(&["-t"]).status.code(), Some(tested), "{listen}");
    }
}
