//! The configuration as it was typed: which keys there are, and where each value stands. Filled by serde from TOML, read
//! by `check`.
//!
//! Must always hold: a key that is not named here is refused at every level, and every value keeps its place in the
//! text. What a value may be is not decided here, so that all bad values of a file can be reported at once.

use serde::Deserialize;
use toml::{Spanned, Value};

/// One value and its place, if the key was there.
pub(super) type Typed = Option<Spanned<Value>>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) workers: Typed,
    pub(super) generations_max: Typed,
    pub(super) control_socket: Typed,
    pub(super) user: Typed,
    pub(super) sandbox: Typed,
    pub(super) trusted_proxies: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) previewers: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) listener: Option<Spanned<Vec<Listener>>>,
    pub(super) log: Log,
    pub(super) admin: Admin,
    pub(super) memory: Memory,
    pub(super) exchange: Exchange,
    pub(super) messages: Messages,
    pub(super) cors: Cors,
    pub(super) auth: Auth,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a block `[[listener]]` with an `address`")]
pub(super) struct Listener {
    pub(super) address: Spanned<Value>,
    pub(super) ipv6_only: Typed,
    pub(super) proxy_protocol: Typed,
    pub(super) tls: Option<Tls>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table `tls` with a `certificate` and a `key`")]
pub(super) struct Tls {
    pub(super) certificate: Spanned<Value>,
    pub(super) key: Spanned<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[log]`")]
pub(super) struct Log {
    pub(super) level: Typed,
    pub(super) format: Typed,
    pub(super) access: Typed,
    pub(super) access_format: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[admin]`")]
pub(super) struct Admin {
    pub(super) listen: Typed,
    pub(super) hosts: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(super) group: Typed,
    pub(super) mode: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[memory]`")]
pub(super) struct Memory {
    pub(super) segment_bytes: Typed,
    pub(super) chunk_bytes: Typed,
    pub(super) lane_bytes_max: Typed,
    pub(super) sessions_max: Typed,
    pub(super) pipes: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[exchange]`")]
pub(super) struct Exchange {
    pub(super) receipt: Typed,
    pub(super) wait_timeout_max: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[messages]`")]
pub(super) struct Messages {
    pub(super) mount: Typed,
    pub(super) receipt: Typed,
    pub(super) wait_timeout: Typed,
    pub(super) wait_timeout_max: Typed,
    pub(super) session_lifetime_max: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[cors]`")]
pub(super) struct Cors {
    pub(super) origins: Option<Spanned<Vec<Spanned<Value>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[auth]`")]
pub(super) struct Auth {
    pub(super) issue_tokens: Typed,
    pub(super) issue_addresses: Option<Spanned<Vec<Spanned<Value>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[limits]`")]
pub(super) struct Limits {
    pub(super) connections_max: Typed,
    pub(super) connections_per_address_max: Typed,
    pub(super) sessions_per_address_max: Typed,
    pub(super) chunks_per_address_max: Typed,
    pub(super) pipes_per_address_max: Typed,
    pub(super) wide_network_factor: Typed,
    pub(super) unknown_keys_per_second_max: Typed,
    pub(super) head_bytes_max: Typed,
    pub(super) header_fields_max: Typed,
    pub(super) body_bytes_max: Typed,
    pub(super) form_overhead_bytes_max: Typed,
    pub(super) chunk_line_bytes_max: Typed,
    pub(super) trailer_bytes_max: Typed,
    pub(super) linger_bytes_max: Typed,
    pub(super) patience_connections_max: Typed,
    pub(super) rate_bytes_min: Typed,
    pub(super) stall_rate_bytes_min: Typed,
    pub(super) rate_bytes_max: Typed,
    pub(super) rate_bytes_per_address_max: Typed,
    pub(super) keepalive_probes_max: Typed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section `[timeouts]`")]
pub(super) struct Timeouts {
    pub(super) handshake_timeout: Typed,
    pub(super) head_timeout: Typed,
    pub(super) idle_timeout: Typed,
    pub(super) keepalive_idle: Typed,
    pub(super) keepalive_interval: Typed,
    pub(super) wait_timeout: Typed,
    pub(super) session_lifetime: Typed,
    pub(super) place_wait: Typed,
    pub(super) chunk_wait: Typed,
    pub(super) stall_timeout: Typed,
    pub(super) ack_timeout: Typed,
    pub(super) linger_timeout: Typed,
    pub(super) silence_timeout: Typed,
    pub(super) rate_window: Typed,
    pub(super) start_timeout: Typed,
    pub(super) hang_timeout: Typed,
    pub(super) reload_timeout: Typed,
    pub(super) stop_timeout: Typed,
    pub(super) drain_timeout: Typed,
}
