//! Writes the notices that the program owes: of each crate that is linked into it, its licence files word by word.
//! Called by `scripts/package`: `cargo run --example notices -- FILE`. The program asks cargo what is linked in, and
//! needs no network once it is built. A crate that has no licence file is an error, unless its
//! licence asks for no notice. After an error no notices are written.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The beginnings of a licence file's name, in capitals.
const BEGINNINGS: &[&str] = &["LICENSE", "LICENCE", "UNLICENSE", "COPYING", "COPYRIGHT", "NOTICE"];

/// The extensions of text files. A file whose name has no extension is a text, too.
const EXTENSIONS: &[&str] = &["txt", "md"];

const HEAD: &str = "\
idontstore contains the crates below: each with its version, and its licence as an SPDX expression. After them come the \
licence\nfiles that they were published with, word by word; equal ones stand once.\n";

/// The licence that asks for no notice: some crates have no file of it.
const WAIVED: &str = "CC0-1.0";
const WAIVER: &str = "CC0 1.0: the authors have waived their rights. \
                      https://creativecommons.org/publicdomain/zero/1.0/legalcode\n";

struct Package {
    name: String,
    version: String,
    license: String,
    directory: PathBuf,
}

/// The text of a licence file, and the crates whose file it is.
struct Notice {
    text: String,
    of: Vec<String>,
}

fn main() -> Result<()> {
    let Some(file) = env::args_os().nth(1) else {
        return Err("usage: notices FILE".into());
    };
    let linked = linked()?;
    if linked.is_empty() {
        return Err("cargo names no crate that is linked in".into());
    }
    Ok(fs::write(file, notices(&linked)?)?)
}

/// Crates of other authors in the program for this machine. Crates that only a build needs, and macros, are not part
/// of it.
fn linked() -> Result<Vec<Package>> {
    let tree = cargo(
        "tree --frozen --package idontstore --edges normal,no-proc-macro --prefix none --format {p}",
    )?;
    // `name vVERSION`, and what else there is to say.
    let names: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .filter_map(|(name, rest)| Some((name, rest.split(' ').next()?)))
        .collect();
    let mut packages = packages()?;
    names
        .into_iter()
        .filter_map(|(name, version)| match packages.remove(&(name.into(), version.into())) {
            // The crate is of this workspace.
            Some(None) => None,
            Some(Some(package)) => Some(Ok(package)),
            None => Some(Err(format!("cargo does not say where {name} {version} is").into())),
        })
        .collect()
}

/// All packages that could be linked in by name and version; nothing for those of this workspace.
fn packages() -> Result<HashMap<(String, String), Option<Package>>> {
    let version = Command::new("rustc").arg("-vV").output()?.stdout;
    let version = String::from_utf8(version)?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc names no host")?;
    let metadata =
        cargo(&format!("metadata --frozen --format-version 1 --filter-platform {host}"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let list = metadata["packages"].as_array().ok_or("cargo names no packages")?;
    list.iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            let name = text("name").ok_or("a package without a name")?;
            let version = text("version").ok_or("a package without a version")?;
            let key = (name.clone(), version.clone());
            if package["source"].is_null() {
                return Ok((key, None));
            }
            let license = text("license").ok_or_else(|| format!("{name} names no licence"))?;
            let mut directory =
                PathBuf::from(text("manifest_path").ok_or("a package without a place")?);
            directory.pop();
            Ok((key, Some(Package { name, version, license, directory })))
        })
        .collect()
}

fn cargo(arguments: &str) -> Result<String> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments.split(' ')).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn notices(linked: &[Package]) -> Result<String> {
    let mut all = String::from(HEAD);
    all.push('\n');
    let mut texts: Vec<Notice> = Vec::new();
    // The position of each known text, by its words, since some texts differ only in spaces and line breaks.
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |text: String, of: String| {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let index = *known.entry(words).or_insert(texts.len());
        match texts.get_mut(index) {
            Some(notice) => notice.of.push(of),
            None => texts.push(Notice { text, of: vec![of] }),
        }
    };
    for package in linked {
        let Package { name, version, license, directory } = package;
        writeln!(all, "{name} {version}: {license}")?;
        let mut files = Vec::new();
        find(directory, &mut files)?;
        if files.is_empty() && license == WAIVED {
            add(WAIVER.to_owned(), format!("{name} {version}, without a file"));
            continue;
        }
        if files.is_empty() {
            return Err(
                format!("{name} {version} has no licence file in {}", directory.display()).into()
            );
        }
        files.sort();
        for file in files {
            let text = String::from_utf8_lossy(&fs::read(&file)?).replace('\r', "");
            let of = format!("{name} {version}, {}", file.strip_prefix(directory)?.display());
            add(text, of);
        }
    }
    for Notice { text, of } in texts {
        write!(
            all,
            "\n{}\n{}\n\n{}\n",
            "=".repeat(80),
            of.join("\n"),
            text.trim_matches('\n').trim_end()
        )?;
    }
    Ok(all)
}

/// The licence files under a directory, also those of the code of others that a crate has taken in.
fn find(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            find(&path, files)?;
        } else if kind.is_file() && is_licence(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    let extension =
        path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        // An extension with a hyphen is none: LICENSE-Apache-2.0_WITH_LLVM-exception.
        && extension.is_none_or(|it| EXTENSIONS.contains(&it.as_str()) || it.contains(['-', '_']))
}
