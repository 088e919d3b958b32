//! Needs that not every machine meets. A test whose need is not met says so here, and `scripts/test` counts it as
//! skipped. Where `REQUIRE` names the need, as on the build server, the test fails instead.

use std::fs::File;
use std::io::Write;
use std::thread;

/// The names of all needs, as `REQUIRE` has them.
const NEEDS: [&str; 9] = [
    "root",
    "namespaces",
    "mounts",
    "ipv6",
    "cgroups",
    "pipe-limit",
    "faketime",
    "python",
    "wormhole",
];

/// Returns whether `need` is met; if it is not, notes that this test, or a part of it, is skipped.
#[track_caller]
pub(crate) fn needs(need: &str, is_met: bool) -> bool {
    assert!(NEEDS.contains(&need), "no need is called {need}");
    if !is_met {
        let test = thread::current().name().unwrap_or_default().to_owned();
        eprintln!("skipped for want of {need}: {test}");
        note(&format!("{need}: {test}\n"));
        let required = std::env::var("REQUIRE").unwrap_or_default();
        let is_required = required.split_whitespace().any(|it| it == need);
        assert!(!is_required, "skipped for want of {need}, which REQUIRE names");
    }
    is_met
}

/// Returns whether root runs this test; if not, notes that it is skipped.
#[track_caller]
pub(crate) fn needs_root() -> bool {
    needs("root", nix::unistd::geteuid().is_root())
}

/// Adds a line to the file that `scripts/test` counts. The tests write to it at the same time, each a line at once.
fn note(line: &str) {
    if let Some(path) = std::env::var_os("SKIPPED") {
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("SKIPPED names a file");
    }
}
