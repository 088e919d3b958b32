//! Session tickets that every worker makes and takes alike: sealed under keys that each works out for itself from a
//! secret they share and the time.
//!
//! Nobody has to be told of a new key: it is that of the current period, and the one of the period before is still
//! taken. The key is bound to the certificate, so a ticket is good for its own listener and dies with an exchange of
//! the certificate. What must always hold: no two tickets are sealed under the same key and nonce.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use std::fmt;
use std::time::SystemTime;

/// How long a key is the current one, and how long a ticket is good at least: at most twice as long.
const PERIOD_SECONDS: u32 = 6 * 3600;
/// A ticket begins with its salt, which makes the key that it alone is sealed with.
const SALT_BYTES: usize = 24;
const CONTEXT: &str = "idontstore 2026-11 TLS session tickets";

/// Seals and opens tickets.
pub(super) struct Tickets {
    /// For this secret and this certificate.
    base: [u8; blake3::KEY_LEN],
}

impl Tickets {
    pub(super) fn new(secret: &[u8], chain: &[CertificateDer<'_>]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(secret);
        if let Some(certificate) = chain.first() {
            hasher.update(blake3::hash(certificate).as_bytes());
        }
        Self { base: *hasher.finalize().as_bytes() }
    }

    /// The key of the ticket with `salt`, made in `period`.
    fn key(&self, period: u64, salt: &[u8]) -> Option<LessSafeKey> {
        let period_key = blake3::keyed_hash(&self.base, &period.to_le_bytes());
        let key = blake3::keyed_hash(period_key.as_bytes(), salt);
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().map(LessSafeKey::new)
    }

    fn seal(&self, period: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = vec![0; SALT_BYTES];
        getrandom::fill(&mut ticket).ok()?;
        let key = self.key(period, &ticket)?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn open(&self, period: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (salt, sealed) = ticket.split_at_checked(SALT_BYTES)?;
        let mut plain = sealed.to_vec();
        let bytes = self
            .key(period, salt)?
            .open_in_place(nonce(), Aad::empty(), &mut plain)
            .ok()
            .map(|opened| opened.len())?;
        plain.truncate(bytes);
        Some(plain)
    }
}

/// The key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The current period, counted from 1970; a clock before that is wrong and changes nothing.
fn period() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs() / u64::from(PERIOD_SECONDS)
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(period(), plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let now = period();
        self.open(now, ticket).or_else(|| self.open(now.checked_sub(1)?, ticket))
    }
}

/// Says nothing of the key.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tickets(secret: &[u8], certificate: &'static [u8]) -> Tickets {
        Tickets::new(secret, &[CertificateDer::from(certificate)])
    }

    #[test]
    fn whoever_shares_the_secret_opens_a_ticket() {
        let (one, other) = (tickets(b"secret", b"certificate"), tickets(b"secret", b"certificate"));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(other.decrypt(&ticket).unwrap(), b"a session");
    }

    #[test]
    fn another_secret_or_certificate_does_not() {
        let ticket = tickets(b"secret", b"certificate").encrypt(b"a session").unwrap();
        assert_eq!(tickets(b"Secret", b"certificate").decrypt(&ticket), None);
        assert_eq!(tickets(b"secret", b"Certificate").decrypt(&ticket), None);
    }

    #[test]
    fn a_key_is_taken_for_one_more_period() {
        let it = tickets(b"secret", b"certificate");
        let ticket = it.seal(7, b"a session").unwrap();
        assert_eq!(it.open(7, &ticket).unwrap(), b"a session");
        assert_eq!(it.open(8, &ticket), None);
        let now = period();
        assert!(it.decrypt(&it.seal(now, b"").unwrap()).is_some());
        assert!(it.decrypt(&it.seal(now - 1, b"").unwrap()).is_some());
        assert_eq!(it.decrypt(&it.seal(now - 3, b"").unwrap()), None);
        assert_eq!(it.decrypt(&it.seal(now + 2, b"").unwrap()), None);
    }

    #[test]
    fn what_is_no_ticket_is_not_opened() {
        let it = tickets(b"secret", b"certificate");
        let ticket = it.encrypt(b"a session").unwrap();
        for bytes in 0..ticket.len() {
            assert_eq!(it.decrypt(&ticket[..bytes]), None);
            let mut bent = ticket.clone();
            bent[bytes] ^= 1;
            assert_eq!(it.decrypt(&bent), None);
        }
    }

    #[test]
    fn two_tickets_of_one_session_differ() {
        let it = tickets(b"secret", b"certificate");
        assert_ne!(it.encrypt(b"a session"), it.encrypt(b"a session"));
    }
}
