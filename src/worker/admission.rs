//! Fair limits: what one address may have at once, over all workers, and how often it may guess.
//!
//! Called by `connections` for each accepted socket, by `connection` for each request, and by the
//! routes. The counting is the segment's; here stand the keys of the configuration, of which 0 means
//! no limit. Whoever has as much as it may is answered `429`.

use crate::relay::Relay;
use crate::session::{Limited, network};
use shm::{Permit, Quota};
use std::net::IpAddr;

/// What an address is told that has as many connections as it may.
pub(super) const TOO_MANY_CONNECTIONS: &str = "too many connections from this address";

/// Whom a connection counts for.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The network, and its permit.
    counted: Option<(IpAddr, Permit)>,
}

impl Admission {
    /// Lets the connection count for `client`, and for nobody else any more. `false`: that one has as
    /// many as it may.
    pub(super) fn count_for(&mut self, relay: &Relay, client: IpAddr, now_ms: u64) -> bool {
        let network = network(client);
        if self.counted.as_ref().is_some_and(|(counted, _)| *counted == network) {
            return true;
        }
        self.release(relay);
        let limit = relay.config.limits.connections_per_address_max;
        let Some(quota) = quota(relay, Limited::Connections, client, limit) else { return true };
        let permits = relay.segment.permits();
        self.counted = permits
            .take(relay.shared(), quota, relay.owner, now_ms)
            .map(|permit| (network, permit));
        self.counted.is_some()
    }

    /// Lets the connection count for nobody.
    pub(super) fn release(&mut self, relay: &Relay) {
        if let Some((_, permit)) = self.counted.take()
            && let Err(refusal) = relay.segment.permits().give_back(permit)
        {
            tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
        }
    }
}

/// How many sessions `client` may have; `None`: any number.
pub(super) fn sessions_of(relay: &Relay, client: IpAddr) -> Option<Quota> {
    quota(relay, Limited::Sessions, client, relay.config.limits.sessions_per_address_max)
}

/// Notes that `client` has named an unknown key. `false`: it has done so too often.
pub(super) fn may_guess(relay: &Relay, client: IpAddr, now_ms: u64) -> bool {
    let limit = relay.config.limits.unknown_keys_per_second_max;
    quota(relay, Limited::Guesses, client, limit)
        .is_none_or(|Quota { digest, most }| relay.segment.guesses().count(digest, most, now_ms))
}

fn quota(relay: &Relay, limited: Limited, client: IpAddr, most: u32) -> Option<Quota> {
    (most > 0).then(|| Quota { digest: relay.addresses.limited(limited, client), most })
}
