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

/// Lengths of heads that are tried: as many as a cache line has bytes.
const LENGTHS: usize = 64;
/// How often each is tried in a run. The median counts: one transfer alone costs a fifth more or less, by where the
/// scheduler puts the three programs.
const TRIES: usize = 21;
/// An odd number of bytes, in a small transfer before each: traffic that leaves the kernel's pages anywhere.
const ODD_BYTES: u64 = 777;
/// The part of the bulk scenes' payload that each transfer has.
const PART: u64 = 128;

pub(crate) const SCENE: Scene = Scene {
    name: "alignment",
    title: "64 lengths of heads, boundaries and names",
    remarks: "One transfer for each length, by chunk on one worker, with a small one of an odd length before it. Each \
              length's median of 21 tries counts; the spread is the dearest length by the cheapest.",
    metrics: &[Metric::CpuPerGib, Metric::Spread],
    ratios: &[],
    round_seconds: 90.0,
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
            carry(carrier, 1, ODD_BYTES, verifies)?;
            let sample = carry(carrier, 1, bytes, verifies)?;
            costs.push(sample.of(Metric::CpuPerGib).ok_or("a transfer without its cost")?);
        }
    }
    let medians = costs.into_iter().filter_map(|costs| Spread::of(costs.into_iter()));
    let all = Spread::of(medians.map(|it| it.median)).ok_or("no length was tried")?;
    let values = vec![(Metric::CpuPerGib, all.median), (Metric::Spread, all.most / all.least)];
    Ok(Sample(values))
}
