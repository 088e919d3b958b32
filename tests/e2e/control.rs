//! The control socket: what it takes, from whom, and what `-s` says of it.

use crate::harness::{BINARY, Relay, eventually};
use crate::reload::{Ended, exchange, expect_failure, text};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

#[test]
fn stop_and_quit_by_the_control_socket() {
    for request in ["stop", "quit"] {
        let mut relay = Relay::with(2, &[]);
        let mode = fs::metadata(relay.path("control")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let output = relay.request(request).output().unwrap();
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "stopping\n"));
        assert_eq!(relay.wait(), 0);
        assert!(!relay.path("control").exists());
        expect_failure(
            &relay.request(request).output().unwrap(),
            1,
            &["nobody answers", "control"],
        );
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
fn a_control_socket_of_the_dead_is_replaced_and_one_of_the_living_is_not() {
    let mut relay = Relay::with(1, &[]);
    let second = Command::new(BINARY).arg("-c").arg(relay.config_path()).output().unwrap();
    expect_failure(&second, 1, &["cannot listen on", "control_socket"]);
    exchange(&relay);
    assert!(relay.request("reload").output().unwrap().status.success(), "it is still the first's");
    relay.kill_master();
    assert!(relay.path("control").exists(), "nobody was there to take it away");

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
        // With more in its queue than it reads, the kernel may tell of a reset after the answer.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"failed "), "{answer:?}");
    }
    let gone = UnixStream::connect(&path).unwrap();
    (&gone).write_all(b"reload\n").unwrap();
    drop(gone);
    // Eight that say nothing keep nobody away for longer than they may.
    let _silent: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let output = relay.request("reload").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    exchange(&relay);
}

#[test]
fn nobody_else_may_use_the_control_socket() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let relay = Relay::with(1, &[]);
    let before = relay.worker_pids();
    for path in [relay.directory().to_owned(), relay.config_path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // The program's own file may be where nobody else can go.
    let binary = relay.path("idontstore");
    fs::copy(BINARY, &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = || {
        let mut command = Command::new(&binary);
        command.arg("-c").arg(relay.config_path()).args(["-s", "stop"]).uid(NOBODY).gid(NOBODY);
        command.current_dir("/").output().unwrap()
    };
    expect_failure(&ask(), 1, &["Permission denied"]);
    // Even where the mode was loosened.
    fs::set_permissions(relay.path("control"), fs::Permissions::from_mode(0o666)).unwrap();
    expect_failure(&ask(), 1, &["only the user that runs the relay"]);
    assert_eq!(relay.worker_pids(), before);
}
