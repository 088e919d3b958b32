//! The configuration as it was typed: which keys there are, and where each value stands. Filled by serde from TOML, read
//! by `check`.
//!
//! Invariant: a key that is not named here is refused at every level, and every value keeps its place in the text.
//! This stage does not judge values, so that all bad values of a file are reported at once.

use super::keys::table;
use serde::Deserialize;
use toml::{Spanned, Value};

/// A value and its place, if the key was there.
pub(super) type Typed = Option<Spanned<Value>>;

/// Makes the sections of the table, as typed.
macro_rules! sections {
    ($(
        $(#[$about:meta])*
        $Section:ident, $section:ident, $expected:literal {
            $($(#[$doc:meta])* $key:ident: $type:ty = $rule:ident($($argument:expr)?),)+
        }
    )+) => {$(
        #[derive(Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = $expected)]
        pub(super) struct $Section {
            $(pub(super) $key: Typed,)+
        }
    )+};
}

table!(sections);

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
    pub(super) protocols: Typed,
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
