//! Phrases that hide who acts or what is meant. Comments and documents name the thing instead. CHANGELOG's old entries
//! stay as they are.

use crate::Offence;
use crate::sources::Source;

/// Each phrase, word by word.
const REFUSED: &[&[&str]] = &[&["one", "that"], &["of", "which"], &["whoever"]];

/// Where `source` has a refused phrase, also over the end of a line: in the comments of Rust, or in the whole of any
/// other text.
#[must_use]
pub fn used(source: &Source) -> Vec<Offence> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut offences = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        if source.is_rust() && !line.starts_with("//") {
            words.clear();
            continue;
        }
        let line = line.trim_start_matches(['/', '!', '#', '|']);
        for word in line.split_whitespace() {
            words.push((index + 1, word.to_lowercase()));
            offences.extend(REFUSED.iter().filter_map(|phrase| ends_with(&words, phrase)).map(
                |(line, phrase)| Offence {
                    path: source.path.clone(),
                    line,
                    what: format!("{phrase}: name the actor or the thing"),
                },
            ));
        }
    }
    offences
}

/// Whether the last words are `phrase`, with no mark between them: its first line, and its text.
fn ends_with(words: &[(usize, String)], phrase: &[&str]) -> Option<(usize, String)> {
    let last = words.get(words.len().checked_sub(phrase.len())?..)?;
    let is_mark = |c: char| !c.is_alphanumeric() && c != '_';
    let is_same = last.iter().zip(phrase).enumerate().all(|(index, ((_, word), wanted))| {
        let word = if index == 0 { word.trim_start_matches(is_mark) } else { word };
        let is_last = index + 1 == phrase.len();
        word == *wanted || (is_last && word.trim_end_matches(is_mark) == *wanted)
    });
    is_same.then(|| (last[0].0, phrase.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        used(&Source::new(path, text)).into_iter().map(|it| it.line).collect()
    }

    #[test]
    fn phrases_are_found_in_comments_over_lines_and_not_in_code() {
        let text =
            "/// The one\n/// that waits.\nlet one = \"one that\"; // x\n// Whoever, of which.\n";
        assert_eq!(lines("src/a.rs", text), [1, 4, 4]);
    }

    #[test]
    fn phrases_are_found_in_documents_and_not_over_a_mark_or_in_a_name() {
        assert_eq!(lines("docs/a.md", "Takes (one that\nlives).\n"), [1]);
        assert_eq!(lines("docs/a.md", "Of one, that is. `one_that` lives; whoevers.\n"), [0; 0]);
    }
}
