//! Checks how this repository is written. The test `tests/tidy.rs` enforces the rules; `scripts/tidy` prints every offence
//! against them.
//!
//! Each rule is a pure function from the text of files to [`Offence`]s. A rule that does not hold everywhere yet has a
//! ceiling for each room in [`ceilings`]; a ceiling may only go down.

pub mod ceilings;
pub mod directions;
pub mod phrases;
pub mod prose;
pub mod protocols;
pub mod report;
pub mod shape;
pub mod sources;
pub mod words;

use std::fmt;
use std::path::PathBuf;

/// A place that offends against a rule, and how.
#[derive(Clone, Debug)]
pub struct Offence {
    /// The file, from the root of the repository.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// A sentence, a word or a number: the offence itself.
    pub what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}
