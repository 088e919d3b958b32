//! Waiting with a deadline. Called by everything that waits for another process; a wait that runs out names what it
//! waited for, so that a failure explains itself.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take that should hold at once: generous, because the machine is shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `probe` yields a value; panics with `what` when [`PATIENCE`] runs out.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

/// Polls until `probe` yields a value; panics with `what` when `limit` runs out.
#[track_caller]
pub(crate) fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `probe` has given the same value for `span`, and returns it: how a stall is recognised.
#[track_caller]
pub(crate) fn stays<T: PartialEq>(what: &str, span: Duration, mut probe: impl FnMut() -> T) -> T {
    let mut last = probe();
    let mut since = Instant::now();
    eventually(what, || {
        let now = probe();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() >= span).then_some(())
    });
    last
}
