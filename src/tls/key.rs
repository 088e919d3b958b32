//! A private key: its signer or, if it cannot be used, its kind. Called by `credentials`; pure.

use super::der::{INTEGER, OBJECT, Reader};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;
use zeroize::Zeroize;

/// `rsaEncryption`
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Kinds of keys that are well formed and cannot be used.
const USELESS: [(&[u8], &str); 7] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], "an RSA key for RSA-PSS alone"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], "a DSA key"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x03, 0x01], "a Diffie-Hellman key"),
    (&[0x2b, 0x65, 0x6e], "an X25519 key, which cannot sign"),
    (&[0x2b, 0x65, 0x6f], "an X448 key, which cannot sign"),
    (&[0x2b, 0x65, 0x71], "an Ed448 key"),
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
        "an ECDSA key on another curve, or a damaged one",
    ),
];
const DAMAGED: &str = "a damaged key, or one of an unknown kind";
const DAMAGED_RSA: &str = "a damaged RSA key";
/// Bits of a modulus of the allowed keys.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Returns the signer for `key`, which is wiped, or the kind of a key that nothing signs with.
pub(super) fn signer(mut key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, &'static str> {
    let signer = any_supported_type(&key).map_err(|_| kind(&key));
    key.zeroize();
    signer
}

/// Describes a key that cannot be used.
fn kind(key: &PrivateKeyDer<'_>) -> &'static str {
    match key {
        PrivateKeyDer::Pkcs1(key) => rsa(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(_) => "an ECDSA key on another curve, or a damaged one",
        PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()).unwrap_or(DAMAGED),
        _ => DAMAGED,
    }
}

/// Names the key by its algorithm (RFC 5958, section 2).
fn pkcs8(der: &[u8]) -> Option<&'static str> {
    let mut fields = Reader::new(der).sequence()?;
    let _version = fields.expect(INTEGER)?;
    let name = fields.sequence()?.expect(OBJECT)?.content;
    if name == RSA {
        return Some(rsa(fields.next()?.content));
    }
    USELESS.iter().find(|(known, _)| *known == name).map(|(_, what)| *what)
}

/// Names the key by its modulus (RFC 8017, appendix A.1.2).
fn rsa(der: &[u8]) -> &'static str {
    let modulus = || {
        let mut fields = Reader::new(der).sequence()?;
        let _version = fields.expect(INTEGER)?;
        Some(fields.expect(INTEGER)?.content)
    };
    // A zero stands in front of a number whose first bit is set.
    let Some(modulus) = modulus().map(|it| it.strip_prefix(&[0]).unwrap_or(it)) else {
        return DAMAGED_RSA;
    };
    let spare = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match modulus.len() * 8 - spare {
        bits if bits < *RSA_BITS.start() => "an RSA key that is too short",
        bits if bits > *RSA_BITS.end() => "an RSA key that is too long",
        _ => DAMAGED_RSA,
    }
}
