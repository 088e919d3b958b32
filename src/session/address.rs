//! Addresses of clients as shared memory knows them: keyed digests, one for each purpose.
//!
//! The worker calls this. The master draws the key for each segment, and the key never leaves the segment: nobody outside
//! can tell where in a table an address ends up, or find another address that meets it there. An IPv4 address that is
//! written as an IPv6 address counts as the IPv4 address.

use shm::{Account, AddressTag, Name, SessionRef};
use std::net::{IpAddr, Ipv6Addr};

/// The things that an address has limits for. Digests for two of them have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Connections open at once.
    Connections,
    /// Sessions alive at once.
    Sessions,
    /// Unknown session keys named in a second.
    Guesses,
    /// Wrong tokens brought in a second.
    Tokens,
    /// Nameplates named in a minute.
    Nameplates,
    /// Bytes sent in a second.
    Bandwidth,
}

/// Makes the digests. The `Debug` form hides the key.
pub struct Addresses {
    key: [u8; blake3::KEY_LEN],
}

impl Addresses {
    /// Digests under `key`.
    #[must_use]
    pub fn new(key: [u8; blake3::KEY_LEN]) -> Self {
        Self { key }
    }

    /// The tag of `address` itself.
    #[must_use]
    pub fn exact(&self, address: IpAddr) -> AddressTag {
        AddressTag::of(self.digest(b'=', address.to_canonical()))
    }

    /// The digest of the network that `address` is limited with, as that of a file's sender. The digest is never 0.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> u64 {
        self.digest(b'f', network(address)).max(1)
    }

    /// The tag of `address` as the guest of session `at`, and of no other: the slot may serve another
    /// session by the time that the tag is stored.
    #[must_use]
    pub fn guest(&self, address: IpAddr, at: SessionRef) -> AddressTag {
        let session = u64::from(at.slot) << 32 | u64::from(at.issue_number);
        AddressTag::of(self.digest(b'=', address.to_canonical()) ^ session)
    }

    /// The account that pays for what `address` holds: its network's, and the wider network's around that.
    #[must_use]
    pub fn account(&self, address: IpAddr) -> Account {
        let part = |address| (self.digest(b'a', address) & 0xffff_ffff) as u32;
        Account::new(part(wide_network(address)), part(network(address)))
    }

    /// The digest by which `address` is limited. An IPv6 address shares its network's.
    #[must_use]
    pub fn limited(&self, limited: Limited, address: IpAddr) -> u64 {
        let purpose = match limited {
            Limited::Connections => b'c',
            Limited::Sessions => b's',
            Limited::Guesses => b'g',
            Limited::Tokens => b't',
            Limited::Nameplates => b'n',
            Limited::Bandwidth => b'b',
        };
        self.digest(purpose, network(address))
    }

    /// The digest by which the wider network of `address` is limited; `None` where that is the same.
    #[must_use]
    pub fn limited_widely(&self, limited: Limited, address: IpAddr) -> Option<u64> {
        let purpose = match limited {
            Limited::Connections => b'C',
            Limited::Sessions => b'S',
            Limited::Guesses => b'G',
            Limited::Tokens => b'T',
            Limited::Nameplates => b'N',
            Limited::Bandwidth => b'B',
        };
        let wide = wide_network(address);
        wide.is_ipv6().then(|| self.digest(purpose, wide))
    }

    /// The tag of the guest of session `at` that brings `mark`.
    #[must_use]
    pub fn marked_guest(&self, mark: &[u8], at: SessionRef) -> AddressTag {
        let [digest, _] = self.text_digest(b"mark", mark);
        AddressTag::of(digest ^ (u64::from(at.slot) << 32 | u64::from(at.issue_number)))
    }

    /// The name in shared memory of what clients call `text`. `purpose` keeps names of different kinds apart.
    #[must_use]
    pub fn name(&self, purpose: &[u8], text: &[u8]) -> Name {
        Name::of(self.text_digest(purpose, text))
    }

    fn text_digest(&self, purpose: &[u8], text: &[u8]) -> [u64; 2] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // Longer than what is digested of an address, so that no text is taken for one.
        hasher.update(b"idontstore: a text, for ").update(purpose).update(b": ").update(text);
        let digest = hasher.finalize();
        let (words, _) = digest.as_bytes().as_chunks::<8>();
        [0, 1].map(|at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
    }

    fn digest(&self, purpose: u8, address: IpAddr) -> u64 {
        // No canonical IPv6 address stands for an IPv4 address, so both kinds fit into one space.
        let octets = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let mut input = [0; 24];
        let (first, rest) = input.split_at_mut(octets.len());
        first.copy_from_slice(&octets);
        rest.fill(purpose);
        let digest = blake3::keyed_hash(&self.key, &input);
        digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Addresses(..)")
    }
}

/// The network that is limited as one: an IPv4 address, or the first address of an IPv6 network of 64 bits. A subscriber
/// has at least one such network.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

/// The wider network around that: an IPv4 address, or the first address of an IPv6 network of 48 bits. A site gets one
/// such network, with 65,536 networks of 64 bits in it (RFC 6177).
#[must_use]
pub fn wide_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv6_is_limited_by_its_network_and_ipv4_by_itself() {
        let addresses = Addresses::new([7; 32]);
        let limited = |text| addresses.limited(Limited::Connections, ip(text));
        assert_eq!(limited("2001:db8:1:2::1"), limited("2001:db8:1:2:ffff::2"));
        assert_ne!(limited("2001:db8:1:2::1"), limited("2001:db8:1:3::1"));
        assert_ne!(limited("192.0.2.1"), limited("192.0.2.2"));
        assert_eq!(limited("192.0.2.1"), limited("::ffff:192.0.2.1"));
        assert_eq!(network(ip("2001:db8:1:2::1")), ip("2001:db8:1:2::"));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn networks_of_one_site_have_accounts_of_their_own_and_one_in_common() {
        let addresses = Addresses::new([7; 32]);
        let account = |text| addresses.account(ip(text));
        let ours = account("2001:db8:1:2::1");
        assert_eq!(ours, account("2001:db8:1:2:ffff::2"));
        assert_ne!(ours, account("2001:db8:1:3::1"));
        assert_eq!(ours.wide(), account("2001:db8:1:3::1").wide());
        assert_ne!(ours.wide(), account("2001:db8:2:2::1").wide());
        assert_eq!(account("192.0.2.1"), account("::ffff:192.0.2.1"));
        assert_ne!(account("192.0.2.1").wide(), account("192.0.2.2").wide());
    }

    #[test]
    fn an_exact_digest_is_one_addresses() {
        let addresses = Addresses::new([7; 32]);
        let exact = |text| addresses.exact(ip(text));
        assert_ne!(exact("2001:db8:1:2::1"), exact("2001:db8:1:2::2"));
        assert_eq!(exact("192.0.2.1"), exact("::ffff:192.0.2.1"));
    }

    #[test]
    fn purposes_and_keys_have_nothing_in_common() {
        let address = ip("192.0.2.1");
        let digests = |key| {
            let addresses = Addresses::new([key; 32]);
            let limited = [
                Limited::Connections,
                Limited::Sessions,
                Limited::Guesses,
                Limited::Tokens,
                Limited::Bandwidth,
            ]
            .map(|limited| addresses.limited(limited, address));
            [vec![addresses.exact(address)], limited.map(AddressTag::of).to_vec()].concat()
        };
        let mut all = [digests(1), digests(2)].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 12);
        assert_eq!(format!("{:?}", Addresses::new([1; 32])), "Addresses(..)");
    }
}
