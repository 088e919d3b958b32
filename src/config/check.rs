//! From what was typed to what it means: units, ranges, choices, and what two keys demand of each other. Called by
//! `super::parse`.
//!
//! Must always hold: either every value lies in the range written here, or there is at least one fault; all bad values
//! of a file are found in one go.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use shm::{CONNECTIONS_MAX, Share, WORKER_RECORDS_MAX};
use toml::{Spanned, Value};

use crate::address::{Network, Networks};
use crate::sys::listener::{Endpoint, has_ipv6};
use crate::sys::private::Address;
use crate::sys::user::User;
use crate::tls::{Credentials, CredentialsError};

use super::advice;
use super::host::{Host, WORKERS_MAX};
use super::report::Fault;
use super::typed::{self, Typed};
use super::unit::{duration, duration_text, size, size_text};
use super::{Admin, Config, Exchange, Limits, Listener, Messages, Receipt, Timeouts, Tls};

pub(super) use cors::ANY_ORIGIN;

/// The value of an address that is not to be.
pub(super) const NONE: &str = "none";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIFETIMES: RangeInclusive<Duration> =
    RangeInclusive::new(SECOND, Duration::from_secs(30 * 24 * 3600));

/// The kernel takes at most 32767 seconds (`MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` in `net/tcp.h`).
const KEEPALIVE_MAX: Duration = Duration::from_secs(9 * 3600);
/// The kernel takes no more (`MAX_TCP_KEEPCNT`, there too).
const KEEPALIVE_PROBES_MAX: u64 = 127;

/// Every worker polls all of them.
const LISTENERS_MAX: usize = 64;

/// A path that a cookie is given for and every session's `Location` begins with.
const MOUNT_BYTES_MAX: usize = 128;
/// `sun_path` has 108 bytes, with the zero at its end (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Limits of an address: so many words at most are looked at for one that has reached its own.
const SEATS_MAX: u64 = 1 << 16;
/// Addresses that have to take all they may by "auto" before nothing is left: with half of them gone wrong a relay still
/// serves the others.
const ADDRESSES_BEFORE_FULL: usize = 16;

/// By default one in so many connections is kept free of those that take their time.
const PATIENCE_SPARE: usize = 4;
/// An address may always have so many by "auto": few people share a small relay.
const SEATS_AUTO_MIN: usize = 64;

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];
const RECEIPTS: [(&str, Receipt); 2] = [("acked", Receipt::Acked), ("sent", Receipt::Sent)];

/// The key of a section, from the section as typed and the section of the defaults.
macro_rules! key {
    ($file:ident, $default:ident, $name:ident) => {
        Key { name: stringify!($name), typed: &$file.$name, default: &$default.$name }
    };
}

// Behind the macro, which it uses.
mod admin;
mod auth;
mod cors;
mod log;
mod memory;
mod places;
mod previewers;
mod rates;

use places::endpoints;
pub(super) use places::socket_address;

/// Works out the configuration that `file` asks for, with `default` for what it leaves out.
pub(super) fn check(
    file: &typed::File,
    default: &typed::File,
    host: &Host,
    files: Files<'_>,
) -> Result<Config, Vec<Fault>> {
    within(files, |check| check.config(file, default, host))
}

/// What to make of the names of files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Files<'d> {
    /// They are relative to this directory, and are looked at.
    In(&'d Path),
    /// They were looked at before, and may have gone since.
    Known,
}

/// What `work` makes of it, if it finds no fault.
pub(super) fn within<T>(
    files: Files<'_>,
    work: impl FnOnce(&mut Check<'_>) -> T,
) -> Result<T, Vec<Fault>> {
    let mut check = Check { files, faults: Vec::new() };
    let made = work(&mut check);
    if check.faults.is_empty() { Ok(made) } else { Err(check.faults) }
}

/// One key: its name, what was typed, and the default.
pub(super) struct Key<'t> {
    pub(super) name: &'static str,
    pub(super) typed: &'t Typed,
    pub(super) default: &'t Typed,
}

/// Collects faults; a value at fault is stood in for by the default until the whole is refused.
pub(super) struct Check<'d> {
    files: Files<'d>,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn config(&mut self, file: &typed::File, default: &typed::File, host: &Host) -> Config {
        let mut limits = self.limits(&file.limits, &default.limits);
        let memory = self.memory(file, default, limits.connections_max, host);
        let (typed, fallback) = (&file.limits, &default.limits);
        limits.sessions_per_address_max = self.seats(
            &key!(typed, fallback, sessions_per_address_max),
            memory.geometry.sessions as usize,
        );
        let control_socket = self.control_socket(&key!(file, default, control_socket));
        let log = self.log(&file.log, &default.log);
        let admin = self.admin(file, default);
        self.paths_are_apart(file, control_socket.as_ref(), &admin, &log);
        let timeouts = self.timeouts(&file.timeouts, &default.timeouts);
        // A file from before messages had a default of their own means both.
        let wait = file.timeouts.wait_timeout.as_ref().map(|_| timeouts.wait_timeout);
        Config {
            workers: self.workers(&key!(file, default, workers), host),
            generations_max: self
                .count(&key!(file, default, generations_max), 2..=WORKER_RECORDS_MAX as u64),
            control_socket,
            user: self.user(&key!(file, default, user), host),
            sandbox: self.choice(&key!(file, default, sandbox), &SWITCH),
            trusted_proxies: self.trusted_proxies(file, default),
            previewers: self.previewers(file, default),
            listeners: self.listeners(file, default),
            log,
            admin,
            memory,
            exchange: self.exchange(&file.exchange, &default.exchange),
            messages: self.messages(&file.messages, &default.messages, wait),
            cors: self.cors(&file.cors, &default.cors),
            auth: self.auth(&file.auth, &default.auth),
            limits,
            timeouts,
        }
    }

    fn workers(&mut self, key: &Key<'_>, host: &Host) -> NonZeroUsize {
        let allowed = format!("\"auto\" or a number from 1 to {WORKERS_MAX}");
        self.value(key, &allowed, |value| match value {
            Value::Integer(count) => {
                let count = usize::try_from(*count).ok().filter(|count| *count <= WORKERS_MAX)?;
                NonZeroUsize::new(count)
            }
            value => is_auto(value).then(|| host.workers_auto()),
        })
    }

    /// `None` for none.
    pub(super) fn control_socket(&mut self, key: &Key<'_>) -> Option<PathBuf> {
        self.path_or_none(key, SOCKET_PATH_BYTES_MAX)
    }

    /// `None` for none.
    fn path_or_none(&mut self, key: &Key<'_>, bytes_max: usize) -> Option<PathBuf> {
        let allowed = format!("\"none\", or an absolute path of at most {bytes_max} bytes");
        self.value(key, &allowed, |value| {
            let path = value.as_str()?;
            let good = path.starts_with('/')
                && path.len() <= bytes_max
                && !path.chars().any(char::is_control);
            (good || path == NONE).then(|| good.then(|| PathBuf::from(path)))
        })
    }

    /// Also the default's may not be found: a machine that has no list of users answers late, if at all.
    fn user(&mut self, key: &Key<'_>, host: &Host) -> User {
        let patience = host.lookup_patience;
        let named = key.typed.as_ref().or(key.default.as_ref()).map(Spanned::get_ref);
        let found = named.and_then(Value::as_str).and_then(|it| User::find_within(it, patience));
        found.unwrap_or_else(|| {
            let allowed = format!(
                "allowed: the name of a user of this machine, or its number as text, found within {}",
                duration_text(patience)
            );
            let title = format!("bad value for `{}`", key.name);
            self.fault(title, key.span().unwrap_or_default(), allowed);
            User::nobody()
        })
    }

    fn listeners(&mut self, file: &typed::File, default: &typed::File) -> Vec<Listener> {
        let Some(typed) = file.listener.as_ref().or(default.listener.as_ref()) else {
            return Vec::new();
        };
        if !(1..=LISTENERS_MAX).contains(&typed.get_ref().len()) {
            self.fault(
                format!("{} listeners", typed.get_ref().len()),
                typed.span(),
                format!("allowed: 1 to {LISTENERS_MAX} blocks [[listener]]"),
            );
        }
        let documented = default.listener.iter().flat_map(|list| list.get_ref()).next();
        let trusted = trusted_proxies(file, default).next().is_some();
        let proxied = documented.map_or(&None, |listener| &listener.proxy_protocol);
        let alone = documented.map_or(&None, |listener| &listener.ipv6_only);
        let mut seen: Vec<(Endpoint, Range<usize>)> = Vec::new();
        let check = |listener: &typed::Listener| {
            let typed = &listener.proxy_protocol;
            let key = Key { name: "proxy_protocol", typed, default: proxied };
            let proxy_protocol = self.proxy_protocol(&key, trusted);
            let key = Key { name: "ipv6_only", typed: &listener.ipv6_only, default: alone };
            let ipv6_only = self.value(&key, "true or false", Value::as_bool);
            let tls = listener.tls.as_ref().and_then(|tls| self.tls(tls));
            let address = self.address(&listener.address)?;
            if ipv6_only && !address.is_ipv6() {
                self.fault(
                    format!("`ipv6_only` at {address}"),
                    key.span().unwrap_or_default(),
                    "allowed: true for an address of IPv6, such as \"[::]:8080\"".to_owned(),
                );
            }
            let endpoint = Endpoint::new(address, ipv6_only);
            self.alone_there(endpoint, listener.address.span(), &mut seen);
            Some(Listener { address, ipv6_only, proxy_protocol, tls })
        };
        typed.get_ref().iter().filter_map(check).collect()
    }

    /// The files, if they are what they have to be.
    fn tls(&mut self, typed: &typed::Tls) -> Option<Tls> {
        let certificate = self.path("certificate", &typed.certificate);
        let key = self.path("key", &typed.key);
        let tls = Tls { certificate: certificate?, key: key? };
        if let Files::Known = self.files {
            return Some(tls);
        }
        let (name, place, source) = match Credentials::load(&tls.certificate, &tls.key) {
            Ok(_) => return Some(tls),
            Err(CredentialsError::Certificate { source, .. }) => {
                ("certificate", &typed.certificate, source)
            }
            Err(CredentialsError::Key { source, .. }) => ("key", &typed.key, source),
        };
        self.fault(format!("bad `{name}` for TLS"), place.span(), source.to_string());
        None
    }

    fn path(&mut self, name: &str, typed: &Spanned<Value>) -> Option<PathBuf> {
        let path = self.absolute(typed);
        if path.is_none() {
            let allowed = "allowed: the path of a PEM file".to_owned();
            self.fault(format!("bad value for `{name}`"), typed.span(), allowed);
        }
        path
    }

    /// The path that was typed, seen from where the file is.
    fn absolute(&self, typed: &Spanned<Value>) -> Option<PathBuf> {
        let text = typed.get_ref().as_str().filter(|text| !text.is_empty())?;
        let directory = match self.files {
            Files::In(directory) => directory,
            Files::Known => Path::new(""),
        };
        std::path::absolute(directory.join(text)).ok()
    }

    /// A listener's address.
    fn address(&mut self, typed: &Spanned<Value>) -> Option<SocketAddr> {
        let address = typed.get_ref().as_str().and_then(|text| socket_address(text, has_ipv6));
        if address.is_none() {
            let allowed = "allowed: an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\", or \":8080\" \
                           for all addresses";
            self.fault("bad value for `address`".to_owned(), typed.span(), allowed.to_owned());
        }
        address
    }

    /// Notes where somebody listens among those `seen`, unless one of them is there already.
    fn alone_there(
        &mut self,
        endpoint: Endpoint,
        place: Range<usize>,
        seen: &mut Vec<(Endpoint, Range<usize>)>,
    ) {
        let Endpoint { address, .. } = endpoint;
        let Some((other, first)) = seen.iter().find(|(other, _)| places::clash(*other, endpoint))
        else {
            seen.push((endpoint, place));
            return;
        };
        let help = match other.address.is_ipv6() == address.is_ipv6() {
            true => "allowed: every address once",
            false => {
                "`[::]` serves IPv4, too: leave the other one out, or say `ipv6_only = true` for `[::]`"
            }
        };
        self.faults.push(Fault {
            title: if other.address == address {
                format!("two listeners at {address}")
            } else {
                format!("listeners at {} and at {address} overlap", other.address)
            },
            place: (place, "again here".to_owned()),
            related: vec![(first.clone(), "first here".to_owned())],
            help: Some(help.to_owned()),
        });
    }

    fn admin(&mut self, file: &typed::File, default: &typed::File) -> Admin {
        let public: Vec<_> = endpoints(file, default).collect();
        let (file, default) = (&file.admin, &default.admin);
        let key = key!(file, default, listen);
        let listen = self.admin_listen(&key);
        if let Some(Address::Tcp(address)) = listen
            && let Some((other, first)) =
                public.into_iter().find(|(other, _)| places::clash(*other, address.into()))
        {
            self.faults.push(Fault {
                title: format!("clients are to be served at {}", other.address),
                place: (key.span().unwrap_or_default(), "and the admin listener, too".to_owned()),
                related: first.map(|first| (first, "here".to_owned())).into_iter().collect(),
                help: Some("allowed: an address of its own".to_owned()),
            });
        }
        let access = self.admin_access(file, default, listen.as_ref());
        Admin { listen, hosts: self.admin_hosts(file, default), access }
    }

    /// `None` for none.
    pub(super) fn admin_listen(&mut self, key: &Key<'_>) -> Option<Address> {
        let allowed = "\"none\", an IP address and a port such as \"127.0.0.1:9180\", or \"unix:\" \
                       and the absolute path of a socket, of 107 bytes at most";
        self.value(key, allowed, |value| match value.as_str()? {
            NONE => Some(None),
            text => Address::parse(text).map(Some),
        })
    }

    /// It takes somebody who is `trusted` to send it.
    fn proxy_protocol(&mut self, key: &Key<'_>, trusted: bool) -> bool {
        let asked = self.value(key, "true or false", Value::as_bool);
        if asked && !trusted {
            self.fault(
                "`proxy_protocol` without `trusted_proxies`".to_owned(),
                key.span().unwrap_or_default(),
                "allowed: true where `trusted_proxies` names who may connect".to_owned(),
            );
        }
        asked
    }

    fn trusted_proxies(&mut self, file: &typed::File, default: &typed::File) -> Networks {
        let networks = trusted_proxies(file, default);
        networks.filter_map(|element| self.network("trusted_proxies", element)).collect()
    }

    fn network(&mut self, name: &str, typed: &Spanned<Value>) -> Option<Network> {
        let network = typed.get_ref().as_str().and_then(Network::parse);
        if network.is_none() {
            let allowed = "allowed: a network or an address, such as \"10.0.0.0/8\", \"fd00::/8\" or \
                           \"::1\", with no bit set behind the prefix";
            self.fault(format!("bad value in `{name}`"), typed.span(), allowed.to_owned());
        }
        network
    }

    fn exchange(&mut self, file: &typed::Exchange, default: &typed::Exchange) -> Exchange {
        Exchange {
            receipt: self.choice(&key!(file, default, receipt), &RECEIPTS),
            wait_timeout_max: self.duration(&key!(file, default, wait_timeout_max), &(MS..=DAY)),
        }
    }

    /// `wait` is how long everybody waits, where the file says so and nothing of messages.
    fn messages(
        &mut self,
        file: &typed::Messages,
        default: &typed::Messages,
        wait: Option<Duration>,
    ) -> Messages {
        let own_wait = self.duration(&key!(file, default, wait_timeout), &(MS..=DAY));
        let is_own = file.wait_timeout.is_some();
        Messages {
            mount: self.mount(&key!(file, default, mount)),
            receipt: self.choice(&key!(file, default, receipt), &RECEIPTS),
            wait_timeout: wait.filter(|_| !is_own).unwrap_or(own_wait),
            wait_timeout_max: self.duration(&key!(file, default, wait_timeout_max), &(MS..=DAY)),
            session_lifetime_max: self
                .duration(&key!(file, default, session_lifetime_max), &LIFETIMES),
        }
    }

    fn mount(&mut self, key: &Key<'_>) -> String {
        let allowed = format!(
            "a path of one or more \"/segment\", of letters, digits and \"-._~\", \
             {MOUNT_BYTES_MAX} bytes at most"
        );
        self.value(key, &allowed, |value| {
            let mount = value.as_str().filter(|mount| mount.len() <= MOUNT_BYTES_MAX)?;
            let good = mount.strip_prefix('/')?.split('/').all(is_segment);
            good.then(|| mount.to_owned())
        })
    }

    fn limits(&mut self, file: &typed::Limits, default: &typed::Limits) -> Limits {
        let connections_max =
            self.count(&key!(file, default, connections_max), 1..=CONNECTIONS_MAX.into());
        let rate_bytes_min = self.size(&key!(file, default, rate_bytes_min), 0..=GIB);
        Limits {
            connections_max,
            connections_per_address_max: self
                .seats(&key!(file, default, connections_per_address_max), connections_max),
            // Worked out once the memory is known.
            sessions_per_address_max: 0,
            chunks_per_address_max: self.share(&key!(file, default, chunks_per_address_max)),
            pipes_per_address_max: self.share(&key!(file, default, pipes_per_address_max)),
            wide_network_factor: self
                .count(&key!(file, default, wide_network_factor), 1..=SEATS_MAX),
            unknown_keys_per_second_max: self
                .count(&key!(file, default, unknown_keys_per_second_max), 0..=1_000_000),
            head_bytes_max: self.size(&key!(file, default, head_bytes_max), 512..=MIB),
            header_fields_max: self.count(&key!(file, default, header_fields_max), 1..=128),
            body_bytes_max: self.size(&key!(file, default, body_bytes_max), 1..=1024 * TIB),
            form_overhead_bytes_max: self
                .size(&key!(file, default, form_overhead_bytes_max), KIB..=16 * MIB),
            chunk_line_bytes_max: self
                .size(&key!(file, default, chunk_line_bytes_max), 32..=64 * KIB),
            trailer_bytes_max: self.size(&key!(file, default, trailer_bytes_max), 64..=MIB),
            linger_bytes_max: self.size(&key!(file, default, linger_bytes_max), 0..=GIB),
            patience_connections_max: self
                .patience(&key!(file, default, patience_connections_max), connections_max),
            rate_bytes_min,
            rate_bytes_max: self.rate(&key!(file, default, rate_bytes_max), rate_bytes_min),
            rate_bytes_per_address_max: self
                .rate(&key!(file, default, rate_bytes_per_address_max), rate_bytes_min),
            stall_rate_bytes_min: self.size(&key!(file, default, stall_rate_bytes_min), 0..=GIB),
            keepalive_probes_max: self
                .count(&key!(file, default, keepalive_probes_max), 1..=KEEPALIVE_PROBES_MAX),
        }
    }

    fn timeouts(&mut self, file: &typed::Timeouts, default: &typed::Timeouts) -> Timeouts {
        let most = MS..=DAY;
        Timeouts {
            handshake_timeout: self.duration(&key!(file, default, handshake_timeout), &most),
            head_timeout: self.duration(&key!(file, default, head_timeout), &most),
            idle_timeout: self.duration(&key!(file, default, idle_timeout), &most),
            keepalive_idle: self.seconds(&key!(file, default, keepalive_idle)),
            keepalive_interval: self.seconds(&key!(file, default, keepalive_interval)),
            wait_timeout: self.duration(&key!(file, default, wait_timeout), &most),
            session_lifetime: self.duration(&key!(file, default, session_lifetime), &LIFETIMES),
            place_wait: self.duration(&key!(file, default, place_wait), &most),
            chunk_wait: self.duration(&key!(file, default, chunk_wait), &most),
            stall_timeout: self.duration(&key!(file, default, stall_timeout), &most),
            ack_timeout: self.duration(&key!(file, default, ack_timeout), &most),
            linger_timeout: self.duration(&key!(file, default, linger_timeout), &most),
            silence_timeout: self.duration(&key!(file, default, silence_timeout), &most),
            rate_window: self.duration(&key!(file, default, rate_window), &most),
            start_timeout: self.duration(&key!(file, default, start_timeout), &(SECOND..=DAY)),
            hang_timeout: self.duration(&key!(file, default, hang_timeout), &(100 * MS..=DAY)),
            reload_timeout: self.duration(&key!(file, default, reload_timeout), &most),
            stop_timeout: self.duration(&key!(file, default, stop_timeout), &most),
            drain_timeout: self.duration(&key!(file, default, drain_timeout), &most),
        }
    }

    /// How many of `all` connections may be open while nobody is hurried.
    fn patience(&mut self, key: &Key<'_>, all: usize) -> usize {
        let most = CONNECTIONS_MAX.into();
        let allowed = format!("\"auto\" or a number from 0 to {most}");
        self.value(key, &allowed, |value| match count_within(value, &(0..=most)) {
            Some(count) => usize::try_from(count).ok(),
            None => is_auto(value).then(|| all - all / PATIENCE_SPARE),
        })
    }

    /// What one address may have of `all`.
    fn seats(&mut self, key: &Key<'_>, all: usize) -> u32 {
        let allowed = format!("\"auto\" or a number from 0 to {SEATS_MAX}");
        let auto = (all / ADDRESSES_BEFORE_FULL).max(SEATS_AUTO_MIN);
        self.value(key, &allowed, |value| match count_within(value, &(0..=SEATS_MAX)) {
            Some(count) => u32::try_from(count).ok(),
            None => is_auto(value).then(|| u32::try_from(auto).unwrap_or(u32::MAX).min(1 << 16)),
        })
    }

    fn share(&mut self, key: &Key<'_>) -> Share {
        let most = u64::from(u32::MAX);
        let allowed = format!("\"auto\" or a number from 0 to {most}");
        self.value(key, &allowed, |value| match count_within(value, &(0..=most)) {
            Some(0) => Some(Share::All),
            Some(count) => u32::try_from(count).ok().map(Share::AtMost),
            None => is_auto(value).then_some(Share::Fair),
        })
    }

    fn size<T: TryFrom<u64>>(&mut self, key: &Key<'_>, range: RangeInclusive<u64>) -> T {
        let rule = |value: &Value| T::try_from(size_within(value, &range)?).ok();
        self.value(key, &sizes_allowed(&range), rule)
    }

    fn count<T: TryFrom<u64>>(&mut self, key: &Key<'_>, range: RangeInclusive<u64>) -> T {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        self.value(key, &allowed, |value| T::try_from(count_within(value, &range)?).ok())
    }

    fn duration(&mut self, key: &Key<'_>, range: &RangeInclusive<Duration>) -> Duration {
        let [from, to] = [range.start(), range.end()].map(|end| duration_text(*end));
        let allowed =
            format!("a duration from {from} to {to}, such as \"250ms\", \"10s\", \"5m\" or \"1h\"");
        self.value(key, &allowed, |value| duration_within(value, range))
    }

    /// A duration that the kernel counts in whole seconds.
    fn seconds(&mut self, key: &Key<'_>) -> Duration {
        let range = SECOND..=KEEPALIVE_MAX;
        let [from, to] = [range.start(), range.end()].map(|end| duration_text(*end));
        let allowed = format!("whole seconds from {from} to {to}, such as \"10s\" or \"5m\"");
        self.value(key, &allowed, |value| {
            duration_within(value, &range).filter(|duration| duration.subsec_nanos() == 0)
        })
    }

    fn choice<T: Copy>(&mut self, key: &Key<'_>, choices: &[(&str, T)]) -> T {
        let allowed =
            choices.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        self.value(key, &allowed, |value| {
            let text = value.as_str()?;
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
        })
    }

    /// The key's value by `rule`; if the rule does not take what was typed, a fault that says what is `allowed`.
    fn value<T>(&mut self, key: &Key<'_>, allowed: &str, rule: impl Fn(&Value) -> Option<T>) -> T {
        if let Some(typed) = key.typed {
            if let Some(value) = rule(typed.get_ref()) {
                return value;
            }
            self.faults.push(Fault {
                title: format!("bad value for `{}`", key.name),
                place: (typed.span(), format!("allowed: {allowed}")),
                related: Vec::new(),
                help: advice::help(typed.get_ref(), |value| rule(value).is_some()),
            });
        }
        match key.default.as_ref().and_then(|default| rule(default.get_ref())) {
            Some(value) => value,
            None => {
                panic!("the built-in configuration has no good `{}`: {:?}", key.name, self.faults)
            }
        }
    }

    fn fault(&mut self, title: String, span: Range<usize>, label: String) {
        self.faults.push(Fault { title, place: (span, label), related: Vec::new(), help: None });
    }
}

impl Key<'_> {
    fn span(&self) -> Option<Range<usize>> {
        self.typed.as_ref().map(Spanned::span)
    }
}

/// Whether a piece of a path means itself, however it is written: no dots to climb by, nothing that may
/// be percent-encoded (RFC 3986, section 2.3).
fn is_segment(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !matches!(text, "" | "." | "..") && text.bytes().all(unreserved)
}

fn trusted_proxies<'t>(
    file: &'t typed::File,
    default: &'t typed::File,
) -> impl Iterator<Item = &'t Spanned<Value>> {
    let typed = file.trusted_proxies.as_ref().or(default.trusted_proxies.as_ref());
    typed.into_iter().flat_map(|list| list.get_ref())
}

fn is_auto(value: &Value) -> bool {
    value.as_str() == Some("auto")
}

fn count_within(value: &Value, range: &RangeInclusive<u64>) -> Option<u64> {
    let count = u64::try_from(value.as_integer()?).ok()?;
    range.contains(&count).then_some(count)
}

fn size_within(value: &Value, range: &RangeInclusive<u64>) -> Option<u64> {
    match value {
        Value::String(text) => size(text).filter(|bytes| range.contains(bytes)),
        value => count_within(value, range),
    }
}

fn duration_within(value: &Value, range: &RangeInclusive<Duration>) -> Option<Duration> {
    match value {
        Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        value => duration(value.as_str()?),
    }
    .filter(|duration| range.contains(duration))
}

fn sizes_allowed(range: &RangeInclusive<u64>) -> String {
    format!("a size from {} to {}", size_text(*range.start()), size_text(*range.end()))
}
