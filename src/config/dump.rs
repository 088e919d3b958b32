//! Writes a configuration as TOML, for `idontstore -T`.
//!
//! Invariant: the text parses back to the same [`Config`] on any machine. `"auto"` is printed as the value that it
//! came to, and no longer counts as `"auto"`.

use std::fmt::{self, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use shm::Share;
use toml::Value;

use crate::sys::operator::Access;

use super::check::{ANY_ORIGIN, Choice, NONE};
use super::unit::{duration_text, size_text};
use super::{Admin, Auth, Config, Cors, Listener, Memory, Tls};
use crate::http::Origins;

impl Config {
    /// The configuration as TOML, every key with its value.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        // A `String` takes all that is written to it.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "workers = {}", self.workers)?;
        writeln!(out, "generations_max = {}", self.generations_max)?;
        writeln!(out, "control_socket = {}", path_or_none(&self.control_socket))?;
        writeln!(out, "user = {}", Value::from(self.user.name.as_str()))?;
        writeln!(out, "sandbox = {}", choice(&self.sandbox))?;
        writeln!(out, "trusted_proxies = {}", list(self.trusted_proxies.iter()))?;
        let previewers: Vec<_> =
            self.previewers.iter().map(|it| Value::from(it.as_str())).collect();
        writeln!(out, "previewers = {}", Value::from(previewers))?;
        self.listeners.iter().try_for_each(|listener| listener.write(out))?;
        self.log.write(out)?;
        self.admin.write(out)?;
        self.memory.write(out)?;
        self.exchange.write(out)?;
        self.messages.write(out)?;
        self.cors.write(out)?;
        self.auth.write(out)?;
        self.limits.write(out)?;
        self.timeouts.write(out)
    }
}

impl Listener {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[[listener]]\naddress = \"{}\"", self.address)?;
        writeln!(out, "ipv6_only = {}", self.ipv6_only)?;
        writeln!(out, "protocols = {}", list(self.protocols.names()))?;
        writeln!(out, "proxy_protocol = {}", self.proxy_protocol)?;
        let Some(Tls { certificate, key }) = &self.tls else { return Ok(()) };
        let [certificate, key] =
            [certificate, key].map(|path| Value::from(path.to_string_lossy().as_ref()));
        writeln!(out, "tls = {{ certificate = {certificate}, key = {key} }}")
    }
}

impl Admin {
    fn write(&self, out: &mut String) -> fmt::Result {
        let listen = self.listen.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string);
        // Written as TOML writes it: a path may hold a quote.
        writeln!(out, "\n[admin]\nlisten = {}", toml::Value::String(listen))?;
        writeln!(out, "hosts = {}", list(&self.hosts))?;
        let Access { group, mode } = &self.access;
        let group = group.as_ref().map_or(NONE, |group| group.name.as_str());
        writeln!(out, "group = {}", Value::from(group))?;
        writeln!(out, "mode = \"{mode:04o}\"")
    }
}

impl Memory {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[memory]")?;
        writeln!(out, "segment_bytes = {}", size(&self.segment_bytes))?;
        writeln!(out, "chunk_bytes = {}", size(&self.geometry.chunk_bytes))?;
        writeln!(out, "lane_bytes_max = {}", size(&self.lane_bytes()))?;
        writeln!(out, "sessions_max = {}", self.geometry.sessions)?;
        writeln!(out, "pipes = {}", self.geometry.pipes)
    }
}

impl Cors {
    fn write(&self, out: &mut String) -> fmt::Result {
        let origins = match &self.origins {
            Origins::Nobody => list::<&str>([]),
            Origins::Anybody => list([ANY_ORIGIN]),
            Origins::Listed(origins) => list(origins),
        };
        writeln!(out, "\n[cors]\norigins = {origins}")
    }
}

impl Auth {
    fn write(&self, out: &mut String) -> fmt::Result {
        let tokens = path_or_none(&self.issue_tokens);
        writeln!(out, "\n[auth]\nissue_tokens = {tokens}")?;
        writeln!(out, "issue_addresses = {}", list(self.issue_addresses.iter()))
    }
}

/// A list of texts without quotes in them.
fn list<T: fmt::Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: Vec<_> = elements.into_iter().map(|it| format!("\"{it}\"")).collect();
    format!("[{}]", elements.join(", "))
}

// The functions below print the values of the rules in `keys`.

pub(super) fn path_or_none(path: &Option<PathBuf>) -> Value {
    // Written as TOML writes it: a path may hold a quote.
    Value::String(path.as_ref().map_or(NONE.into(), |it| it.to_string_lossy()).into_owned())
}

pub(super) fn choice<T: Choice>(value: &T) -> Value {
    let name = T::CHOICES.iter().find(|(_, choice)| choice == value);
    Value::from(name.map_or(NONE, |(name, _)| name))
}

pub(super) fn mount(path: &str) -> Value {
    Value::from(path)
}

pub(super) fn count<T: fmt::Display>(count: &T) -> &T {
    count
}

pub(super) fn later<T: fmt::Display>(count: &T) -> &T {
    count
}

pub(super) fn share(share: &Share) -> Value {
    match *share {
        Share::Fair => Value::from("auto"),
        Share::All => Value::from(0),
        Share::AtMost(most) => Value::from(i64::from(most)),
    }
}

pub(super) fn size<T: Copy + TryInto<u64>>(bytes: &T) -> Value {
    Value::from(size_text((*bytes).try_into().unwrap_or(u64::MAX)))
}

pub(super) fn rate(bytes: &Option<NonZeroU64>) -> Value {
    bytes.map_or(Value::from(NONE), |bytes| size(&bytes.get()))
}

pub(super) fn duration(duration: &Duration) -> Value {
    Value::from(duration_text(*duration))
}

pub(super) fn seconds(duration: &Duration) -> Value {
    Value::from(duration_text(*duration))
}
