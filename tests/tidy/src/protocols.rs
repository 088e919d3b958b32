//! End-to-end tests run over HTTP and over HTTPS, or say why they do not.

use std::path::Path;

use crate::Offence;
use crate::sources::Source;

/// A module, or a folder, that holds this line gives the reason for all its tests.
const REASON: &str = "//! Not run again over HTTPS: ";

/// Tests of `tests/e2e` with a bare `#[test]` whose module gives no reason. They may say `#[over_both]`, or
/// `#[over_http("reason")]`.
#[must_use]
pub fn undecided(sources: &[Source]) -> Vec<Offence> {
    let reasoned: Vec<_> =
        sources.iter().filter(|it| it.text.contains(REASON)).map(|it| &*it.path).collect();
    let has_reason = |path: &Path| {
        let folders = path.ancestors().skip(1).map(|it| it.join("mod.rs"));
        reasoned.contains(&path) || folders.into_iter().any(|it| reasoned.contains(&&*it))
    };
    let mut offences = Vec::new();
    for source in sources.iter().filter(|it| it.path.starts_with("tests/e2e")) {
        let bare = source.text.lines().enumerate().filter(|(_, line)| line.trim() == "#[test]");
        for (index, _) in bare.filter(|_| !has_reason(&source.path)) {
            let what = "write #[over_both] or #[over_http(\"reason\")]".to_owned();
            offences.push(Offence { path: source.path.clone(), line: index + 1, what });
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_file_or_its_folder_is_enough() {
        let reason = "//! Pipes.\n//!\n//! Not run again over HTTPS: they are bypassed.\n";
        let test = "//! A test.\n\n#[test]\nfn it() {}\n";
        let sources = [
            Source::new("tests/e2e/pipes/mod.rs", reason),
            Source::new("tests/e2e/pipes/share.rs", test),
            Source::new("tests/e2e/ring.rs", test),
            Source::new("tests/e2e/logs.rs", &format!("{reason}{test}")),
        ];
        let found = undecided(&sources);
        let found: Vec<_> = found.iter().map(|it| (it.path.to_str(), it.line)).collect();
        assert_eq!(found, [(Some("tests/e2e/ring.rs"), 3)]);
    }
}
