//! The command line: the output of each option, and the exit code that a script sees.
//!
//! Not run again over HTTPS: clients never see any of it.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::harness::{BINARY, PATIENCE, Relay, Terminal};

fn idontstore(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("running the binary")
}

fn with_config(text: &str, options: &[&str]) -> (String, Output) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let output = idontstore(&[&["-c", path.as_str()], options].concat());
    (path, output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn expect_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn version_and_help() {
    for option in ["-v", "--version"] {
        let output = idontstore(&[option]);
        expect_code(&output, 0);
        assert!(text(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{output:?}");
    }
    for option in ["-h", "--help"] {
        let output = idontstore(&[option]);
        expect_code(&output, 0);
        for word in ["-c", "-t", "-T", "run"] {
            assert!(text(&output.stdout).contains(word), "{word} in {}", text(&output.stdout));
        }
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for arguments in [&["--nonsense"][..], &["walk"], &["-c"], &["run", "more"]] {
        let output = idontstore(arguments);
        expect_code(&output, 2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn the_default_configuration_tests_and_dumps() {
    expect_code(&idontstore(&["-t"]), 0);
    let dump = idontstore(&["-T"]);
    expect_code(&dump, 0);
    let shown = text(&dump.stdout);
    for key in ["workers", "listener", "127.0.0.1:8080", "segment_bytes", "receipt", "head_timeout"]
    {
        assert!(shown.contains(key), "{key} in {shown}");
    }
    let (_, again) = with_config(&shown, &["-T"]);
    expect_code(&again, 0);
    assert_eq!(text(&again.stdout), shown, "what is dumped reads back the same");
}

#[test]
fn a_configuration_is_tested_without_being_run() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    let (path, output) = with_config(&listener, &["-t"]);
    expect_code(&output, 0);
    assert!(text(&output.stdout).contains(&path), "{output:?}");
    let (_, output) = with_config(&listener, &[]);
    expect_code(&output, 1);
    assert!(!output.stderr.is_empty());
}

#[test]
fn a_bad_configuration_is_78_with_the_place_and_what_is_allowed() {
    let row = |line: usize, column: usize, text: &'static str, words: &'static [&'static str]| {
        (line, column, text, words)
    };
    for (line, column, config, words) in [
        row(2, 1, "workers = 1\nworkres = 2\n", &["workres", "workers"]),
        row(2, 1, "[limits]\nhead_bytes_maxx = 5\n", &["head_bytes_maxx", "head_bytes_max"]),
        row(2, 16, "[timeouts]\nhead_timeout = \"soon\"\n", &["head_timeout"]),
        row(1, 11, "workers = 0\n", &["workers", "64"]),
        row(1, 11, "workers = 65\n", &["workers", "64"]),
        row(2, 15, "[memory]\nchunk_bytes = 5000\n", &["chunk_bytes"]),
        row(2, 11, "[[listener]]\naddress = \"localhost:1\"\n", &["address"]),
        row(2, 11, "[exchange]\nreceipt = \"later\"\n", &["acked", "sent"]),
        row(2, 9, "[log]\nlevel = \"loud\"\n", &["debug"]),
        row(3, 1, "\n\nworkers 1\n", &[]),
    ] {
        for option in [&["-t"][..], &["-T"], &[]] {
            let (path, output) = with_config(config, option);
            expect_code(&output, 78);
            let shown = text(&output.stderr);
            let place = format!("{path}:{line}:");
            assert!(shown.contains(&place), "{place} in {shown}");
            if !words.is_empty() {
                let place = format!("{path}:{line}:{column}");
                assert!(shown.contains(&place), "{place} in {shown}");
            }
            for word in words {
                assert!(shown.contains(word), "{word} in {shown}");
            }
        }
    }
}

#[test]
fn a_configuration_that_is_not_there_is_78() {
    let output = idontstore(&["-c", "/nonexistent/idontstore.toml"]);
    expect_code(&output, 78);
    assert!(text(&output.stderr).contains("/nonexistent/idontstore.toml"));
}

#[test]
fn two_keys_that_contradict_are_both_named() {
    let (_, output) =
        with_config("[memory]\nchunk_bytes = \"1MiB\"\nlane_bytes_max = \"1536KiB\"\n", &["-t"]);
    expect_code(&output, 78);
    let shown = text(&output.stderr);
    assert!(shown.contains("chunk_bytes") && shown.contains("lane_bytes_max"), "{shown}");
}

#[test]
fn the_start_names_the_port_and_tells_a_terminal_what_to_try() {
    let relay = Relay::start();
    let address = format!("listening on http://{}\n", relay.address());
    assert_eq!(relay.wait_for_output("listening on"), address);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("terminal.toml");
    fs::write(&path, "workers = 1\nmemory.pipes = 0\nlistener = [{ address = \"127.0.0.1:0\" }]\n")
        .unwrap();
    let mut terminal = Terminal::start(&format!("-c {}", path.display()), &[]);
    let said = terminal.read_until("prints more.");
    for word in ["listening on http://127.0.0.1:", "-f", "--fail-with-body", "POST"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

/// Runs the program with a configuration until it ends by itself; a program that serves is killed.
#[track_caller]
fn run_to_its_end(shell: &str, path: &str, options: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} exec \"$0\" \"$@\""), BINARY, "-c", path]);
    command.args(options).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

#[test]
fn what_cannot_start_does_not_pass_the_test_either() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "text").unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
    let any = listener("127.0.0.1:0");
    let two = |one: &str, other: &str| listener(one) + &listener(other);
    let with = |line: String| format!("{line}\n{any}");
    let (all, one) = (format!("0.0.0.0:{held}"), format!("127.0.0.1:{held}"));
    let cases: [(&str, String, &str); 13] = [
        ("", two(&one, &all), "overlap"),
        ("", two(&format!("[::1]:{held}"), &format!("[::]:{held}")), "overlap"),
        ("", listener(&all) + &format!("[admin]\nlisten = \"{one}\"\n"), "admin listener"),
        (
            "",
            with(format!(
                "control_socket = {0:?}\nadmin.listen = \"unix:{1}\"",
                path("same"),
                path("same").display()
            )),
            "are one path",
        ),
        (
            "",
            with(format!("log.access = {0:?}\ncontrol_socket = {0:?}", path("same"))),
            "are one path",
        ),
        ("", with(format!("control_socket = {:?}", path("file"))), "not a socket"),
        ("", with(format!("control_socket = {:?}", path("missing/same"))), "No such file"),
        ("", with(format!("log.access = {:?}", path("missing/log"))), "No such file"),
        ("", with("timeouts.start_timeout = \"1ms\"".to_owned()), "bad value for `start_timeout`"),
        ("", with("user = \"no such user\"".to_owned()), "bad value for `user`"),
        ("ulimit -n 60;", any.clone(), "open files"),
        ("ulimit -f 1024;", any.clone(), "ulimit -f"),
        ("", listener("192.0.2.1:0"), "cannot listen on 192.0.2.1:0"),
    ];
    for (shell, text, why) in cases {
        fs::write(path("test.toml"), &text).unwrap();
        let file = path("test.toml");
        let tried = run_to_its_end(shell, file.to_str().unwrap(), &["-t"]);
        expect_code(&tried, 78);
        let said = self::text(&tried.stderr);
        assert!(said.contains(why), "{why:?} is missing in: {said}");
        let begun = run_to_its_end(shell, file.to_str().unwrap(), &[]);
        assert!(matches!(begun.status.code(), Some(1 | 78)), "{text}: {begun:?}");
        assert!(!path("same").exists() && fs::read(path("file")).unwrap() == b"text");
    }
    fs::write(path("test.toml"), &any).unwrap();
    let tried = run_to_its_end("ulimit -n 1024;", path("test.toml").to_str().unwrap(), &["-t"]);
    expect_code(&tried, 0);
}

#[test]
fn a_link_named_relay_takes_an_address_alone() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("relay");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    // Port 0: the kernel chooses.
    let mut relay = Command::new(&link);
    let relay = relay.arg(":0").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut relay = relay.stderr(Stdio::null()).spawn().unwrap();
    let mut said = std::io::BufReader::new(relay.stdout.take().unwrap()).lines();
    let line = said.next().unwrap().unwrap();
    let port: u16 = line.rsplit(':').next().unwrap().parse().unwrap();
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&[1, 0, 0, 0, 0]).unwrap();
    let mut first = [0];
    client.read_exact(&mut first).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(relay.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(relay.wait().unwrap().success());
    assert_eq!(first, [0x81], "a code");
}
