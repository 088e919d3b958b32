//! Warns of a valid configuration that hardly means what it says. Called at a start and for `-t`; nothing is refused
//! for it.

use super::{Config, Tls};
use crate::sys::operator::ListenAddress;
use crate::tls::Credentials;
use shm::Share;
use std::time::SystemTime;

/// The smallest number of addresses, or IPv6 networks of 48 bits, that together may take everything: with fewer, one
/// can take what others need.
const ADDRESSES_MIN: usize = 4;

impl Config {
    /// A line each, for people.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let limits = &self.limits;
        let sessions = self.memory.geometry.sessions as usize;
        let shares = [
            self.seats(
                "connections",
                limits.connections_per_address_max,
                self.connections_possible,
            ),
            self.seats("sessions", limits.sessions_per_address_max, sessions),
            buffers("chunks", limits.chunks_per_address_max),
            buffers("pipes", limits.pipes_per_address_max),
        ];
        let shares = shares.into_iter().flatten();
        shares
            .chain(self.short_wait())
            .chain(self.open_admin())
            .chain(self.certificates())
            .collect()
    }

    /// Warns if one address, or one network, may have too much.
    fn seats(&self, name: &str, most: u32, all: usize) -> Option<String> {
        let factor = self.limits.wide_network_factor;
        let of_network = most.saturating_mul(factor);
        let is_much = |most: u32| (most as usize).saturating_mul(ADDRESSES_MIN) > all;
        if most == 0 || (most > 1 && is_much(most)) {
            let most = if most == 0 { "any number".to_owned() } else { most.to_string() };
            return Some(format!(
                "one address may have {most} of {all} {name} (limits.{name}_per_address_max)"
            ));
        }
        (factor > 1 && is_much(of_network)).then(|| {
            format!(
                "one IPv6 network of 48 bits may have {of_network} of {all} {name} \
                 (limits.{name}_per_address_max, limits.wide_network_factor)"
            )
        })
    }

    fn open_admin(&self) -> Option<String> {
        let Some(ListenAddress::Tcp(address)) = self.admin.listen else { return None };
        address.ip().to_canonical().is_unspecified().then(|| {
            format!(
                "the admin listener {address} is on all addresses (admin.listen): everybody who reaches this machine is \
                 reads what the relay does, without a password"
            )
        })
    }

    /// Warns of certificates that clients refuse, or soon will. Reads the files again; other code reports what has
    /// become of them since.
    fn certificates(&self) -> impl Iterator<Item = String> {
        let now = SystemTime::now();
        self.listeners.iter().filter_map(move |listener| {
            let Tls { certificate, key } = listener.tls.as_ref()?;
            let validity = Credentials::load(certificate, key).ok()?.validity()?;
            let why = validity.warning(now)?;
            Some(format!("the certificate {} of {} {why}", certificate.display(), listener.address))
        })
    }

    /// A lane that stands still may continue for up to twice `stall_timeout`.
    fn short_wait(&self) -> Option<String> {
        let timeouts = &self.timeouts;
        let is_short = timeouts.chunk_wait <= timeouts.stall_timeout.saturating_mul(2);
        let may_give_up = self.limits.stall_rate_bytes_min > 0;
        (is_short && may_give_up).then(|| {
            "timeouts.chunk_wait is not longer than twice timeouts.stall_timeout: who waits for a chunk is sent away before \
             a receiver that stands still gives one up"
                .to_owned()
        })
    }
}

/// Receivers of one address that stand still could hold everything that transfers need, if there is no limit.
fn buffers(name: &str, share: Share) -> Option<String> {
    let has_no_limit = share == Share::All;
    has_no_limit.then(|| {
        format!("one address may have any number of {name} (limits.{name}_per_address_max)")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse;

    fn warnings(limits: &str) -> Vec<String> {
        parse(&format!("[limits]\n{limits}"), "test").unwrap().warnings()
    }

    #[test]
    fn a_wait_for_a_chunk_that_ends_before_anybody_gives_one_up_is_told_of() {
        let timeouts = |text| parse(&format!("[timeouts]\n{text}"), "test").unwrap().warnings();
        assert!(timeouts("stall_timeout = \"14s\"").is_empty());
        assert_eq!(timeouts("stall_timeout = \"15s\"").len(), 1);
        assert_eq!(timeouts("chunk_wait = \"5s\"").len(), 1);
    }

    #[test]
    fn an_admin_listener_for_everybody_is_told_of() {
        let admin =
            |address| parse(&format!("[admin]\nlisten = '{address}'"), "test").unwrap().warnings();
        for address in ["127.0.0.1:9180", "[::1]:9180", "192.0.2.1:9180", "unix:/run/a.sock"] {
            assert!(admin(address).is_empty(), "{address}");
        }
        for address in ["0.0.0.0:9180", "[::]:9180", "[::ffff:0.0.0.0]:9180"] {
            let told = admin(address);
            assert!(told.len() == 1 && told[0].contains(address), "{told:?}");
        }
    }

    #[test]
    fn an_address_that_may_have_more_than_a_quarter_is_told_of() {
        assert!(warnings("").is_empty());
        assert!(warnings("connections_max = 100\nconnections_per_address_max = 12").is_empty());
        let told = warnings("connections_max = 100\nconnections_per_address_max = 26");
        assert_eq!(
            told,
            ["one address may have 26 of 100 connections (limits.connections_per_address_max)"]
        );
        let told = warnings("sessions_per_address_max = 0");
        assert!(told.len() == 1 && told[0].contains("any number of"), "{told:?}");
        assert_eq!(warnings("connections_max = 100").len(), 1, "64 by \"auto\"");
    }

    #[test]
    fn a_network_of_many_addresses_that_may_have_more_than_a_quarter_is_told_of() {
        let told = warnings("connections_max = 100\nconnections_per_address_max = 13");
        assert_eq!(
            told,
            [
                "one IPv6 network of 48 bits may have 26 of 100 connections (limits.connections_per_address_max, \
              limits.wide_network_factor)"
            ]
        );
        assert_eq!(warnings("wide_network_factor = 16").len(), 2, "connections and sessions");
    }

    #[test]
    fn chunks_and_pipes_without_a_limit_are_told_of() {
        for name in ["chunks", "pipes"] {
            let key = format!("{name}_per_address_max");
            assert!(warnings(&format!("{key} = 1000")).is_empty());
            let told = warnings(&format!("{key} = 0"));
            assert_eq!(told, [format!("one address may have any number of {name} (limits.{key})")]);
        }
    }
}
