//! The tokens that a request for a session may bring, from a file with one token a line.
//!
//! `config` reads the file, so that a bad one is found before anything starts; the master reads it at each start and reload;
//! a worker has only the digests. Invariant: no error holds a byte of the file, and the time that a comparison takes tells
//! nothing about a token.

use super::Token;
use crate::sys::file::{self, ReadError};
use std::path::{Path, PathBuf};
use subtle::{Choice, ConstantTimeEq};

/// The longest file of tokens that is read.
const FILE_BYTES_MAX: usize = 1 << 20;
/// The most tokens in a file: a request's token is compared with each of them.
const TOKENS_MAX: usize = 4096;
/// Characters of a token: fewer can be guessed, more leave no room in a head.
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: usize = 512;

/// Digests of the tokens. The `Debug` form hides them.
#[derive(Default)]
pub struct IssueTokens(Vec<shm::Digest>);

/// Why there are no tokens from a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot load tokens from {}", path.display())]
pub struct IssueTokensError {
    /// The file.
    pub path: PathBuf,
    /// The flaw in it.
    pub source: IssueTokensFlaw,
}

/// A flaw in a file of tokens. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum IssueTokensFlaw {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// A line is no token.
    #[error(
        "line {0} is not a token: {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} of the characters A-Z, a-z, 0-9 and \"-._~+/\", \
         with any \"=\" at the end"
    )]
    Malformed(usize),
    /// The file is empty, so nobody could ask for a session.
    #[error("the file has no token: write one a line, and comments behind \"#\"")]
    Empty,
    /// There are too many.
    #[error("the file has more than {TOKENS_MAX} tokens")]
    TooMany,
}

impl IssueTokens {
    /// Reads a file of tokens.
    pub fn load(path: &Path) -> Result<Self, IssueTokensError> {
        let text = file::regular(path, FILE_BYTES_MAX).map_err(IssueTokensFlaw::from);
        let tokens = text.and_then(|text| Self::read(&text));
        tokens.map_err(|source| IssueTokensError { path: path.to_owned(), source })
    }

    fn read(text: &[u8]) -> Result<Self, IssueTokensFlaw> {
        let mut digests = Vec::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let token = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
            if token.is_empty() {
                continue;
            }
            if !is_token(token) {
                return Err(IssueTokensFlaw::Malformed(index + 1));
            }
            if digests.len() == TOKENS_MAX {
                return Err(IssueTokensFlaw::TooMany);
            }
            digests.push(Token::digest_of(token));
        }
        if digests.is_empty() { Err(IssueTokensFlaw::Empty) } else { Ok(Self(digests)) }
    }

    /// Whether `token` is one of them. All are compared in any case, so the time tells nothing.
    #[must_use]
    pub fn contain(&self, token: &[u8]) -> bool {
        let digest = Token::digest_of(token);
        let same = self.0.iter().map(|it| it.ct_eq(&digest));
        same.fold(Choice::from(0), |found, same| found | same).into()
    }
}

/// A byte that may stand after `Bearer` (RFC 6750, section 2.1).
fn is_token(text: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let body = text.get(..text.len() - padding).unwrap_or_default();
    (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len())
        && !body.is_empty()
        && body.iter().all(is_good)
}

impl std::fmt::Debug for IssueTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssueTokens({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        IssueTokens::read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_has_a_token_a_line_and_comments() {
        let text =
            "# for the page\n0123456789abcdef\r\n\n  c29tZSBieXRlcyBvZiBvdXJz==\t# until May\n#\n";
        let tokens = IssueTokens::read(text.as_bytes()).unwrap();
        assert!(tokens.contain(b"0123456789abcdef"));
        assert!(tokens.contain(b"c29tZSBieXRlcyBvZiBvdXJz=="));
        for other in ["", "0123456789abcde", "0123456789abcdef ", "# for the page", "until May"] {
            assert!(!tokens.contain(other.as_bytes()), "{other:?}");
        }
        assert_eq!(format!("{tokens:?}"), "IssueTokens(2)");
        assert!(IssueTokens::read(b"0123456789abcdef").is_ok(), "without a line end");
    }

    #[test]
    fn nobody_has_a_token_of_none() {
        assert!(!IssueTokens::default().contain(b""));
        assert!(!IssueTokens::default().contain(b"0123456789abcdef"));
    }

    #[test]
    fn what_is_refused_is_named_by_its_line_and_never_quoted() {
        for bad in [
            "tooshort1234567",
            "a secret with spaces",
            "0123=456789abcdef",
            "0123456789abcdef\u{e9}",
            "================",
        ] {
            let said = refusal(&format!("0123456789abcdef\n{bad}\n"));
            assert!(said.starts_with("line 2 is not a token: 16 to 512"), "{said}");
            assert!(!said.contains(bad), "{said}");
        }
        let long = "x".repeat(513);
        assert!(refusal(&long).starts_with("line 1"));
        assert!(refusal("# nothing\n\n").starts_with("the file has no token"));
        assert!(IssueTokens::read(long.get(1..).unwrap().as_bytes()).is_ok());
        let many = "0123456789abcdef\n".repeat(TOKENS_MAX + 1);
        assert_eq!(refusal(&many), "the file has more than 4096 tokens");
        let error = IssueTokens::load(Path::new("/dev/zero")).unwrap_err();
        assert!(error.source.to_string().contains("a device, not a file"), "{error:?}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text: Vec<u8>) {
            let _ = IssueTokens::read(&text);
        }
    }
}
