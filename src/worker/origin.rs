//! The remote of a connection, the clients whose requests come from there, and the name that a client gives this
//! server.
//!
//! `connections` makes the [`Remote`] of each connection, `connection` asks it about each request, and the routes use the
//! answers. Invariant: a header field says something about the client only if a trusted proxy sent it.

use crate::address::{self, Networks, Scheme};
use crate::http::{self, Request};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// The remote of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub(super) address: IpAddr,
    /// The remote is a trusted proxy, so it is believed for whom it speaks.
    pub(super) is_proxy: bool,
}

impl Remote {
    pub(super) fn new(address: IpAddr, trusted: &Networks) -> Self {
        Self { address, is_proxy: trusted.contains(address) }
    }

    /// The remote that a trusted proxy's PROXY line names. If the line names none, the remote is the proxy itself; but
    /// its requests may be anybody's, so nothing that they say about the client is believed.
    pub(super) fn named(self, source: Option<IpAddr>, trusted: &Networks) -> Self {
        match source {
            Some(source) => Self::new(source, trusted),
            None => Self { is_proxy: false, ..self },
        }
    }

    /// The client of `request`.
    pub(super) fn client(self, request: &Request<'_>, trusted: &Networks) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        address::client(self.address, request.fields("x-forwarded-for"), trusted)
    }

    /// This server as the request's client calls it. The request came by the scheme `own`; for a client that named no
    /// host, our own address stands in.
    pub(super) fn origin<'h>(
        self,
        request: &Request<'h>,
        own: Scheme,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> Origin<'h> {
        let told = |field| {
            let fields = self.is_proxy.then(|| request.fields(field));
            address::last_element(fields.into_iter().flatten())
        };
        let scheme = told("x-forwarded-proto").and_then(Scheme::parse).unwrap_or(own);
        let host = told("x-forwarded-host").and_then(|host| http::host(host).ok());
        let host = match host.unwrap_or(request.host) {
            "" => Cow::Owned(local().map_or_else(String::new, |address| address.to_string())),
            host => Cow::Borrowed(host),
        };
        Origin { scheme, host }
    }
}

/// Scheme and host of this server as a client calls it. The host has a port unless that is the scheme's own.
#[derive(Debug)]
pub(super) struct Origin<'h> {
    pub(super) scheme: Scheme,
    pub(super) host: Cow<'h, str>,
}

impl Origin<'_> {
    /// The absolute URL of `path`, which begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme.as_str(), self.host)
    }

    /// Whether the client reads the answer over an encrypted connection.
    pub(super) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}
