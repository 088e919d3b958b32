//! What things cost, and how to say it: CPU time from `/proc`, a cache line's way between two CPUs,
//! medians.

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// CPU time that `pids`, processes of one thread each, have used so far.
pub(crate) fn cpu_time(pids: &[u32]) -> io::Result<Duration> {
    pids.iter().map(|pid| cpu_time_of(*pid)).sum()
}

/// To the nanosecond where the kernel tells it (`schedstat`), else in hundredths (`stat`, proc(5)).
fn cpu_time_of(pid: u32) -> io::Result<Duration> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) {
        return number(text.split(' ').next()).map(Duration::from_nanos).ok_or_else(malformed);
    }
    // Fields 14 and 15; the second one is a name in parentheses that may hold anything.
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let ticks = number(fields.next()).zip(number(fields.next()));
    let (user, system) = ticks.ok_or_else(malformed)?;
    Ok(Duration::from_millis(10 * (user + system)))
}

/// Nanoseconds that a cache line takes from one CPU to another: the best of several looks, since in
/// the others the two threads may have shared one, as they do until the scheduler has parted them.
/// `None` where there is but one CPU to be had.
pub(crate) fn line_ns() -> Option<f64> {
    const LOOKS: u32 = 50;
    const LOOK: Duration = Duration::from_millis(1);
    /// Further apart than any two CPUs are: they were never at it at the same time.
    const NS_MAX: f64 = 10_000.0;
    std::thread::available_parallelism().ok().filter(|cpus| cpus.get() > 1)?;
    let (ball, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let hit_back = |parity| {
        let seen = ball.load(Ordering::Acquire);
        if seen % 2 == parity {
            ball.store(seen + 1, Ordering::Release);
        }
        seen
    };
    let best = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                hit_back(1);
            }
        });
        let looks = (0..LOOKS).map(|_| {
            let (start, first) = (Instant::now(), hit_back(0));
            while start.elapsed() < LOOK {
                hit_back(0);
            }
            start.elapsed().as_nanos() as f64 / (hit_back(0) - first).max(1) as f64
        });
        let best = looks.fold(f64::INFINITY, f64::min);
        over.store(true, Ordering::Relaxed);
        best
    });
    Some(best).filter(|ns| *ns < NS_MAX)
}

/// A median and the range around it, of at least one value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        let median = f64::midpoint(low, high);
        Self { least: values[0], median, most: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { least, median, most } = self;
        write!(f, "{median:.digits$} [{least:.digits$}..{most:.digits$}]")
    }
}
