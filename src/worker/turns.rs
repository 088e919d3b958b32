//! Whose turn it is: transfers each in every round, and all others by their address, as far as a round goes.
//!
//! Called by `Connections`. A transfer's turn is bounded by bytes. What others ask for costs what it costs: a handshake,
//! a session, a refusal. So a round spends so much time on those together and leaves the rest to the next one, and of
//! those that have to wait each address has a turn before any has two: a thousand connections of one client keep
//! another waiting no longer than one does.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Bits of an IPv6 address that are one client's here: a site's, which has 65,536 networks to come from.
const SITE_BITS: u32 = 48;

/// Who shares turns: an IPv4 address, or an IPv6 network of [`SITE_BITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker(u128);

impl Asker {
    pub(super) fn new(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            // Beside every IPv6 network, of which none has the lowest bits.
            IpAddr::V4(v4) => u128::from(v4.to_bits()) | 1 << 32,
            IpAddr::V6(v6) => v6.to_bits() & !(u128::MAX >> SITE_BITS),
        })
    }
}

/// A connection that has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) key: usize,
    /// No other ticket has it, so that one which was overtaken is known.
    pub(super) number: u64,
}

/// All that have something to do.
#[derive(Debug, Default)]
pub(super) struct Turns {
    transfers: VecDeque<Ticket>,
    /// By address, those that came first in front. None is empty.
    askers: BTreeMap<Asker, VecDeque<Ticket>>,
    /// The addresses in the order in which they have a turn.
    order: VecDeque<Asker>,
    asking: usize,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.transfers.is_empty() && self.asking == 0
    }

    /// How many transfers have something to do.
    pub(super) fn transfers(&self) -> usize {
        self.transfers.len()
    }

    /// How many others have.
    pub(super) fn asking(&self) -> usize {
        self.asking
    }

    /// Adds a transfer's connection.
    pub(super) fn add_transfer(&mut self, ticket: Ticket) {
        self.transfers.push_back(ticket);
    }

    /// Adds another connection, which is of `asker`.
    pub(super) fn add_asking(&mut self, asker: Asker, ticket: Ticket) {
        self.asking += 1;
        let tickets = self.askers.entry(asker).or_default();
        if tickets.is_empty() {
            self.order.push_back(asker);
        }
        tickets.push_back(ticket);
    }

    pub(super) fn next_transfer(&mut self) -> Option<Ticket> {
        self.transfers.pop_front()
    }

    pub(super) fn next_asking(&mut self) -> Option<Ticket> {
        let asker = self.order.pop_front()?;
        let tickets = self.askers.get_mut(&asker)?;
        let ticket = tickets.pop_front()?;
        if tickets.is_empty() {
            self.askers.remove(&asker);
        } else {
            self.order.push_back(asker);
        }
        self.asking -= 1;
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
        turns.next_asking().map(|ticket| ticket.key)
    }

    fn rest(turns: &mut Turns) -> Vec<usize> {
        std::iter::from_fn(|| next(turns)).collect()
    }

    #[test]
    fn each_address_has_a_turn_before_any_has_two() {
        let mut turns = Turns::default();
        let (greedy, modest) = (asker("192.0.2.1"), asker("192.0.2.2"));
        (0..1000).for_each(|key| turns.add_asking(greedy, of(key)));
        assert_eq!(next(&mut turns), Some(0));
        turns.add_asking(modest, of(5000));
        turns.add_asking(modest, of(5001));
        let order: Vec<_> = (0..4).filter_map(|_| next(&mut turns)).collect();
        assert_eq!(order, [1, 5000, 2, 5001]);
        // Who comes back is behind those of its address that wait.
        turns.add_asking(greedy, of(1));
        assert_eq!((turns.asking(), rest(&mut turns).last()), (998, Some(&1)));
        assert!(turns.is_empty() && turns.askers.is_empty() && turns.order.is_empty());
    }

    #[test]
    fn a_transfer_waits_for_nobody_that_asks() {
        let mut turns = Turns::default();
        turns.add_asking(asker("192.0.2.1"), of(1));
        turns.add_transfer(of(2));
        turns.add_transfer(of(3));
        assert_eq!((turns.transfers(), turns.asking()), (2, 1));
        assert_eq!([turns.next_transfer(), turns.next_transfer()], [2, 3].map(|key| Some(of(key))));
        assert_eq!((turns.next_transfer(), turns.next_asking()), (None, Some(of(1))));
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
