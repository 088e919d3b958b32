//! Ceilings for the rules that do not hold everywhere yet: a room may offend so often, and no oftener. These numbers may
//! only go down.

/// How often a room offends against each rule, or may offend at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that use each other in a circle.
    pub circles: usize,
    /// Files that are too long.
    pub long_files: usize,
    /// Lines that are too wide.
    pub wide_lines: usize,
    /// Retired words.
    pub retired_words: usize,
    /// Sentences of comments without a subject, in per cent.
    pub subjectless_percent: usize,
}

/// The ceilings of every room that is not in the table, and the goal of those that are.
pub const TARGET: Counts =
    Counts { circles: 0, long_files: 0, wide_lines: 0, retired_words: 0, subjectless_percent: 5 };

/// The rooms that have not reached [`TARGET`]: circles, long files, wide lines, retired words, per cent of sentences.
const CEILINGS: &[(&str, [usize; 5])] = &[];

/// The ceilings of `room`.
#[must_use]
pub fn of(room: &str) -> Counts {
    let row = CEILINGS.iter().find(|(it, _)| *it == room);
    row.map_or(TARGET, |(_, [circles, long_files, wide_lines, retired_words, percent])| Counts {
        circles: *circles,
        long_files: *long_files,
        wide_lines: *wide_lines,
        retired_words: *retired_words,
        subjectless_percent: *percent,
    })
}

/// The rooms of the table.
pub fn rooms() -> impl Iterator<Item = &'static str> {
    CEILINGS.iter().map(|(room, _)| *room)
}

impl Counts {
    /// Each count with its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, usize); 5] {
        [
            ("circles", self.circles),
            ("long files", self.long_files),
            ("wide lines", self.wide_lines),
            ("retired words", self.retired_words),
            ("% of sentences without a subject", self.subjectless_percent),
        ]
    }
}
