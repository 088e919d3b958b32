//! Where it has to get: ratios of medians in one run, with the CPUs near if nothing else is said.

use crate::machine::Distance;
use crate::sample::{Metric, Runs};
use crate::scenes::{
    CHUNKS_ONE, CHUNKS_TWO, HAPROXY_SPLICE, MULTIPART_ONE, MULTIPART_TWO, NGINX, ONE_WORKER,
    PIPING, RELAY, TLS_ALONE, TWO_WORKERS,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A figure: its scene and contender.
type Of = (&'static str, &'static str);

#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) says: &'static str,
    metric: Metric,
    of: Of,
    /// What it is measured by: the sum of these, or 1 if there are none.
    by: &'static [Of],
    pub(crate) bound: Bound,
    distance: Distance,
}

impl Goal {
    /// Whether its scene was run.
    pub(crate) fn is_asked(&self, runs: &Runs) -> bool {
        runs.0.iter().any(|run| run.scene == self.of.0)
    }

    /// What came of it: the ratio, and whether that is within the bound.
    pub(crate) fn outcome(&self, runs: &Runs) -> Option<(f64, bool)> {
        let median = |(scene, contender): &Of| {
            runs.spread(scene, contender, self.metric, self.distance).map(|it| it.median)
        };
        let by: f64 = match self.by {
            [] => 1.0,
            by => by.iter().map(median).sum::<Option<f64>>()?,
        };
        let ratio = median(&self.of)? / by;
        let met = match self.bound {
            Bound::AtMost(most) => ratio <= most,
            Bound::AtLeast(least) => ratio >= least,
        };
        Some((ratio, met))
    }
}

const COPY: &[Of] = &[("bulk", "copy")];
const HAPROXY: &[Of] = &[("bulk", HAPROXY_SPLICE)];
const MEET_16: &[Of] = &[("kept-16", "meet")];
const PIPING_16: &[Of] = &[("kept-16", PIPING)];
const ECHO: &[Of] = &[("latency", "echo")];

const fn goal(says: &'static str, metric: Metric, of: Of, by: &'static [Of], bound: Bound) -> Goal {
    Goal { says, metric, of, by, bound, distance: Distance::Near }
}

const fn far(goal: Goal) -> Goal {
    Goal { distance: Distance::Far, ..goal }
}

use Bound::{AtLeast, AtMost};
use Metric::{
    AllCpuPerGib, BytesEach, CpuEach, CpuPerGib, Fairness, GibPerSecond, Got50, IdleCpu, PeakMib,
    PerCpuSecond, PerSecond,
};

pub(crate) const GOALS: &[Goal] = &[
    goal("bulk, two workers: CPU / copy", CpuPerGib, ("bulk", TWO_WORKERS), COPY, AtMost(0.75)),
    goal(
        "bulk, two workers, chunks: CPU / copy",
        CpuPerGib,
        ("bulk", CHUNKS_TWO),
        COPY,
        AtMost(1.1),
    ),
    goal(
        "bulk, two workers: CPU / HAProxy's splice",
        CpuPerGib,
        ("bulk", TWO_WORKERS),
        HAPROXY,
        AtMost(1.25),
    ),
    goal(
        "bulk, two workers: speed / HAProxy's splice",
        GibPerSecond,
        ("bulk", TWO_WORKERS),
        HAPROXY,
        AtLeast(1.0),
    ),
    goal(
        "bulk, two workers: CPU with both ends / by chunks",
        AllCpuPerGib,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.0),
    ),
    goal(
        "bulk, two workers: speed / by chunks",
        GibPerSecond,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtLeast(1.0),
    ),
    far(goal(
        "bulk, two workers, CPUs far: CPU / by chunks",
        CpuPerGib,
        ("bulk", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(0.5),
    )),
    goal(
        "bulk, two workers, chunks: speed / copy",
        GibPerSecond,
        ("bulk", CHUNKS_TWO),
        COPY,
        AtLeast(1.1),
    ),
    goal(
        "bulk, one worker, chunks: CPU / copy",
        CpuPerGib,
        ("bulk", CHUNKS_ONE),
        COPY,
        AtMost(1.1),
    ),
    goal("bulk, one worker: CPU / copy", CpuPerGib, ("bulk", ONE_WORKER), COPY, AtMost(0.75)),
    goal(
        "bulk, one worker: CPU with both ends / by chunks",
        AllCpuPerGib,
        ("bulk", ONE_WORKER),
        &[("bulk", CHUNKS_ONE)],
        AtMost(1.0),
    ),
    goal(
        "multipart, two workers: CPU / raw by chunks",
        CpuPerGib,
        ("bulk", MULTIPART_TWO),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.15),
    ),
    goal(
        "multipart, one worker: CPU / raw by chunks",
        CpuPerGib,
        ("bulk", MULTIPART_ONE),
        &[("bulk", CHUNKS_ONE)],
        AtMost(1.15),
    ),
    goal(
        "100 at once, two workers: CPU / one alone by chunks",
        CpuPerGib,
        ("crowd", TWO_WORKERS),
        &[("bulk", CHUNKS_TWO)],
        AtMost(1.5),
    ),
    goal(
        "100 at once, one worker: CPU / one alone by chunks",
        CpuPerGib,
        ("crowd", ONE_WORKER),
        &[("bulk", CHUNKS_ONE)],
        AtMost(1.5),
    ),
    goal("100 at once, two workers: Jain", Fairness, ("crowd", TWO_WORKERS), &[], AtLeast(0.97)),
    goal("100 at once, one worker: Jain", Fairness, ("crowd", ONE_WORKER), &[], AtLeast(0.97)),
    goal(
        "kept alive, 16, one worker: per s / meet",
        PerSecond,
        ("kept-16", "idontstore, one worker, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, one worker: per CPU-s / meet",
        PerCpuSecond,
        ("kept-16", "idontstore, one worker, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, two workers: per s / meet",
        PerSecond,
        ("kept-16", "idontstore, two workers, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, two workers: per CPU-s / meet",
        PerCpuSecond,
        ("kept-16", "idontstore, two workers, sent"),
        MEET_16,
        AtLeast(0.6),
    ),
    goal(
        "kept alive, 16, two workers: per s / Piping Server",
        PerSecond,
        ("kept-16", "idontstore, two workers, sent"),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "kept alive, 16, two workers: per CPU-s / Piping Server",
        PerCpuSecond,
        ("kept-16", "idontstore, two workers, sent"),
        PIPING_16,
        AtLeast(3.0),
    ),
    goal(
        "latency p50, two workers / echo",
        Got50,
        ("latency", "idontstore, two workers, sent"),
        ECHO,
        AtMost(1.5),
    ),
    goal(
        "safe-conducts: CPU each / nginx `return 201`",
        CpuEach,
        ("safe-conducts", RELAY),
        &[("safe-conducts", NGINX)],
        AtMost(1.5),
    ),
    // The segment is 128 MiB; the rest is what three processes have of their own.
    goal("100 at once, two workers: peak MiB", PeakMib, ("crowd", TWO_WORKERS), &[], AtMost(160.0)),
    goal("idle receivers: CPU ms/s of all", IdleCpu, ("idle", RELAY), &[], AtMost(1.0)),
    goal("idle receivers: bytes each", BytesEach, ("idle", RELAY), &[], AtMost(2048.0)),
    goal(
        "HTTPS, two workers: CPU / (TLS library + copy)",
        CpuPerGib,
        ("https", TWO_WORKERS),
        &[("https", TLS_ALONE), ("https", "copy")],
        AtMost(1.25),
    ),
    goal(
        "HTTPS, one worker: CPU / (TLS library + copy)",
        CpuPerGib,
        ("https", ONE_WORKER),
        &[("https", TLS_ALONE), ("https", "copy")],
        AtMost(1.25),
    ),
];
