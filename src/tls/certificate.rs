//! Parses a certificate (RFC 5280, section 4.1), as far as it decides whether it can serve. Called by `credentials`;
//! pure.

use super::der::{BIT_STRING, BOOLEAN, CONTEXT, INTEGER, OBJECT, OCTET_STRING, Reader, SEQUENCE};
use super::validity::Validity;
use rustls::crypto::aws_lc_rs;

/// `basicConstraints`
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `extKeyUsage`
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// `anyExtendedKeyUsage`
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// `id-kp-serverAuth`
const SERVERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// The parts of a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificate<'d> {
    /// 1 to 3.
    pub(super) version: u8,
    /// Whether its key may vouch for other certificates.
    pub(super) is_authority: bool,
    /// Whether it may be a server's: it says so, or does not say what it is for.
    pub(super) serves: bool,
    /// The validity, if the certificate says so in a form that is understood.
    pub(super) validity: Option<Validity>,
    /// The public key and its kind.
    pub(super) public_key: &'d [u8],
    issuer: &'d [u8],
    subject: &'d [u8],
    signed: &'d [u8],
    signature_kind: &'d [u8],
    signature: &'d [u8],
}

impl<'d> Certificate<'d> {
    /// Reads it. `None`: it is none.
    pub(super) fn read(der: &'d [u8]) -> Option<Self> {
        let mut outer = Reader::new(der).sequence()?;
        let body = outer.expect(SEQUENCE)?;
        let signature_kind = outer.expect(SEQUENCE)?.content;
        let signature = bits(outer)?;
        let mut fields = body.inside();
        let version = match fields.take(CONTEXT) {
            Some(version) => version.inside().expect(INTEGER)?.content.last()?.checked_add(1)?,
            None => 1,
        };
        let _serial = fields.expect(INTEGER)?;
        let _signature_kind = fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?.content;
        let validity = Validity::read(fields.expect(SEQUENCE)?.inside());
        let subject = fields.expect(SEQUENCE)?.content;
        let public_key = fields.expect(SEQUENCE)?.whole;
        let mut read = Self {
            version,
            is_authority: false,
            serves: true,
            validity,
            public_key,
            issuer,
            subject,
            signed: body.whole,
            signature_kind,
            signature,
        };
        // Two fields may come before, which nobody uses.
        while let Some(field) = fields.next() {
            if field.tag == CONTEXT + 3 {
                read.read_extensions(field.inside().sequence()?)?;
            }
        }
        Some(read)
    }

    fn read_extensions(&mut self, mut extensions: Reader<'_>) -> Option<()> {
        while let Some(extension) = extensions.next() {
            let mut fields = extension.inside();
            let name = fields.expect(OBJECT)?.content;
            let _is_critical = fields.take(BOOLEAN);
            let mut value = fields.expect(OCTET_STRING)?.inside();
            match name {
                BASIC_CONSTRAINTS => {
                    let is_authority = value.sequence()?.take(BOOLEAN);
                    self.is_authority = is_authority.is_some_and(|it| it.content != [0]);
                }
                EXTENDED_KEY_USAGE => {
                    let mut purposes = value.sequence()?;
                    let mut purposes = std::iter::from_fn(|| purposes.take(OBJECT));
                    self.serves = purposes.any(|it| [ANY_PURPOSE, SERVERS].contains(&it.content));
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Whether this certificate's key has signed `other`. If the kind of signature is unknown, the names decide.
    pub(super) fn has_issued(&self, other: &Self) -> bool {
        self.has_signed(other).unwrap_or(self.subject == other.issuer)
    }

    /// `None`: this library cannot tell.
    fn has_signed(&self, other: &Self) -> Option<bool> {
        let mut key = Reader::new(self.public_key).sequence()?;
        let key_kind = key.expect(SEQUENCE)?.content;
        let key = bits(key)?;
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let mut suitable = known.iter().filter(|it| {
            it.public_key_alg_id().as_ref() == key_kind
                && it.signature_alg_id().as_ref() == other.signature_kind
        });
        let verify = |it: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            it.verify_signature(key, other.signed, other.signature).is_ok()
        };
        let first = suitable.next()?;
        Some(verify(first) || suitable.any(verify))
    }
}

/// The bytes of the next value, a string of bits that has no part of a byte.
fn bits(mut reader: Reader<'_>) -> Option<&[u8]> {
    reader.expect(BIT_STRING)?.content.strip_prefix(&[0])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    fn made() -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_says_what_it_is_for() {
        let der = made();
        let read = Certificate::read(&der).unwrap();
        assert_eq!((read.version, read.is_authority, read.serves), (3, true, false));
        // The default text of the library that makes the certificates.
        let span = read.validity.unwrap();
        let [begins, ends] = [span.begins, span.ends].map(httpdate::fmt_http_date);
        assert_eq!(begins, "Wed, 01 Jan 1975 00:00:00 GMT");
        assert_eq!(ends, "Sun, 01 Jan 4096 00:00:00 GMT");
        assert!(read.has_issued(&read));
        let other = made();
        assert!(
            !Certificate::read(&other).unwrap().has_issued(&read),
            "the name alone is no proof"
        );
    }

    #[test]
    fn what_is_damaged_is_refused_or_read_within_its_bounds() {
        let der = made();
        for bytes in 0..der.len() {
            assert!(Certificate::read(der.get(..bytes).unwrap()).is_none(), "{bytes}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = der.clone();
                *damaged.get_mut(at).unwrap() = byte;
                if let Some(read) = Certificate::read(&damaged) {
                    read.has_issued(&read);
                }
            }
        }
    }
}
