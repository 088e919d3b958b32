//! Tests that messages are written for people: no message is made of Rust's `Debug`. Looks at the text of the program
//! itself.

use std::fs;
use std::path::{Path, PathBuf};

/// Where `Debug` is what it takes: quotes and escapes in a line of the log, which a value of `tracing` comes as.
const ALLOWED: [&str; 1] = ["src/diagnostics/line.rs"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the source").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// Lines of the program proper, without comments and without what tests alone read.
fn read_by_people(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tests = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\npub(super) mod tests {"];
    let ends = tests.iter().filter_map(|it| text.find(it)).min();
    let text = text.get(..ends.unwrap_or(text.len())).unwrap_or(text);
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// `{:?}` and its like, and `?field` of an event.
fn is_debug(line: &str) -> bool {
    let is_format = line.contains(":?}") || line.contains(":#?}");
    let mut fields = line.match_indices('?').map(|(at, _)| (&line[..at], &line[at + 1..]));
    let is_field = fields.any(|(before, behind)| {
        let begins = before.is_empty() || before.ends_with([' ', '(']);
        begins && behind.starts_with(|it: char| it.is_ascii_lowercase())
    });
    is_format || is_field
}

#[test]
fn no_message_is_made_of_debug() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    ["src", "wire/src"].iter().for_each(|it| sources(&root.join(it), &mut paths));
    assert!(paths.len() > 100, "{} files", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let is_test =
            name.contains("tests") || name.contains("simulation") || name == "src/wording.rs";
        if is_test || ALLOWED.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        for (index, line) in read_by_people(&text) {
            // A fault of ours is told to us.
            let is_ours = line.contains("panic!") || line.contains("assert");
            if is_debug(line) && !is_ours {
                wrong.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "made of Debug:\n{}", wrong.join("\n"));
}

#[test]
fn debug_is_found() {
    for line in
        ["format!(\"{it:?}\")", "\"{:#?}\"", "info!(?order, \"x\")", "warn!(%error, ?order)"]
    {
        assert!(is_debug(line), "{line}");
    }
    for line in ["let it = read()?;", "it?.next()", "\"who?\"", "\"{it}\""] {
        assert!(!is_debug(line), "{line}");
    }
}
