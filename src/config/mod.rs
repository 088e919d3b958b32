//! The configuration: read by `cli`, handed to the master, which reads it anew for each reload; the same for as long as a
//! worker lives.
//!
//! Two stages: `typed` is the shape that was typed, [`Config`] what it means. Between them stands `check`, which
//! reports every bad value of a file with its place and with what is allowed there.
//!
//! Must always hold: a [`Config`] is complete and within its ranges, so nobody downstream checks again or knows a
//! default; the defaults are named once, in `conf/idontstore.toml`, which is built into the program.

mod advice;
mod cgroup;
mod check;
mod dump;
mod finding;
mod host;
mod layers;
mod report;
mod typed;
mod unit;
mod warning;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Networks;
use crate::http::Origins;
use crate::sys::file;
use crate::sys::listener::{Endpoint, KeepAlive};
use crate::sys::private::{Access, Address};
use crate::sys::user::User;
use serde::Deserialize;
use shm::Share;
use zeroize::Zeroizing;

use check::Files;
pub use host::{SEGMENT_BYTES_MIN, WORKERS_MAX};
use layers::{Layers, Text};
use report::Fault;
pub use report::{ConfigError, Refusal};

/// What a configuration may have: the default, which explains every key, has 20 KiB.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The built-in default, which documents every key.
const DEFAULT_TEXT: &str = include_str!("../../conf/idontstore.toml");

/// A validated configuration. The fields bear the names of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Worker processes, 1 to [`WORKERS_MAX`].
    pub workers: NonZeroUsize,
    /// Generations of workers that live at once, 2 to [`shm::WORKER_RECORDS_MAX`]: the one that serves, and those that drain.
    pub generations_max: usize,
    /// Where the master listens for its operator; an absolute path.
    pub control_socket: Option<PathBuf>,
    /// Whom workers become where the master is root.
    pub user: User,
    /// Whether workers are denied all that they do not need.
    pub sandbox: bool,
    /// Who is believed for whom it speaks.
    pub trusted_proxies: Networks,
    /// What the `User-Agent` of a client that makes previews of links has in it, in any case; none is empty.
    pub previewers: Vec<String>,
    /// Where to listen: at least one, none twice.
    pub listeners: Vec<Listener>,
    /// What is written down, and where.
    pub log: Log,
    /// For whoever runs the program.
    pub admin: Admin,
    /// The shared-memory segment.
    pub memory: Memory,
    /// The two-step exchange.
    pub exchange: Exchange,
    /// The message relay.
    pub messages: Messages,
    /// What pages of other origins may do.
    pub cors: Cors,
    /// Who may do what is not everybody's.
    pub auth: Auth,
    /// What a stranger may make grow.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl Config {
    /// The keys of which a running program cannot take on the values that they have in `next`.
    #[must_use]
    pub fn keys_fixed_until_restart(&self, next: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (&self.memory, &next.memory);
        // The kernel keeps what a socket was bound with.
        let is_rebound = |it: &Listener| {
            let mut same = next.listeners.iter().filter(|next| next.address == it.address);
            same.any(|next| next.endpoint() != it.endpoint())
        };
        let keys = [
            ("control_socket", self.control_socket != next.control_socket),
            ("sandbox", self.sandbox != next.sandbox),
            ("listener.ipv6_only", self.listeners.iter().any(is_rebound)),
            ("memory.segment_bytes", ours.segment_bytes != theirs.segment_bytes),
            ("memory.chunk_bytes", ours.geometry.chunk_bytes != theirs.geometry.chunk_bytes),
            ("memory.lane_bytes_max", ours.lane_bytes() != theirs.lane_bytes()),
            ("memory.sessions_max", ours.geometry.sessions != theirs.geometry.sessions),
            ("memory.pipes", ours.geometry.pipes != theirs.geometry.pipes),
            ("limits.connections_max", ours.geometry.connections != theirs.geometry.connections),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// When a client of whom nothing is heard is taken for lost.
    #[must_use]
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive {
            idle: self.timeouts.keepalive_idle,
            interval: self.timeouts.keepalive_interval,
            probes: self.limits.keepalive_probes_max,
        }
    }
}

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Whether `[::]` leaves IPv4 alone.
    pub ipv6_only: bool,
    /// Whether a line of PROXY protocol comes before anything else. Only where there are trusted proxies.
    pub proxy_protocol: bool,
    /// The files that make it speak TLS, checked, if it does.
    pub tls: Option<Tls>,
}

impl Listener {
    /// What a socket has to be bound to.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.address, self.ipv6_only)
    }
}

/// A listener's `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The PEM file of the certificate and its chain.
    pub certificate: PathBuf,
    /// The PEM file of its key.
    pub key: PathBuf,
}

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The most talkative level of diagnostics that is written.
    pub level: tracing::Level,
    /// How diagnostics are written.
    pub format: LogFormat,
    /// The file that requests are written to; an absolute path. `None`: they are not.
    pub access: Option<PathBuf>,
    /// How they are written there.
    pub access_format: AccessFormat,
}

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// How requests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// nginx's `combined`, and more behind it.
    Combined,
    /// A JSON object a line.
    Json,
}

/// The section `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to answer about health, metrics and status; none of the clients' addresses. `None`: nowhere.
    pub listen: Option<Address>,
    /// The names that it answers to over TCP beside IP addresses and `localhost`; in small letters.
    pub hosts: Vec<String>,
    /// The rights to connect, where it is a Unix socket.
    pub access: Access,
}

/// The section `[memory]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What the segment may take, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// What fits into it: `chunk_bytes`, `lane_bytes_max`, `sessions_max`, `pipes` and `limits.connections_max`, worked out.
    pub geometry: shm::Geometry,
    /// Whether nobody has said how many pipes there are to be: then others of the same user go first. Once there are
    /// pipes it means nothing, so a dump does not tell.
    pub pipes_are_auto: bool,
}

impl Memory {
    fn lane_bytes(&self) -> usize {
        self.geometry.lane_chunks.saturating_mul(self.geometry.chunk_bytes)
    }
}

/// The section `[exchange]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What a sender's answer waits for when its request does not say.
    pub receipt: Receipt,
    /// The most that a request may ask to wait for its peer.
    pub wait_timeout_max: Duration,
}

/// The section `[messages]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// The path under which its sessions are: one or more segments, each with its slash before it.
    pub mount: String,
    /// What a sender's answer waits for when its request does not say.
    pub receipt: Receipt,
    /// For the peer to come, where the request does not say.
    pub wait_timeout: Duration,
    /// The most that a request may wait for its peer.
    pub wait_timeout_max: Duration,
    /// The longest lifetime that a session may be issued with.
    pub session_lifetime_max: Duration,
}

/// The section `[cors]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may use the API.
    pub origins: Origins,
}

/// The section `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The file of the tokens with which sessions may be asked for, checked; an absolute path.
    pub issue_tokens: Option<PathBuf>,
    /// From where they may be asked for without one.
    pub issue_addresses: Networks,
}

impl Auth {
    /// What curl takes in addition to ask for a session.
    #[must_use]
    pub fn curl_option(&self) -> &'static str {
        match self.issue_tokens {
            Some(_) => " -H 'Authorization: Bearer TOKEN'",
            None => "",
        }
    }

    /// Whether anybody may ask for a session.
    #[must_use]
    pub fn lets_anybody_issue(&self) -> bool {
        self.issue_tokens.is_none() && self.issue_addresses.is_empty()
    }
}

/// What a sender's final answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The receiver's TCP has acknowledged every byte.
    Acked,
    /// The kernel has taken every byte for the receiver.
    Sent,
}

/// The section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at once, all workers together.
    pub connections_max: usize,
    /// Client connections of one address open at once, all workers together; 0 for no limit.
    pub connections_per_address_max: u32,
    /// Sessions of one address alive at once; 0 for no limit.
    pub sessions_per_address_max: u32,
    /// What the lanes of one address's senders may hold of the chunks.
    pub chunks_per_address_max: Share,
    /// The same of the pipes.
    pub pipes_per_address_max: Share,
    /// How many times as much an IPv6 network of 48 bits may have as one of 64, 1 to 65536.
    pub wide_network_factor: u32,
    /// Unknown session keys that one address may name in a second; 0 for no limit.
    pub unknown_keys_per_second_max: u32,
    /// Request line and header fields of one request, in bytes.
    pub head_bytes_max: usize,
    /// Header fields of one request, 1 to 128.
    pub header_fields_max: usize,
    /// Payload of one transfer, in bytes.
    pub body_bytes_max: u64,
    /// Everything in a multipart form but the file, in bytes.
    pub form_overhead_bytes_max: u64,
    /// One chunk-size line of a chunked body, in bytes.
    pub chunk_line_bytes_max: u32,
    /// Trailer section of a chunked body, in bytes.
    pub trailer_bytes_max: u32,
    /// What is read and dropped after an early answer, in bytes.
    pub linger_bytes_max: u64,
    /// Client connections open at once, up to which nobody has to keep to `rate_bytes_min`.
    pub patience_connections_max: usize,
    /// Slowest transfer let go on while others need the room, in bytes a second over `rate_window`; 0 for no minimum.
    pub rate_bytes_min: u64,
    /// Slowest receiver whose chunks are not given up when others wish for them, in bytes a second over `stall_timeout`.
    pub stall_rate_bytes_min: u64,
    /// The most that is read of one transfer, in bytes a second; none below `rate_bytes_min`.
    pub rate_bytes_max: Option<NonZeroU64>,
    /// The most that is read of all that one address sends, likewise.
    pub rate_bytes_per_address_max: Option<NonZeroU64>,
    /// Unanswered keep-alive probes, 1 to 127.
    pub keepalive_probes_max: u32,
}

/// The section `[timeouts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a complete head.
    pub head_timeout: Duration,
    /// For the next request on a kept-alive connection.
    pub idle_timeout: Duration,
    /// Of silence before the first keep-alive probe, in whole seconds up to nine hours.
    pub keepalive_idle: Duration,
    /// Between keep-alive probes, likewise.
    pub keepalive_interval: Duration,
    /// For the peer to come, in the exchange, where the request does not say.
    pub wait_timeout: Duration,
    /// From the issue of a session key to its end.
    pub session_lifetime: Duration,
    /// For the holder of a place that somebody else asks for to say that it keeps it.
    pub place_wait: Duration,
    /// For a pair's first chunk.
    pub chunk_wait: Duration,
    /// For a receiver to take something, while others wish for the chunks that it keeps.
    pub stall_timeout: Duration,
    /// For the receiver's last TCP acknowledgement.
    pub ack_timeout: Duration,
    /// For draining after an early answer.
    pub linger_timeout: Duration,
    /// For the next byte of a transfer, while there is room.
    pub silence_timeout: Duration,
    /// Span that `rate_bytes_min` is averaged over.
    pub rate_window: Duration,
    /// For workers that are started to serve, and for a program that is to take over to show that it could.
    pub start_timeout: Duration,
    /// For a worker to give a sign of life.
    pub hang_timeout: Duration,
    /// For a reload to wait until others have drained.
    pub reload_timeout: Duration,
    /// For running transfers, after a graceful stop was asked for.
    pub stop_timeout: Duration,
    /// For those who wait at workers that drain.
    pub drain_timeout: Duration,
}

/// Where a configuration comes from, and comes from again when it is to be read anew: a file or the program itself, and
/// over it the environment and the command line that the program was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `None`: the program itself.
    file: Option<PathBuf>,
    /// Names and values of the variables that are keys.
    variables: Vec<(String, String)>,
    /// The addresses that were typed as `--listen`.
    addresses: Vec<String>,
}

impl Source {
    /// The program itself.
    #[must_use]
    pub const fn embedded() -> Self {
        Self { file: None, variables: Vec::new(), addresses: Vec::new() }
    }

    /// A file.
    #[must_use]
    pub const fn file(path: PathBuf) -> Self {
        Self { file: Some(path), variables: Vec::new(), addresses: Vec::new() }
    }

    /// Takes those of `variables` that begin with `IDONTSTORE_` for keys. An empty one says nothing.
    #[must_use]
    pub fn with_environment(
        self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let text = |it: OsString| it.to_string_lossy().into_owned();
        let variables = variables.into_iter().map(|(name, value)| (text(name), text(value)));
        let is_key = |(name, value): &(String, String)| {
            !value.trim().is_empty() && !layers::is_not_a_key(name, value)
        };
        let mut variables: Vec<_> = variables.filter(is_key).collect();
        variables.sort_unstable();
        Self { variables, ..self }
    }

    /// Listens on `addresses` and nowhere else, if there are any.
    #[must_use]
    pub fn listening_on(self, addresses: Vec<String>) -> Self {
        Self { addresses, ..self }
    }

    /// Whether nobody has named a file.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.file.is_none()
    }

    /// Reads it and checks it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_on(&host::Host::probe(), file::any)
    }

    /// The same for a program that runs with `running`: `"auto"` stands for the segment and the pipes that it has.
    pub fn load_again(&self, running: &Config) -> Result<Config, ConfigError> {
        let Memory { segment_bytes, geometry, .. } = &running.memory;
        let (segment_bytes, pipes) = (Some(*segment_bytes), Some(geometry.pipes));
        // The master waits for nobody, so it does not read a pipe.
        self.load_on(&host::Host { segment_bytes, pipes, ..host::Host::probe() }, file::regular)
    }

    fn load_on(&self, host: &host::Host, content: Content) -> Result<Config, ConfigError> {
        parse_with(&self.layers(content)?, host, Files::In(self.directory()))
    }

    /// All that it is made of.
    fn layers(&self, content: Content) -> Result<Layers, ConfigError> {
        let file = match &self.file {
            None => Text { origin: "built-in".to_owned(), text: DEFAULT_TEXT.to_owned() },
            Some(path) => Text { origin: path.display().to_string(), text: read(path, content)? },
        };
        Ok(Layers::new(file, &self.variables, &self.addresses))
    }

    /// What paths in it are relative to.
    fn directory(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            None => f.write_str("the built-in configuration")?,
            Some(path) => write!(f, "configuration {}", path.display())?,
        }
        let over =
            [("the environment", self.variables.len()), ("the command line", self.addresses.len())];
        let over: Vec<_> = over.iter().filter(|(_, count)| *count > 0).map(|(it, _)| *it).collect();
        if over.is_empty() { Ok(()) } else { write!(f, " with {}", over.join(" and ")) }
    }
}

/// Whether it is an address that can be listened on: an IP address and a port, or `:PORT`.
#[must_use]
pub fn is_address(text: &str) -> bool {
    check::socket_address(text, || true).is_some()
}

/// How a file is read: [`file::any`] or [`file::regular`].
type Content = fn(&Path, usize) -> Result<Zeroizing<Vec<u8>>, file::ReadError>;

fn read(path: &Path, content: Content) -> Result<String, ConfigError> {
    let text = content(path, FILE_BYTES_MAX).map_err(io::Error::from).and_then(|content| {
        let text = str::from_utf8(&content).map(str::to_owned);
        text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    });
    text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// Checks `text`; `origin` is what errors call it, usually its path. Paths in it are relative to the working directory.
pub fn parse(text: &str, origin: &str) -> Result<Config, ConfigError> {
    parse_with(&alone(text, origin), &host::Host::probe(), Files::In(Path::new("")))
}

/// The configuration that a running program has printed. Files that it names were looked at then, and are not now.
pub fn parse_dump(text: &str, origin: &str) -> Result<Config, ConfigError> {
    parse_with(&alone(text, origin), &host::Host::probe(), Files::Known)
}

/// A text with nothing over it.
fn alone(text: &str, origin: &str) -> Layers {
    Layers::new(Text { origin: origin.to_owned(), text: text.to_owned() }, &[], &[])
}

fn parse_with(layers: &Layers, host: &host::Host, files: Files<'_>) -> Result<Config, ConfigError> {
    let refuse = |faults| ConfigError::Refused(Refusal::new(layers.texts(), faults));
    let table = layers.table().map_err(refuse)?;
    let typed = typed::File::deserialize(toml::Deserializer::from(table))
        .map_err(|error| refuse(vec![Fault::of_shape(&error)]))?;
    check::check(&typed, &default_typed(), host, files).map_err(refuse)
}

/// The configuration of a program that was given none.
///
/// # Panics
/// If the built-in text is not valid, which is a fault of the build.
pub fn embedded() -> Config {
    match parse(DEFAULT_TEXT, "built-in") {
        Ok(config) => config,
        Err(error) => panic!("the built-in configuration is refused:\n{error}"),
    }
}

fn default_typed() -> typed::File {
    match toml::from_str(DEFAULT_TEXT) {
        Ok(typed) => typed,
        Err(error) => panic!("the built-in configuration does not parse:\n{error}"),
    }
}

#[cfg(test)]
mod tests;
