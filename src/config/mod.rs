//! The configuration: read by `cli`, handed to the master, which reads it anew for each reload; the same for as long as a
//! worker lives.
//!
//! Two stages: `typed` is the shape that was typed, [`Config`] what it means. The stage between is `check`, which
//! reports every bad value of a file with its place and with what is allowed there.
//!
//! Invariant: a [`Config`] is complete and within its ranges, so nobody downstream checks again or knows a default;
//! the defaults are named once, in `conf/idontstore.toml`, which is built into the program.

mod advice;
mod cgroup;
mod check;
mod dump;
mod host;
mod keys;
mod layers;
mod locate;
mod report;
mod sections;
mod source;
mod text;
mod typed;
mod unit;
mod warning;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::address::Networks;
use crate::http::Origins;
use crate::sys::listener::{Endpoint, KeepAlive};
use crate::sys::operator::{Access, ListenAddress};
use crate::sys::user::User;
use serde::Deserialize;

use check::Files;
pub use host::{PIPE_FILES_SHARE, SEGMENT_BYTES_MIN, WORKERS_MAX};
use layers::Layers;
use report::Problem;
pub use report::{ConfigError, Refusal};
pub use sections::{Exchange, Limits, Log, Messages, Timeouts};
pub use source::Source;
use text::Text;

/// The built-in default, which documents every key.
const DEFAULT_TEXT: &str = include_str!("../../conf/idontstore.toml");

/// A validated configuration. The fields bear the names of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Worker processes, 1 to [`WORKERS_MAX`].
    pub workers: NonZeroUsize,
    /// Generations of workers that live at once, 2 to [`shm::WORKER_RECORDS_MAX`]: one serves, the others drain.
    pub generations_max: usize,
    /// Where the master listens for its operator; an absolute path.
    pub control_socket: Option<PathBuf>,
    /// The user that workers become if the master is root.
    pub user: User,
    /// Whether workers are denied all that they do not need.
    pub sandbox: bool,
    /// The proxies that are believed about their clients.
    pub trusted_proxies: Networks,
    /// Parts of the `User-Agent` of clients that make previews of links, in any case; none is empty.
    pub previewers: Vec<String>,
    /// Where to listen: at least one, none twice.
    pub listeners: Vec<Listener>,
    /// The logs and their files.
    pub log: Log,
    /// The operator's listener.
    pub admin: Admin,
    /// The shared-memory segment.
    pub memory: Memory,
    /// The two-step exchange.
    pub exchange: Exchange,
    /// The message relay.
    pub messages: Messages,
    /// Rights of pages of other origins.
    pub cors: Cors,
    /// Rights that not everybody has.
    pub auth: Auth,
    /// Limits of everything that a stranger may make grow.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Client connections that can be open at once: `limits.connections_max`, or what the workers' open-file limits allow if
    /// that is less. Not a key: the keys that are "auto" take their parts of it.
    pub connections_possible: usize,
}

impl Config {
    /// The keys whose values in `next` a running program cannot take on.
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

/// A block `[[listener]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Whether `[::]` leaves IPv4 alone.
    pub ipv6_only: bool,
    /// What is spoken here: at least one protocol.
    pub protocols: Protocols,
    /// Whether a line of PROXY protocol comes before anything else. Only where there are trusted proxies.
    pub proxy_protocol: bool,
    /// The files that make it speak TLS, checked, if it does.
    pub tls: Option<Tls>,
}

impl Listener {
    /// The address and the option that the socket is bound with.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.address, self.ipv6_only)
    }
}

/// A listener's `protocols`: the first byte of a connection tells which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// Both APIs over HTTP.
    pub http: bool,
    /// Pairs over bare TCP, or over TLS alone.
    pub pair: bool,
}

impl Protocols {
    /// HTTP alone.
    pub const HTTP: Self = Self { http: true, pair: false };

    /// Its names, as the configuration has them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let each = [(self.http, "http"), (self.pair, "pair")];
        each.into_iter().filter_map(|(is_spoken, name)| is_spoken.then_some(name)).collect()
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
    pub listen: Option<ListenAddress>,
    /// The names that it answers to over TCP beside IP addresses and `localhost`; in small letters.
    pub hosts: Vec<String>,
    /// The rights to connect, where it is a Unix socket.
    pub access: Access,
}

/// The section `[memory]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Size of the segment, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// The segment's contents: `chunk_bytes`, `lane_bytes_max`, `sessions_max`, `pipes` and `limits.connections_max`,
    /// worked out.
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

/// The section `[cors]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins whose pages may use the API.
    pub origins: Origins,
}

/// The section `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The file of the tokens with which sessions may be asked for, checked; an absolute path.
    pub issue_tokens: Option<PathBuf>,
    /// Networks that may ask for sessions without a token.
    pub issue_addresses: Networks,
}

impl Auth {
    /// The option that curl needs to ask for a session.
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

/// The event that a sender's final answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// The receiver's TCP has acknowledged every byte.
    Acked,
    /// The kernel has taken every byte for the receiver.
    Sent,
}

/// Whether it is an address that can be listened on: an IP address and a port, or `:PORT`.
#[must_use]
pub fn is_address(text: &str) -> bool {
    check::socket_address(text, || true).is_some()
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
    let refuse = |problems| ConfigError::Refused(Refusal::new(layers.texts(), problems));
    let table = layers.table().map_err(refuse)?;
    let typed = typed::File::deserialize(toml::Deserializer::from(table))
        .map_err(|error| refuse(vec![Problem::of_shape(&error)]))?;
    check::check(&typed, &default_typed(), host, files).map_err(refuse)
}

/// The configuration of a program that was given none.
///
/// # Panics
/// If the built-in text is not valid, which is an error of the build.
#[cfg(test)]
pub(crate) fn embedded() -> Config {
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
