//! The control socket: the requests that it takes, from whom, and the words of `-s` about them.
//!
//! Not run again over HTTPS: clients never see any of it.

use crate::harness::{ADMIN, BINARY, PATIENCE, Relay, eventually, needs_root};
use crate::processes::reload::{Ended, exchange, expect_failure, text};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn stop_and_quit_by_the_control_socket() {
    for request in ["stop", "quit"] {
        let mut relay = Relay::with(2, &[]);
        let mode = fs::metadata(relay.path("control")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let output = relay.request(request).output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output).as_str()),
            (Some(0), "stopping\nstopped\n")
        );
        assert_eq!(relay.wait(), 0);
        assert!(!relay.path("control").exists());
        expect_failure(&relay.request(request).output().unwrap(), 1, &["no answer", "control"]);
    }
}

#[test]
fn who_has_no_control_socket_is_told_the_key() {
    let output = Command::new(BINARY).args(["-s", "reload"]).output().unwrap();
    expect_failure(&output, 78, &["control_socket", "built-in"]);
    for arguments in [&["-s"][..], &["-s", "dance"], &["-t", "-s", "stop"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_relay_is_stopped_whatever_its_file_has_come_to_be() {
    let mut relay = Relay::https(1, &[]);
    fs::write(relay.path("certificate.pem"), "nonsense").unwrap();
    let bad = ["nonsense = 1", "timeouts.wait_timeout = \"soon\""];
    relay.configure(1, &bad);
    let reload = relay.request("reload").output().unwrap();
    expect_failure(&reload, 1, &["nonsense"]);
    let output = relay.request("stop").output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "stopping\nstopped\n"));
    assert_eq!(relay.wait(), 0);
}

#[test]
fn a_session_of_any_kind_is_ended_by_its_hash() {
    let relay = Relay::with(2, &[ADMIN]);
    let session = relay.session();
    let (mut receiver, mut sender) = (relay.connect(), relay.connect());
    receiver.get(&session.path);
    sender.request("PUT", &session.path, &[("Content-Length", "1000")]).send(b"some");
    assert_eq!(receiver.read_head().status, 200);
    let hash = relay.status()["transfers"]["shown"][0]["session"].as_str().unwrap().to_owned();
    let output = relay.end_session(&hash);
    assert_eq!((output.status.code(), text(&output)), (Some(0), format!("ended session {hash}\n")));
    let answer = sender.read_response().expect_error(410);
    assert!(answer.text().contains("the session was deleted"), "{}", answer.text());
    assert!(receiver.is_gone_within(PATIENCE));
    expect_failure(&relay.end_session(&hash), 1, &["no living session is", &hash]);
    let output = Command::new(BINARY).args(["end", "nonsense"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A client that speaks the protocol by hand.
struct Asker(BufReader<UnixStream>);

impl Asker {
    fn new(relay: &Relay, request: &str) -> Self {
        let mut stream = UnixStream::connect(relay.path("control")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

#[test]
fn reloads_that_wait_keep_nobody_from_asking() {
    /// Requests that may wait.
    const WAITERS_MAX: usize = 32;
    let lines = ["generations_max = 2"];
    let mut relay = Relay::with(1, &lines);
    let segment = relay.segment();
    let session = relay.session();
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    segment.wait_until_held(1);
    relay.reload(1, &lines);

    let queue = || {
        let mut asker = Asker::new(&relay, "reload");
        assert_eq!(asker.line(), "heard\n");
        assert!(asker.line().starts_with("note queued: "));
        asker
    };
    let mut waiting: Vec<_> = (0..WAITERS_MAX).map(|_| queue()).collect();
    let many = relay.request("reload").output().unwrap();
    expect_failure(&many, 1, &["32 other requests wait"]);
    // A client that leaves makes room.
    drop(waiting.pop());
    waiting.push(eventually("there is room", || {
        let mut asker = Asker::new(&relay, "reload");
        (asker.line() == "heard\n" && asker.line().starts_with("note ")).then_some(asker)
    }));
    let output = relay.request("stop").output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "stopping\nstopped\n"));
    for mut asker in waiting {
        assert_eq!(asker.line(), "failed the relay is stopping\n");
        assert_eq!(asker.line(), "");
    }
    assert_eq!(relay.wait(), 0);
}

#[test]
fn a_master_without_descriptors_does_not_spin() {
    let relay = Relay::with(1, &[]);
    let master = relay.master();
    let limit = |files: u32| {
        let pid = master.0.to_string();
        let files = format!("--nofile={files}:");
        let status = Command::new("prlimit").args(["--pid", &pid, &files]).status().unwrap();
        assert!(status.success());
    };
    let open: Vec<u32> = master.fds().into_iter().map(|(number, _)| number).collect();
    limit((0..).find(|number| !open.contains(number)).unwrap());
    let mut asker = Asker::new(&relay, "reload");
    eventually("it is in want of one", || {
        relay.errors().contains("cannot accept requests").then_some(())
    });
    let (cpu, begun) = (master.cpu(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let (cpu, span) = (master.cpu() - cpu, begun.elapsed());
    assert!(cpu < span / 4, "{cpu:?} of CPU in {span:?}");
    limit(1000);
    assert_eq!(asker.line(), "heard\n");
    assert!(asker.line().starts_with("ok reloaded"));
}

#[test]
fn a_control_socket_of_the_dead_is_replaced_and_one_of_the_living_is_not() {
    let mut relay = Relay::with(1, &[]);
    let second = Command::new(BINARY).arg("-c").arg(relay.config_path()).output().unwrap();
    expect_failure(&second, 1, &["cannot listen on", "control_socket"]);
    exchange(&relay);
    assert!(relay.request("reload").output().unwrap().status.success(), "it is still the first's");
    relay.kill_master();
    assert!(relay.path("control").exists(), "no process has removed it");

    let lines = [format!("control_socket = {:?}", relay.path("control"))];
    let config = relay.path("next.toml");
    fs::write(&config, format!("{}\n[[listener]]\naddress = \"127.0.0.1:0\"", lines[0])).unwrap();
    let _next = Ended(Command::new(BINARY).arg("-c").arg(&config).spawn().unwrap());
    eventually("it answers", || {
        let mut ask = Command::new(BINARY);
        let output = ask.arg("-c").arg(&config).args(["-s", "reload"]).output().unwrap();
        output.status.success().then_some(())
    });

    let file = relay.path("file");
    fs::write(&file, "precious").unwrap();
    let config = relay.path("third.toml");
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"";
    fs::write(&config, format!("control_socket = {file:?}\n{listener}")).unwrap();
    let third = Command::new(BINARY).arg("-c").arg(&config).output().unwrap();
    expect_failure(&third, 1, &["control_socket"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn the_control_socket_takes_nonsense() {
    let relay = Relay::with(1, &[]);
    let path = relay.path("control");
    let silent: Vec<_> = (0..12).map(|_| UnixStream::connect(&path).unwrap()).collect();
    drop(silent);
    for line in [&b"dance\n"[..], b"\n", &[b'x'; 5000], b"\xff\xfe\n", b"reload now\n"] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(line);
        let mut answer = Vec::new();
        // If the master leaves a part of the line unread, the kernel may report a reset after the answer.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"failed "), "{answer:?}");
    }
    let gone = UnixStream::connect(&path).unwrap();
    (&gone).write_all(b"reload\n").unwrap();
    drop(gone);
    // Eight silent clients keep others away only until they time out.
    let _silent: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let output = relay.request("reload").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    exchange(&relay);
}

#[test]
fn nobody_else_may_use_the_control_socket() {
    if !needs_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let relay = Relay::with(1, &[]);
    let before = relay.worker_pids();
    for path in [relay.directory().to_owned(), relay.config_path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The program's own file may lie where no other user has access.
    let binary = relay.path("idontstore");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = || {
        let mut command = Command::new(&binary);
        command.arg("-c").arg(relay.config_path()).args(["-s", "stop"]).uid(NOBODY).gid(NOBODY);
        command.current_dir("/").output().unwrap()
    };
    expect_failure(&ask(), 1, &["Permission denied"]);
    // The relay refuses other users even if the socket's mode was loosened.
    fs::set_permissions(relay.path("control"), fs::Permissions::from_mode(0o666)).unwrap();
    expect_failure(&ask(), 1, &["only the user that runs the relay"]);
    assert_eq!(relay.worker_pids(), before);
}
