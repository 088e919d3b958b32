//! TCP Fast Open: no listener of ours takes it, whichever process opened it and whatever the system's setting. If a
//! connection comes that way all the same, nothing counts as acknowledged before its client has answered.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    BINARY, Curl, FAR, Line, Machine, NEAR, Pid, Relay, eventually, needs_root_to_look_in, stays,
};
use crate::processes::reload::Ended;
use crate::processes::upgrade::{install, installed};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/tcp/fast_open.py");

/// `net.ipv4.tcp_fastopen`: clients and servers; servers without asking for it; without a cookie, at both ends.
const CLIENT: u32 = 0x1 | 0x4;
const SERVER: u32 = 0x2 | 0x200 | 0x400;

/// Long enough for a fault to show.
const MEANWHILE: std::time::Duration = std::time::Duration::from_millis(500);

/// Returns the script's output for these arguments.
#[track_caller]
fn script(mut command: Command, arguments: &[&str]) -> String {
    let done = command.arg(SCRIPT).args(arguments).output().expect("python3 must be installed");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{arguments:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// How many early connections each listener of a process lets wait.
fn let_wait(process: Pid) -> Vec<String> {
    let said = script(Command::new("python3"), &["get", &process.0.to_string()]);
    said.lines().map(str::to_owned).collect()
}

/// Lets the listeners of a process take early connections, as another program might, or another version of this one.
fn switch_on(process: Pid) {
    script(Command::new("python3"), &["set", &process.0.to_string(), "100"]);
    assert!(let_wait(process).iter().all(|number| number == "100"), "{:?}", let_wait(process));
}

/// A line whose near end takes early connections on every listener that does not refuse them.
fn lay() -> Option<Line> {
    let line = Line::lay()?;
    line.near.set("tcp_fastopen", &SERVER.to_string());
    line.far.set("tcp_fastopen", &CLIENT.to_string());
    Some(line)
}

fn relay_on(line: &Line) -> (Relay, SocketAddr) {
    let public = format!("[[listener]]\naddress = \"{NEAR}:0\"");
    let relay = Relay::on(&line.near, 2, &[&public]);
    let address = relay.listener(1);
    (relay, address)
}

/// A client that sends its request with the first packet, and ends when it is answered.
fn client(machine: &Machine, address: SocketAddr, path: &str) -> Command {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut command = machine.command("python3");
    command.args([SCRIPT, "client", &address.ip().to_string(), &address.port().to_string()]);
    command.arg(request).stdout(Stdio::piped());
    command
}

fn said(done: std::process::Output) -> String {
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn no_listener_takes_early_connections_though_the_system_says_so() {
    if !needs_root_to_look_in() {
        return;
    }
    let Some(line) = lay() else { return };
    let (relay, address) = relay_on(&line);
    assert_eq!(let_wait(relay.master()), ["0", "0"]);
    let answer = said(client(&line.far, address, "/").output().unwrap());
    assert!(answer.starts_with("late HTTP/1.1 200 OK"), "{answer}");
    // The same client gets an early answer from a listener that takes such connections: otherwise the check above would
    // prove nothing.
    switch_on(relay.master());
    let answer = said(client(&line.far, address, "/").output().unwrap());
    assert!(answer.starts_with("early HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn adopted_listeners_take_no_early_connections() {
    if !needs_root_to_look_in() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    switch_on(Pid(i32::try_from(std::process::id()).unwrap()));
    let relay = Relay::activated(Path::new(BINARY), &listener, 1, &[]);
    assert_eq!(let_wait(relay.master()), ["0"]);
    relay.reload(1, &[]);
    assert_eq!(let_wait(relay.master()), ["0"]);
}

#[test]
fn listeners_of_the_program_before_take_no_early_connections() {
    if !needs_root_to_look_in() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = installed(&directory);
    let relay = Relay::of(&program, 1, &[]);
    switch_on(relay.master());
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(1, &[]);
    assert_eq!(let_wait(relay.master()), ["0"]);
}

#[test]
fn nothing_is_acknowledged_before_the_client_has_answered() {
    if !needs_root_to_look_in() {
        return;
    }
    let Some(line) = lay() else { return };
    let (relay, address) = relay_on(&line);
    let segment = relay.segment();
    switch_on(relay.master());
    let root = format!("http://{address}/");
    let url =
        Curl::on(&line.near, "-fsSX POST").arg(&root).run().expect(0).text().trim().to_owned();
    let path = url.strip_prefix(root.trim_end_matches('/')).unwrap();
    let before = segment.sum().bytes_out;
    let mut sending = Curl::on(&line.near, "-sS -d hello").arg(&url).start();
    segment.wait_until_held(1);
    // Each of our packets to the client is lost from now on.
    let neighbour = |action: &[&str]| {
        line.near.ip(&[&["neigh"], action, &[FAR, "dev", "line"]].concat());
    };
    line.near.ip(&["neigh", "replace", FAR, "dev", "line", "lladdr", "02:00:00:00:00:99"]);
    let mut receiving = Ended(client(&line.far, address, path).spawn().unwrap());
    eventually("all was handed on", || (segment.sum().bytes_out == before + 5).then_some(()));
    if !stays("the sender waits", MEANWHILE, || sending.is_running()) {
        panic!("it was told too early: {}", sending.finish().text());
    }
    neighbour(&["del"]);
    let answer = std::io::read_to_string(receiving.0.stdout.take().unwrap()).unwrap();
    assert!(answer.starts_with("early HTTP/1.1 200 OK") && answer.ends_with("hello\n"), "{answer}");
    assert_eq!(sending.finish().expect(0).text(), "delivered 5 bytes\n");
}
