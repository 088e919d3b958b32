//! Notifications to a service manager (sd_notify(3)): each step of a start, a reload, an upgrade and a stop, and pings at
//! intervals while the master is alive.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::ffi::OsString;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{BINARY, PATIENCE, Relay, Stopped};
use crate::processes::reload::{exchange, expect_failure};
use crate::processes::upgrade::{install, installed};

/// The manager's socket.
struct Manager {
    socket: UnixDatagram,
    name: OsString,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name: path.into() }
    }

    fn without_a_file(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name: format!("@{name}").into() }
    }

    /// The program, with this manager's socket in its environment.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("NOTIFY_SOCKET", &self.name).stdin(std::process::Stdio::null());
        command
    }

    /// The next message, within `PATIENCE`.
    #[track_caller]
    fn message(&self) -> String {
        let mut room = [0; 4096];
        let bytes = self.socket.recv(&mut room).expect("a message");
        String::from_utf8(room[..bytes].to_vec()).unwrap()
    }

    /// The next message that is not about the status.
    #[track_caller]
    fn step(&self) -> String {
        std::iter::repeat_with(|| self.message()).find(|it| !it.starts_with("STATUS=")).unwrap()
    }

    /// The next status.
    #[track_caller]
    fn status(&self) -> String {
        let text = std::iter::repeat_with(|| self.message())
            .find_map(|it| it.strip_prefix("STATUS=").map(str::to_owned));
        text.unwrap()
    }

    /// Checks that a renewal begins and ends, with no message between.
    #[track_caller]
    fn expect_renewal(&self, relay: &Relay, after_us: u64) {
        let begins = self.step();
        let at_us = begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a renewal");
        assert!((after_us..=now_us()).contains(&at_us.parse().unwrap()), "{at_us}, {after_us}");
        assert_eq!(self.step(), ready(relay));
    }
}

fn ready(relay: &Relay) -> String {
    format!("READY=1\nMAINPID={}", relay.master().0)
}

fn now_us() -> u64 {
    idontstore::sys::clock::monotonic_us()
}

#[test]
fn the_service_manager_hears_of_each_step() {
    let directory = TempDir::new().unwrap();
    let manager = Manager::at(&directory.path().join("notify"));
    let program = installed(&directory);
    let mut relay = Relay::run(manager.command(&program), 2, &[], None);
    assert!(manager.status().starts_with("not serving"));
    assert_eq!(manager.step(), ready(&relay));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(manager.status(), format!("generation 0, workers: 2, version {version}"));

    let before_us = now_us();
    relay.configure(3, &[]);
    relay.signal(Signal::SIGHUP);
    manager.expect_renewal(&relay, before_us);
    let begun = Instant::now();
    while manager.status() != format!("generation 1, workers: 3, version {version}") {
        assert!(begun.elapsed() < PATIENCE);
    }

    // A reload that fails is over as well.
    relay.configure(3, &["timeouts.wait_timeout = \"soon\""]);
    let before_us = now_us();
    relay.signal(Signal::SIGHUP);
    manager.expect_renewal(&relay, before_us);
    relay.configure(3, &[]);

    install(&program, |bytes| bytes.push(0));
    let before_us = now_us();
    relay.upgrade(3, &[]);
    manager.expect_renewal(&relay, before_us);

    fs::remove_file(&program).unwrap();
    let before_us = now_us();
    expect_failure(&relay.request("upgrade").output().unwrap(), 1, &["No such file"]);
    manager.expect_renewal(&relay, before_us);

    exchange(&relay);
    relay.signal(Signal::SIGQUIT);
    let stops = manager.step();
    let left_us = stops.strip_prefix("STOPPING=1\nEXTEND_TIMEOUT_USEC=").expect("it stops");
    let left_us: u64 = left_us.parse().unwrap();
    assert!((30_000_000..60_000_000).contains(&left_us), "stop_timeout and some: {left_us}");
    assert!(manager.status().starts_with("stopping"));
    assert_eq!(relay.wait(), 0);
}

#[test]
fn a_start_that_fails_is_not_said_to_be_ready() {
    let directory = TempDir::new().unwrap();
    let manager = Manager::at(&directory.path().join("notify"));
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = directory.path().join("test.toml");
    let address = held.local_addr().unwrap();
    fs::write(&config, format!("[[listener]]\naddress = \"{address}\"\n")).unwrap();
    let output = manager.command(BINARY).arg("-c").arg(&config).output().unwrap();
    expect_failure(&output, 1, &["cannot listen on"]);
    manager.socket.set_nonblocking(true).unwrap();
    let mut room = [0; 4096];
    while let Ok(bytes) = manager.socket.recv(&mut room) {
        assert!(!room[..bytes].starts_with(b"READY"), "{}", String::from_utf8_lossy(&room));
    }
}

#[test]
fn the_watchdog_hears_of_the_master_until_that_stands_still() {
    const LIMIT: Duration = Duration::from_millis(600);
    let directory = TempDir::new().unwrap();
    let manager = Manager::without_a_file(&format!("idontstore-e2e-{}", std::process::id()));
    let program = installed(&directory);
    let mut command = manager.command(&program);
    command.env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
    let relay = Relay::run(command, 1, &[], None);
    let ping = || while manager.message() != "WATCHDOG=1" {};
    // A program that pinged at every opportunity would ping as often as it wakes.
    ping();
    let begun = Instant::now();
    (0..4).for_each(|_| ping());
    let took = begun.elapsed();
    assert!(took >= LIMIT, "four in {took:?}");

    // The next program goes on with the pings.
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(1, &[]);
    while manager.step() != ready(&relay) {}
    ping();
    ping();

    let stopped = Stopped::hold(&[relay.master()]);
    manager.socket.set_read_timeout(Some(2 * LIMIT)).unwrap();
    let mut room = [0; 4096];
    while manager.socket.recv(&mut room).is_ok() {}
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(stopped);
    ping();
}

/// A user database that does not answer: for the master alone, `/etc/passwd` is a pipe without a writer.
#[test]
fn a_user_that_is_not_found_in_time_costs_a_reload_and_not_the_relay() {
    if !crate::harness::needs_root_to_look_in() {
        return;
    }
    const LIMIT: Duration = Duration::from_secs(4);
    let directory = TempDir::new().unwrap();
    let manager = Manager::at(&directory.path().join("notify"));
    let mut command = manager.command("unshare");
    command.args(["--mount", BINARY]).env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
    let relay = Relay::run(command, 1, &[], None);
    while manager.step() != ready(&relay) {}
    let silence = directory.path().join("silence");
    nix::unistd::mkfifo(&silence, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let inside = |arguments: &[&std::ffi::OsStr]| {
        let target = format!("--target={}", relay.master().0);
        let status = Command::new("nsenter").arg(target).arg("--mount").args(arguments).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    inside(&["mount".as_ref(), "--bind".as_ref(), silence.as_ref(), "/etc/passwd".as_ref()]);

    manager.socket.set_read_timeout(Some(LIMIT)).unwrap();
    let begun = Instant::now();
    let asked = relay.request("reload").spawn().unwrap();
    // The reload is over, and no step took longer than the manager waits.
    while manager.step() != ready(&relay) {}
    let output = asked.wait_with_output().unwrap();
    expect_failure(&output, 1, &["bad value for `user`", "found within 2s"]);
    assert!(begun.elapsed() >= LIMIT / 2, "{:?}", begun.elapsed());
    exchange(&relay);
    inside(&["umount".as_ref(), "/etc/passwd".as_ref()]);
    relay.reload(1, &[]);
    crate::processes::reload::expect_children(&relay, 1);
}
