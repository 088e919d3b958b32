//! Socket activation: the listeners belong to another process (sd_listen_fds(3)), which keeps them when the relay goes.
//!
//! Not run again over HTTPS: processes, files and sockets do not depend on TLS.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{BINARY, Raw, Relay, Timer, eventually, handed, tcp_timer};
use crate::processes::reload::{exchange, expect_failure};
use crate::processes::upgrade::{install, installed};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn between_two_relays_nobody_is_refused() {
    let listener = listener();
    for (signal, code) in [(Signal::SIGQUIT, 0), (Signal::SIGTERM, 0), (Signal::SIGKILL, -1)] {
        let mut relay = Relay::activated(Path::new(BINARY), &listener, 2, &[]);
        assert_eq!(relay.address(), listener.local_addr().unwrap());
        exchange(&relay);
        let mut early = relay.connect();
        early.get("/").read_response().expect(200);
        relay.signal(signal);
        assert_eq!(relay.wait(), code);
        let mut waiting = Raw::connect(relay.address());
        waiting.get("/");
        drop(relay);
        let next = Relay::activated(Path::new(BINARY), &listener, 1, &[]);
        waiting.read_response().expect(200);
        exchange(&next);
    }
}

#[test]
fn a_reload_that_asks_for_other_listeners_is_refused_also_after_an_upgrade() {
    let directory = TempDir::new().unwrap();
    let program = installed(&directory);
    let listener = listener();
    let relay = Relay::activated(&program, &listener, 1, &[]);
    let own = relay.address().to_string();
    let other = ["[[listener]]\naddress = '127.0.0.1:0'"];
    let refused = |request| {
        let before = relay.worker_pids();
        relay.configure(1, &other);
        let given = format!("configured {own}, 127.0.0.1:0, given {own}");
        expect_failure(
            &relay.request(request).output().unwrap(),
            1,
            &["the service manager's listeners differ", &given],
        );
        assert_eq!(relay.worker_pids(), before);
        exchange(&relay);
    };
    refused("reload");
    refused("upgrade");
    relay.reload(2, &[]);
    exchange(&relay);
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(1, &[]);
    refused("reload");
    relay.reload(2, &[]);
    exchange(&relay);

    // The next program leaves the listener alone, too.
    let mut relay = relay;
    relay.signal(Signal::SIGTERM);
    assert_eq!(relay.wait(), 0);
    Raw::connect(relay.address());
}

#[test]
fn connections_are_as_those_of_our_own_listeners() {
    let listener = listener();
    listener.set_nonblocking(false).unwrap();
    let relay = Relay::activated(Path::new(BINARY), &listener, 1, &[]);
    let mut client = relay.connect();
    client.get("/").read_response().expect(200);
    let timer = eventually("the keep-alive timer runs", || {
        let Timer { kind, hundredths } = tcp_timer(relay.address(), client.local_addr())?;
        (kind == 2).then_some(hundredths)
    });
    assert!(timer <= 3000, "keepalive_idle is 30s: {timer}");
}

#[test]
fn what_is_not_the_configured_listener_is_refused_at_the_start() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("test.toml");
    std::fs::write(&config, "[[listener]]\naddress = '127.0.0.1:1'\n").unwrap();
    let refused = |socket: &dyn AsFd, count, parts: &[&str]| {
        let socket = socket.as_fd();
        let mut command = handed(Path::new(BINARY), &socket, count);
        expect_failure(&command.arg("-c").arg(&config).output().unwrap(), 1, parts);
    };
    let tcp = listener();
    let address = tcp.local_addr().unwrap();
    refused(&tcp, 1, &[&format!("configured 127.0.0.1:1, given {address}")]);
    refused(&tcp, 2, &["descriptor 4", "cannot take descriptor"]);
    let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
    refused(&unix, 1, &["descriptor 3", "not a listening TCP socket", "no IP address"]);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    refused(&udp, 1, &["descriptor 3", "not for streams"]);
    let connected = std::net::TcpStream::connect(address).unwrap();
    refused(&connected, 1, &["descriptor 3", "does not listen"]);
    let file = std::fs::File::open(&config).unwrap();
    refused(&file, 1, &["descriptor 3", "not a listening TCP socket"]);
}
