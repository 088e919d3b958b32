//! Sentences of comments. A sentence begins with the actor or with the verb; a sentence that begins with a pronoun or
//! a preposition leaves the reader to find out who does what.

use std::ops::Range;

use crate::Offence;
use crate::sources::Source;

/// The pronouns, and the prepositions with which good writers of such comments hardly ever begin.
const SUBJECTLESS: &[&str] = &[
    "It",
    "Its",
    "They",
    "Them",
    "Their",
    "He",
    "Him",
    "His",
    "She",
    "Who",
    "Whoever",
    "Whose",
    "Whom",
    "What",
    "Whatever",
    "Which",
    "Whichever",
    "One",
    "Those",
    "That",
    "Such",
    "Nobody",
    "Nothing",
    "Somebody",
    "Everybody",
    "Everything",
    "None",
    "Of",
    "At",
    "By",
    "From",
    "To",
    "With",
    "Without",
    "Under",
    "Over",
    "Behind",
    "Beside",
    "Besides",
    "Between",
    "Beyond",
    "Until",
    "Within",
    "Through",
    "Among",
    "Against",
    "Up",
    "Out",
    "Off",
    "Above",
    "Below",
    "Into",
    "Upon",
    "Towards",
];

/// The number of sentences, and the list of those that begin without a subject.
#[derive(Debug, Default)]
pub struct Prose {
    /// All sentences of comments.
    pub sentences: usize,
    /// Sentences that begin without a subject.
    pub subjectless: Vec<Offence>,
}

impl Prose {
    /// Reads the comments of a Rust file.
    #[must_use]
    pub fn of(source: &Source) -> Self {
        let mut prose = Self::default();
        for (line, comment) in comments(&source.text) {
            for sentence in sentences(&comment) {
                prose.sentences += 1;
                let sentence = &comment[sentence];
                if is_subjectless(sentence) {
                    let what = sentence.to_owned();
                    prose.subjectless.push(Offence { path: source.path.clone(), line, what });
                }
            }
        }
        prose
    }

    /// Adds the sentences of another file.
    pub fn add(&mut self, other: Self) {
        self.sentences += other.sentences;
        self.subjectless.extend(other.subjectless);
    }

    /// The share of sentences without a subject, in per cent, rounded up.
    #[must_use]
    pub fn percent(&self) -> usize {
        (self.subjectless.len() * 100).div_ceil(self.sentences.max(1))
    }
}

/// Tells whether a sentence begins with a word that is no subject.
fn is_subjectless(sentence: &str) -> bool {
    let end = sentence.find(|c: char| !c.is_alphanumeric()).unwrap_or(sentence.len());
    SUBJECTLESS.contains(&&sentence[..end])
}

/// Each comment that stands on lines of its own, as one line of text, with the number of its first line. Code in a
/// comment is left out.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let (mut is_open, mut is_code) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let comment = line.trim_start().strip_prefix("//");
        let comment = comment.map(|it| it.trim_start_matches(['/', '!']).trim());
        let Some(comment) = comment.filter(|it| !it.is_empty()) else {
            is_open = false;
            continue;
        };
        if comment.starts_with("```") {
            (is_code, is_open) = (!is_code, false);
        } else if !is_code && is_open {
            let (_, last) = comments.last_mut().expect("it is open");
            last.push(' ');
            last.push_str(comment);
        } else if !is_code {
            comments.push((index + 1, comment.to_owned()));
            is_open = true;
        }
    }
    comments
}

/// Where each sentence of a comment is: it ends at a full stop or colon in front of a capital letter or a name in code.
fn sentences(comment: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (end, _) in comment.match_indices(". ").chain(comment.match_indices(": ")) {
        let after = comment[end + 2..].chars().next();
        if after.is_some_and(|c| c.is_uppercase() || "`*[".contains(c)) {
            found.push(end + 2);
        }
    }
    found.sort_unstable();
    found.push(comment.len());
    found.into_iter().map(|end| std::mem::replace(&mut start, end)..end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_counted_over_lines_and_code_is_left_out() {
        let text = "/// Of two lanes,\n/// the first. The worker\n/// reads it: Its own.\n///\n\
                    /// ```\n/// Who();\n/// ```\nfn f() {}\n// Who comes.\n";
        let prose = Prose::of(&Source::new("src/relay/mod.rs", text));
        assert_eq!(prose.sentences, 4);
        let found: Vec<_> = prose.subjectless.iter().map(|it| (it.line, it.what.trim())).collect();
        assert_eq!(found, [(1, "Of two lanes, the first."), (1, "Its own."), (9, "Who comes.")]);
        assert_eq!(prose.percent(), 75);
    }

    #[test]
    fn a_word_that_begins_like_a_pronoun_is_none() {
        assert!(is_subjectless("It's open."));
        assert!(!is_subjectless("Items are read."));
        assert!(!is_subjectless("`it` is read."));
    }
}
