//! The sections of a PEM file (RFC 7468), with any line ends: files that were joined without a line break, or have
//! lost all of theirs, are read as they are meant. Called by `credentials`; pure.
//!
//! Invariant: an error holds no byte of the file, since the file may be a private key. No section is ignored because
//! its marker is damaged.

use memchr::memmem;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

const DASHES: &[u8] = b"-----";
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
/// Longer than any label there is.
const LABEL_BYTES_MAX: usize = 64;
/// The bytes of `BEGIN` in text of 16 bits a character.
const WIDE: &[u8] = b"B\0E\0G\0I\0N";

/// The labels that have a meaning here.
const LABELS: [(&[u8], Label); 17] = [
    (b"CERTIFICATE", Label::Certificate),
    (b"X509 CERTIFICATE", Label::Certificate),
    (b"PRIVATE KEY", Label::Key),
    (b"RSA PRIVATE KEY", Label::Key),
    (b"EC PRIVATE KEY", Label::Key),
    (b"ENCRYPTED PRIVATE KEY", Label::EncryptedKey),
    (b"TRUSTED CERTIFICATE", Label::TrustedCertificate),
    (b"PUBLIC KEY", Label::Other("a public key")),
    (b"RSA PUBLIC KEY", Label::Other("a public key")),
    (b"CERTIFICATE REQUEST", Label::Other("a certificate request")),
    (b"NEW CERTIFICATE REQUEST", Label::Other("a certificate request")),
    (b"OPENSSH PRIVATE KEY", Label::Other("an OpenSSH key")),
    (b"DSA PRIVATE KEY", Label::Other("a DSA key")),
    (b"PGP PRIVATE KEY BLOCK", Label::Other("a PGP key")),
    (b"PKCS7", Label::Other("a PKCS #7 bundle")),
    (b"CMS", Label::Other("a CMS bundle")),
    (b"X509 CRL", Label::Other("a revocation list")),
];

/// The content of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Certificate,
    /// A private key, usable without a passphrase.
    Key,
    EncryptedKey,
    /// OpenSSL's own form: a certificate with settings behind it.
    TrustedCertificate,
    /// Another object with a known name.
    Other(&'static str),
    /// An object without a meaning here, such as the parameters of a curve.
    Unknown,
}

/// An error in a file, and its line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A line that looks like a marker is none.
    #[error("line {line} has a damaged BEGIN or END marker: five dashes belong on each side of it")]
    Marker {
        /// Where.
        line: usize,
    },
    /// A section has no end, or that of another one.
    #[error("the section that begins in line {line} has no END marker of its own")]
    NoEnd {
        /// Where it begins.
        line: usize,
    },
    /// A section is not base64, or not all of it.
    #[error("the section that begins in line {line} is not well-formed PEM: its base64 is damaged")]
    Encoding {
        /// Where it begins.
        line: usize,
    },
    /// A section has header fields.
    #[error("the section that begins in line {line} has header fields, which are not understood")]
    Fields {
        /// Where it begins.
        line: usize,
    },
    /// There is a section of this kind in place of a certificate.
    #[error(
        "line {line} begins a `TRUSTED CERTIFICATE`: convert it to a plain one by `openssl x509`"
    )]
    Trusted {
        /// Where it begins.
        line: usize,
    },
    /// The text is UTF-16.
    #[error("the file is UTF-16 text, not PEM: save it as ASCII or UTF-8")]
    Wide,
}

/// A section.
pub(super) struct Section<'t> {
    pub(super) label: Label,
    /// Where it begins.
    pub(super) line: usize,
    name: &'t [u8],
    body: &'t [u8],
}

/// The sections of a text in their order. Text between sections is for people, and is left out.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, Flaw> {
    if memmem::find(text, WIDE).is_some() {
        return Err(Flaw::Wide);
    }
    let mut sections = Vec::new();
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let begin = memmem::find(rest, BEGIN);
        let between = rest.get(..begin.unwrap_or(rest.len())).unwrap_or_default();
        if let Some(stray) = stray_marker(between) {
            return Err(Flaw::Marker { line: line(text, at + stray) });
        }
        let Some(begin) = begin else { return Ok(sections) };
        let line = line(text, at + begin);
        let (section, bytes) = section(rest.get(begin..).unwrap_or_default(), line)?;
        sections.push(section);
        at += begin + bytes;
    }
}

/// The section that `text` begins with, and how many bytes it takes.
fn section(text: &[u8], line: usize) -> Result<(Section<'_>, usize), Flaw> {
    let after = text.strip_prefix(BEGIN).unwrap_or_default();
    let name = label(after);
    let (label, is_meant) = meaning(name);
    let inner = after.get(name.len()..).and_then(|rest| rest.strip_prefix(DASHES));
    let inner = inner.filter(|_| is_meant).ok_or(Flaw::Marker { line })?;
    let body = inner.get(..memmem::find(inner, DASHES).ok_or(Flaw::NoEnd { line })?);
    let body = body.unwrap_or_default();
    let behind = inner.get(body.len()..).and_then(|rest| rest.strip_prefix(END));
    let behind = behind.and_then(|rest| rest.strip_prefix(name)?.strip_prefix(DASHES));
    let behind = behind.ok_or(Flaw::NoEnd { line })?;
    // The form in which OpenSSL wrote keys with a passphrase before there was a standard.
    let is_encrypted = label == Label::Key && memmem::find(body, b"Proc-Type").is_some();
    let label = if is_encrypted { Label::EncryptedKey } else { label };
    Ok((Section { label, line, name, body }, text.len() - behind.len()))
}

/// A name with so many letters wrong is meant as the name that it resembles. Names of other things differ in more.
const TYPING_ERRORS_MAX: usize = 2;

/// Classifies a section by its name, and says whether the name is whole.
fn meaning(name: &[u8]) -> (Label, bool) {
    match LABELS.iter().find(|(known, _)| *known == name) {
        Some((_, label)) => (*label, true),
        None => {
            let written = String::from_utf8_lossy(name.trim_ascii()).to_ascii_uppercase();
            let resembles = |known: &[u8]| {
                let known = String::from_utf8_lossy(known);
                strsim::damerau_levenshtein(&known, &written) <= TYPING_ERRORS_MAX
            };
            (Label::Unknown, !name.is_empty() && !LABELS.iter().any(|(known, _)| resembles(known)))
        }
    }
}

/// The label that `text` begins with.
fn label(text: &[u8]) -> &[u8] {
    let belongs = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'-';
    let bytes = text.iter().take(LABEL_BYTES_MAX).take_while(|byte| belongs(byte)).count();
    text.get(..bytes).unwrap_or_default()
}

/// The place of something that was meant as a marker: it names a certificate or a key, between dashes of any number
/// or kind.
fn stray_marker(text: &[u8]) -> Option<usize> {
    let is_dash = |byte: Option<&u8>| byte.is_some_and(|byte| *byte == b'-' || !byte.is_ascii());
    let is_marker = |at: usize, word: &[u8]| {
        let (before, after) = text.split_at_checked(at).unwrap_or_default();
        let after = after.strip_prefix(word).unwrap_or_default();
        let name = label(after);
        let named = name.trim_ascii();
        (named.ends_with(b"CERTIFICATE") || named.ends_with(b"KEY"))
            && (is_dash(before.trim_ascii_end().last()) || is_dash(after.get(name.len())))
    };
    let words = [b"BEGIN ".as_slice(), b"END "];
    let found = words.map(|word| memmem::find_iter(text, word).find(|at| is_marker(*at, word)));
    found.into_iter().flatten().min()
}

/// The line that the byte `at` is in, whichever of the three line ends the text has.
fn line(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    let is_end = |(index, byte): (usize, &u8)| match byte {
        b'\n' => true,
        b'\r' => text.get(index + 1) != Some(&b'\n'),
        _ => false,
    };
    1 + before.iter().enumerate().filter(|it| is_end(*it)).count()
}

impl Section<'_> {
    /// The content, if it is a certificate.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, Flaw> {
        CertificateDer::from_pem_slice(&self.rewritten(b"CERTIFICATE")?).map_err(|_| self.damaged())
    }

    /// The content, if it is a key.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, Flaw> {
        PrivateKeyDer::from_pem_slice(&self.rewritten(self.name)?).map_err(|_| self.damaged())
    }

    fn damaged(&self) -> Flaw {
        Flaw::Encoding { line: self.line }
    }

    /// The section alone, in lines as the library reads them.
    fn rewritten(&self, name: &[u8]) -> Result<Zeroizing<Vec<u8>>, Flaw> {
        if self.body.contains(&b':') {
            return Err(Flaw::Fields { line: self.line });
        }
        let parts = [BEGIN, name, DASHES, b"\n", self.body, b"\n", END, name, DASHES, b"\n"];
        let bytes = parts.iter().map(|part| part.len()).sum();
        // All the room at once: a vector that grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(bytes));
        parts.iter().for_each(|part| text.extend_from_slice(part));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----";
    const TWO: &str = "-----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----";

    /// The certificates in it.
    fn read(text: &str) -> Result<Vec<Vec<u8>>, Flaw> {
        let sections = sections(text.as_bytes())?;
        sections.iter().map(|it| Ok(it.certificate()?.to_vec())).collect()
    }

    #[test]
    fn sections_are_found_however_they_are_joined() {
        let both = Ok(vec![vec![1, 2, 3], vec![4, 5, 6]]);
        for between in ["\n", "\r\n", "\r", "", " ", "------", "\nsubject=CN = a\n", "# BEGIN it\n"]
        {
            assert_eq!(read(&format!("{ONE}{between}{TWO}")), both, "{between:?}");
        }
        assert_eq!(read(&format!("\u{feff}{ONE}\n{TWO}").replace('\n', "")), both);
        assert_eq!(read(&format!("{ONE}\n{TWO}\n").replace('\n', "\r\n")), both);
        assert_eq!(read(&ONE.replace("AQID", " A Q\tI\n D ")), Ok(vec![vec![1, 2, 3]]));
        assert_eq!(read(&ONE.replace("CERTIFICATE", "X509 CERTIFICATE")), Ok(vec![vec![1, 2, 3]]));
        assert_eq!(read("nothing"), Ok(vec![]));
    }

    #[test]
    fn a_damaged_marker_hides_no_section() {
        for between in ["-----END", "-----END CERT", "-----"] {
            assert!(read(&format!("{between}{ONE}")).is_ok(), "{between:?}");
        }
        let joined = format!("{ONE}{TWO}");
        for (from, to) in [
            ("----------", "-----"),
            ("----------", "---------"),
            ("-----BEGIN", "----BEGIN"),
            ("-----BEGIN", "\u{2014}BEGIN"),
            ("-----BEGIN ", "----- BEGIN "),
            ("-----BEGIN ", "BEGIN "),
        ] {
            // The first stands; it is the second that would go.
            let at = joined.rfind(from).unwrap();
            let text = format!("{}{to}{}", &joined[..at], &joined[at + from.len()..]);
            assert_eq!(read(&text), Err(Flaw::Marker { line: 3 }), "{text}");
        }
        for (from, to, flaw) in [
            ("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE----", Flaw::Marker { line: 1 }),
            ("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE -----", Flaw::Marker { line: 1 }),
            ("BEGIN CERTIFICATE-----", "BEGIN Certificate-----", Flaw::Marker { line: 1 }),
            ("BEGIN CERTIFICATE-----", "BEGIN -----", Flaw::Marker { line: 1 }),
            ("-----END CERTIFICATE", "-----END PRIVATE KEY", Flaw::NoEnd { line: 1 }),
            ("-----END CERTIFICATE-----", "-----END CERTIFICATE", Flaw::NoEnd { line: 1 }),
            ("-----END CERTIFICATE-----", "", Flaw::NoEnd { line: 1 }),
            ("-----END CERTIFICATE-----", TWO, Flaw::NoEnd { line: 1 }),
            ("AQID", "AQIDA", Flaw::Encoding { line: 1 }),
            ("AQID", "AQ=D", Flaw::Encoding { line: 1 }),
            ("AQID", "AQI\0D", Flaw::Encoding { line: 1 }),
            ("AQID", "Proc-Type: 4\n\nAQID", Flaw::Fields { line: 1 }),
            ("\n", "B\0E\0G\0I\0N\0", Flaw::Wide),
        ] {
            assert_eq!(read(&ONE.replace(from, to)), Err(flaw), "{from} {to}");
        }
    }

    #[test]
    fn labels_say_what_a_section_is() {
        let of = |name: &str| {
            let text = format!("\n-----BEGIN {name}-----\nAQID\n-----END {name}-----\n");
            sections(text.as_bytes()).unwrap().first().map(|it| (it.label, it.line))
        };
        assert_eq!(of("EC PRIVATE KEY"), Some((Label::Key, 2)));
        assert_eq!(of("ENCRYPTED PRIVATE KEY"), Some((Label::EncryptedKey, 2)));
        assert_eq!(of("CMS"), Some((Label::Other("a CMS bundle"), 2)));
        assert_eq!(of("X9.42 DH PARAMETERS"), Some((Label::Unknown, 2)));
        assert_eq!(of("EC PARAMETERS"), Some((Label::Unknown, 2)));
        for misspelt in ["CERTIFCATE", "CERTFICIATE", "PRIVAT KEY", "Certificate", "CERTIFICATES"] {
            assert!(!meaning(misspelt.as_bytes()).1, "{misspelt}");
        }
        assert!(meaning(b"X509 CRL").1 && meaning(b"DH PARAMETERS").1 && meaning(b"PKCS7").1);
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END RSA PRIVATE KEY-----";
        assert_eq!(sections(legacy.as_bytes()).unwrap()[0].label, Label::EncryptedKey);
    }
}
