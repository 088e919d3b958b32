//! Metrics, the samples of runs, and the statistics of them.

use crate::machine::Distance;
use std::fmt;
use std::time::Duration;

/// A median of fewer runs, or of fewer pairs, is told as such, and no goal is judged by it.
pub(crate) const ROUNDS_MIN: usize = 5;

/// The quantity that a number measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The target's CPU seconds, user and system, a GiB.
    CpuPerGib,
    /// The CPU seconds of the target and the generator together, a GiB.
    AllCpuPerGib,
    GibPerSecond,
    PeakMib,
    /// The bytes that the target's pipes may hold, in MiB of the kernel's memory.
    PipesMib,
    /// Jain's fairness index of the transfers' progress when the first one ends: 1 if all are alike.
    Fairness,
    /// The dearest by the cheapest, in CPU seconds of the target a GiB, of transfers whose heads have different lengths.
    Spread,
    /// The spread, divided by the spread of the same tries dealt to the lengths by chance.
    Excess,
    PerSecond,
    PerCpuSecond,
    /// The target's CPU time for one request or exchange, in microseconds.
    CpuEach,
    /// The time until the receiver has the message, in microseconds.
    Got50,
    Got99,
    /// The time until the sender is told so, in microseconds.
    Told50,
    /// The time until a party that has sent a message has its peer's answer, in microseconds.
    Trip50,
    Trip99,
    /// The growth of the target's memory for each receiver that waits, in bytes; and all of its memory, divided by
    /// them.
    BytesEach,
    AllBytesEach,
    /// CPU time that the target uses while nothing happens, milliseconds a second; and before they came.
    IdleCpu,
    IdleCpuBefore,
    /// Pairs of connections on one worker, and on two, as they land.
    OnOneWorker,
    OnTwoWorkers,
    /// Hundredths of all connections that the worker with the fewest has.
    LeastShare,
}

impl Metric {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::CpuPerGib => "CPU-s/GiB",
            Self::AllCpuPerGib => "with both ends",
            Self::GibPerSecond => "GiB/s",
            Self::PeakMib => "peak MiB",
            Self::PipesMib => "pipes MiB",
            Self::Fairness => "Jain",
            Self::Spread => "dearest / cheapest",
            Self::Excess => "x by chance",
            Self::PerSecond => "per s",
            Self::PerCpuSecond => "per CPU-s",
            Self::CpuEach => "CPU us each",
            Self::Got50 => "got p50 us",
            Self::Got99 => "got p99 us",
            Self::Told50 => "told p50 us",
            Self::Trip50 => "round trip p50 us",
            Self::Trip99 => "round trip p99 us",
            Self::BytesEach => "bytes each",
            Self::AllBytesEach => "all memory, bytes each",
            Self::IdleCpu => "idle CPU ms/s",
            Self::IdleCpuBefore => "before they came",
            Self::OnOneWorker => "pairs on one worker",
            Self::OnTwoWorkers => "pairs on two workers",
            Self::LeastShare => "% on the worker with the fewest",
        }
    }

    pub(crate) fn digits(self) -> usize {
        match self {
            Self::CpuPerGib | Self::AllCpuPerGib | Self::Fairness | Self::Spread | Self::Excess => {
                3
            }
            Self::GibPerSecond | Self::IdleCpu | Self::IdleCpuBefore => 2,
            Self::PeakMib
            | Self::PipesMib
            | Self::CpuEach
            | Self::Got50
            | Self::Got99
            | Self::Told50
            | Self::Trip50
            | Self::Trip99 => 1,
            Self::PerSecond
            | Self::PerCpuSecond
            | Self::BytesEach
            | Self::AllBytesEach
            | Self::OnOneWorker
            | Self::OnTwoWorkers
            | Self::LeastShare => 0,
        }
    }

    /// Whether more of it is better.
    fn is_gain(self) -> bool {
        matches!(self, Self::GibPerSecond | Self::PerSecond | Self::PerCpuSecond | Self::Fairness)
    }
}

/// The numbers of one run.
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
    /// In what the contender differs from its program's defaults.
    pub(crate) settings: String,
    pub(crate) round: usize,
    pub(crate) distance: Distance,
    /// The probes before and after the run, in nanoseconds, from which the distance was told.
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

    /// Near runs of a contender.
    pub(crate) fn near(&self, scene: &str, contender: &str) -> usize {
        let these = self.0.iter().filter(|run| run.scene == scene && run.contender == contender);
        these.filter(|run| run.distance == Distance::Near).count()
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

    /// The contender of a family that does best: others are measured in it.
    pub(crate) fn best(
        &self,
        scene: &str,
        family: &str,
        metric: Metric,
        distance: Distance,
    ) -> Option<&str> {
        let theirs = self.0.iter().filter(|run| run.scene == scene);
        let theirs = theirs.map(|run| run.contender.as_str()).filter(|name| is_of(name, family));
        let medians = theirs.filter_map(|name| {
            let median = self.spread(scene, name, metric, distance)?.median;
            Some((if metric.is_gain() { -median } else { median }, name))
        });
        medians.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
    }

    /// The ratio of one contender to another. CPUs that are moved may leave no round that has both at the same
    /// distance.
    pub(crate) fn ratio(
        &self,
        scene: &str,
        [contender, to]: [&str; 2],
        metric: Metric,
        distance: Distance,
    ) -> Option<Ratio> {
        if let Some(paired) = self.paired(scene, [contender, to], metric, distance) {
            return Some(Ratio::Paired(paired));
        }
        let median = |of| Some(self.spread(scene, of, metric, distance)?.median);
        let by = median(to).filter(|by| *by > 0.0)?;
        Some(Ratio::OfMedians(median(contender)? / by))
    }

    fn paired(
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

/// Whether a contender is of a family: the same program, set up in one of several ways that its name goes on with.
pub(crate) fn is_of(contender: &str, family: &str) -> bool {
    contender.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// A ratio to another contender.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ratio {
    /// Pair by pair, of the same round.
    Paired(Spread),
    /// The ratio of medians, if no round has both contenders.
    OfMedians(f64),
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

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paired(spread) => {
                spread.fmt(f)?;
                f.write_str(if spread.count < ROUNDS_MIN { "*" } else { "" })
            }
            Self::OfMedians(ratio) => write!(f, "~{ratio:.*}", f.precision().unwrap_or(2)),
        }
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

/// The time that all but so many hundredths of the times do not exceed; microseconds.
pub(crate) fn percentile(times: &mut [Duration], hundredths: usize) -> f64 {
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * hundredths / 100;
    times.get(at).map_or(0.0, |time| micros(*time))
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(contender: &str, round: usize, distance: Distance, value: f64) -> Run {
        Run {
            scene: "bulk",
            contender: contender.to_owned(),
            settings: String::new(),
            round,
            distance,
            probes: [None; 2],
            others: 0.0,
            sample: Sample(vec![(Metric::GibPerSecond, value)]),
        }
    }

    #[test]
    fn ratios_are_of_pairs_and_else_of_medians() {
        let runs = Runs(vec![
            run("ours", 1, Distance::Near, 4.0),
            run("theirs", 1, Distance::Near, 2.0),
            run("ours", 2, Distance::Near, 9.0),
            run("ours", 2, Distance::Far, 3.0),
            run("theirs", 3, Distance::Far, 1.0),
        ]);
        let ratio = |distance| {
            let ratio = runs.ratio("bulk", ["ours", "theirs"], Metric::GibPerSecond, distance);
            ratio.map(|ratio| format!("{ratio:.1}"))
        };
        assert_eq!(ratio(Distance::Near).as_deref(), Some("2.0*"), "the pair of round 1 alone");
        assert_eq!(ratio(Distance::Far).as_deref(), Some("~3.0"), "no round has both");
        assert_eq!(ratio(Distance::Mixed), None);
    }

    #[test]
    fn the_best_of_a_family_is_what_others_are_measured_in() {
        let near = |contender, value| run(contender, 1, Distance::Near, value);
        let runs = Runs(vec![near("copy 256", 2.0), near("copy 512", 4.0), near("copying", 9.0)]);
        let best = |family| runs.best("bulk", family, Metric::GibPerSecond, Distance::Near);
        assert_eq!(best("copy"), Some("copy 512"));
        assert_eq!(best("copying"), Some("copying"));
        assert_eq!(best("nobody"), None);
    }
}
