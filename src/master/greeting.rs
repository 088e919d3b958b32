//! The greeting of a start: an event for the log, with a field for each fact, and lines on standard output for the
//! person or program that started the relay.
//!
//! A terminal also reads what to try and, for a listener on all addresses, by which addresses others reach it.
//! Another program reads one line for each listener, or nothing if it may expect JSON.

use crate::config::LogFormat;
use crate::sys::interfaces;
use crate::sys::listener::Endpoint;
use crate::sys::operator::{self, ListenAddress};
use crate::worker::Resources;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};

/// Addresses of this machine that are shown for a listener on all of them: a machine with containers may have many.
const ADDRESSES_SHOWN_MAX: usize = 4;

/// The facts to tell.
#[derive(Debug)]
pub(super) struct Greeting {
    urls: Vec<String>,
    /// The addresses that they are bound to, in the same order.
    endpoints: Vec<Endpoint>,
    admin: Option<ListenAddress>,
    workers: usize,
    is_json: bool,
    /// The option that curl needs to ask for a session.
    token: &'static str,
}

impl Greeting {
    pub(super) fn of(resources: &Resources) -> Self {
        let config = &resources.config;
        // The kernel may have chosen the port.
        let admin =
            resources.admin.as_deref().and_then(operator::local_address).map(ListenAddress::Tcp);
        let endpoint = |it: &_| Endpoint::of(it).ok();
        let listened = resources.listened_on();
        let listened = listened.filter_map(|(it, url)| Some((url, endpoint(it)?)));
        let (urls, endpoints) = listened.unzip();
        Self {
            urls,
            endpoints,
            admin: admin.or_else(|| config.admin.listen.clone()),
            workers: config.workers.get(),
            is_json: config.log.format == LogFormat::Json,
            token: config.auth.curl_option(),
        }
    }

    /// Logs it, as `what` has happened.
    pub(super) fn log(&self, what: &str) {
        let version = env!("CARGO_PKG_VERSION");
        let (pid, workers) = (std::process::id(), self.workers as u64);
        let listeners = self.urls.join(" ");
        let admin = self.admin.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        tracing::info!(version, pid, workers, listeners, admin, "{what}");
    }

    /// Prints it on standard output.
    pub(super) fn print(&self) {
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        let addresses = if is_terminal { interfaces::addresses() } else { Vec::new() };
        let text = self.text(is_terminal, &addresses);
        // A greeting that nobody reads is no error.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// `addresses` are those of this machine that others may use.
    fn text(&self, is_terminal: bool, addresses: &[IpAddr]) -> String {
        if self.is_json && !is_terminal {
            return String::new();
        }
        let mut text: String =
            self.urls.iter().map(|url| format!("listening on {url}\n")).collect();
        if let Some(address) = &self.admin {
            text += &format!("admin listener on {address}\n");
        }
        if !is_terminal {
            return text;
        }
        for (url, endpoint) in self.urls.iter().zip(&self.endpoints) {
            text += &on_all(url, *endpoint, addresses);
        }
        if let Some(url) = self.url_to_try(addresses) {
            let token = self.token;
            let certified = match url.starts_with("https:") {
                true => "Replace the address by the name in the certificate.\n",
                false => "",
            };
            text += &format!(
                "\nTo try it, ask for a session. This prints how to send and how to receive, in two other \
                 shells:\n\
                 \n    url=$(curl -fsSX POST{token} {url}/) && \
                 echo \"curl --fail-with-body -T FILE $url/\" && echo \"curl -fOJ $url\"\n\n\
                 {certified}`curl {url}/` prints more.\n\n"
            );
        }
        text
    }

    /// The first listener's URL, with an address that others can use if there is one.
    fn url_to_try(&self, addresses: &[IpAddr]) -> Option<String> {
        let (url, endpoint) = self.urls.first().zip(self.endpoints.first())?;
        if !endpoint.address.ip().is_unspecified() {
            return Some(url.clone());
        }
        let loopback = match endpoint.address {
            SocketAddr::V6(_) if endpoint.ipv6_only => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]),
            _ => IpAddr::from([127, 0, 0, 1]),
        };
        let address = reachable(*endpoint, addresses).next().unwrap_or(loopback);
        Some(with_address(url, *endpoint, address))
    }
}

/// The line about a listener on all addresses.
fn on_all(url: &str, endpoint: Endpoint, addresses: &[IpAddr]) -> String {
    if !endpoint.address.ip().is_unspecified() {
        return String::new();
    }
    let families = match (endpoint.takes_both(), endpoint.address) {
        (true, _) => "IPv4 and IPv6",
        (false, SocketAddr::V4(_)) => "IPv4",
        (false, SocketAddr::V6(_)) => "IPv6",
    };
    let urls: Vec<String> = reachable(endpoint, addresses)
        .take(ADDRESSES_SHOWN_MAX)
        .map(|address| with_address(url, endpoint, address))
        .collect();
    let others = match urls.as_slice() {
        [] => "this machine has no address that others could use".to_owned(),
        urls => format!("others reach it by {}", urls.join(" ")),
    };
    format!("{url} is on all addresses of {families}: {others}\n")
}

/// The addresses at which `endpoint` is reached.
fn reachable(endpoint: Endpoint, addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let serves =
        move |it: &IpAddr| endpoint.takes_both() || it.is_ipv6() == endpoint.address.is_ipv6();
    addresses.iter().copied().filter(serves)
}

/// The URL of `endpoint`, with another address in it.
fn with_address(url: &str, endpoint: Endpoint, address: IpAddr) -> String {
    let port = endpoint.address.port();
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
    format!("{scheme}://{}", SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn greeting(listeners: &[(&str, &str, bool)]) -> Greeting {
        let endpoint = |(_, address, ipv6_only): &(&str, &str, bool)| {
            Endpoint::new(address.parse().unwrap(), *ipv6_only)
        };
        let url = |(scheme, address, _): &(&str, &str, bool)| format!("{scheme}://{address}");
        Greeting {
            urls: listeners.iter().map(url).collect(),
            endpoints: listeners.iter().map(endpoint).collect(),
            admin: ListenAddress::parse("unix:/run/a.sock"),
            workers: 2,
            is_json: false,
            token: "",
        }
    }

    #[test]
    fn only_a_terminal_is_told_what_to_try() {
        let mut greeting = greeting(&[("http", "127.0.0.1:1", false), ("https", "[::1]:2", false)]);
        greeting.token = " -H TOKEN";
        let addresses = ["192.168.1.5".parse().unwrap()];
        let lines = "listening on http://127.0.0.1:1\nlistening on https://[::1]:2\n\
                     admin listener on unix:/run/a.sock\n";
        assert_eq!(greeting.text(false, &addresses), lines);
        let told = greeting.text(true, &addresses);
        assert!(told.starts_with(lines));
        assert!(told.contains("curl -fsSX POST -H TOKEN http://127.0.0.1:1/"));
        assert!(!told.contains("192.168.1.5"), "nobody reaches it there: {told}");
        greeting.is_json = true;
        assert_eq!(greeting.text(false, &addresses), "");
        assert!(greeting.text(true, &addresses).starts_with(lines));
    }

    #[test]
    fn a_listener_on_all_addresses_is_named_by_those_that_others_can_use() {
        let addresses: Vec<IpAddr> =
            ["192.168.1.5", "2001:db8::5", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
                .iter()
                .map(|it| it.parse().unwrap())
                .collect();
        for (address, ipv6_only, line, to_try) in [
            (
                "[::]:8080",
                false,
                "http://[::]:8080 is on all addresses of IPv4 and IPv6: others reach it by http://192.168.1.5:8080 \
                 http://[2001:db8::5]:8080 http://10.0.0.1:8080 http://10.0.0.2:8080\n",
                "POST http://192.168.1.5:8080/",
            ),
            (
                "0.0.0.0:80",
                false,
                "all addresses of IPv4: others reach it by http://192.168.1.5:80 http://10.0.0.1:80 \
                 http://10.0.0.2:80 http://10.0.0.3:80\n",
                "POST http://192.168.1.5:80/",
            ),
            (
                "[::]:80",
                true,
                "all addresses of IPv6: others reach it by http://[2001:db8::5]:80\n",
                "POST http://[2001:db8::5]:80/",
            ),
        ] {
            let greeting = greeting(&[("http", address, ipv6_only)]);
            let told = greeting.text(true, &addresses);
            assert!(told.contains(line) && told.contains(to_try), "{told}");
            assert!(!greeting.text(false, &addresses).contains("others"), "a line for each");
        }
        let told = greeting(&[("http", "[::]:80", false)]).text(true, &[]);
        assert!(told.contains("has no address that others could use"), "{told}");
        assert!(told.contains("POST http://127.0.0.1:80/"), "{told}");
    }
}
