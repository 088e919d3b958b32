//! The blocks `[[listener]]`: where to listen, and the files for TLS.

use super::super::report::Problem;
use super::super::{Listener, Protocols, Tls};
use super::{Check, Files, Key, places, socket_address, trusted_proxies, typed};
use crate::sys::listener::{Endpoint, has_ipv6};
use crate::tls::{Credentials, CredentialsError};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// Every worker polls all of them.
const LISTENERS_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn listeners(&mut self, file: &typed::File, default: &typed::File) -> Vec<Listener> {
        let Some(typed) = file.listener.as_ref().or(default.listener.as_ref()) else {
            return Vec::new();
        };
        if !(1..=LISTENERS_MAX).contains(&typed.get_ref().len()) {
            self.problem(
                format!("{} listeners", typed.get_ref().len()),
                typed.span(),
                format!("allowed: 1 to {LISTENERS_MAX} blocks [[listener]]"),
            );
        }
        let documented = default.listener.iter().flat_map(|list| list.get_ref()).next();
        let trusted = trusted_proxies(file, default).next().is_some();
        let proxied = documented.map_or(&None, |listener| &listener.proxy_protocol);
        let spoken = documented.map_or(&None, |listener| &listener.protocols);
        let alone = documented.map_or(&None, |listener| &listener.ipv6_only);
        let mut seen: Vec<(Endpoint, Range<usize>)> = Vec::new();
        let check = |listener: &typed::Listener| {
            let key = Key { name: "protocols", typed: &listener.protocols, default: spoken };
            let protocols = self.protocols(&key);
            let typed = &listener.proxy_protocol;
            let key = Key { name: "proxy_protocol", typed, default: proxied };
            let proxy_protocol = self.proxy_protocol(&key, trusted);
            let key = Key { name: "ipv6_only", typed: &listener.ipv6_only, default: alone };
            let ipv6_only = self.value(&key, "true or false", Value::as_bool);
            let tls = listener.tls.as_ref().and_then(|tls| self.tls(tls));
            let address = self.address(&listener.address)?;
            if ipv6_only && !address.is_ipv6() {
                self.problem(
                    format!("`ipv6_only` at {address}"),
                    key.span().unwrap_or_default(),
                    "allowed: true for an address of IPv6, such as \"[::]:8080\"".to_owned(),
                );
            }
            let endpoint = Endpoint::new(address, ipv6_only);
            self.alone_there(endpoint, listener.address.span(), &mut seen);
            Some(Listener { address, ipv6_only, protocols, proxy_protocol, tls })
        };
        typed.get_ref().iter().filter_map(check).collect()
    }

    /// The files, if they are valid.
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
        self.problem(format!("bad `{name}` for TLS"), place.span(), source.to_string());
        None
    }

    fn path(&mut self, name: &str, typed: &Spanned<Value>) -> Option<PathBuf> {
        let path = self.absolute(typed);
        if path.is_none() {
            let allowed = "allowed: the path of a PEM file".to_owned();
            self.problem(format!("bad value for `{name}`"), typed.span(), allowed);
        }
        path
    }

    /// The typed path, relative to the directory of the file.
    pub(super) fn absolute(&self, typed: &Spanned<Value>) -> Option<PathBuf> {
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
            self.problem("bad value for `address`".to_owned(), typed.span(), allowed.to_owned());
        }
        address
    }

    /// Adds an endpoint to those `seen`, or reports a problem if one of them is in the way.
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
        self.problems.push(Problem {
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

    /// Names of protocols, at least one, each once.
    fn protocols(&mut self, key: &Key<'_>) -> Protocols {
        self.value(key, "[\"http\"], [\"pair\"], or [\"http\", \"pair\"]", |value| {
            let mut protocols = Protocols { http: false, pair: false };
            for name in value.as_array()? {
                let is_spoken = match name.as_str()? {
                    "http" => &mut protocols.http,
                    "pair" => &mut protocols.pair,
                    _ => return None,
                };
                if std::mem::replace(is_spoken, true) {
                    return None;
                }
            }
            (protocols.http || protocols.pair).then_some(protocols)
        })
    }

    /// The line needs a `trusted` sender.
    fn proxy_protocol(&mut self, key: &Key<'_>, trusted: bool) -> bool {
        let asked = self.value(key, "true or false", Value::as_bool);
        if asked && !trusted {
            self.problem(
                "`proxy_protocol` without `trusted_proxies`".to_owned(),
                key.span().unwrap_or_default(),
                "allowed: true where `trusted_proxies` names who may connect".to_owned(),
            );
        }
        asked
    }
}
