//! The addresses by which other machines may reach this one. Asked by the master when it has started; no packet is sent.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses of other machines (TEST-NET-1 of RFC 5737, and RFC 3849): the kernel chooses the address that it would
/// speak from.
const ELSEWHERE: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];
/// Any: nothing is sent there.
const PORT: u16 = 9;

/// Addresses of interfaces that are up, without loopback and link-local ones; first those that this machine speaks
/// from. Empty, where the system does not tell.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = ELSEWHERE.into_iter().filter_map(chosen).collect();
    for interface in getifaddrs().into_iter().flatten() {
        let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
        found.extend(interface.address.as_ref().and_then(ip).filter(|_| is_up));
    }
    let mut seen = Vec::new();
    found.retain(|address| {
        let is_new = is_reachable(*address) && !seen.contains(address);
        seen.push(*address);
        is_new
    });
    found
}

fn chosen((from, to): (IpAddr, IpAddr)) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

/// Whether others may use the address: it is no loopback, and needs no interface's name.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => !it.is_loopback() && !it.is_link_local() && !it.is_unspecified(),
        IpAddr::V6(it) => !it.is_loopback() && !it.is_unicast_link_local() && !it.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn only_addresses_that_others_can_use() {
        for (address, is_usable) in [
            ("192.168.1.5", true),
            ("2001:db8::5", true),
            ("fd00::5", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_reachable(address.parse().unwrap()), is_usable, "{address}");
        }
    }

    #[test]
    fn they_are_this_machines_and_each_is_told_once() {
        let found = addresses();
        for (index, address) in found.iter().enumerate() {
            assert!(!found[..index].contains(address), "{found:?}");
            TcpListener::bind(SocketAddr::new(*address, 0)).unwrap();
        }
    }
}
