//! Magic Wormhole's own clients, with this relay in the place of theirs: a byte, a file, a folder, in either order, ten at
//! once, over four workers; and a failure that they see when a worker dies.
//!
//! The mailbox server and the clients are those that its authors ship. With `--no-listen` the clients cannot reach each
//! other but through the relay.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use protocols::over_http;
use tempfile::TempDir;

use crate::harness::{Payload, Relay, eventually, needs};

/// Where `scripts/test` puts the clients.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin");

/// A mailbox server, and the relay that the clients pass through.
struct Wormhole {
    relay: Relay,
    mailbox: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Wormhole {
    /// `None` where the clients are not installed.
    fn open(lines: &[&str]) -> Option<Self> {
        let twist = Path::new(PROGRAMS).join("twist");
        let is_there = twist.exists() && Path::new(PROGRAMS).join("wormhole").exists();
        if !needs("wormhole", is_there) {
            return None;
        }
        let relay = Relay::with(4, lines);
        let directory = tempfile::tempdir().unwrap();
        // The server cannot say which port it got, so it gets a port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = format!("--port=tcp:{}:interface=127.0.0.1", address.port());
        let mailbox = Command::new(twist)
            .args(["wormhole-mailbox", &port])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wormhole = Self { relay, mailbox, address, directory };
        eventually("the mailbox server listens", || TcpStream::connect(address).ok());
        Some(wormhole)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(Path::new(PROGRAMS).join("wormhole"))
            .args(arguments)
            .env("WORMHOLE_RELAY_URL", format!("ws://{}/v1", self.address))
            .env("WORMHOLE_TRANSIT_HELPER", format!("tcp:{}", self.relay.address()))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn send(&self, code: &str, what: &str) -> Child {
        self.start(&["send", "--no-listen", "--hide-progress", "--no-qr", "--code", code, what])
    }

    fn receive(&self, code: &str, to: &str) -> Child {
        self.start(&["receive", "--no-listen", "--hide-progress", "--accept-file", "-o", to, code])
    }

    /// Sends `what` by `code`, and sees it arrive as `to`. `is_receiver_first`: the receiver waits for it.
    fn pass(&self, code: &str, what: &str, to: &str, is_receiver_first: bool) {
        let later = || thread::sleep(Duration::from_millis(300));
        let (sends, receives) = if is_receiver_first {
            let receives = self.receive(code, to);
            later();
            (self.send(code, what), receives)
        } else {
            let sends = self.send(code, what);
            later();
            (sends, self.receive(code, to))
        };
        for (it, way) in [(sends, "Sending (->relay:"), (receives, "Receiving (->relay:")] {
            let (output, said) = output(it);
            assert!(output.status.success() && said.contains(way), "{said}");
        }
    }
}

impl Drop for Wormhole {
    fn drop(&mut self) {
        let _ = self.mailbox.kill();
        let _ = self.mailbox.wait();
    }
}

fn output(child: Child) -> (Output, String) {
    let output = child.wait_with_output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&said).into_owned())
}

#[over_http("the clients speak no TLS to a relay")]
fn heavy_files_and_folders_pass_between_its_own_clients() {
    let Some(wormhole) = Wormhole::open(&[]) else { return };
    fs::write(wormhole.path("byte"), "x").unwrap();
    let big = Payload::new(1, 50 << 20);
    big.write_file(&wormhole.path("big"));
    fs::create_dir_all(wormhole.path("folder/inner")).unwrap();
    let inner = Payload::new(2, 3 << 20);
    inner.write_file(&wormhole.path("folder/inner/file"));
    fs::write(wormhole.path("folder/empty"), "").unwrap();
    for (number, is_receiver_first) in [(1, false), (2, true)] {
        let to = |what: &str| format!("{what}-{number}");
        let code = |word: &str| format!("{number}-{word}");
        wormhole.pass(&code("byte"), "byte", &to("byte"), is_receiver_first);
        assert_eq!(fs::read(wormhole.path(&to("byte"))).unwrap(), b"x");
        wormhole.pass(&code("big"), "big", &to("big"), is_receiver_first);
        big.assert_file(&wormhole.path(&to("big")));
        wormhole.pass(&code("folder"), "folder", &to("folder"), is_receiver_first);
        inner.assert_file(&wormhole.path(&to("folder")).join("inner/file"));
        assert!(wormhole.path(&to("folder")).join("empty").exists());
    }
    thread::scope(|scope| {
        for number in 10..20 {
            let (wormhole, big, code, to) =
                (&wormhole, &big, format!("{number}-at-once"), format!("big-{number}"));
            scope.spawn(move || {
                wormhole.pass(&code, "big", &to, number % 2 == 0);
                big.assert_file(&wormhole.path(&to));
            });
        }
    });
    let segment = wormhole.relay.segment();
    eventually("no session is left", || (segment.sessions_live() == 0).then_some(()));
}

#[over_http("the clients speak no TLS to a relay")]
fn heavy_its_clients_see_that_a_worker_died() {
    // Slow enough that the file is on its way when a worker dies.
    let Some(wormhole) = Wormhole::open(&["limits.rate_bytes_max = \"2MiB\""]) else { return };
    Payload::new(3, 50 << 20).write_file(&wormhole.path("big"));
    let sends = wormhole.send("5-in-vain", "big");
    let receives = wormhole.receive("5-in-vain", "out");
    let segment = wormhole.relay.segment();
    eventually("some has passed", || (segment.sum().bytes_out > 1 << 20).then_some(()));
    let worker = segment.worker_of(shm::Role::Sender).expect("it runs");
    wormhole.relay.worker_pids()[worker].signal(Signal::SIGKILL);
    for it in [sends, receives] {
        let (output, said) = output(it);
        assert!(!output.status.success(), "{said}");
    }
    assert!(!wormhole.path("out").exists(), "only a part came");
}
