//! Exchanges of 1 KiB: on fresh connections, and on connections that are kept alive; 1 and 16 at a time.

use super::{Contender, ONE_WORKER, PIPING, RELAY, Scene, TWO_WORKERS};
use crate::Outcome;
use crate::exchanges::{Fresh, Paths, fresh, kept_alive};
use crate::limits::{Limit, Running};
use crate::plan::Stage;
use crate::sample::Metric;
use crate::targets::Lane;
use crate::targets::limit::meet_lane;
use crate::targets::piping::Piping;
use crate::targets::relay::{Placement, Receipt, Relay, Setup};
use std::rc::Rc;

pub(crate) const BODY_BYTES: u64 = 1024;

/// Ours ask for a session first, the others have no such thing: a third connection and a third request.
const FRESH: Scene = Scene {
    name: "",
    title: "",
    metrics: &[Metric::PerSecond, Metric::CpuEach, Metric::PerCpuSecond],
    limit: PIPING,
    ratios: &[Metric::PerSecond, Metric::PerCpuSecond],
    start: fresh_1,
};

pub(crate) const FRESH_1: Scene = Scene {
    name: "fresh-1",
    title: "Exchanges of 1 KiB on fresh connections, one at a time",
    ..FRESH
};

pub(crate) const FRESH_16: Scene = Scene {
    name: "fresh-16",
    title: "Exchanges of 1 KiB on fresh connections, 16 at a time",
    start: fresh_16,
    ..FRESH
};

pub(crate) const KEPT_1: Scene = Scene {
    name: "kept-1",
    title: "Exchanges of 1 KiB on connections kept alive, one at a time",
    limit: "meet",
    start: kept_1,
    ..FRESH
};

pub(crate) const KEPT_16: Scene = Scene {
    name: "kept-16",
    title: "Exchanges of 1 KiB on connections kept alive, 16 at a time",
    limit: "meet",
    start: kept_16,
    ..FRESH
};

fn fresh_1(stage: &Stage) -> Outcome<Vec<Contender>> {
    on_fresh(stage, 1)
}

fn fresh_16(stage: &Stage) -> Outcome<Vec<Contender>> {
    on_fresh(stage, 16)
}

fn kept_1(stage: &Stage) -> Outcome<Vec<Contender>> {
    on_kept(stage, 1)
}

fn kept_16(stage: &Stage) -> Outcome<Vec<Contender>> {
    on_kept(stage, 16)
}

/// On which worker who lands is left to chance, as in life.
fn on_fresh(stage: &Stage, lanes: usize) -> Outcome<Vec<Contender>> {
    let span = stage.plan.span;
    let mut contenders = Vec::new();
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", move || {
        fresh(&meet.tree, Fresh::Paths(Paths::new(meet.address)), lanes, span)
    }));
    let relay = Rc::new(Relay::start(stage.relay(), 2, &Setup::default())?);
    for receipt in [Receipt::Sent, Receipt::Acked] {
        let relay = Rc::clone(&relay);
        contenders.push(Contender::new(format!("{RELAY}, {receipt}"), move || {
            fresh(&relay.tree, Fresh::Sessions(relay.address, receipt), lanes, span)
        }));
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, move || {
            fresh(&piping.tree, Fresh::Paths(Paths::new(piping.address)), lanes, span)
        }));
    }
    Ok(contenders)
}

fn on_kept(stage: &Stage, count: usize) -> Outcome<Vec<Contender>> {
    let span = stage.plan.span;
    let mut contenders = Vec::new();
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", move || {
        let lanes = lanes(count, |number| meet_lane(&meet, number, BODY_BYTES))?;
        kept_alive(&meet.tree, lanes, span)
    }));
    let relay = Rc::new(Relay::start(stage.relay(), 2, &Setup::default())?);
    for (name, placement) in
        [(ONE_WORKER, Placement::OneWorker), (TWO_WORKERS, Placement::TwoWorkers)]
    {
        for receipt in [Receipt::Sent, Receipt::Acked] {
            let relay = Rc::clone(&relay);
            contenders.push(Contender::new(format!("{name}, {receipt}"), move || {
                let lanes = lanes(count, |_| relay.lane(placement, receipt, BODY_BYTES))?;
                kept_alive(&relay.tree, lanes, span)
            }));
        }
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, move || {
            let lanes = lanes(count, |_| piping.lane(BODY_BYTES))?;
            kept_alive(&piping.tree, lanes, span)
        }));
    }
    Ok(contenders)
}

fn lanes(count: usize, open: impl Fn(usize) -> Outcome<Lane>) -> Outcome<Vec<Lane>> {
    (0..count).map(open).collect()
}
