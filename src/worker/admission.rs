//! Who is let in: how many connections there may be, how much of everything one address may have, over
//! all workers, and how often it may guess.
//!
//! Called by `connections` for each accepted socket, by `connection` for each request, and by the
//! routes. Here stand the keys of the configuration, of which 0 means no limit; what an address has
//! stands in the segment.

use super::answer::{Answer, Asked};
use super::origin::Peer;
use crate::http::Status;
use crate::relay::Relay;
use crate::session::{Limited, network};
use crate::tally::{Limit, Tally};
use shm::{HeldPermits, Quota, Quotas};
use std::net::IpAddr;

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// There are as many as there may be.
    Full,
    /// Its client has as many as one address may have.
    TooMany,
}

impl TurnedAway {
    /// What its client is told.
    pub(super) fn answer(self, asked: &Asked) -> Answer {
        let (status, text) = match self {
            Self::Full => (Status::Unavailable, "too many connections"),
            Self::TooMany => (Status::TooManyRequests, "too many connections from this address"),
        };
        Answer::error(status, text, asked)
    }
}

/// A connection that was let in, and whom it counts for: the client of its request, or, as long as
/// only a proxy is known, nobody.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The client's network, and its permits.
    counted: Option<(IpAddr, HeldPermits)>,
}

impl Admission {
    /// Lets in a new connection of `peer`.
    pub(super) fn new(relay: &Relay, peer: Peer, now_ms: u64) -> Result<Self, TurnedAway> {
        if relay.open_connections() >= relay.config.limits.connections_max {
            relay.count(Tally::Limit(Limit::Connections));
            return Err(TurnedAway::Full);
        }
        let mut admission = Self::default();
        if !peer.is_proxy {
            admission.count_for(relay, peer.address, now_ms)?;
        }
        Ok(admission)
    }

    /// Whom the connection counts for: the first address of a network.
    pub(super) fn counts_for(&self) -> Option<IpAddr> {
        self.counted.as_ref().map(|(network, _)| *network)
    }

    /// Lets the connection count for `client`, and for nobody else any more.
    pub(super) fn count_for(
        &mut self,
        relay: &Relay,
        client: IpAddr,
        now_ms: u64,
    ) -> Result<(), TurnedAway> {
        let network = network(client);
        if self.counted.as_ref().is_some_and(|(counted, _)| *counted == network) {
            return Ok(());
        }
        self.release(relay);
        let limit = relay.config.limits.connections_per_address_max;
        let quotas = quotas(relay, Limited::Connections, client, limit);
        let permits = relay.segment.permits();
        let held = permits.take_each(relay.shared(), quotas, relay.owner, now_ms);
        let Some(held) = held else {
            relay.count(Tally::Limit(Limit::ConnectionsPerAddress));
            return Err(TurnedAway::TooMany);
        };
        self.counted = Some((network, held));
        Ok(())
    }

    /// Lets the connection count for nobody.
    pub(super) fn release(&mut self, relay: &Relay) {
        if let Some((_, held)) = self.counted.take()
            && let Err(refusal) = relay.segment.permits().give_back_each(held)
        {
            tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
        }
    }
}

/// How many sessions `client`, and its wider network, may have.
pub(super) fn sessions_of(relay: &Relay, client: IpAddr) -> Quotas {
    quotas(relay, Limited::Sessions, client, relay.config.limits.sessions_per_address_max)
}

/// Notes that `client` has named an unknown key, or brought a wrong token: `what` it is. `false`: it has done so too often.
/// Its wider network is asked first, so that nothing beyond that one's share counts in the words of many addresses.
pub(super) fn may_guess(relay: &Relay, what: Limited, client: IpAddr, now_ms: u64) -> bool {
    let limit = relay.config.limits.unknown_keys_per_second_max;
    let counts =
        |Quota { digest, most }: Quota| relay.segment.guesses().count(digest, most, now_ms);
    quotas(relay, what, client, limit).into_iter().rev().flatten().all(counts)
}

/// Whether `client` itself has brought as many wrong tokens in this second as it may.
pub(super) fn has_guessed_enough(relay: &Relay, client: IpAddr, now_ms: u64) -> bool {
    let limit = relay.config.limits.unknown_keys_per_second_max;
    let is_spent =
        |Quota { digest, most }: Quota| relay.segment.guesses().is_spent(digest, most, now_ms);
    let [own, _] = quotas(relay, Limited::Tokens, client, limit);
    own.is_some_and(is_spent)
}

/// No limit, where `most` is 0.
fn quotas(relay: &Relay, limited: Limited, client: IpAddr, most: u32) -> Quotas {
    if most == 0 {
        return [None; 2];
    }
    let wide_most = most.saturating_mul(relay.config.limits.wide_network_factor);
    let wide = relay.addresses.limited_widely(limited, client);
    let narrow = Quota { digest: relay.addresses.limited(limited, client), most };
    [Some(narrow), wide.map(|digest| Quota { digest, most: wide_most })]
}
