//! Directions: which rooms of `src` may use which, as `src/ARCHITECTURE.md` says, and that the files of a room do not
//! use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Offence;
use crate::sources::Source;

/// Each room of `src`, a folder or a file, and the rooms of `src` that it may use. A room stands below all that it
/// uses. `shm` is a crate of its own, and the compiler keeps it from using any of them.
pub const MAY_USE: &[(&str, &str)] = &[
    ("http", ""),
    ("address", ""),
    ("multipart", ""),
    ("pair", ""),
    ("quoted", ""),
    ("wording", ""),
    ("sys", ""),
    ("session", "sys"),
    ("tls", "sys"),
    ("control", "session sys"),
    ("sandbox", "sys"),
    ("stream", "sys tls"),
    ("config", "session sys tls"),
    ("outcome", "config"),
    ("api", "config outcome session"),
    ("tally", "api outcome session"),
    ("torn", "sys tally"),
    ("access", "api config outcome session sys tally torn"),
    ("diagnostics", "config sys tally torn"),
    ("relay", "access api config outcome session stream sys tally"),
    ("admin", "api outcome relay session sys tally"),
    (
        "worker",
        "access admin api config diagnostics outcome relay sandbox session stream sys tally tls",
    ),
    ("master", "config control diagnostics sandbox session sys tally tls worker"),
    ("preflight", "config master sandbox sys"),
    ("cli", "admin config control master preflight session sys"),
];

/// Every room may use these as well: pure code without a socket, a file or a clock.
const PURE: &[&str] = &["http", "address", "multipart", "pair", "quoted"];

/// Uses of a room that the user may not know, and rooms that the table lacks.
#[must_use]
pub fn against(sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for source in sources.iter().filter(|it| it.path.starts_with("src")) {
        let Some(room) = room_of_src(&source.path) else { continue };
        let Some((_, allowed)) = MAY_USE.iter().find(|(it, _)| *it == room) else {
            let what = format!("room {room} is not in the table of directions");
            offences.push(Offence { path: source.path.clone(), line: 1, what });
            continue;
        };
        let is_known = |used: &str| MAY_USE.iter().any(|(it, _)| *it == used);
        for (line, used) in rooms_named(&source.text) {
            let may =
                used == room || allowed.split(' ').any(|it| it == used) || PURE.contains(&&*used);
            if is_known(&used) && !may {
                let what = format!("{room} uses {used}");
                offences.push(Offence { path: source.path.clone(), line, what });
            }
        }
    }
    offences
}

/// The folder of `src` that a file is in, or the file's own name; none for `lib.rs` and `main.rs`, which know all.
fn room_of_src(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.iter().next()?.to_string_lossy().into_owned();
    let room = first.trim_end_matches(".rs").to_owned();
    (!["lib", "main"].contains(&&*room)).then_some(room)
}

/// Names that code has behind `crate::`, each with its line; a list in braces gives several.
fn rooms_named(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (offset, found) in text.match_indices("crate::") {
        let line = text[..offset].lines().count().max(1);
        let before = text[..offset].rsplit('\n').next().unwrap_or_default();
        if before.contains("//") {
            continue;
        }
        let rest = &text[offset + found.len()..];
        let paths = if rest.starts_with('{') { expand(rest) } else { vec![rest.to_owned()] };
        named.extend(paths.iter().map(|path| (line, first_name(path))));
    }
    named
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Files that use each other in a circle, as far as their `use` lines tell. A file may use the files below it though
/// they use it: only siblings that need each other count.
#[must_use]
pub fn circles(sources: &[Source]) -> Vec<Offence> {
    let modules: BTreeMap<String, &Source> =
        sources.iter().filter_map(|it| Some((module(&it.path)?, it))).collect();
    let uses: BTreeMap<&str, BTreeSet<String>> =
        modules.iter().map(|(name, it)| (&**name, used_by(name, &it.text, &modules))).collect();
    let mut offences = Vec::new();
    let mut seen: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (name, source) in &modules {
        if let Some(circle) = circle_through(name, &uses)
            && seen.insert(circle.iter().cloned().collect())
        {
            let what = format!("circle: {}", circle.join(" -> "));
            offences.push(Offence { path: source.path.clone(), line: 1, what });
        }
    }
    offences
}

/// The module that a file is, from the crate's root: `src::relay::sending`. Files of tests are no modules.
fn module(path: &Path) -> Option<String> {
    let is_of_tests = |it: &str| it == "tests" || it == "tests.rs" || it == "benches";
    let parts: Vec<_> = path.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    if parts.iter().any(|it| is_of_tests(it)) || !parts.iter().any(|it| it == "src") {
        return None;
    }
    let joined = parts.join("::");
    let name = joined.strip_suffix(".rs")?;
    Some(name.trim_end_matches("::mod").trim_end_matches("::lib").to_owned())
}

/// The modules of the same crate that `text`, module `name`, uses: not itself, and none below it.
fn used_by(name: &str, text: &str, modules: &BTreeMap<String, &Source>) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut used = BTreeSet::new();
    for path in use_paths(code) {
        let Some(path) = absolute(name, &path) else { continue };
        let Some(target) = resolve(&path, modules) else { continue };
        if target != name && !target.starts_with(&format!("{name}::")) {
            used.insert(target);
        }
    }
    used
}

/// Paths of the `use` lines, with braces expanded. A module uses what it passes on, too.
fn use_paths(code: &str) -> Vec<String> {
    use_lines(code).flat_map(|(_, path)| expand(path)).collect()
}

/// What stands behind each `use` at the beginning of a line, and whether it passes names on.
fn use_lines(code: &str) -> impl Iterator<Item = (bool, &str)> {
    let starts = code.match_indices('\n').map(|(index, _)| &code[index + 1..]);
    starts.filter_map(|line| {
        let (is_public, rest) = match line.strip_prefix("pub") {
            None => (false, line),
            Some(rest) if rest.starts_with('(') => (true, rest.split_once(") ")?.1),
            Some(rest) => (true, rest.strip_prefix(' ')?),
        };
        Some((is_public, rest.strip_prefix("use ")?.split(';').next()?))
    })
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`. Anything behind the first closed brace is ignored.
fn expand(path: &str) -> Vec<String> {
    let Some((before, inside)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let (mut depth, mut start) = (0, 0);
    let mut items = Vec::new();
    for (index, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&inside[start..index]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&inside[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    let items = items.into_iter().map(str::trim).filter(|it| !it.is_empty());
    items.flat_map(expand).map(|item| format!("{}{item}", before.trim())).collect()
}

/// A path of a `use` line in module `name`, from the crate's root; none if it leads to another crate.
fn absolute(name: &str, path: &str) -> Option<String> {
    let root = &name[..name.find("src")? + "src".len()];
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(format!("{root}::{rest}"));
    }
    let (mut base, mut rest) = (name, path.strip_prefix("self::").unwrap_or(path));
    while let Some(shorter) = rest.strip_prefix("super::") {
        (base, rest) = (base.rsplit_once("::")?.0, shorter);
    }
    Some(format!("{base}::{rest}"))
}

/// The module that defines the last name of a path. Follows names that are passed on to the module behind them.
fn resolve(path: &str, modules: &BTreeMap<String, &Source>) -> Option<String> {
    let mut module = path;
    while !modules.contains_key(module) {
        module = module.rsplit_once("::")?.0;
    }
    let item = first_name(path[module.len()..].trim_start_matches(':'));
    let given_on = |it: &str| {
        let found = expand(it).into_iter().find(|path| path.rsplit("::").next() == Some(&*item));
        // A macro is passed on where it is made.
        let behind = absolute(module, &found?).filter(|it| *it != format!("{module}::{item}"))?;
        resolve(&behind, modules).filter(|it| it != module)
    };
    let lines = use_lines(&modules.get(module)?.text);
    let lines = lines.filter(|(is_public, _)| *is_public && !item.is_empty());
    lines.map(|(_, line)| line).filter_map(given_on).next().or_else(|| Some(module.to_owned()))
}

/// The shortest way from `start` back to it, with `start` at both ends.
fn circle_through(start: &str, uses: &BTreeMap<&str, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in uses.get(way.last()?.as_str()).into_iter().flatten() {
                let mut way = way.clone();
                way.push(next.clone());
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    #[test]
    fn a_room_above_is_not_used() {
        let up = source("src/sys/clock.rs", "//! Time.\n\nuse crate::{http, worker::Worker};\n");
        let down = source("src/worker/mod.rs", "//! It.\n\nuse crate::sys::Clock;\n");
        let found = against(&[up, down]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].what, "sys uses worker");
    }

    #[test]
    fn braces_are_expanded() {
        assert_eq!(expand("a::{b, c::{d, e}}"), ["a::b", "a::c::d", "a::c::e"]);
    }

    #[test]
    fn siblings_in_a_circle_are_found_and_what_a_parent_gives_on_is_the_childs() {
        let parent = "//! Up.\n\nmod a;\nmod b;\nmod c;\n\npub use b::B;\n\nuse a::A;\n";
        let sources = [
            source("src/relay/mod.rs", parent),
            source("src/relay/a.rs", "//! A.\n\nuse super::B;\n"),
            source("src/relay/b.rs", "//! B.\n\nuse super::c::C;\n"),
            source("src/relay/c.rs", "//! C.\n\nuse crate::relay::{a::A};\n"),
        ];
        let found: Vec<_> = circles(&sources).into_iter().map(|it| it.what).collect();
        let expected = "circle: src::relay::a -> src::relay::b -> src::relay::c -> src::relay::a";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_circle_through_a_name_that_is_passed_on_is_found() {
        let sources = [
            source("src/config/mod.rs", "//! All.\n\nmod check;\nmod keys;\nmod typed;\n"),
            source("src/config/check.rs", "//! C.\n\nuse super::typed::File;\n"),
            source("src/config/keys.rs", "//! K.\n\nuse super::check::Key;\n"),
            source("src/config/typed.rs", "//! T.\n\npub(super) use super::keys::{Log};\n"),
        ];
        let found: Vec<_> = circles(&sources).into_iter().map(|it| it.what).collect();
        let expected = "circle: src::config::check -> src::config::typed -> src::config::keys -> src::config::check";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn the_table_itself_points_one_way() {
        let place = |room: &str| MAY_USE.iter().position(|(it, _)| *it == room);
        for (room, uses) in MAY_USE {
            for used in uses.split_whitespace() {
                assert!(
                    place(used).is_some() && place(used) < place(room),
                    "{room} stands above {used}"
                );
            }
        }
    }
}
