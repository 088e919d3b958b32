//! Configuration files for the relays of the tests: the lines of a test, and what all tests need.
//!
//! Two variables change every relay. `E2E_DEFAULTS=shipped` leaves the defaults as they are shipped, with pipes and with
//! the hang timeout; without it, many tests at a time fit one user's pipes, and a test may stop a worker for long.
//! `E2E_WORKERS=40` gives 40 workers to each relay that has more than one. `scripts/test shipped` sets both.

use std::env;
use std::fs;
use std::path::Path;

use super::proc::may_look_in;

/// Returns how many workers a relay has whose test asks for `asked`.
pub(super) fn workers(asked: usize) -> usize {
    let given = env::var("E2E_WORKERS").ok().filter(|_| asked > 1);
    given.map_or(asked, |it| it.parse().expect("E2E_WORKERS is a number"))
}

/// Writes the configuration file: the lines, and a control socket.
pub(super) fn configure(
    directory: &Path,
    own: &str,
    workers: usize,
    lines: &[&str],
    is_https: bool,
) {
    let control = format!("control_socket = {:?}", directory.join("control"));
    let is_shipped = env::var_os("E2E_DEFAULTS").is_some_and(|it| it == "shipped");
    // Tests stop workers for as long as they like.
    let patience = "timeouts.hang_timeout = \"1h\"";
    let is_patient = !is_shipped && !lines.iter().any(|line| line.contains("hang_timeout"));
    let is_open = !may_look_in() && !lines.iter().any(|line| line.starts_with("sandbox"));
    // A user may have no more than 64 of full size, and many tests run at a time.
    let has_default_pipes = !is_shipped && !lines.iter().any(|line| line.contains("memory"));
    let added = [
        is_patient.then_some(patience),
        is_open.then_some("sandbox = \"off\""),
        has_default_pipes.then_some("memory.pipes = 4"),
    ];
    let added = [control.as_str()].into_iter().chain(added.into_iter().flatten());
    let lines: Vec<_> = lines.iter().copied().chain(added).collect();
    fs::write(directory.join("test.toml"), config_text(own, workers, &lines, is_https)).unwrap();
}

/// The test's own listener comes first; whole tables after it.
fn config_text(own: &str, workers: usize, lines: &[&str], is_https: bool) -> String {
    let (tables, keys): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.starts_with('['));
    let tls = "tls = { certificate = 'certificate.pem', key = 'key.pem' }";
    let address = format!("address = \"{own}\"");
    let own = ["[[listener]]", &address, if is_https { tls } else { "" }];
    let lines = keys.into_iter().copied().chain(own).chain(tables.into_iter().copied());
    lines.fold(format!("workers = {workers}\n"), |text, line| text + line + "\n")
}

/// The address in a log line about a listener.
pub(super) fn listener_address(line: &str) -> Option<&str> {
    let url = line.strip_prefix("listening on ")?;
    url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))
}
