//! The shape of a file: how it begins, how long it is, and how long its lines are.

use crate::Offence;
use crate::sources::Source;

/// The most lines of a file.
pub const LINES_MAX: usize = 500;

/// The most characters of a line. Code keeps to 100 by rustfmt; comments and texts may be as wide as this.
pub const COLUMNS_MAX: usize = 125;

/// A file that does not say at its top what it is.
#[must_use]
pub fn untitled(source: &Source) -> Option<Offence> {
    let is_titled = source.text.starts_with("//!");
    (!is_titled).then(|| offence(source, 1, "no `//!` says what this file is".to_owned()))
}

/// A file that is too long.
#[must_use]
pub fn too_long(source: &Source) -> Option<Offence> {
    let lines = source.text.lines().count();
    (lines > LINES_MAX).then(|| offence(source, lines, format!("{lines} lines")))
}

/// Lines that are too long.
#[must_use]
pub fn too_wide(source: &Source) -> Vec<Offence> {
    let lines = source.text.lines().map(|line| line.chars().count()).enumerate();
    let wide = lines.filter(|(_, columns)| *columns > COLUMNS_MAX);
    wide.map(|(index, columns)| offence(source, index + 1, format!("{columns} columns"))).collect()
}

fn offence(source: &Source, line: usize, what: String) -> Offence {
    Offence { path: source.path.clone(), line, what }
}
