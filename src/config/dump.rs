//! A configuration as TOML: what `idontstore -T` prints.
//!
//! Must always hold: the text parses back to the same [`Config`] on any machine. What was `"auto"` is printed as what
//! it came to, and is no longer taken for `"auto"`.

use std::fmt::{self, Write};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use shm::Share;
use toml::Value;

use crate::sys::private::Access;

use super::check::{ANY_ORIGIN, NONE};
use super::unit::{duration_text, size_text};
use super::{
    AccessFormat, Admin, Auth, Config, Cors, Exchange, Limits, Listener, Log, LogFormat, Memory,
    Messages, Receipt, Timeouts, Tls,
};
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
        writeln!(out, "control_socket = {}", path_or_none(self.control_socket.as_deref()))?;
        writeln!(out, "user = {}", Value::from(self.user.name.as_str()))?;
        writeln!(out, "sandbox = \"{}\"", if self.sandbox { "on" } else { "off" })?;
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
        writeln!(out, "proxy_protocol = {}", self.proxy_protocol)?;
        let Some(Tls { certificate, key }) = &self.tls else { return Ok(()) };
        let [certificate, key] =
            [certificate, key].map(|path| Value::from(path.to_string_lossy().as_ref()));
        writeln!(out, "tls = {{ certificate = {certificate}, key = {key} }}")
    }
}

impl Log {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[log]\nlevel = \"{}\"", self.level.as_str().to_ascii_lowercase())?;
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        writeln!(out, "format = \"{format}\"")?;
        writeln!(out, "access = {}", path_or_none(self.access.as_deref()))?;
        let format = match self.access_format {
            AccessFormat::Combined => "combined",
            AccessFormat::Json => "json",
        };
        writeln!(out, "access_format = \"{format}\"")
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
        size(out, "segment_bytes", self.segment_bytes)?;
        size(out, "chunk_bytes", self.geometry.chunk_bytes)?;
        size(out, "lane_bytes_max", self.lane_bytes())?;
        writeln!(out, "sessions_max = {}", self.geometry.sessions)?;
        writeln!(out, "pipes = {}", self.geometry.pipes)
    }
}

impl Exchange {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[exchange]\nreceipt = \"{}\"", receipt_text(self.receipt))?;
        duration(out, "wait_timeout_max", self.wait_timeout_max)
    }
}

impl Messages {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[messages]\nmount = \"{}\"", self.mount)?;
        writeln!(out, "receipt = \"{}\"", receipt_text(self.receipt))?;
        duration(out, "wait_timeout", self.wait_timeout)?;
        duration(out, "wait_timeout_max", self.wait_timeout_max)?;
        duration(out, "session_lifetime_max", self.session_lifetime_max)
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
        let tokens = path_or_none(self.issue_tokens.as_deref());
        writeln!(out, "\n[auth]\nissue_tokens = {tokens}")?;
        writeln!(out, "issue_addresses = {}", list(self.issue_addresses.iter()))
    }
}

/// Of what has no quotes in it.
fn list<T: fmt::Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: Vec<_> = elements.into_iter().map(|it| format!("\"{it}\"")).collect();
    format!("[{}]", elements.join(", "))
}

/// Written as TOML writes it: a path may hold a quote.
fn path_or_none(path: Option<&Path>) -> Value {
    Value::String(path.map_or(NONE.into(), Path::to_string_lossy).into_owned())
}

fn receipt_text(receipt: Receipt) -> &'static str {
    match receipt {
        Receipt::Acked => "acked",
        Receipt::Sent => "sent",
    }
}

impl Limits {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[limits]")?;
        writeln!(out, "connections_max = {}", self.connections_max)?;
        writeln!(out, "connections_per_address_max = {}", self.connections_per_address_max)?;
        writeln!(out, "sessions_per_address_max = {}", self.sessions_per_address_max)?;
        writeln!(out, "chunks_per_address_max = {}", share_text(self.chunks_per_address_max))?;
        writeln!(out, "pipes_per_address_max = {}", share_text(self.pipes_per_address_max))?;
        writeln!(out, "wide_network_factor = {}", self.wide_network_factor)?;
        writeln!(out, "unknown_keys_per_second_max = {}", self.unknown_keys_per_second_max)?;
        size(out, "head_bytes_max", self.head_bytes_max)?;
        writeln!(out, "header_fields_max = {}", self.header_fields_max)?;
        size(out, "body_bytes_max", self.body_bytes_max)?;
        size(out, "form_overhead_bytes_max", self.form_overhead_bytes_max)?;
        size(out, "chunk_line_bytes_max", self.chunk_line_bytes_max)?;
        size(out, "trailer_bytes_max", self.trailer_bytes_max)?;
        size(out, "linger_bytes_max", self.linger_bytes_max)?;
        writeln!(out, "patience_connections_max = {}", self.patience_connections_max)?;
        size(out, "rate_bytes_min", self.rate_bytes_min)?;
        size(out, "stall_rate_bytes_min", self.stall_rate_bytes_min)?;
        rate(out, "rate_bytes_max", self.rate_bytes_max)?;
        rate(out, "rate_bytes_per_address_max", self.rate_bytes_per_address_max)?;
        writeln!(out, "keepalive_probes_max = {}", self.keepalive_probes_max)
    }
}

impl Timeouts {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[timeouts]")?;
        duration(out, "handshake_timeout", self.handshake_timeout)?;
        duration(out, "head_timeout", self.head_timeout)?;
        duration(out, "idle_timeout", self.idle_timeout)?;
        duration(out, "keepalive_idle", self.keepalive_idle)?;
        duration(out, "keepalive_interval", self.keepalive_interval)?;
        duration(out, "wait_timeout", self.wait_timeout)?;
        duration(out, "session_lifetime", self.session_lifetime)?;
        duration(out, "place_wait", self.place_wait)?;
        duration(out, "chunk_wait", self.chunk_wait)?;
        duration(out, "stall_timeout", self.stall_timeout)?;
        duration(out, "ack_timeout", self.ack_timeout)?;
        duration(out, "linger_timeout", self.linger_timeout)?;
        duration(out, "silence_timeout", self.silence_timeout)?;
        duration(out, "rate_window", self.rate_window)?;
        duration(out, "start_timeout", self.start_timeout)?;
        duration(out, "hang_timeout", self.hang_timeout)?;
        duration(out, "reload_timeout", self.reload_timeout)?;
        duration(out, "stop_timeout", self.stop_timeout)?;
        duration(out, "drain_timeout", self.drain_timeout)
    }
}

fn share_text(share: Share) -> Value {
    match share {
        Share::Fair => Value::from("auto"),
        Share::All => Value::from(0),
        Share::AtMost(most) => Value::from(i64::from(most)),
    }
}

fn size(out: &mut String, key: &str, bytes: impl TryInto<u64>) -> fmt::Result {
    writeln!(out, "{key} = \"{}\"", size_text(bytes.try_into().unwrap_or(u64::MAX)))
}

fn rate(out: &mut String, key: &str, bytes: Option<NonZeroU64>) -> fmt::Result {
    match bytes {
        Some(bytes) => size(out, key, bytes.get()),
        None => writeln!(out, "{key} = \"{NONE}\""),
    }
}

fn duration(out: &mut String, key: &str, duration: Duration) -> fmt::Result {
    writeln!(out, "{key} = \"{}\"", duration_text(duration))
}
