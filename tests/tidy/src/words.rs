//! Retired words. The last table of `docs/glossary.md` lists them, each with the word to write in its place.

use crate::Offence;
use crate::sources::Source;

/// A word that nobody may use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    parts: Vec<String>,
    /// The word to write in its place.
    pub instead: String,
}

/// The retired words of a glossary: the rows of the table below its heading "Retired words".
#[must_use]
pub fn retired(glossary: &str) -> Vec<Retired> {
    let (_, table) = glossary.split_once("## Retired words").unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.filter(|(word, _)| *word != "retired");
    let word = |(word, instead): (&str, &str)| Retired {
        parts: word.split('_').map(str::to_lowercase).collect(),
        instead: instead.trim_end_matches(['|', ' ']).to_owned(),
    };
    rows.map(word).collect()
}

/// Where `source` uses a retired word, alone or as a part of a name; also in its plural.
#[must_use]
pub fn used(source: &Source, retired: &[Retired]) -> Vec<Offence> {
    let mut offences = Vec::new();
    let path = source.path.to_string_lossy();
    for (index, line) in [&*path].into_iter().chain(source.text.lines()).enumerate() {
        // Most lines have none of them, which is soon known.
        let small = line.to_lowercase();
        let near: Vec<_> = retired.iter().filter(|it| small.contains(&it.parts[0])).collect();
        if near.is_empty() {
            continue;
        }
        for name in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let parts = parts(name);
            for word in near.iter().filter(|it| contains(&parts, &it.parts)) {
                let what = format!("{name}: write {}", word.instead);
                offences.push(Offence { path: source.path.clone(), line: index.max(1), what });
            }
        }
    }
    offences
}

/// Whether `word` stands in `name`, part by part.
fn contains(name: &[String], word: &[String]) -> bool {
    let is_same = |(a, b): (&String, &String)| {
        a.strip_prefix(b.as_str()).is_some_and(|rest| ["", "s", "es"].contains(&rest))
    };
    name.windows(word.len()).any(|parts| parts.iter().zip(word).all(is_same))
}

/// The parts of a name in either way of writing one, in small letters: `begin_to_drain`, `BeginToDrain`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_small) {
            parts.push(String::new());
        }
        was_small = !c.is_uppercase();
        if c != '_' {
            parts.last_mut().expect("never empty").extend(c.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOSSARY: &str = "## Processes\n| word | meaning |\n|---|---|\n| worker | one |\n\n\
        ## Retired words\n\n| retired | write |\n|---|---|\n| tether | worker channel |\n\
        | begin_to_drain | drain |\n";

    #[test]
    fn the_second_table_is_read() {
        let words = retired(GLOSSARY);
        let words: Vec<_> = words.iter().map(|it| (it.parts.join(" "), &*it.instead)).collect();
        assert_eq!(
            words,
            [("tether".to_owned(), "worker channel"), ("begin to drain".to_owned(), "drain")]
        );
    }

    #[test]
    fn words_are_found_in_names_and_plurals_and_not_within_others() {
        let found = |text: &str| used(&Source::new("a.rs", text), &retired(GLOSSARY)).len();
        let found = ["Tethers", "TetherEnd", "close_tether(", "tethering", "BeginToDrain", "drain"]
            .map(found);
        assert_eq!(found, [1, 1, 1, 0, 1, 0]);
    }
}
