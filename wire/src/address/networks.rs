//! The list of trusted proxies: networks and single addresses.
//!
//! The configuration reads it from `trusted_proxies`. Invariant: addresses are compared by meaning, so
//! an IPv4-mapped one is found in an IPv4 network, however either was written.

use core::fmt;
use core::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Leading bits that all IPv4-mapped IPv6 addresses share (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// A network; a single address is one with nothing else in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8`, `192.0.2.1` or `::1`. Bits after the prefix must be zero: an
    /// operator who sets one means something other than the whole network.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = address.parse().ok()?;
        let net = match bits {
            Some(bits) => IpNet::new(address, decimal(bits)?).ok()?,
            None => IpNet::from(address),
        };
        (net.addr() == net.network()).then_some(Self(unmapped(net)))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// A list of networks, searched one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether one of them holds `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, as they were listed.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.0.iter()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// Reads one to three digits, without a sign.
fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The IPv4 network that a network of IPv4-mapped addresses means.
fn unmapped(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => {
            let bits = net.prefix_len().checked_sub(MAPPED_BITS);
            bits.and_then(|bits| Ipv4Net::new(net.addr().to_ipv4_mapped()?, bits).ok())
        }
        IpNet::V4(_) => None,
    };
    mapped.map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn holds(texts: &[&str], address: &str) -> bool {
        networks(texts).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        assert!(holds(&["10.0.0.0/8"], "10.0.0.0") && holds(&["10.0.0.0/8"], "10.255.255.255"));
        assert!(!holds(&["10.0.0.0/8"], "11.0.0.0") && !holds(&["10.0.0.0/8"], "9.255.255.255"));
        assert!(holds(&["192.0.2.7"], "192.0.2.7") && !holds(&["192.0.2.7"], "192.0.2.6"));
        assert!(holds(&["::1"], "::1") && !holds(&["::1"], "::2") && !holds(&["::1"], "0.0.0.1"));
        assert!(holds(&["fd00::/8"], "fdff::1") && !holds(&["fd00::/8"], "fe00::1"));
        assert!(holds(&["::1", "10.0.0.0/8"], "10.1.1.1"));
        assert!(holds(&["0.0.0.0/0"], "203.0.113.9") && !holds(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(holds(&["::/0"], "2001:db8::1") && !holds(&["::/0"], "203.0.113.9"));
        assert!(!holds(&[], "127.0.0.1"));
    }

    #[test]
    fn a_mapped_address_is_the_address_it_means() {
        assert!(holds(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(holds(&["::ffff:10.0.0.0/104"], "10.1.2.3"));
        assert!(holds(&["::ffff:10.1.2.3"], "10.1.2.3"));
        assert_eq!(Network::parse("::ffff:a00:0/104"), Network::parse("10.0.0.0/8"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0",
            "10.0.0.1/8",
            "10.0.0/8",
            "010.0.0.0/8",
            " 10.0.0.0/8",
            "::1/64",
            "fe80::/129",
            "[::1]",
            "fe80::1%eth0",
            "localhost",
            "10.0.0.0 /8",
            "10.0.0.0/999",
            "::ffff:10.0.0.1/104",
        ] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_single_address_is_written_without_its_prefix() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("0::1", "::1"),
            ("fd00::/8", "fd00::/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(address: IpAddr, bits in 0_u8..=128) {
            let net = IpNet::new(address, bits.min(if address.is_ipv4() { 32 } else { 128 }));
            let network = Network(unmapped(net.unwrap().trunc()));
            prop_assert_eq!(Network::parse(&network.to_string()), Some(network));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9a-f.:/%]{0,24}") {
            let _ = Network::parse(&text);
        }
    }
}
