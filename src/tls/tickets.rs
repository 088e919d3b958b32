//! Session tickets that every worker makes and takes alike: sealed under keys that the master draws, in shared
//! memory.
//!
//! A ticket names its key by number, so a worker need not be told of a new key: it uses the current key and takes
//! tickets of the previous one. Each ticket has a key of its own, derived from that key, the certificate and a salt:
//! so it is good for its own listener only, and a new certificate ends it. Invariant: no two tickets are sealed under
//! the same key and nonce, and no key is kept here.

use super::rotation::PERIOD_MS;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use shm::TicketKeys;
use std::fmt;
use zeroize::Zeroizing;

/// A ticket begins with the number of its key.
const NUMBER_BYTES: usize = 8;
/// Then comes its salt, which makes the key that it alone is sealed with.
const SALT_BYTES: usize = 24;

/// Seals and opens tickets.
pub(super) struct Tickets {
    keys: TicketKeys<'static>,
    /// The certificate's digest.
    certificate: [u8; blake3::OUT_LEN],
}

impl Tickets {
    pub(super) fn new(keys: TicketKeys<'static>, chain: &[CertificateDer<'_>]) -> Self {
        let certificate = chain.first().map(AsRef::as_ref).unwrap_or_default();
        Self { keys, certificate: *blake3::hash(certificate).as_bytes() }
    }

    /// The key of the ticket with `salt` under the key `number`.
    fn key(&self, number: u64, salt: &[u8; SALT_BYTES]) -> Option<LessSafeKey> {
        let shared = Zeroizing::new(self.keys.key(number)?);
        let mut input = [0; blake3::OUT_LEN + SALT_BYTES];
        let (certificate, at_salt) = input.split_at_mut(blake3::OUT_LEN);
        certificate.copy_from_slice(&self.certificate);
        at_salt.copy_from_slice(salt);
        let key = Zeroizing::new(blake3::keyed_hash(&shared, &input));
        UnboundKey::new(&AES_256_GCM, key.as_bytes()).ok().map(LessSafeKey::new)
    }
}

/// The key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD_MS / 1000).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).ok()?;
        let number = self.keys.current();
        let key = self.key(number, &salt)?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        Some([&number.to_le_bytes()[..], &salt, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<NUMBER_BYTES>()?;
        let (salt, sealed) = rest.split_first_chunk::<SALT_BYTES>()?;
        let mut plain = sealed.to_vec();
        let key = self.key(u64::from_le_bytes(*number), salt)?;
        let opened = key.open_in_place(nonce(), Aad::empty(), &mut plain).ok()?;
        let bytes = opened.len();
        plain.truncate(bytes);
        Some(plain)
    }
}

/// Says nothing of the keys.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tls::rotation::tests::keys;

    fn tickets(keys: TicketKeys<'static>, certificate: &'static [u8]) -> Tickets {
        Tickets::new(keys, &[CertificateDer::from(certificate)])
    }

    #[test]
    fn acceptors_that_share_the_keys_open_a_ticket() {
        let keys = keys();
        keys.put(&[1; 32], 0);
        let (one, other) = (tickets(keys, b"certificate"), tickets(keys, b"certificate"));
        let ticket = one.encrypt(b"a session").unwrap();
        assert_eq!(other.decrypt(&ticket).unwrap(), b"a session");
    }

    #[test]
    fn another_key_or_certificate_does_not() {
        let [one, other] = [keys(), keys()];
        one.put(&[1; 32], 0);
        other.put(&[2; 32], 0);
        let ticket = tickets(one, b"certificate").encrypt(b"a session").unwrap();
        assert_eq!(tickets(other, b"certificate").decrypt(&ticket), None);
        assert_eq!(tickets(one, b"Certificate").decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_is_taken_until_two_keys_have_come_after_its_own() {
        let keys = keys();
        let it = tickets(keys, b"certificate");
        assert_eq!(it.encrypt(b""), None, "there is no key yet");
        for number in 1..5 {
            keys.put(&[number; 32], 0);
            let ticket = it.encrypt(b"a session").unwrap();
            keys.put(&[number + 100; 32], 0);
            assert_eq!(it.decrypt(&ticket).unwrap(), b"a session");
            keys.put(&[number + 200; 32], 0);
            assert_eq!(it.decrypt(&ticket), None);
        }
    }

    #[test]
    fn what_is_no_ticket_is_not_opened() {
        let keys = keys();
        keys.put(&[1; 32], 0);
        keys.put(&[2; 32], 0);
        let it = tickets(keys, b"certificate");
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
        let keys = keys();
        keys.put(&[1; 32], 0);
        let it = tickets(keys, b"certificate");
        assert_ne!(it.encrypt(b"a session"), it.encrypt(b"a session"));
    }
}
