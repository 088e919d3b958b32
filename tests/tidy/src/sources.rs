//! The files that the rules look at, and the room that each belongs to.

use std::fs;
use std::path::{Path, PathBuf};

/// A file and its text.
#[derive(Debug)]
pub struct Source {
    /// Path from the root of the repository.
    pub path: PathBuf,
    /// The room, as [`room`] names it.
    pub room: String,
    /// The whole file.
    pub text: String,
}

impl Source {
    /// A file of the repository.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), room: room(Path::new(path)), text: text.to_owned() }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|it| it == "rs")
    }
}

/// Where Rust is looked for.
const RUST: &[&str] = &["src", "shm", "wire", "benches", "examples", "fuzz", "tests"];

/// Where words are looked at: code, documents, configuration, scripts.
const WORDS: &[&str] =
    &["src", "shm", "wire", "docs", "conf", "scripts", "README.md", "CONTRIBUTING.md"];

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// All Rust of the repository.
#[must_use]
pub fn rust() -> Vec<Source> {
    below(RUST).into_iter().filter(Source::is_rust).collect()
}

/// All files whose words are looked at.
#[must_use]
pub fn worded() -> Vec<Source> {
    below(WORDS)
}

/// A document of the repository; empty if it is not there.
#[must_use]
pub fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// The room of a file: a folder of `src`, or what stands beside `src`.
///
/// ```
/// use std::path::Path;
/// assert_eq!(tidy::sources::room(Path::new("src/relay/mod.rs")), "relay");
/// assert_eq!(tidy::sources::room(Path::new("src/cli.rs")), "src");
/// assert_eq!(tidy::sources::room(Path::new("shm/src/lib.rs")), "shm");
/// assert_eq!(tidy::sources::room(Path::new("shm/tests/kill.rs")), "shm/tests");
/// ```
#[must_use]
pub fn room(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|it| it.to_string_lossy()).collect();
    match parts.as_slice() {
        [top, room, _, ..] if top == "src" => room.to_string(),
        [top, kind, ..] if kind == "tests" || top == "tests" => format!("{top}/{kind}"),
        [top, ..] => top.to_string(),
        [] => String::new(),
    }
}

fn below(tops: &[&str]) -> Vec<Source> {
    let root = root();
    let mut paths = Vec::new();
    tops.iter().for_each(|top| collect(&root.join(top), &mut paths));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some(Source::new(path.strip_prefix(&root).ok()?.to_str()?, &text))
    };
    paths.into_iter().filter_map(read).collect()
}

/// Adds the files at and below `path`, but for what is built and what is hidden.
fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    let is_left_out = |path: &Path| {
        path.file_name().is_some_and(|it| it == "target" || it.to_string_lossy().starts_with('.'))
    };
    if path.is_dir() && !is_left_out(path) {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| collect(&entry.path(), into));
    } else if path.is_file() {
        into.push(path.to_owned());
    }
}
