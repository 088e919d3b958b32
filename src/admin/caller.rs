//! The hosts by which the admin listener answers over TCP. Called by [`super::Admin`].
//!
//! A page in the operator's browser may give its own name this machine's address (DNS rebinding), and could then read
//! the answers. Requests of such a page name its host in `Host`. So the admin listener answers no request by a name,
//! except `localhost`, which nobody can give away (RFC 6761, section 6.3), and the configured names. Browsers keep
//! answers from an IP address away from pages of other origins.

use std::net::{IpAddr, Ipv6Addr};

/// The answer to a request that names another host.
pub(super) const WHY: &str =
    "ask by an IP address, by localhost, or by a name in admin.hosts: other names are refused";

/// Whether `host`, with or without a port, is an IP address, `localhost` or one of `names`, which are in small
/// letters. A request without a host, which HTTP/1.0 allows, comes from no browser.
pub(super) fn is_known(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_v6 = |name: &str| name.parse::<Ipv6Addr>().is_ok();
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    host.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || bracketed.is_some_and(is_v6)
        // A dot at the end marks a whole name.
        || names.iter().any(|it| it.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_local_and_names_are_not() {
        for host in ["", "127.0.0.1", "127.0.0.1:9180", "10.1.2.3:", "[::1]", "[::1]:9180"] {
            assert!(is_known(host, &[]), "{host:?}");
        }
        for host in ["localhost", "LOCALHOST:9180"] {
            assert!(is_known(host, &[]), "{host:?}");
        }
        let names =
            ["evil.example", "evil.example:9180", "localhost.evil.example", "127.0.0.1.nip.io"];
        for host in names {
            assert!(!is_known(host, &[]), "{host:?}");
        }
        for host in
            [":", "[]", "[127.0.0.1]", "[::1", "127.0.0.1:9180:1", "localhost:x", "2130706433"]
        {
            assert!(!is_known(host, &[]), "{host:?}");
        }
    }

    #[test]
    fn names_that_are_configured_are_known_and_no_others() {
        let names = ["relay.example".to_owned(), "relay_1".to_owned()];
        for host in ["relay.example", "Relay.Example:9180", "relay.example.", "relay_1:80"] {
            assert!(is_known(host, &names), "{host:?}");
        }
        for host in [
            "example",
            "evil.relay.example",
            "relay.example.evil",
            "relay.example..",
            "relay_2",
            ".",
        ] {
            assert!(!is_known(host, &names), "{host:?}");
        }
    }
}
