//! Limits that hold over all workers: on connections, on the share of one address, and on its guesses.
//!
//! `connections` asks for each accepted socket, `connection` for each request, and so do the routes. This file knows
//! the keys of the configuration, where 0 means no limit; the segment holds what each address has.

use super::origin::Remote;
use crate::api::{Answer, RequestInfo};
use crate::http::Status;
use crate::relay::{Cx, Env};
use crate::session::{Limited, network};
use crate::tally::{Limit, Tally};
use shm::{HeldPermits, Quota, Quotas};
use std::net::IpAddr;

/// The reason why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// The relay has as many connections as it may.
    Full,
    /// The client has as many connections as one address may.
    TooMany,
}

impl TurnedAway {
    /// The reason in words.
    pub(super) fn why(self) -> (Status, &'static str) {
        match self {
            Self::Full => (Status::Unavailable, "too many connections"),
            Self::TooMany => (Status::TooManyRequests, "too many connections from this address"),
        }
    }

    /// The answer to its client.
    pub(super) fn answer(self, info: &RequestInfo) -> Answer {
        let (status, text) = self.why();
        Answer::error(status, text, info)
    }
}

/// The permits of one connection. They belong to the client of its request; while only a proxy is known, there are
/// none.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// The client's network, and its permits.
    counted: Option<(IpAddr, HeldPermits)>,
}

impl Admission {
    /// Admits a new connection of `remote`.
    pub(super) fn new(cx: Cx<'_>, remote: Remote) -> Result<Self, TurnedAway> {
        let env = cx.env;
        if env.open_connections() >= env.config.limits.connections_max {
            env.count(Tally::Limit(Limit::Connections));
            return Err(TurnedAway::Full);
        }
        let mut admission = Self::default();
        if !remote.is_proxy {
            admission.count_for(cx, remote.address)?;
        }
        Ok(admission)
    }

    /// The network that the connection counts for, by its first address.
    pub(super) fn counts_for(&self) -> Option<IpAddr> {
        self.counted.as_ref().map(|(network, _)| *network)
    }

    /// Counts the connection for `client`, and no longer for another client.
    pub(super) fn count_for(
        &mut self,
        Cx { env, now_ms }: Cx<'_>,
        client: IpAddr,
    ) -> Result<(), TurnedAway> {
        let network = network(client);
        if self.counted.as_ref().is_some_and(|(counted, _)| *counted == network) {
            return Ok(());
        }
        self.give_back(env);
        let limit = env.config.limits.connections_per_address_max;
        let quotas = quotas(env, Limited::Connections, client, limit);
        let permits = env.segment.permits();
        let held = permits.take_each(env.shared(), quotas, env.owner, now_ms);
        let Some(held) = held else {
            env.count(Tally::Limit(Limit::ConnectionsPerAddress));
            return Err(TurnedAway::TooMany);
        };
        self.counted = Some((network, held));
        Ok(())
    }

    /// Counts the connection for no client any more.
    pub(super) fn give_back(&mut self, env: &Env) {
        if let Some((_, held)) = self.counted.take()
            && let Err(refusal) = env.segment.permits().give_back_each(held)
        {
            tracing::error!(%refusal, "a permit was lost: the table of permits is damaged");
        }
    }
}

/// The number of sessions that `client`, and its wider network, may have.
pub(super) fn sessions_of(env: &Env, client: IpAddr) -> Quotas {
    quotas(env, Limited::Sessions, client, env.config.limits.sessions_per_address_max)
}

/// Counts that `client` has named an unknown key, or brought a wrong token, as `what` says. `false`: the client has
/// done so too often. The wider network comes first: guesses beyond its share then count in no address's words.
pub(super) fn may_guess(Cx { env, now_ms }: Cx<'_>, what: Limited, client: IpAddr) -> bool {
    counts(env, what, client, env.config.limits.unknown_keys_per_second_max, now_ms)
}

/// Counts that `client` has named a nameplate, whether it is a session's or not. `false`: the client has done so too often.
pub(super) fn may_name(Cx { env, now_ms }: Cx<'_>, client: IpAddr) -> bool {
    let limit = env.config.limits.nameplates_per_minute_max;
    // The words count by the second of a time: here of a time in which each second takes a minute.
    counts(env, Limited::Nameplates, client, limit, now_ms / 60)
}

/// Counts one more of `what` in the second of `time_ms`, unless `client` or its wider network has its `limit`.
fn counts(env: &Env, what: Limited, client: IpAddr, limit: u32, time_ms: u64) -> bool {
    let counts = |Quota { digest, most }: Quota| env.segment.guesses().count(digest, most, time_ms);
    quotas(env, what, client, limit).into_iter().rev().flatten().all(counts)
}

/// Whether `client` itself has brought as many wrong tokens in this second as it may.
pub(super) fn has_guessed_enough(Cx { env, now_ms }: Cx<'_>, client: IpAddr) -> bool {
    let limit = env.config.limits.unknown_keys_per_second_max;
    let is_spent =
        |Quota { digest, most }: Quota| env.segment.guesses().is_spent(digest, most, now_ms);
    let [own, _] = quotas(env, Limited::Tokens, client, limit);
    own.is_some_and(is_spent)
}

/// Quotas for `client` and its wider network. A `most` of 0 means no limit.
fn quotas(env: &Env, limited: Limited, client: IpAddr, most: u32) -> Quotas {
    if most == 0 {
        return [None; 2];
    }
    let wide_most = most.saturating_mul(env.config.limits.wide_network_factor);
    let wide = env.addresses.limited_widely(limited, client);
    let narrow = Quota { digest: env.addresses.limited(limited, client), most };
    [Some(narrow), wide.map(|digest| Quota { digest, most: wide_most })]
}
