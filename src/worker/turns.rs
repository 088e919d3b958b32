//! The order of turns, by address: one for all transfers, and one for all connections that ask for something.
//!
//! `Connections` calls this. No turn has a fixed price: it may be a handshake, a refusal, or a body of tiny chunks. So
//! a round spends a fixed time on each of the two orders, and leaves the rest to the next round. Of the connections
//! that wait, each address has one turn before any address has two: a thousand connections of one client delay another
//! client no more than one connection does.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Addresses that keep their room though none of their connections has something to do.
const KEPT_MAX: usize = 256;

/// Bits of an IPv6 address that name one client here: a site, which has 65,536 networks to come from.
const SITE_BITS: u32 = 48;

/// The client that shares turns: an IPv4 address, or an IPv6 network of [`SITE_BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker(u128);

impl Asker {
    pub(super) fn new(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            // No IPv6 network has one of the lowest bits, so this meets none of them.
            IpAddr::V4(v4) => u128::from(v4.to_bits()) | 1 << 32,
            IpAddr::V6(v6) => v6.to_bits() & !(u128::MAX >> SITE_BITS),
        })
    }
}

/// A connection that has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) key: usize,
    /// A number that no other ticket has: it tells a void ticket from the valid one.
    pub(super) number: u64,
}

/// Connections that have something to do.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The tickets of each address, the oldest in front.
    askers: BTreeMap<Asker, VecDeque<Ticket>>,
    /// Addresses with something to do, in the order of their turns.
    order: VecDeque<Asker>,
    count: usize,
}

impl Turns {
    /// The number of connections that have something to do.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds a connection, which is of `asker`.
    pub(super) fn add(&mut self, asker: Asker, ticket: Ticket) {
        self.count += 1;
        let tickets = self.askers.entry(asker).or_default();
        if tickets.is_empty() {
            self.order.push_back(asker);
        }
        tickets.push_back(ticket);
    }

    /// Takes out the next ticket.
    pub(super) fn next(&mut self) -> Option<Ticket> {
        let asker = self.order.pop_front()?;
        let tickets = self.askers.get_mut(&asker)?;
        let ticket = tickets.pop_front()?;
        if !tickets.is_empty() {
            self.order.push_back(asker);
        } else if self.askers.len() > KEPT_MAX {
            self.askers.remove(&asker);
        }
        self.count -= 1;
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asker(text: &str) -> Asker {
        Asker::new(text.parse().unwrap())
    }

    fn of(key: usize) -> Ticket {
        Ticket { key, number: 0 }
    }

    fn next(turns: &mut Turns) -> Option<usize> {
        turns.next().map(|ticket| ticket.key)
    }

    fn rest(turns: &mut Turns) -> Vec<usize> {
        std::iter::from_fn(|| next(turns)).collect()
    }

    #[test]
    fn each_address_has_a_turn_before_any_has_two() {
        let mut turns = Turns::default();
        let (greedy, modest) = (asker("192.0.2.1"), asker("192.0.2.2"));
        (0..1000).for_each(|key| turns.add(greedy, of(key)));
        assert_eq!(next(&mut turns), Some(0));
        turns.add(modest, of(5000));
        turns.add(modest, of(5001));
        let order: Vec<_> = (0..4).filter_map(|_| next(&mut turns)).collect();
        assert_eq!(order, [1, 5000, 2, 5001]);
        // A connection that comes back is behind the waiting ones of its address.
        turns.add(greedy, of(1));
        assert_eq!((turns.len(), rest(&mut turns).last()), (998, Some(&1)));
        assert_eq!((turns.len(), turns.order.len()), (0, 0));
    }

    #[test]
    fn no_room_is_kept_for_more_than_some_addresses() {
        let mut turns = Turns::default();
        (0..10_000).for_each(|key| {
            turns.add(asker(&format!("10.0.{}.{}", key / 256, key % 256)), of(key))
        });
        assert_eq!(rest(&mut turns).len(), 10_000);
        assert_eq!((turns.len(), turns.askers.len(), turns.order.len()), (0, KEPT_MAX, 0));
    }

    #[test]
    fn an_ipv6_site_is_one_client_and_every_ipv4_address() {
        assert_eq!(asker("2001:db8:1:2::3"), asker("2001:db8:1:ffff::"));
        assert_ne!(asker("2001:db8:1::"), asker("2001:db8:2::"));
        assert_ne!(asker("192.0.2.1"), asker("192.0.2.2"));
        assert_eq!(asker("192.0.2.1"), asker("::ffff:192.0.2.1"));
        assert_ne!(asker("0.0.0.0"), asker("::"));
    }
}
