//! Whom the admin listener answers over TCP, as far as the request tells. Called by [`super::Admin`].
//!
//! A page in a browser of whoever runs the relay may give its own name this machine's address (DNS rebinding), and
//! would then be let read what is answered. Its requests name it in `Host`. So nobody is answered who asks by a
//! name, but for `localhost`, which is nobody's to give away (RFC 6761, section 6.3), and the names that are
//! configured. What is asked by an address the browser keeps from pages of other origins.

use std::net::{IpAddr, Ipv6Addr};

/// What somebody else is told.
pub(super) const WHY: &str =
    "ask by an IP address, as localhost or by a name in admin.hosts, as no other is answered here";

/// Whether `host`, with or without a port, is an IP address, `localhost` or one of `names`, which are in small letters;
/// none at all, as HTTP/1.0 may have it, is no browser's.
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
        // A dot at the end says that the name is whole.
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
