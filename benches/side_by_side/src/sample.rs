//! What is measured, and what came of it.

use crate::machine::Distance;
use std::fmt;
use std::time::Duration;

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The target's CPU seconds, user and system, a GiB.
    CpuPerGib,
    /// Its own and the generator's.
    AllCpuPerGib,
    GibPerSecond,
    PeakMib,
    /// Jain's fairness index of the transfers' progress when the first one ends: 1 if all are alike.
    Fairness,
    PerSecond,
    PerCpuSecond,
    /// The target's CPU time for one request or exchange, in microseconds.
    CpuEach,
    /// Until the receiver has the message, in microseconds.
    Got50,
    Got99,
    /// Until the sender is told so.
    Told50,
    /// Memory of each that waits.
    BytesEach,
    /// CPU time that the target uses while nothing happens, milliseconds a second; and before they came.
    IdleCpu,
    IdleCpuBefore,
}

impl Metric {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::CpuPerGib => "CPU-s/GiB",
            Self::AllCpuPerGib => "with both ends",
            Self::GibPerSecond => "GiB/s",
            Self::PeakMib => "peak MiB",
            Self::Fairness => "Jain",
            Self::PerSecond => "per s",
            Self::PerCpuSecond => "per CPU-s",
            Self::CpuEach => "CPU us each",
            Self::Got50 => "got p50 us",
            Self::Got99 => "got p99 us",
            Self::Told50 => "told p50 us",
            Self::BytesEach => "bytes each",
            Self::IdleCpu => "idle CPU ms/s",
            Self::IdleCpuBefore => "before they came",
        }
    }

    pub(crate) fn digits(self) -> usize {
        match self {
            Self::CpuPerGib | Self::AllCpuPerGib | Self::Fairness => 3,
            Self::GibPerSecond | Self::IdleCpu | Self::IdleCpuBefore => 2,
            Self::PeakMib | Self::CpuEach | Self::Got50 | Self::Got99 | Self::Told50 => 1,
            Self::PerSecond | Self::PerCpuSecond | Self::BytesEach => 0,
        }
    }
}

/// What one run gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(pub(crate) Vec<(Metric, f64)>);

impl Sample {
    pub(crate) fn of(&self, metric: Metric) -> Option<f64> {
        self.0.iter().find(|(it, _)| *it == metric).map(|(_, value)| *value)
    }
}

/// A run of one contender.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) scene: &'static str,
    pub(crate) contender: String,
    pub(crate) round: usize,
    pub(crate) distance: Distance,
    /// What that was told from, in nanoseconds, before and after it.
    pub(crate) probes: [Option<f64>; 2],
    /// CPUs that were busy with something else before it.
    pub(crate) others: f64,
    pub(crate) sample: Sample,
}

/// All runs; asked by scene, contender, metric and distance, as only like may be compared with like.
#[derive(Debug, Default)]
pub(crate) struct Runs(pub(crate) Vec<Run>);

impl Runs {
    fn values(
        &self,
        scene: &str,
        contender: &str,
        metric: Metric,
        distance: Distance,
    ) -> impl Iterator<Item = (usize, f64)> {
        let these = self.0.iter().filter(move |run| {
            run.scene == scene && run.contender == contender && run.distance == distance
        });
        these.filter_map(move |run| Some((run.round, run.sample.of(metric)?)))
    }

    pub(crate) fn spread(
        &self,
        scene: &str,
        contender: &str,
        metric: Metric,
        distance: Distance,
    ) -> Option<Spread> {
        Spread::of(self.values(scene, contender, metric, distance).map(|(_, value)| value))
    }

    /// Of one contender to another, pair by pair: of the same round.
    pub(crate) fn ratio(
        &self,
        scene: &str,
        [contender, to]: [&str; 2],
        metric: Metric,
        distance: Distance,
    ) -> Option<Spread> {
        let others: Vec<(usize, f64)> = self.values(scene, to, metric, distance).collect();
        Spread::of(self.values(scene, contender, metric, distance).filter_map(|(round, value)| {
            let (_, other) = others.iter().find(|(of, _)| *of == round)?;
            (*other > 0.0).then_some(value / other)
        }))
    }
}

/// A median and the range around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
    pub(crate) count: usize,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most, count) = (*values.first()?, *values.last()?, values.len());
        let median = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
        Some(Self { least, median, most, count })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { least, median, most, count } = self;
        if *count == 1 {
            return write!(f, "{median:.digits$}");
        }
        write!(f, "{median:.digits$} [{least:.digits$}..{most:.digits$}]")
    }
}

/// Of many times, that which all but so many hundredths do not exceed; microseconds.
pub(crate) fn percentile(times: &mut [Duration], hundredths: usize) -> f64 {
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * hundredths / 100;
    times.get(at).map_or(0.0, |time| micros(*time))
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
