//! The first steps off loopback, and the messages to an operator: addresses from the command line and the environment,
//! both families at one listener, certificates near their end, and requests that return once they are carried out.
//!
//! Not run again over HTTPS: clients never see any of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::harness::{ADMIN, BINARY, Raw, Relay, Terminal, eventually, needs};
use crate::processes::reload::{Ended, expect_failure, text};
use crate::processes::upgrade::{install, installed};

/// The program with `variables`, which goes on until the test ends.
struct Started {
    _child: Ended,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Started {
    fn new(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        let mut child: Child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: Ended(child), lines }
    }

    /// Reads the address of the next listener.
    fn address(&mut self) -> SocketAddr {
        let line = self.lines.next().expect("a line for each listener").unwrap();
        line.strip_prefix("listening on http://").expect(&line).parse().unwrap()
    }
}

/// Settings that keep several relays small.
const SMALL: [(&str, &str); 2] =
    [("IDONTSTORE_WORKERS", "1"), ("IDONTSTORE_MEMORY__SEGMENT_BYTES", "8MiB")];

fn issue(address: SocketAddr) -> u16 {
    Raw::connect(address).request("POST", "/", &[]).read_response().status()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn addresses_come_from_the_command_line_and_the_environment() {
    let mut two = Started::new(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"], &SMALL);
    let (first, second) = (two.address(), two.address());
    assert_ne!(first, second);
    assert_eq!((issue(first), issue(second)), (201, 201));
    let variables = [&SMALL[..], &[("IDONTSTORE_LISTENER", "127.0.0.1:0")]].concat();
    let mut one = Started::new(&[], &variables);
    let address = one.address();
    assert!(address.ip().is_loopback());
    assert_eq!(issue(address), 201);
}

#[test]
fn a_port_alone_is_served_to_both_families() {
    let mut relay = Started::new(&["-p", "0"], &SMALL);
    let address = relay.address();
    assert!(address.ip().is_unspecified(), "{address}");
    let at = |ip: &str| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), address.port());
    assert_eq!(issue(at("127.0.0.1")), 201);
    if needs("ipv6", has_ipv6()) {
        assert_eq!(issue(at("::1")), 201);
    }
}

#[test]
fn what_the_environment_says_is_tested_dumped_and_refused_by_its_name() {
    let run = |arguments: &[&str], variables: &[(&str, &str)]| -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        command.output().unwrap()
    };
    let dumped =
        run(&["-T", "--listen", "[::1]:7"], &[("IDONTSTORE_LIMITS__BODY_BYTES_MAX", "5GiB")]);
    let dump = String::from_utf8(dumped.stdout).unwrap();
    for part in ["body_bytes_max = \"5GiB\"", "address = \"[::1]:7\"", "ipv6_only = false"] {
        assert!(dump.contains(part), "{part} in {dump}");
    }
    let bad = [("IDONTSTORE_LIMITS__BODY_BYTES_MAX", "5GB")];
    for arguments in [&["-t"][..], &["-T"], &[]] {
        let parts = ["environment:1:35", "IDONTSTORE_LIMITS__BODY_BYTES_MAX=5GB", "write \"5GiB\""];
        expect_failure(&run(arguments, &bad), 78, &parts);
    }
    let unknown = [("IDONTSTORE_LIMITS__BODY_BYTE_MAX", "5GiB")];
    let parts = ["stands for no key", "did you mean `IDONTSTORE_LIMITS__BODY_BYTES_MAX`?"];
    expect_failure(&run(&["-t"], &unknown), 78, &parts);
    let meant = ["write `idontstore -c my.toml`"];
    expect_failure(&run(&["my.toml"], &[]), 2, &meant);
    expect_failure(&run(&["--listen", "localhost:80"], &[]), 2, &["an IP address and a port"]);
}

/// The status of asking for a session of the message relay at `mount`.
fn ask_at(relay: &Relay, mount: &str) -> u16 {
    relay.connect().request("PUT", mount, &[("Content-Length", "0")]).read_response().status()
}

#[test]
fn the_environment_holds_on_through_a_reload_and_an_upgrade() {
    let directory = TempDir::new().unwrap();
    let program = installed(&directory);
    let mut command = Command::new(&program);
    command.env("IDONTSTORE_MESSAGES__MOUNT", "/elsewhere").stdin(Stdio::null());
    let relay = Relay::run(command, 1, &["messages.mount = \"/here\""], None);
    let is_elsewhere = || {
        assert_eq!((ask_at(&relay, "/elsewhere"), ask_at(&relay, "/here") == 201), (201, false));
    };
    is_elsewhere();
    relay.reload(1, &["messages.mount = \"/there\""]);
    is_elsewhere();
    install(&program, |bytes| bytes.push(0));
    relay.upgrade(1, &["messages.mount = \"/here\""]);
    is_elsewhere();
    relay.reload(1, &["messages.mount = \"/here\""]);
    is_elsewhere();
}

#[test]
fn clients_of_a_listener_for_both_families_have_the_address_that_they_have() {
    if !needs("ipv6", has_ipv6()) {
        return;
    }
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("access");
    let lines = [
        format!("log.access = \"{}\"", log.display()),
        "log.access_format = \"json\"".to_owned(),
        "trusted_proxies = [\"127.0.0.2\"]".to_owned(),
        "limits.sessions_per_address_max = 1".to_owned(),
        "[[listener]]\naddress = \"[::]:0\"".to_owned(),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let relay = Relay::with(1, &lines);
    let both = relay.listener(1);
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), both.port());
    // An address counts as one, whichever listener it comes by.
    assert_eq!(issue(relay.address()), 201);
    assert_eq!(issue(at("127.0.0.1")), 429, "it has its one session");
    assert_eq!(issue(at("::1")), 201, "which is another's");
    // A network of IPv4 addresses also contains clients that come to an IPv6 socket.
    let mut proxied = Raw::connect_from("127.0.0.2".parse().unwrap(), at("127.0.0.1"));
    let forwarded = [("X-Forwarded-For", "192.0.2.77")];
    proxied.request("POST", "/", &forwarded).read_response().expect(201);
    let logged = eventually("four requests are logged", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 4).then_some(text)
    });
    assert!(!logged.contains("::ffff"), "{logged}");
    assert!(logged.contains("\"192.0.2.77\""), "{logged}");
}

#[test]
fn a_listener_for_ipv6_alone_leaves_ipv4_to_another() {
    if !needs("ipv6", has_ipv6()) {
        return;
    }
    let alone = |value: bool| format!("[[listener]]\naddress = \"[::]:0\"\nipv6_only = {value}");
    let relay = Relay::with(1, &[&alone(true)]);
    let port = relay.listener(1).port();
    assert_eq!(issue(SocketAddr::new("::1".parse().unwrap(), port)), 201);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody is there");
    // A bound socket cannot change this setting.
    relay.configure(1, &[&alone(false)]);
    let reload = relay.request("reload").output().unwrap();
    expect_failure(&reload, 1, &["only a restart can change listener.ipv6_only"]);
    let text = "[[listener]]\naddress = \"0.0.0.0:7\"\n[[listener]]\naddress = \"[::]:7\"\n";
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("my.toml");
    let test = |text: &str| {
        fs::write(&path, text).unwrap();
        Command::new(BINARY).arg("-t").arg("-c").arg(&path).output().unwrap()
    };
    expect_failure(&test(text), 78, &["`[::]` serves IPv4, too", "`ipv6_only = true`"]);
    let apart = "[[listener]]\naddress = \"0.0.0.0:0\"\n[[listener]]\naddress = \"[::]:0\"\nipv6_only = true\n";
    assert!(test(apart).status.success());
}

#[test]
fn a_terminal_is_told_which_addresses_others_can_use() {
    let mut terminal = Terminal::start("--listen 0.0.0.0:0", &SMALL);
    let said = terminal.read_until("prints more.");
    assert!(said.contains("--fail-with-body -T FILE $url/"), "{said}");
    let line = said.lines().find(|it| it.contains("is on all addresses of IPv4: ")).expect(&said);
    let (_, url) = said.split_once("curl -fsSX POST ").expect(&said);
    let (url, _) = url.split_once("/)").expect(&said);
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(!address.ip().is_unspecified(), "{said}");
    assert!(line.contains(url) || line.contains("no address that others could use"), "{said}");
    assert_eq!(issue(address), 201);
}

/// A certificate for 127.0.0.1 that ends at `ends`, and its key, in `directory`.
fn certificate(directory: &Path, ends: SystemTime) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = ends.into();
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(directory.join("certificate.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn an_end_that_is_near_is_told_at_the_test_at_the_start_and_by_a_metric() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n\
                    tls = { certificate = \"certificate.pem\", key = \"key.pem\" }\n";
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("my.toml");
    fs::write(&path, format!("{listener}[admin]\nlisten = \"0.0.0.0:0\"\n")).unwrap();
    let test = |ends| {
        certificate(directory.path(), ends);
        let output = Command::new(BINARY).arg("-t").arg("-c").arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (ends, wanted) in [
        (now + 60 * DAY, None),
        (now + 5 * DAY + DAY / 2, Some("expires in 5 days")),
        (now - DAY, Some("has expired")),
    ] {
        let said = test(ends);
        assert!(
            said.contains("warning: the admin listener 0.0.0.0:0 is on all addresses"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1 + usize::from(wanted.is_some()), "{said}");
        assert!(
            wanted.is_none_or(|it| said.contains(it) && said.contains("certificate.pem")),
            "{said}"
        );
    }

    let soon = now + 3 * DAY;
    let soon_s = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let relay = Relay::with(1, &[ADMIN]);
    certificate(relay.directory(), soon);
    relay.reload(1, &[ADMIN, listener]);
    let https = eventually("it listens", || {
        let log = relay.errors();
        let (_, behind) = log.split_once("listening on https://")?;
        Some(behind.split_whitespace().next()?.trim_matches('"').to_owned())
    });
    let told = |metric: &str| {
        relay.ask_admin("/metrics").expect(200).text().lines().any(|it| it == metric)
    };
    let name = "idontstore_tls_certificate_expiry_timestamp_seconds";
    eventually("the metric", || {
        told(&format!("{name}{{listener=\"{https}\"}} {soon_s}")).then_some(())
    });
    assert!(relay.errors().contains("expires in 2 days"), "{}", relay.errors());
    // A draining worker leaves the answer to the others.
    let ends = eventually("the status", || {
        let status = relay.status();
        let certificate = status["certificates"].get(0)?.clone();
        (certificate["listener"] == https)
            .then(|| certificate["ends"].as_str().map(str::to_owned))?
    });
    assert!(ends.ends_with(" GMT"), "{ends}");
}

#[test]
fn quit_returns_when_the_relay_has_stopped() {
    let relay = Relay::with(1, &[]);
    let session = relay.session();
    let mut sender = relay.connect();
    sender.request("PUT", &session.path, &[("Content-Length", "10")]).send(b"hello");
    let mut receiver = relay.connect();
    receiver.get(&session.path);
    let head = receiver.read_head();
    assert_eq!(head.status, 200);
    let mut quit = Ended(relay.request("quit").spawn().unwrap());
    let mut said = BufReader::new(quit.0.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "stopping");
    eventually("it takes no clients any more", || TcpStream::connect(relay.address()).err());
    assert!(quit.0.try_wait().unwrap().is_none(), "the transfer runs");
    sender.send(b"world");
    sender.read_response().expect(200);
    assert_eq!(said.next().unwrap().unwrap(), "stopped");
    assert!(quit.0.wait().unwrap().success());
    assert!(!relay.path("control").exists());
    assert!(relay.worker_pids().is_empty());
}

#[test]
fn nothing_of_a_relay_is_left_once_stop_returns() {
    let mut relay = Relay::with(2, &[]);
    let output = relay.request("stop").output().unwrap();
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "stopping\nstopped\n"));
    assert!(TcpStream::connect(relay.address()).is_err());
    assert!(!relay.path("control").exists());
    assert_eq!(relay.wait(), 0);
}

#[test]
fn an_upgrade_says_that_it_was_one() {
    let directory = TempDir::new().unwrap();
    let program = installed(&directory);
    let relay = Relay::of(&program, 1, &[]);
    let said = |request| text(&relay.request(request).output().unwrap());
    assert!(said("reload").starts_with("reloaded: generation 1, workers: 1"));
    install(&program, |bytes| bytes.push(0));
    let upgraded = said("upgrade");
    assert!(upgraded.starts_with("upgraded: generation 2, workers: 1, version "), "{upgraded}");
    assert!(said("reload").starts_with("reloaded: generation 3, workers: 1"));
}

#[test]
fn the_packaged_relay_is_asked_where_no_other_is_named() {
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !needs("mounts", probe.output().is_ok_and(|it| it.status.success())) {
        return;
    }
    let relay = Relay::with(1, &[ADMIN]);
    // The program gets an /etc of its own, which no other process sees.
    let script = "mount -t tmpfs none /mnt && cp /etc/passwd /etc/group /mnt && mkdir /mnt/idontstore && \
                  { [ \"$1\" = none ] || cp \"$1\" /mnt/idontstore/idontstore.toml; } && \
                  mount --bind /mnt /etc && shift && exec \"$0\" \"$@\"";
    let asked = |config: &str, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, BINARY, config]).args(arguments);
        command.output().unwrap()
    };
    let config = relay.config_path();
    let config = config.to_str().unwrap();
    let reloaded = asked(config, &["-s", "reload"]);
    assert!(text(&reloaded).starts_with("reloaded: "), "{reloaded:?}");
    expect_failure(&asked("none", &["-s", "reload"]), 78, &["built-in", "use -c FILE"]);
    expect_failure(&asked("none", &["status"]), 1, &["no admin listener", "use -c FILE"]);
    let empty = relay.path("empty.toml");
    fs::write(&empty, "").unwrap();
    let parts = ["no `control_socket`", "asked the relay of /etc/idontstore/idontstore.toml"];
    expect_failure(&asked(empty.to_str().unwrap(), &["-s", "stop"]), 78, &parts);
    // A start does not take its configuration from there.
    let dumped = asked(config, &["-T"]);
    assert!(text(&dumped).contains("control_socket = \"none\""), "{dumped:?}");
}
