//! Codes: what one person reads to another. A rendezvous tells where the two clients meet, and two words prove that it is
//! the right two.
//!
//! The words are 22 bits, which is too few for a secret that can be tried at home. So nothing is sealed with them: the two
//! clients use them for one [handshake](crate::pake), in which a wrong guess is seen and costs the code.

use bip39::Language;
use std::fmt;
use zeroize::Zeroizing;

/// Words of a code.
const WORDS: usize = 2;
/// Bits of a word: the list has 2048.
const WORD_BITS: u32 = 11;
const SEPARATOR: char = '-';
/// The longest rendezvous that is read.
pub const RENDEZVOUS_BYTES_MAX: usize = 256;

/// A code. The `Debug` form hides the words.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    rendezvous: String,
    words: [&'static str; WORDS],
}

/// Why a text is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It has too few parts.
    #[error("a code has a first part and two words, such as 48213-guitar-lemon")]
    Incomplete,
    /// A word is not in the list.
    #[error("{word:?} is no word of a code{}", nearest.map(|it| format!(": perhaps {it:?}")).unwrap_or_default())]
    UnknownWord {
        /// The word as it was typed.
        word: String,
        /// The word of the list that begins most like it.
        nearest: Option<&'static str>,
    },
    /// The first part has a character that none has, or too many.
    #[error(
        "the first part of a code has letters, digits, - and _, and {RENDEZVOUS_BYTES_MAX} at most"
    )]
    BadRendezvous,
}

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandom;

impl Code {
    /// Draws the words of a code for this rendezvous, which a relay has given.
    pub fn draw(rendezvous: &str) -> Result<Self, NoRandom> {
        let mut bytes = Zeroizing::new([0; 4]);
        getrandom::fill(&mut *bytes).map_err(|_| NoRandom)?;
        let bits = u32::from_le_bytes(*bytes);
        let list = Language::English.word_list();
        let mask = (1 << WORD_BITS) - 1;
        let word = |number: u32| {
            let index = usize::try_from(bits >> (number * WORD_BITS) & mask).unwrap_or_default();
            list.get(index).copied().unwrap_or_default()
        };
        Ok(Self { rendezvous: rendezvous.to_owned(), words: [word(0), word(1)] })
    }

    /// Reads a code. Letters may be large or small, and spaces may stand for the separators between words.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        let is_apart = |c: char| c == SEPARATOR || c.is_whitespace();
        let (rest, second) = text.rsplit_once(is_apart).ok_or(CodeError::Incomplete)?;
        let (rendezvous, first) =
            rest.trim_end().rsplit_once(is_apart).ok_or(CodeError::Incomplete)?;
        let words = [find(first)?, find(second)?];
        let rendezvous = rendezvous.trim_end();
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if rendezvous.is_empty() {
            return Err(CodeError::Incomplete);
        }
        if rendezvous.len() > RENDEZVOUS_BYTES_MAX || !rendezvous.bytes().all(is_good) {
            return Err(CodeError::BadRendezvous);
        }
        Ok(Self { rendezvous: rendezvous.to_owned(), words })
    }

    /// The part that the relay knows.
    #[must_use]
    pub fn rendezvous(&self) -> &str {
        &self.rendezvous
    }

    /// The part that it does not: the password of the handshake.
    #[must_use]
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(self.words.join("-"))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.words;
        write!(f, "{}{SEPARATOR}{first}{SEPARATOR}{second}", self.rendezvous)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("rendezvous", &self.rendezvous).finish_non_exhaustive()
    }
}

fn find(typed: &str) -> Result<&'static str, CodeError> {
    let word = typed.to_ascii_lowercase();
    let list = Language::English.word_list();
    // The list is in order.
    if let Ok(index) = list.binary_search(&word.as_str())
        && let Some(found) = list.get(index)
    {
        return Ok(found);
    }
    Err(CodeError::UnknownWord { word: typed.chars().take(32).collect(), nearest: nearest(&word) })
}

/// The word with the longest common beginning: no two words of the list have the same first four letters.
fn nearest(word: &str) -> Option<&'static str> {
    let common = |it: &str| it.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count();
    let best = Language::English.word_list().iter().max_by_key(|it| common(it))?;
    (common(best) >= 3).then_some(*best)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_drawn_reads_back_and_differs() {
        let drawn: BTreeSet<_> =
            (0..100).map(|_| Code::draw("AAAD-P5_key").unwrap().to_string()).collect();
        assert!(drawn.len() > 95, "{drawn:?}");
        for text in drawn {
            let code = Code::parse(&text).unwrap();
            assert_eq!((code.to_string(), code.rendezvous()), (text, "AAAD-P5_key"));
        }
    }

    #[test]
    fn people_type_as_they_like() {
        let code = Code::parse("48213-guitar-lemon").unwrap();
        for text in ["48213-Guitar-LEMON", " 48213 guitar lemon\n", "48213-guitar lemon"] {
            assert_eq!(Code::parse(text).as_ref(), Ok(&code), "{text:?}");
        }
        assert_eq!(&**code.password(), "guitar-lemon");
    }

    #[test]
    fn what_is_no_code_is_told_so() {
        for text in ["", "guitar", "guitar-lemon", "-guitar-lemon", "48213"] {
            let error = Code::parse(text).unwrap_err();
            assert!(!matches!(error, CodeError::BadRendezvous), "{text:?}: {error}");
        }
        assert_eq!(Code::parse("a/b-guitar-lemon"), Err(CodeError::BadRendezvous));
        let long = "a".repeat(RENDEZVOUS_BYTES_MAX + 1);
        assert_eq!(Code::parse(&format!("{long}-guitar-lemon")), Err(CodeError::BadRendezvous));
        let error = Code::parse("48213-guitarr-lemon").unwrap_err().to_string();
        assert_eq!(error, "\"guitarr\" is no word of a code: perhaps \"guitar\"");
        let error = Code::parse("48213-guitar-zzz").unwrap_err().to_string();
        assert_eq!(error, "\"zzz\" is no word of a code");
    }

    #[test]
    fn debug_hides_the_words() {
        let shown = format!("{:?}", Code::parse("48213-guitar-lemon").unwrap());
        assert!(shown.contains("48213") && !shown.contains("guitar"), "{shown}");
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_panics(text in ".{0,200}") {
            if let Ok(code) = Code::parse(&text) {
                prop_assert_eq!(Code::parse(&code.to_string()), Ok(code));
            }
        }
    }
}
