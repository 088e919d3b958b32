//! `X-Forwarded-For`, `-Proto` and `-Host`: what a trusted proxy says of its client.
//!
//! The worker calls this for requests of trusted proxies. Each hop appends on the right, so only the
//! right end comes from a proxy that is known. Invariant: a trusted proxy has written the
//! client's address, or it is the remote's own.

use core::net::{IpAddr, SocketAddr};

use super::Networks;

/// The scheme in which a client speaks to the first proxy, or to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// Reads a name; `None` for any but the two.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let schemes = [Self::Http, Self::Https];
        schemes.into_iter().find(|scheme| name.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
    }

    /// The name, as a URL begins with it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The client behind `peer`, a trusted proxy. Reads the lists of `fields` as one list, from the right,
/// and returns the first address that is not a trusted proxy's. An element that is no address ends the
/// search at the last address before it.
pub fn client<'f>(
    peer: IpAddr,
    fields: impl Iterator<Item = &'f [u8]>,
    trusted: &Networks,
) -> IpAddr {
    let (mut client, mut chain_begins) = (peer, true);
    for element in fields.flat_map(elements) {
        match address(element) {
            // A trusted proxy speaks for the client on its left, if there is one.
            Some(address) if trusted.contains(address) && !chain_begins => {}
            Some(address) => (client, chain_begins) = (address, false),
            None => (client, chain_begins) = (peer, true),
        }
    }
    client
}

/// The last element of the lists of `fields`, which are one list: what the nearest proxy says.
pub fn last_element<'f>(fields: impl Iterator<Item = &'f [u8]>) -> Option<&'f [u8]> {
    fields.flat_map(elements).last()
}

/// The elements of a list; empty ones do not count (RFC 9110, section 5.6.1.2).
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// An address, bare or with a port: `192.0.2.1`, `192.0.2.1:80`, `::1`, `[::1]`, `[::1]:80`.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    // A zone means something on the machine that wrote it, and nowhere else.
    if text.contains('%') {
        return None;
    }
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bracketed {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::address::Network;
    use proptest::prelude::*;

    const PEER: &str = "10.0.0.1";

    fn trusted() -> Networks {
        ["10.0.0.0/8", "fd00::/8"].into_iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn found(fields: &[&str]) -> String {
        let fields = fields.iter().map(|field| field.as_bytes());
        client(PEER.parse().unwrap(), fields, &trusted()).to_string()
    }

    #[test]
    fn the_first_untrusted_from_the_right_is_the_client() {
        assert_eq!(found(&[]), PEER);
        assert_eq!(found(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(found(&["203.0.113.5, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(found(&["192.0.2.1, 10.0.0.2, 10.0.0.3"]), "192.0.2.1");
        assert_eq!(found(&["192.0.2.1, 10.0.0.9, 192.0.2.2 ,10.0.0.2"]), "192.0.2.2");
        assert_eq!(found(&["192.0.2.1,fd00::7"]), "192.0.2.1");
    }

    #[test]
    fn where_all_are_trusted_the_farthest_is_the_client() {
        assert_eq!(found(&["10.0.0.4, 10.0.0.3"]), "10.0.0.4");
        assert_eq!(found(&["10.0.0.4"]), "10.0.0.4");
    }

    #[test]
    fn several_fields_are_one_list() {
        assert_eq!(found(&["192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(found(&["192.0.2.1", "192.0.2.2, 10.0.0.2", "10.0.0.3"]), "192.0.2.2");
        assert_eq!(found(&["192.0.2.1", "", " , "]), "192.0.2.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search_at_the_last_that_was() {
        for junk in [
            "unknown",
            "_hidden",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "host.example",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "[::1",
            "::1]",
            "[1.2.3.4]",
            "[1.2.3.4]:80",
            "fe80::1%eth0",
            "[fe80::1%2]:80",
            "\"1.2.3.4\"",
            "1.2.3.4 5.6.7.8",
            "[]",
            ":80",
            "\u{fc}",
        ] {
            assert_eq!(found(&[&format!("192.0.2.1, {junk}, 10.0.0.3, 10.0.0.2")]), "10.0.0.3");
            assert_eq!(found(&[&format!("192.0.2.1, {junk}")]), PEER, "{junk:?}");
            assert_eq!(found(&[&format!("{junk}, 192.0.2.1, 10.0.0.2")]), "192.0.2.1", "{junk:?}");
        }
    }

    #[test]
    fn an_address_may_have_brackets_and_a_port() {
        for (text, address) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
            ("2001:db8::192.0.2.1", "2001:db8::c000:201"),
        ] {
            assert_eq!(found(&[text]), address);
        }
        // In brackets, with a port or mapped, a trusted proxy is one all the same.
        let proxies = "192.0.2.1, 10.0.0.4:81, [fd00::1]:8, ::ffff:10.0.0.2, [fd00::2]";
        assert_eq!(found(&[proxies]), "192.0.2.1");
    }

    #[test]
    fn the_last_element_is_the_nearest_proxys() {
        let last = |fields: &[&'static str]| {
            let element = last_element(fields.iter().map(|field| field.as_bytes()))?;
            Some(std::str::from_utf8(element).unwrap())
        };
        assert_eq!(last(&["https"]), Some("https"));
        assert_eq!(last(&["https, http "]), Some("http"));
        assert_eq!(last(&["https", "a,http", " ,"]), Some("http"));
        assert_eq!(last(&["", ","]), None);
        assert_eq!(last(&[]), None);
    }

    #[test]
    fn a_scheme_is_one_of_two() {
        assert_eq!(Scheme::parse(b"http"), Some(Scheme::Http));
        assert_eq!(Scheme::parse(b"HTTPS"), Some(Scheme::Https));
        for name in [&b""[..], b"ws", b"https:", b"https ", b"httpss", b"xhttps"] {
            assert_eq!(Scheme::parse(name), None);
        }
    }

    /// The rule as it is told: from the right, element by element.
    fn walked(elements: &[&str]) -> IpAddr {
        let mut client: IpAddr = PEER.parse().unwrap();
        for element in elements.iter().rev() {
            let Ok(address) = element.parse::<IpAddr>() else { break };
            client = address;
            if !trusted().contains(address) {
                break;
            }
        }
        client
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_the_walk_finds(
            elements in proptest::collection::vec(
                proptest::sample::select(vec![
                    "192.0.2.1", "192.0.2.2", "2001:db8::1", "10.0.0.2", "10.0.0.3", "fd00::1", "junk",
                ]),
                0..9,
            ),
            cut in 0_usize..9,
        ) {
            let (left, right) = elements.split_at(cut.min(elements.len()));
            let fields = [left.join(","), right.join(" , ")];
            let fields = fields.iter().map(|field| field.as_bytes());
            let found = client(PEER.parse().unwrap(), fields, &trusted());
            prop_assert_eq!(found, walked(&elements));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(fields: Vec<Vec<u8>>) {
            let fields = || fields.iter().map(Vec::as_slice);
            let _ = client(PEER.parse().unwrap(), fields(), &trusted());
            prop_assert!(last_element(fields()).is_none_or(|last| !last.is_empty()));
        }
    }
}
