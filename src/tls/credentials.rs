//! A listener's certificate and private key, from their PEM files. Read by `config`, so that a file that is no good is
//! found before anything starts, and by the master.
//!
//! Must always hold: what was loaded parses, and the key belongs to the certificate.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};
use zeroize::{Zeroize, Zeroizing};

/// What such a file may hold at most: chains are a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate with its chain, and its key.
#[derive(Debug)]
pub struct Credentials {
    pub(super) certified: Arc<CertifiedKey>,
}

/// Why there are no credentials. The certificate's file is to blame, or the key's.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The certificate is no good.
    #[error("no certificate from {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FileError,
    },
    /// The key is no good.
    #[error("no private key from {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FileError,
    },
}

/// What is wrong with a PEM file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is no file, or too large to be one of these.
    #[error("it is no file of at most {FILE_BYTES_MAX} bytes")]
    NoFile,
    /// It is not in the format.
    #[error("it is not well-formed PEM: {0}")]
    Pem(pem::Error),
    /// There is no certificate in it.
    #[error("there is no certificate in it (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// There is no key in it.
    #[error("there is no private key in it that can be used without a passphrase")]
    NoKey,
    /// A certificate does not parse.
    #[error("certificate {number} of it is malformed: {source}")]
    Malformed {
        /// Which, from 1.
        number: usize,
        /// Why.
        source: Error,
    },
    /// The key is of a kind that cannot be used.
    #[error("a key of this kind cannot be used: {0}")]
    Kind(Error),
    /// The key is another certificate's.
    #[error("it is not the key of the first certificate in {}", .0.display())]
    Mismatch(PathBuf),
}

impl Credentials {
    /// Reads a certificate with its chain, and the key that belongs to it.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CredentialsError> {
        let in_certificate =
            |source| CredentialsError::Certificate { path: certificate.to_owned(), source };
        let in_key = |source| CredentialsError::Key { path: key.to_owned(), source };
        let chain = read(certificate).and_then(|text| chain(&text)).map_err(in_certificate)?;
        let mut private = read(key).and_then(|text| private_key(&text)).map_err(in_key)?;
        let signer = any_supported_type(&private);
        private.zeroize();
        let signer = signer.map_err(|it| in_key(FileError::Kind(it)))?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            // A signer that does not tell its public key cannot be checked, and is believed.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(in_key(FileError::Mismatch(certificate.to_owned()))),
        }
        Ok(Self { certified: Arc::new(certified) })
    }
}

/// The text, which may be a key and is wiped when it is dropped.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let about = fs::metadata(path).map_err(FileError::Unreadable)?;
    // A pipe would keep us waiting.
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(FileError::NoFile);
    }
    fs::read(path).map(Zeroizing::new).map_err(FileError::Unreadable)
}

fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(FileError::Pem)?;
    if chain.is_empty() {
        return Err(FileError::NoCertificate);
    }
    for (index, certificate) in chain.iter().enumerate() {
        ParsedCertificate::try_from(certificate)
            .map_err(|source| FileError::Malformed { number: index + 1, source })?;
    }
    Ok(chain)
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => FileError::NoKey,
        error => FileError::Pem(error),
    })
}
