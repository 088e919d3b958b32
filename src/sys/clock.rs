//! The clock that all processes share.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_MONOTONIC`: the same for every process since boot, never set back.
#[must_use]
pub fn monotonic_ms() -> u64 {
    // The clock always exists; a zero would only make deadlines late.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let millis = u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000_000;
        seconds.saturating_mul(1000).saturating_add(millis)
    })
}
