//! Who is at the other end of a connection, whose requests come from there, and what their client calls
//! this server.
//!
//! `connections` makes the [`Peer`] of each connection, `connection` asks it about each request, the
//! routes use what comes of it. What must always hold: a header field says something about the client
//! only if a trusted proxy sent it.

use crate::address::{self, Networks, Scheme};
use crate::http::{self, Request};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// It is trusted, so it is believed for whom it speaks.
    pub(super) is_proxy: bool,
}

impl Peer {
    pub(super) fn new(address: IpAddr, trusted: &Networks) -> Self {
        Self { address, is_proxy: trusted.contains(address) }
    }

    /// The peer that a trusted balancer has named in its PROXY line. Where it names none, it is the
    /// balancer itself, but what comes from there may be anybody's and is not believed.
    pub(super) fn named(self, source: Option<IpAddr>, trusted: &Networks) -> Self {
        match source {
            Some(source) => Self::new(source, trusted),
            None => Self { is_proxy: false, ..self },
        }
    }

    /// Whose request this is.
    pub(super) fn client(self, request: &Request<'_>, trusted: &Networks) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        address::client(self.address, request.fields("x-forwarded-for"), trusted)
    }

    /// What the request's client calls this server, which it has reached by the scheme `own`; one that named no
    /// host reads our own address.
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

/// Scheme and host of this server as a client calls it, the latter with its port where it is not the
/// scheme's own.
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

    /// Whether what a client is given travels encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}
