//! A goal: the ratio of a figure to others, how large it has to be or may be, and whether the runs have met it.

use crate::machine::Distance;
use crate::sample::{Metric, ROUNDS_MIN, Runs, is_of};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The verdict on a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// There are figures of no more than so many rounds.
    NotJudged(usize),
    NotMeasured,
}

/// A figure: its scene and contender.
pub(crate) type Of = (&'static str, &'static str);

#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) says: &'static str,
    metric: Metric,
    of: Of,
    /// The figures to divide by: the sum of the best of these families, or 1 if there are none.
    by: &'static [Of],
    pub(crate) bound: Bound,
    distance: Distance,
}

impl Goal {
    /// Whether its scene was run.
    pub(crate) fn is_asked(&self, runs: &Runs) -> bool {
        runs.0.iter().any(|run| run.scene == self.of.0)
    }

    /// Whether it measures its figure by that contender, in the same scene.
    pub(crate) fn is_by(&self, scene: &str, contender: &str) -> bool {
        let mut by = self.by.iter().filter(|(of, _)| *of == scene && self.of.0 == scene);
        by.any(|(_, family)| is_of(contender, family))
    }

    /// The verdict on what was measured at the goal's own distance.
    pub(crate) fn verdict(&self, runs: &Runs) -> Verdict {
        let Some((ratio, rounds)) = self.ratio(runs, self.distance) else {
            return Verdict::NotMeasured;
        };
        let is_met = match self.bound {
            Bound::AtMost(most) => ratio <= most,
            Bound::AtLeast(least) => ratio >= least,
        };
        match is_met {
            _ if rounds < ROUNDS_MIN => Verdict::NotJudged(rounds),
            true => Verdict::Met,
            false => Verdict::Missed,
        }
    }

    /// And of how many rounds each figure is at least.
    pub(crate) fn ratio(&self, runs: &Runs, distance: Distance) -> Option<(f64, usize)> {
        let of = runs.spread(self.of.0, self.of.1, self.metric, distance)?;
        let (mut sum, mut rounds) = (0.0, of.count);
        for (scene, family) in self.by {
            let best = runs.best(scene, family, self.metric, distance)?;
            let by = runs.spread(scene, best, self.metric, distance)?;
            (sum, rounds) = (sum + by.median, rounds.min(by.count));
        }
        Some((of.median / if self.by.is_empty() { 1.0 } else { sum }, rounds))
    }
}

pub(crate) const fn goal(
    says: &'static str,
    metric: Metric,
    of: Of,
    by: &'static [Of],
    bound: Bound,
) -> Goal {
    Goal { says, metric, of, by, bound, distance: Distance::Near }
}

pub(crate) const fn far(goal: Goal) -> Goal {
    Goal { distance: Distance::Far, ..goal }
}
