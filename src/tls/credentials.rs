//! A listener's certificate and private key, from their PEM files. `config` reads them, so that a bad file is found
//! before anything starts, and so does the master.
//!
//! Invariant: loaded credentials can serve: they parse, the key belongs to the certificate, the certificate may be a
//! server's, and each certificate in the chain has issued the one before. No error holds a byte of a file.

use super::certificate::Certificate;
use super::key;
use super::pem::{Flaw, Label, Section, sections};
use super::validity::Validity;
use crate::sys::file::{self, ReadError};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest size of such a file: chains are a few KiB.
const FILE_BYTES_MAX: usize = 1 << 20;
/// X.509 has had extensions since this version, and without them there are no names that clients look at.
const VERSION: u8 = 3;

/// A certificate with its chain, and its key.
#[derive(Debug)]
pub struct Credentials {
    pub(super) certified: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

/// Why there are no credentials. The certificate's file is to blame, or the key's.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The certificate is no good.
    #[error("cannot load the certificate from {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The error.
        source: FileError,
    },
    /// The key is no good.
    #[error("cannot load the private key from {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The error.
        source: FileError,
    },
}

/// An error in a file. Certificates are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// The PEM text is damaged.
    #[error(transparent)]
    Pem(#[from] Flaw),
    /// There is no certificate in it.
    #[error("the file has no certificate (`-----BEGIN CERTIFICATE-----`){}", but(.0))]
    NoCertificate(Option<&'static str>),
    /// There is no key in it.
    #[error("the file has no private key (`-----BEGIN PRIVATE KEY-----`){}", but(.0))]
    NoKey(Option<&'static str>),
    /// The key takes a passphrase.
    #[error("the private key is encrypted: write it without a passphrase")]
    Encrypted,
    /// A certificate does not parse.
    #[error("certificate {0} is malformed, or has an unsupported critical extension")]
    Malformed(usize),
    /// A certificate is too old in kind.
    #[error("certificate {0} has X.509 version {1}, which clients refuse: version 3 is needed")]
    Version(usize, u8),
    /// The key is of a kind that cannot be used.
    #[error(
        "the key is {0}: supported are RSA with 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, and Ed25519"
    )]
    Kind(&'static str),
    /// The key is another certificate's.
    #[error("the key does not belong to the first certificate in {}", .0.display())]
    Mismatch(PathBuf),
    /// The key's certificate is not the first.
    #[error("the key belongs to certificate {0}, which has to be the first")]
    NotFirst(usize),
    /// The certificate is meant for something else.
    #[error(
        "the first certificate is not for servers: its extended key usage lacks \"TLS Web Server Authentication\""
    )]
    NotForServers,
    /// A certificate has not issued the one before it.
    #[error(
        "certificate {0} did not issue the certificate before it: put the server's certificate first, and behind \
         each one its issuer's"
    )]
    NotIssuer(usize),
    /// A certificate may not issue others.
    #[error(
        "certificate {0} is not a CA certificate, so it cannot vouch for the certificate before it"
    )]
    NoAuthority(usize),
}

/// The thing found instead.
fn but(what: &Option<&'static str>) -> String {
    what.map(|what| format!(", but {what}")).unwrap_or_default()
}

impl Credentials {
    /// Reads a certificate with its chain, and the key that belongs to it.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let in_certificate =
            |source| CredentialsError::Certificate { path: certificate.to_owned(), source };
        let in_key = |source| CredentialsError::Key { path: key.to_owned(), source };
        let chain = read_chain(certificate).map_err(in_certificate)?;
        let parsed = parse(&chain).map_err(in_certificate)?;
        let signer = read_key(key).map_err(in_key)?;
        match owner(&parsed, signer.as_ref()) {
            Some(0) => {}
            Some(index) => return Err(in_certificate(FileError::NotFirst(index + 1))),
            None => return Err(in_key(FileError::Mismatch(certificate.to_owned()))),
        }
        expect_to_serve(&parsed).map_err(in_certificate)?;
        let validity = parsed.first().and_then(|it| it.validity);
        Ok(Self { certified: Arc::new(CertifiedKey::new(chain, signer)), validity })
    }

    /// The validity of the server's certificate, if it says so in a form that is understood.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.validity
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = file::regular(path, FILE_BYTES_MAX)?;
    let sections = sections(&text)?;
    if let Some(trusted) = sections.iter().find(|it| it.label == Label::TrustedCertificate) {
        return Err(Flaw::Trusted { line: trusted.line }.into());
    }
    let certificates = sections.iter().filter(|it| it.label == Label::Certificate);
    let chain = certificates.map(Section::certificate).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(FileError::NoCertificate(found_instead(&text, &sections)));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<Arc<dyn SigningKey>, FileError> {
    let text = file::regular(path, FILE_BYTES_MAX)?;
    let sections = sections(&text)?;
    let Some(section) = sections.iter().find(|it| it.label == Label::Key) else {
        let is_encrypted = sections.iter().any(|it| it.label == Label::EncryptedKey);
        let none = FileError::NoKey(found_instead(&text, &sections));
        return Err(if is_encrypted { FileError::Encrypted } else { none });
    };
    key::signer(section.key()?).map_err(FileError::Kind)
}

/// The thing found in place of the wanted one, in words of ours.
fn found_instead(text: &[u8], sections: &[Section<'_>]) -> Option<&'static str> {
    let known = |section: &Section<'_>| match section.label {
        Label::Certificate | Label::TrustedCertificate => Some("a certificate"),
        Label::Key | Label::EncryptedKey => Some("a private key"),
        Label::Other(what) => Some(what),
        Label::Unknown => None,
    };
    // A sequence whose length takes more than a byte, as that of any certificate or key.
    let is_der = || matches!(text, [0x30, 0x81..=0x84, ..]);
    let der = || is_der().then_some("DER, which `openssl` makes PEM of");
    sections.iter().find_map(known).or_else(der)
}

/// Fields of each certificate.
fn parse<'c>(chain: &'c [CertificateDer<'static>]) -> Result<Vec<Certificate<'c>>, FileError> {
    let parse = |(index, der): (usize, &'c CertificateDer<'static>)| {
        let number = index + 1;
        let read = Certificate::read(der).ok_or(FileError::Malformed(number))?;
        if read.version != VERSION {
            return Err(FileError::Version(number, read.version));
        }
        // Errors that the library would only report when it serves.
        ParsedCertificate::try_from(der).map_err(|_| FileError::Malformed(number))?;
        Ok(read)
    };
    chain.iter().enumerate().map(parse).collect()
}

/// The certificate that the key belongs to, by its place in the chain. A key that does not tell counts as the first
/// one's.
fn owner(chain: &[Certificate<'_>], signer: &dyn SigningKey) -> Option<usize> {
    match signer.public_key() {
        Some(public) => chain.iter().position(|it| it.public_key == public.as_ref()),
        None => Some(0),
    }
}

fn expect_to_serve(chain: &[Certificate<'_>]) -> Result<(), FileError> {
    if chain.first().is_some_and(|first| !first.serves) {
        return Err(FileError::NotForServers);
    }
    for (index, pair) in chain.windows(2).enumerate() {
        let [issued, issuer] = pair else { continue };
        let number = index + 2;
        if !issuer.has_issued(issued) {
            return Err(FileError::NotIssuer(number));
        }
        if !issuer.is_authority {
            return Err(FileError::NoAuthority(number));
        }
    }
    Ok(())
}
