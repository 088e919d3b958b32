//! Addresses and paths that the relay uses: each may be used once.
//!
//! Invariant: if one program cannot have two addresses at a time, or would write one file over another, the second is
//! a problem, in every spelling.

use super::super::report::Problem;
use super::super::{Admin, Log};
use super::{Check, Files, NONE, typed};
use crate::sys::listener::{Endpoint, has_ipv6};
use crate::sys::operator::ListenAddress;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Whether nobody can listen on both. The two families overlap where `[::]` takes IPv4 connections as well.
pub(super) fn clash(one: Endpoint, other: Endpoint) -> bool {
    let takes_both = one.takes_both() || other.takes_both();
    let (one, other) = (one.address, other.address);
    let meet = match (one, other) {
        (SocketAddr::V4(one), SocketAddr::V4(other)) => {
            one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified()
        }
        (SocketAddr::V6(one), SocketAddr::V6(other)) => {
            let [scope, other_scope] = [one.scope_id(), other.scope_id()];
            let is_one_scope = scope == other_scope || scope == 0 || other_scope == 0;
            (one.ip() == other.ip() && is_one_scope)
                || one.ip().is_unspecified()
                || other.ip().is_unspecified()
        }
        _ => takes_both,
    };
    // Port 0 twice is two different ports.
    meet && one.port() == other.port() && one.port() != 0
}

/// The address that a text means: `:8080` stands for all addresses. Only then the kernel is asked for IPv6.
pub(in crate::config) fn socket_address(
    text: &str,
    has_ipv6: impl FnOnce() -> bool,
) -> Option<SocketAddr> {
    let all =
        || if has_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let address = match text.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            SocketAddr::new(all(), port.parse().ok()?)
        }
        _ => text.parse::<SocketAddr>().ok()?,
    };
    Some(match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    })
}

/// The addresses that clients use, as far as they are valid, each with its place if it was typed.
pub(super) fn endpoints<'t>(
    file: &'t typed::File,
    default: &'t typed::File,
) -> impl Iterator<Item = (Endpoint, Option<Range<usize>>)> + 't {
    let is_typed = file.listener.is_some();
    let listeners = file.listener.as_ref().or(default.listener.as_ref());
    listeners.into_iter().flat_map(|list| list.get_ref()).filter_map(move |listener| {
        let address = socket_address(listener.address.get_ref().as_str()?, has_ipv6)?;
        let ipv6_only = listener.ipv6_only.as_ref().and_then(|it| it.get_ref().as_bool());
        let endpoint = Endpoint::new(address, ipv6_only.unwrap_or_default());
        Some((endpoint, is_typed.then(|| listener.address.span())))
    })
}

/// A path that the relay writes to, or reads secrets from.
struct Claim {
    name: &'static str,
    path: PathBuf,
    place: Option<Range<usize>>,
    /// Many may read what none may write.
    is_read: bool,
}

impl Check<'_> {
    /// No socket, log, certificate or key is at the path of another.
    pub(super) fn paths_are_apart(
        &mut self,
        file: &typed::File,
        control_socket: Option<&PathBuf>,
        admin: &Admin,
        log: &Log,
    ) {
        let place = |typed: &typed::Typed| typed.as_ref().map(toml::Spanned::span);
        let written = |name, path: &PathBuf, place| Claim {
            name,
            path: settle(path, self.files),
            place,
            is_read: false,
        };
        let mut claims = Vec::new();
        claims.extend(
            control_socket.map(|it| written("control_socket", it, place(&file.control_socket))),
        );
        if let Some(ListenAddress::Unix(path)) = &admin.listen {
            claims.push(written("admin.listen", path, place(&file.admin.listen)));
        }
        claims.extend(
            log.access.as_ref().map(|it| written("log.access", it, place(&file.log.access))),
        );
        claims.extend(self.read_claims(file));
        for (index, second) in claims.iter().enumerate() {
            let before = claims.iter().take(index);
            let is_same = |it: &&Claim| it.path == second.path && !(it.is_read && second.is_read);
            if let Some(first) = before.into_iter().find(is_same) {
                let problem = twice(first, second);
                self.problems.push(problem);
            }
        }
    }

    fn read_claims(&self, file: &typed::File) -> Vec<Claim> {
        let listeners = file.listener.iter().flat_map(|list| list.get_ref());
        let typed = listeners.filter_map(|listener| listener.tls.as_ref());
        let files = typed.flat_map(|tls| [("certificate", &tls.certificate), ("key", &tls.key)]);
        let tokens = file.auth.issue_tokens.iter().map(|it| ("issue_tokens", it));
        let files = files.chain(tokens.filter(|(_, it)| it.get_ref().as_str() != Some(NONE)));
        let claim = |(name, typed): (&'static str, &toml::Spanned<toml::Value>)| {
            let path = self.absolute(typed)?;
            let path = settle(&path, self.files);
            Some(Claim { name, path, place: Some(typed.span()), is_read: true })
        };
        files.filter_map(claim).collect()
    }
}

fn twice(first: &Claim, second: &Claim) -> Problem {
    let related = first.place.clone().map(|place| (place, format!("`{}`", first.name)));
    Problem {
        title: format!(
            "`{}` and `{}` are one path: {}",
            first.name,
            second.name,
            second.path.display()
        ),
        place: (second.place.clone().unwrap_or_default(), format!("`{}`", second.name)),
        related: related.into_iter().collect(),
        help: Some("allowed: a path of its own for each".to_owned()),
    }
}

/// The path without links and dots, as far as it exists.
fn settle(path: &Path, files: Files<'_>) -> PathBuf {
    if let Files::Known = files {
        return path.to_owned();
    }
    let in_directory = || {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(in_directory).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::sys::listener::Endpoint;

    #[test]
    fn a_port_alone_is_all_addresses_that_the_system_has() {
        for (has_ipv6, address) in [(true, "[::]:80"), (false, "0.0.0.0:80")] {
            let read = super::socket_address(":80", || has_ipv6).unwrap();
            assert_eq!(read.to_string(), address);
        }
    }

    #[test]
    fn addresses_clash_where_the_kernel_says_so() {
        let endpoint = |text: &str| match text.strip_prefix("alone ") {
            Some(address) => Endpoint::new(address.parse().unwrap(), true),
            None => Endpoint::new(text.parse().unwrap(), false),
        };
        let clash = |one: &str, other: &str| {
            let [one, other] = [one, other].map(endpoint);
            assert_eq!(super::clash(one, other), super::clash(other, one), "{one} {other}");
            super::clash(one, other)
        };
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
            ("alone [::]:80", "[::1]:80"),
            ("[::]:80", "alone [::]:80"),
            ("0.0.0.0:80", "[::]:80"),
            ("127.0.0.1:80", "[::]:80"),
            ("[::1]:80", "[0::1]:80"),
            ("[fe80::1]:80", "[fe80::1%2]:80"),
        ] {
            assert!(clash(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "127.0.0.1:81"),
            ("0.0.0.0:80", "alone [::]:80"),
            ("127.0.0.1:80", "alone [::]:80"),
            ("127.0.0.1:80", "[::1]:80"),
            ("127.0.0.1:80", "[::]:81"),
            ("[::1]:80", "[::2]:80"),
            ("[fe80::1%1]:80", "[fe80::1%2]:80"),
            ("0.0.0.0:0", "127.0.0.1:0"),
            ("0.0.0.0:0", "[::]:0"),
        ] {
            assert!(!clash(one, other), "{one} {other}");
        }
    }
}
