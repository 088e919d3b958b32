//! Nameplates: four to six digits that a person can say, beside a session's key.
//!
//! A nameplate is no secret: a stranger who guesses it may come first and use up the session. It is for two who prove
//! themselves to each other. It is drawn at random, and from a longer range once shorter ones are taken, so that
//! the nameplates in use say nothing of the next one.

use super::Addresses;
use shm::Name;
use std::fmt;
use std::ops::Range;

/// The ranges in the order in which they are tried, each a few times.
const RANGES: [Range<u32>; 3] = [1_000..10_000, 10_000..100_000, 100_000..1_000_000];
const TRIES_EACH: usize = 4;

/// Four to six decimal digits, the first of them not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nameplate(u32);

impl Nameplate {
    /// Draws nameplates, until one is free. `None` in place of one: the kernel gave no random bytes.
    pub(super) fn draws() -> impl Iterator<Item = Option<Self>> {
        RANGES.into_iter().flat_map(|range| (0..TRIES_EACH).map(move |_| Self::draw(&range)))
    }

    fn draw(range: &Range<u32>) -> Option<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).ok()?;
        let span = u64::from(range.end - range.start);
        // 64 random bits for a million numbers: none is likelier than another by more than one in 2^44.
        let offset = u32::try_from(u64::from_le_bytes(bytes) % span).ok()?;
        Some(Self(range.start + offset))
    }

    /// Reads a nameplate. `None` for anything that no nameplate looks like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| is_plain)?;
        RANGES.iter().any(|range| range.contains(&number)).then_some(Self(number))
    }

    /// The nameplate as shared memory knows it.
    #[must_use]
    pub fn name(self, addresses: &Addresses) -> Name {
        addresses.name(b"nameplate", self.to_string().as_bytes())
    }
}

impl fmt::Display for Nameplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_no_nameplate_looks_like_is_none() {
        for text in
            ["", "1", "999", "0999", "1000000", "+1234", "-1234", "12 34", "1234x", "\u{661}234"]
        {
            assert_eq!(Nameplate::parse(text), None, "{text:?}");
        }
        for text in ["1000", "9999", "10000", "48213", "999999"] {
            assert_eq!(Nameplate::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn drawn_nameplates_grow_longer_and_read_back() {
        let drawn: Vec<_> = Nameplate::draws().map(|it| it.unwrap().to_string()).collect();
        let lengths: Vec<_> = drawn.iter().map(String::len).collect();
        assert_eq!(lengths, [[4; 4], [5; 4], [6; 4]].concat());
        assert!(drawn.iter().all(|text| Nameplate::parse(text).is_some()));
        assert!(drawn.iter().any(|text| *text != drawn[0]));
    }
}
