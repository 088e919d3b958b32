//! A real reverse proxy before a relay, with the very text of `conf/proxies`: only addresses and files in it are
//! replaced. The proxy ends with the test.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::patience::eventually;
use super::proc::Pid;
use super::raw::Raw;
use super::relay::{Relay, Session};
use super::tls::{self, Certificate};

const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/proxies");

/// The proxy, and how it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    /// Passes connections on, each with a PROXY line.
    HaproxyTcp,
    Apache,
}

/// A relay with a proxy before it, which speaks HTTPS.
#[derive(Debug)]
pub(crate) struct Front {
    // Fields go in this order: the proxy first.
    proxy: Proxy,
    pub(crate) relay: Relay,
    pub(crate) address: SocketAddr,
    directory: TempDir,
    /// Keep the ports from being chosen for anybody else.
    _ports: Vec<Socket>,
}

#[derive(Debug)]
struct Proxy(Child);

impl Front {
    /// `kind` before a relay of two workers with `lines` of configuration.
    pub(crate) fn new(kind: Kind, lines: &[&str]) -> Self {
        Self::edited(kind, lines, &[])
    }

    /// The same, with every first of these words replaced by the second in the proxy's configuration.
    pub(crate) fn edited(kind: Kind, lines: &[&str], edits: &[(&str, &str)]) -> Self {
        let relay = relay(kind, lines);
        let (port, other) = (free_port(), free_port());
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let certificate = Certificate::new();
        let Certificate { certificate: public, key, .. } = &certificate;
        let file = |name: &str| directory.path().join(name);
        fs::write(file("certificate.pem"), public).unwrap();
        fs::write(file("key.pem"), key).unwrap();
        fs::write(file("both.pem"), [public.as_str(), key].concat()).unwrap();
        let other_address = other.local_addr().unwrap().as_socket().unwrap();
        let text = edit(kind.text(), &kind.substitutes(&relay, address, other_address, &directory));
        let proxy = Proxy(kind.start(&edit(text, edits), directory.path()));
        if kind == Kind::HaproxyTcp {
            let own = [relay.certificate(); 2];
            tls::open_port(address, own, &relay.path("certificate.pem"));
        } else {
            tls::open_port(address, [&certificate; 2], &file("certificate.pem"));
        }
        let front = Self { proxy, relay, address, directory, _ports: vec![port, other] };
        eventually("the proxy listens", || TcpStream::connect(address).ok().map(drop));
        front
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// The beginning of the URLs in answers to a client.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Asks the proxy for a session; its clients reach it through the proxy.
    pub(crate) fn session(&self) -> Session {
        let answer = self.connect().request("POST", "/", &[]).read_response().expect(201);
        let url = answer.head.must("Location").to_owned();
        let path = url.strip_prefix(&self.origin()).unwrap_or_else(|| panic!("{url}")).to_owned();
        let key = path.trim_start_matches('/').to_owned();
        Session { address: self.address, key, token: String::new(), url, path }
    }

    /// A place for files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// User memory that the proxy's processes have to themselves, KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.pids().into_iter().map(|pid| pid.memory().private_kib).sum()
    }

    fn pids(&self) -> Vec<Pid> {
        let proxy = Pid(i32::try_from(self.proxy.0.id()).unwrap());
        proxy.children().into_iter().chain([proxy]).collect()
    }

    /// Files that the proxy holds open to keep bodies in, also files that have no name any more.
    pub(crate) fn spooled(&self) -> Vec<String> {
        let place = self.path("spool").display().to_string();
        let links = self.pids().into_iter().flat_map(|pid| pid.fds()).map(|(_, link)| link);
        links.filter(|link| link.starts_with(&place)).collect()
    }

    /// Reads what the proxy wrote to stderr.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        tls::close_port(self.address);
        if std::thread::panicking() {
            eprintln!("--- stderr of the proxy\n{}", self.errors());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The proxy must end its own children, so it gets SIGTERM first.
        let pid = Pid(i32::try_from(self.0.id()).unwrap());
        pid.signal(Signal::SIGTERM);
        if !pid.is_gone_within(Duration::from_secs(5)) {
            pid.children().into_iter().for_each(|child| child.signal(Signal::SIGKILL));
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// A port that the kernel gives nobody else. A program that sets `SO_REUSEADDR` can listen on it.
fn free_port() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket
}

fn relay(kind: Kind, lines: &[&str]) -> Relay {
    let lines = [lines, &["trusted_proxies = [\"127.0.0.1\"]", "log.level = \"debug\""]].concat();
    if kind != Kind::HaproxyTcp {
        return Relay::with(2, &lines);
    }
    let tls = "tls = { certificate = 'certificate.pem', key = 'key.pem' }";
    let listener = format!("[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = true\n{tls}");
    Relay::https(2, &[&lines[..], &[&listener]].concat())
}

/// Panics if a word is missing: the test would test something else.
fn edit<S: AsRef<str>>(mut text: String, edits: &[(&str, S)]) -> String {
    for (from, to) in edits {
        assert!(text.contains(from), "{from:?} in {text}");
        text = text.replace(from, to.as_ref());
    }
    text
}

impl Kind {
    fn text(self) -> String {
        let name = match self {
            Self::Nginx => "nginx.conf",
            Self::Haproxy | Self::HaproxyTcp => "haproxy.cfg",
            Self::Apache => "apache.conf",
        };
        fs::read_to_string(Path::new(CONF).join(name)).unwrap()
    }

    /// The words that a test replaces, each with its substitute: the addresses and the certificates.
    fn substitutes(
        self,
        relay: &Relay,
        front: SocketAddr,
        other: SocketAddr,
        directory: &TempDir,
    ) -> Vec<(&'static str, String)> {
        let directory = directory.path().display();
        let upstream = ("127.0.0.1:8080", relay.address().to_string());
        let certificates = ("/etc/ssl/relay.example", directory.to_string());
        match self {
            Self::Nginx => vec![
                upstream,
                certificates,
                ("listen 443", format!("listen {front}")),
                ("server_name relay.example", "server_name localhost".to_owned()),
            ],
            Self::Haproxy => vec![
                upstream,
                certificates,
                ("bind :443", format!("bind {front}")),
                ("bind :8444", format!("bind {other}")),
            ],
            Self::Apache => vec![
                upstream,
                certificates,
                ("*:443", front.to_string()),
                ("ServerName relay.example", "ServerName localhost".to_owned()),
            ],
            Self::HaproxyTcp => vec![
                certificates,
                ("127.0.0.1:8443", relay.listener(1).to_string()),
                ("bind :443", format!("bind {other}")),
                ("bind :8444", format!("bind {front}")),
            ],
        }
    }

    /// Runs the proxy with this configuration, in the foreground.
    fn start(self, text: &str, directory: &Path) -> Child {
        let config = directory.join("config");
        let mut command = match self {
            Self::Nginx => {
                fs::write(&config, nginx(text, directory)).unwrap();
                let mut command = Command::new("nginx");
                command.arg("-c").arg(&config).arg("-p").arg(directory);
                command.arg("-e").arg(directory.join("stderr"));
                command
            }
            Self::Haproxy | Self::HaproxyTcp => {
                fs::write(&config, text).unwrap();
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(&config);
                command
            }
            Self::Apache => {
                fs::write(&config, apache(text, directory)).unwrap();
                let mut command = Command::new("apache2");
                command.args(["-DFOREGROUND", "-f"]).arg(&config);
                command
            }
        };
        let errors = fs::File::create(directory.join("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // A terminal's signals are the test's alone.
        command.process_group(0).spawn().expect("the proxy must be installed")
    }
}

/// The configuration around the file, as an operator who includes it in a block `http` has it.
fn nginx(text: &str, directory: &Path) -> String {
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let spool = directory.join("spool");
    fs::create_dir(&spool).unwrap();
    let place = |name: &&str| format!("{name}_temp_path {}/{name};\n", spool.display());
    let places: String = places.iter().map(place).collect();
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents {{ }}\n\
         http {{\naccess_log off;\n{places}{text}\n}}\n"
    )
}

/// The configuration around the file, as a system's own files have it: modules, from where Debian keeps them, and paths.
fn apache(text: &str, directory: &Path) -> String {
    let listen = text.split("<VirtualHost ").nth(1).and_then(|rest| rest.split('>').next());
    let modules = [
        "mpm_event",
        "authz_core",
        "headers",
        "env",
        "reqtimeout",
        "proxy",
        "proxy_http",
        "socache_shmcb",
        "ssl",
    ];
    let load =
        |name: &&str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let modules: String = modules.iter().map(load).collect();
    let user = if nix::unistd::geteuid().is_root() { "User nobody\nGroup nogroup\n" } else { "" };
    let place = directory.display();
    format!(
        "ServerRoot {place}\nServerName localhost\nPidFile {place}/pid\nErrorLog {place}/stderr\n\
         Mutex file:{place} default\nListen {}\n{user}{modules}{text}",
        listen.expect("an address")
    )
}
