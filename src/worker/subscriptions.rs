//! The connections of this worker that hear a session's bell.
//!
//! `connections` keeps one subscription for each connection that holds a place in a session, or claims one, and gives
//! each of them a turn when the session has news. Invariant: a connection has at most one subscription, and its
//! transaction names it.

use std::collections::BTreeSet;

/// The way in which one connection hears a session's bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    slot: u32,
    part: Part,
}

/// The connection's relation to the session. The order is that of the set: the holders of a slot stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// The connection holds a place.
    Holder,
    /// The connection claims a place that another holds.
    Claimant,
}

impl Subscription {
    /// The subscription of a connection that holds a place in session `slot`.
    pub(super) fn holder(slot: u32) -> Self {
        Self { slot, part: Part::Holder }
    }

    /// The subscription of a connection that claims a place in session `slot`.
    pub(super) fn claimant(slot: u32) -> Self {
        Self { slot, part: Part::Claimant }
    }
}

/// The subscriptions of all connections, by slab key.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeSet<(u32, Part, usize)>);

impl Subscriptions {
    /// Replaces the subscription `from` of connection `key` by `to`.
    pub(super) fn replace(
        &mut self,
        key: usize,
        from: Option<Subscription>,
        to: Option<Subscription>,
    ) {
        if from == to {
            return;
        }
        if let Some(Subscription { slot, part }) = from {
            self.0.remove(&(slot, part, key));
        }
        if let Some(Subscription { slot, part }) = to {
            self.0.insert((slot, part, key));
        }
    }

    /// The first connection from key `from` on that holds a place in session `slot`.
    pub(super) fn next_holder(&self, slot: u32, from: usize) -> Option<usize> {
        let rest = (slot, Part::Holder, from)..=(slot, Part::Holder, usize::MAX);
        self.0.range(rest).next().map(|(_, _, key)| *key)
    }

    /// The connections that claim a place in session `slot`.
    pub(super) fn claimants(&self, slot: u32) -> impl Iterator<Item = usize> {
        let all = (slot, Part::Claimant, 0)..=(slot, Part::Claimant, usize::MAX);
        self.0.range(all).map(|(_, _, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(subscriptions: &Subscriptions, slot: u32) -> Vec<usize> {
        let mut from = 0;
        std::iter::from_fn(|| {
            let key = subscriptions.next_holder(slot, from)?;
            from = key + 1;
            Some(key)
        })
        .collect()
    }

    fn claimants(subscriptions: &Subscriptions, slot: u32) -> Vec<usize> {
        subscriptions.claimants(slot).collect()
    }

    #[test]
    fn a_bell_reaches_the_connections_of_its_session_alone() {
        let mut subscriptions = Subscriptions::default();
        for (key, slot) in [(7, 1), (3, 1), (usize::MAX - 1, 1), (4, 2)] {
            subscriptions.replace(key, None, Some(Subscription::holder(slot)));
        }
        subscriptions.replace(5, None, Some(Subscription::claimant(1)));
        assert_eq!(holders(&subscriptions, 1), [3, 7, usize::MAX - 1]);
        assert_eq!(claimants(&subscriptions, 1), [5]);
        assert_eq!(holders(&subscriptions, 2), [4]);
        assert!(claimants(&subscriptions, 2).is_empty());
        for slot in [0, 3, u32::MAX] {
            assert!(holders(&subscriptions, slot).is_empty());
        }
    }

    #[test]
    fn a_claimant_becomes_a_holder_and_then_hears_nothing() {
        let (claims, holds) = (Subscription::claimant(1), Subscription::holder(1));
        let mut subscriptions = Subscriptions::default();
        subscriptions.replace(3, None, Some(claims));
        subscriptions.replace(3, Some(claims), Some(holds));
        assert_eq!((holders(&subscriptions, 1), claimants(&subscriptions, 1)), (vec![3], vec![]));
        subscriptions.replace(3, Some(holds), Some(holds));
        assert_eq!(holders(&subscriptions, 1), [3]);
        subscriptions.replace(3, Some(holds), None);
        assert!(subscriptions.0.is_empty());
    }
}
