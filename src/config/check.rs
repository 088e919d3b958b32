//! Turns what was typed into what it means: units, ranges, choices, and what two keys demand of each other. Called by
//! `super::parse`.
//!
//! Invariant: either every value lies in the range written here, or there is at least one problem; all bad values of
//! a file are found in one go.

use std::num::NonZeroUsize;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use shm::{CONNECTIONS_MAX, Share, WORKER_RECORDS_MAX};
use toml::{Spanned, Value};

use crate::address::{Network, Networks};
use crate::sys::operator::ListenAddress;
use crate::sys::user::User;

use super::advice;
use super::host::{Host, WORKERS_MAX};
use super::report::Problem;
use super::typed::{self, Typed};
use super::unit::{duration, duration_text, size, size_text};
use super::{Admin, Config};

pub(super) use choices::Choice;
pub(super) use cors::ANY_ORIGIN;

/// The text that switches an address or a path off.
pub(super) const NONE: &str = "none";

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const LIFETIMES: RangeInclusive<Duration> =
    RangeInclusive::new(SECOND, Duration::from_secs(30 * 24 * 3600));

/// The kernel takes at most 32767 seconds (`MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` in `net/tcp.h`).
const KEEPALIVE_MAX: Duration = Duration::from_secs(9 * 3600);
/// The kernel takes no more (`MAX_TCP_KEEPCNT`, there too).
pub(super) const KEEPALIVE_PROBES_MAX: u64 = 127;

/// A path that a cookie is given for and every session's `Location` begins with.
const MOUNT_BYTES_MAX: usize = 128;
/// `sun_path` has 108 bytes, with the zero at its end (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Largest limit per address. The relay searches that many words of the permit table for an address that is at its
/// limit.
pub(super) const SEATS_MAX: u64 = 1 << 16;
/// `PATH_MAX` has 4096, with the zero (path_resolution(7)).
pub(super) const FILE_PATH_BYTES_MAX: usize = 4095;
/// Addresses that have to take all they may by "auto" before nothing is left: if half of them misbehave, the relay
/// still serves the others.
const ADDRESSES_BEFORE_FULL: usize = 16;

/// The default keeps one in this many connections free of patient transfers.
const PATIENCE_SPARE: usize = 4;
/// The least that "auto" gives an address: few people share a small relay.
const SEATS_AUTO_MIN: usize = 64;

/// The key of a section, from the section as typed and the section of the defaults.
macro_rules! key {
    ($file:ident, $default:ident, $name:ident) => {
        Key { name: stringify!($name), typed: &$file.$name, default: &$default.$name }
    };
}

// These modules use the macro, so they stand behind it.
mod admin;
mod auth;
mod choices;
mod cors;
mod listeners;
mod memory;
mod places;
mod previewers;
mod rates;

use places::endpoints;
pub(super) use places::socket_address;

/// Computes the configuration of `file`, with `default` for missing keys.
pub(super) fn check(
    file: &typed::File,
    default: &typed::File,
    host: &Host,
    files: Files<'_>,
) -> Result<Config, Vec<Problem>> {
    within(files, |check| check.config(file, default, host))
}

/// How to treat the names of files.
#[derive(Clone, Copy, Debug)]
pub(super) enum Files<'d> {
    /// Names are relative to this directory, and the files are read.
    In(&'d Path),
    /// The files were read before, and may be gone since.
    Known,
}

/// Runs `work`, and returns its value if it finds no problem.
pub(super) fn within<T>(
    files: Files<'_>,
    work: impl FnOnce(&mut Check<'_>) -> T,
) -> Result<T, Vec<Problem>> {
    let mut check = Check { files, problems: Vec::new() };
    let made = work(&mut check);
    if check.problems.is_empty() { Ok(made) } else { Err(check.problems) }
}

/// A key: its name, its typed value, and its default.
pub(super) struct Key<'t> {
    pub(super) name: &'static str,
    pub(super) typed: &'t Typed,
    pub(super) default: &'t Typed,
}

/// Collects problems. A bad value is replaced by the default until the whole file is refused.
pub(super) struct Check<'d> {
    files: Files<'d>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn config(&mut self, file: &typed::File, default: &typed::File, host: &Host) -> Config {
        let mut limits = self.limits(&file.limits, &default.limits);
        let memory = self.memory(file, default, limits.connections_max, host);
        let workers = self.workers(&key!(file, default, workers), host);
        let listeners = self.listeners(file, default);
        let (typed, fallback) = (&file.limits, &default.limits);
        let possible = host.connections(workers, listeners.len(), memory.geometry.pipes);
        let connections_possible = possible.min(limits.connections_max);
        limits.connections_per_address_max =
            self.seats(&key!(typed, fallback, connections_per_address_max), connections_possible);
        limits.patience_connections_max =
            self.patience(&key!(typed, fallback, patience_connections_max), connections_possible);
        limits.sessions_per_address_max = self.seats(
            &key!(typed, fallback, sessions_per_address_max),
            memory.geometry.sessions as usize,
        );
        let control_socket = self.control_socket(&key!(file, default, control_socket));
        let log = self.log(&file.log, &default.log);
        let admin = self.admin(file, default);
        self.paths_are_apart(file, control_socket.as_ref(), &admin, &log);
        let timeouts = self.timeouts(&file.timeouts, &default.timeouts);
        // In a file older than `messages.wait_timeout`, this key means both.
        let mut messages = self.messages(&file.messages, &default.messages);
        if file.timeouts.wait_timeout.is_some() && file.messages.wait_timeout.is_none() {
            messages.wait_timeout = timeouts.wait_timeout;
        }
        self.caps_suffice(&file.limits, &limits);
        Config {
            workers,
            generations_max: self
                .count(&key!(file, default, generations_max), 2..=WORKER_RECORDS_MAX as u64),
            control_socket,
            user: self.user(&key!(file, default, user), host),
            sandbox: self.choice(&key!(file, default, sandbox)),
            trusted_proxies: self.trusted_proxies(file, default),
            previewers: self.previewers(file, default),
            listeners,
            log,
            admin,
            memory,
            exchange: self.exchange(&file.exchange, &default.exchange),
            messages,
            cors: self.cors(&file.cors, &default.cors),
            auth: self.auth(&file.auth, &default.auth),
            limits,
            timeouts,
            connections_possible,
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
    pub(super) fn path_or_none(&mut self, key: &Key<'_>, bytes_max: usize) -> Option<PathBuf> {
        let allowed = format!("\"none\", or an absolute path of at most {bytes_max} bytes");
        self.value(key, &allowed, |value| {
            let path = value.as_str()?;
            let good = path.starts_with('/')
                && path.len() <= bytes_max
                && !path.chars().any(char::is_control);
            (good || path == NONE).then(|| good.then(|| PathBuf::from(path)))
        })
    }

    /// The default's user may be missing, too. A machine without a list of users answers late, if at all.
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
            self.problem(title, key.span().unwrap_or_default(), allowed);
            User::nobody()
        })
    }

    fn admin(&mut self, file: &typed::File, default: &typed::File) -> Admin {
        let public: Vec<_> = endpoints(file, default).collect();
        let (file, default) = (&file.admin, &default.admin);
        let key = key!(file, default, listen);
        let listen = self.admin_listen(&key);
        if let Some(ListenAddress::Tcp(address)) = listen
            && let Some((other, first)) =
                public.into_iter().find(|(other, _)| places::clash(*other, address.into()))
        {
            self.problems.push(Problem {
                title: format!("the admin listener shares {} with a listener", other.address),
                place: (key.span().unwrap_or_default(), "the admin listener".to_owned()),
                related: first.map(|first| (first, "here".to_owned())).into_iter().collect(),
                help: Some("allowed: an address of its own".to_owned()),
            });
        }
        let access = self.admin_access(file, default, listen.as_ref());
        Admin { listen, hosts: self.admin_hosts(file, default), access }
    }

    /// `None` for none.
    pub(super) fn admin_listen(&mut self, key: &Key<'_>) -> Option<ListenAddress> {
        let allowed = "\"none\", an IP address and a port such as \"127.0.0.1:9180\", or \"unix:\" \
                       and the absolute path of a socket, of 107 bytes at most";
        self.value(key, allowed, |value| match value.as_str()? {
            NONE => Some(None),
            text => ListenAddress::parse(text).map(Some),
        })
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
            self.problem(format!("bad value in `{name}`"), typed.span(), allowed.to_owned());
        }
        network
    }

    pub(super) fn mount(&mut self, key: &Key<'_>) -> String {
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

    /// How many of `all` connections may be open while patience lasts.
    fn patience(&mut self, key: &Key<'_>, all: usize) -> usize {
        let most = CONNECTIONS_MAX.into();
        let allowed = format!("\"auto\" or a number from 0 to {most}");
        self.value(key, &allowed, |value| match count_within(value, &(0..=most)) {
            Some(count) => usize::try_from(count).ok(),
            None => is_auto(value).then(|| all - all / PATIENCE_SPARE),
        })
    }

    /// How much one address may have of `all`.
    fn seats(&mut self, key: &Key<'_>, all: usize) -> u32 {
        let allowed = format!("\"auto\" or a number from 0 to {SEATS_MAX}");
        let auto = (all / ADDRESSES_BEFORE_FULL).max(SEATS_AUTO_MIN);
        self.value(key, &allowed, |value| match count_within(value, &(0..=SEATS_MAX)) {
            Some(count) => u32::try_from(count).ok(),
            None => is_auto(value).then(|| u32::try_from(auto).unwrap_or(u32::MAX).min(1 << 16)),
        })
    }

    pub(super) fn share(&mut self, key: &Key<'_>) -> Share {
        let most = u64::from(u32::MAX);
        let allowed = format!("\"auto\" or a number from 0 to {most}");
        self.value(key, &allowed, |value| match count_within(value, &(0..=most)) {
            Some(0) => Some(Share::All),
            Some(count) => u32::try_from(count).ok().map(Share::AtMost),
            None => is_auto(value).then_some(Share::Fair),
        })
    }

    pub(super) fn size<T: TryFrom<u64>>(&mut self, key: &Key<'_>, range: RangeInclusive<u64>) -> T {
        let rule = |value: &Value| T::try_from(size_within(value, &range)?).ok();
        self.value(key, &sizes_allowed(&range), rule)
    }

    pub(super) fn count<T: TryFrom<u64>>(
        &mut self,
        key: &Key<'_>,
        range: RangeInclusive<u64>,
    ) -> T {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        self.value(key, &allowed, |value| T::try_from(count_within(value, &range)?).ok())
    }

    pub(super) fn duration(&mut self, key: &Key<'_>, range: RangeInclusive<Duration>) -> Duration {
        let [from, to] = [range.start(), range.end()].map(|end| duration_text(*end));
        let allowed =
            format!("a duration from {from} to {to}, such as \"250ms\", \"10s\", \"5m\" or \"1h\"");
        self.value(key, &allowed, |value| duration_within(value, &range))
    }

    /// A duration that the kernel counts in whole seconds.
    pub(super) fn seconds(&mut self, key: &Key<'_>) -> Duration {
        let range = SECOND..=KEEPALIVE_MAX;
        let [from, to] = [range.start(), range.end()].map(|end| duration_text(*end));
        let allowed = format!("whole seconds from {from} to {to}, such as \"10s\" or \"5m\"");
        self.value(key, &allowed, |value| {
            duration_within(value, &range).filter(|duration| duration.subsec_nanos() == 0)
        })
    }

    pub(super) fn choice<T: Choice>(&mut self, key: &Key<'_>) -> T {
        let names: Vec<_> = T::CHOICES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.value(key, &names.join(", "), |value| {
            let text = value.as_str()?;
            T::CHOICES.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
        })
    }

    /// A key whose value depends on others; it is computed once those are known.
    pub(super) fn later<T: Default>(&mut self, _: &Key<'_>) -> T {
        T::default()
    }

    /// Applies `rule` to the typed value. If the rule refuses it, reports a problem that says what is `allowed`.
    fn value<T>(&mut self, key: &Key<'_>, allowed: &str, rule: impl Fn(&Value) -> Option<T>) -> T {
        if let Some(typed) = key.typed {
            if let Some(value) = rule(typed.get_ref()) {
                return value;
            }
            self.problems.push(Problem {
                title: format!("bad value for `{}`", key.name),
                place: (typed.span(), format!("allowed: {allowed}")),
                related: Vec::new(),
                help: advice::help(typed.get_ref(), |value| rule(value).is_some()),
            });
        }
        match key.default.as_ref().and_then(|default| rule(default.get_ref())) {
            Some(value) => value,
            None => {
                panic!("the built-in configuration has no good `{}`: {:?}", key.name, self.problems)
            }
        }
    }

    fn problem(&mut self, title: String, span: Range<usize>, label: String) {
        self.problems.push(Problem {
            title,
            place: (span, label),
            related: Vec::new(),
            help: None,
        });
    }
}

impl Key<'_> {
    fn span(&self) -> Option<Range<usize>> {
        self.typed.as_ref().map(Spanned::span)
    }
}

/// Whether a path segment means itself in every spelling: no dots to climb by, nothing that may be percent-encoded
/// (RFC 3986, section 2.3).
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
