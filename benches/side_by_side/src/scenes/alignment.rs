//! Transfers whose heads have different lengths. Lengths decide where payload lies in the pages of the kernel, and on
//! some CPUs that decides how long a copy takes (docs/internals/copies.md).

use super::bulk::{NO_PIPES, relay, with};
use super::{Contender, Scene};
use crate::Outcome;
use crate::carry::carry;
use crate::plan::Stage;
use crate::process::Tree;
use crate::sample::{Metric, Sample, Spread};
use crate::targets::relay::{Placement, Relay};
use crate::targets::{Carrier, Ends, Form};
use std::cell::Cell;
use std::rc::Rc;

pub(crate) const PLAIN: &str = "idontstore, one worker, chunks, plain bodies";
pub(crate) const CHUNKED: &str = "idontstore, one worker, chunks, chunked bodies";
pub(crate) const FORMS: &str = "idontstore, one worker, chunks, forms";

/// How many lengths of heads a run tries: as many as a cache line has bytes.
const LENGTHS: usize = 64;
/// How often each is tried in a run. The median counts: one transfer alone costs a fifth more or less, by where the
/// scheduler puts the three programs.
const TRIES: usize = 11;
/// The step from length to length that deals the tries anew: it has no factor in common with their number.
const MIXES_BY: usize = 27;
/// A transfer has the bulk scenes' payload divided by this.
const PART: u64 = 128;

pub(crate) const SCENE: Scene = Scene {
    name: "alignment",
    title: "64 lengths of heads, boundaries and names",
    remarks: "One transfer for each length, by chunk on one worker. Answers of odd lengths come before each: the session's, \
              and the last sender's. Each \
              length's median of 11 tries counts, the dearest length's by the cheapest's. *x by chance* divides that by \
              what comes of the same tries if the lengths are mixed: 1 if lengths do not matter.",
    metrics: &[Metric::CpuPerGib, Metric::Spread, Metric::Excess],
    ratios: &[],
    round_seconds: 80.0,
    start,
};

/// A relay whose transfers have heads of a length.
struct Stretched {
    relay: Rc<Relay>,
    form: Form,
    stretch: Cell<usize>,
}

impl Carrier for Stretched {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.relay.tree)
    }

    fn settings(&self) -> String {
        format!("{}; {}", self.relay.settings, Placement::OneWorker)
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        self.relay.open(Placement::OneWorker, self.form, bytes, self.stretch.get())
    }
}

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let relay = relay(stage, &with(NO_PIPES))?;
    let (bytes, verifies) = (stage.plan.bulk_bytes / PART, stage.plan.verifies);
    let tries = if stage.plan.smoke { 1 } else { TRIES };
    let shapes = [(PLAIN, Form::Raw), (CHUNKED, Form::Chunked), (FORMS, Form::Multipart)];
    let contender = |(name, form)| {
        let carrier = Stretched { relay: Rc::clone(&relay), form, stretch: Cell::new(0) };
        let settings = carrier.settings();
        Contender::new(name, settings, move || try_lengths(&carrier, tries, bytes, verifies))
    };
    Ok(shapes.map(contender).into())
}

fn try_lengths(carrier: &Stretched, tries: usize, bytes: u64, verifies: bool) -> Outcome<Sample> {
    let mut costs = vec![Vec::new(); LENGTHS];
    for _ in 0..tries {
        for (stretch, costs) in costs.iter_mut().enumerate() {
            carrier.stretch.set(stretch);
            let sample = carry(carrier, 1, bytes, verifies)?;
            costs.push(sample.of(Metric::CpuPerGib).ok_or("a transfer without its cost")?);
        }
    }
    let mixed = (0..LENGTHS).map(|first| {
        let tries = (0..tries)
            .filter_map(|number| costs[(first + MIXES_BY * number) % LENGTHS].get(number).copied());
        tries.collect()
    });
    let (by_length, by_chance) = (spread(&costs)?, spread(&mixed.collect::<Vec<_>>())?);
    let values = vec![
        (Metric::CpuPerGib, by_length.median),
        (Metric::Spread, by_length.most / by_length.least),
        (Metric::Excess, by_length.most / by_length.least * by_chance.least / by_chance.most),
    ];
    Ok(Sample(values))
}

/// The spread of the medians.
fn spread(costs: &[Vec<f64>]) -> Outcome<Spread> {
    let medians = costs.iter().filter_map(|costs| Spread::of(costs.iter().copied()));
    Spread::of(medians.map(|it| it.median)).ok_or_else(|| "no length was tried".into())
}
