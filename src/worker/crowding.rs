//! The choice of a connection that gives way when the relay has all connections that it may have and one more comes. It
//! is one of the network that has the most, among those that were looked at, and it gives way only to a network that
//! has fewer.
//!
//! `connections` calls this. A worker looks only at its own connections, at a bounded number of them, and continues
//! after them the next time.

use super::transaction::Standstill;
use crate::session::wide_network;
use std::net::IpAddr;

/// Connections that are looked at, at most, for each new connection.
pub(super) const LOOKED_AT_MAX: usize = 256;
/// A network must have at least so many more connections than the newcomer's to lose one to it.
const MORE_MIN: usize = 2;

/// A connection that was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) key: usize,
    /// The client that it counts for.
    pub(super) client: IpAddr,
    /// `None`: it cannot give way.
    pub(super) standstill: Option<Standstill>,
    /// The time when it is driven anyway.
    pub(super) deadline_ms: u64,
}

/// Chooses the connection that gives way to one more of `newcomer`.
pub(super) fn choose(mut seen: Vec<Seen>, newcomer: IpAddr) -> Option<usize> {
    seen.sort_unstable_by_key(|it| wide_network(it.client));
    let is_same = |one: &Seen, next: &Seen| wide_network(one.client) == wide_network(next.client);
    let networks = || seen.chunk_by(is_same);
    let can_yield = |network: &&[Seen]| network.iter().any(|it| it.standstill.is_some());
    let largest = networks().filter(can_yield).max_by_key(|network| network.len())?;
    let newcomer = wide_network(newcomer);
    let of_newcomer =
        |network: &&[Seen]| network.first().is_some_and(|it| wide_network(it.client) == newcomer);
    let own = networks().find(of_newcomer).map_or(0, <[Seen]>::len);
    if largest.len() < own + MORE_MIN {
        return None;
    }
    let can = largest.iter().filter_map(|it| Some((it.standstill?, it.deadline_ms, it.key)));
    can.min().map(|(_, _, key)| key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Standstill::{Idle, Waiting};
    use super::*;

    fn seen(key: usize, client: &str, standstill: Option<Standstill>, deadline_ms: u64) -> Seen {
        Seen { key, client: client.parse().unwrap(), standstill, deadline_ms }
    }

    fn choose_for(newcomer: &str, seen: &[Seen]) -> Option<usize> {
        choose(seen.to_vec(), newcomer.parse().unwrap())
    }

    #[test]
    fn the_largest_loses_what_is_idle_and_over_soonest() {
        let all = [
            seen(1, "192.0.2.1", Some(Waiting), 1),
            seen(2, "192.0.2.9", Some(Idle), 1),
            seen(3, "192.0.2.1", Some(Idle), 5),
            seen(4, "192.0.2.1", Some(Idle), 4),
            seen(5, "192.0.2.1", None, 0),
        ];
        assert_eq!(choose_for("192.0.2.7", &all), Some(4));
        assert_eq!(choose_for("192.0.2.9", &all), Some(4));
        assert_eq!(choose_for("192.0.2.1", &all), None);
        assert_eq!(choose_for("192.0.2.7", &all[..1]), None, "it has hardly more");
        assert_eq!(choose_for("192.0.2.7", &[all[4], all[0]]), Some(1));
        assert_eq!(choose_for("192.0.2.7", &[all[4], all[4]]), None, "it is served");
        let others = [2, 3].map(|key| seen(key, "192.0.2.2", Some(Idle), 9));
        let with_others = [&[all[4]; 3], &others[..]].concat();
        assert_eq!(choose_for("192.0.2.7", &with_others), Some(2), "the largest that can");
    }

    #[test]
    fn networks_of_one_site_count_as_one() {
        let all: Vec<_> =
            (0..3).map(|n| seen(n, &format!("2001:db8:7:{n}::"), Some(Idle), 9)).collect();
        assert_eq!(choose_for("2001:db8:7:9::1", &all), None);
        assert_eq!(choose_for("2001:db8:8::1", &all), Some(0));
    }
}
