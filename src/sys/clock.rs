//! The clocks that all processes share, and the calendar.

use nix::time::{ClockId, clock_gettime};
use std::fmt;
use std::time::Duration;

/// Milliseconds of `CLOCK_MONOTONIC`: the same for every process since boot, never set back.
#[must_use]
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// Microseconds of it.
#[must_use]
pub fn monotonic_us() -> u64 {
    // The clock always exists; a zero would only make deadlines late.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let micros = u64::try_from(t.tv_nsec()).unwrap_or(0) / 1000;
        seconds.saturating_mul(1_000_000).saturating_add(micros)
    })
}

/// A duration in whole milliseconds, as deadlines are counted.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in local time, as a calendar and a wall clock show it. The form is that of RFC 3339:
/// `2000-10-10T13:55:36+02:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LocalTime {
    pub year: i32,
    /// 0 to 11.
    pub month: usize,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
    /// Ahead of UTC.
    pub offset_minutes: i64,
}

impl LocalTime {
    /// The offset from UTC: the sign, hours, minutes.
    #[must_use]
    pub fn offset(&self) -> (char, i64, i64) {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.abs();
        (sign, minutes / 60, minutes % 60)
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, .. } = self;
        let (sign, hours, minutes) = self.offset();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", month + 1)?;
        write!(f, "{sign}{hours:02}:{minutes:02}")
    }
}

/// Seconds since 1970, by the clock that may be set.
#[must_use]
pub fn unix_seconds() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec())
}

/// The local time of that moment. The time zone is that of the first call in this process or in its parent: only that
/// call reads a file.
#[must_use]
pub fn local_time(unix_seconds: i64) -> LocalTime {
    // SAFETY: all zeros is a `tm`, whose one pointer is only for reading names.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both live through the call, which writes to `tm` alone. There is one thread, so nobody changes the
    // environment that the call may read the time zone from. Where it fails, as no year can be so late, `tm` stays
    // what it was.
    unsafe { libc::localtime_r(&raw const unix_seconds, &raw mut tm) };
    LocalTime {
        year: tm.tm_year.saturating_add(1900),
        month: usize::try_from(tm.tm_mon).unwrap_or(0),
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
        offset_minutes: tm.tm_gmtoff / 60,
    }
}
