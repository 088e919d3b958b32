//! Payload in bulk: one transfer, and many at once.

use super::{
    CHUNKS_ONE, CHUNKS_TWO, Contender, MULTIPART_ONE, MULTIPART_TWO, ONE_WORKER, PIPING, Scene,
    TWO_WORKERS,
};
use crate::Outcome;
use crate::carry::carry;
use crate::limits::{Limit, Running};
use crate::plan::{Stage, is_there};
use crate::sample::Metric;
use crate::targets::limit::Direct;
use crate::targets::piping::Piping;
use crate::targets::proxy::{Directed, Direction, Kind, Proxy};
use crate::targets::relay::{Placed, Placement, Relay, Setup};
use crate::targets::{Carrier, Form};
use std::rc::Rc;

pub(crate) const ALONE: Scene = Scene {
    name: "bulk",
    title: "One bulk transfer",
    metrics: &[Metric::CpuPerGib, Metric::GibPerSecond, Metric::AllCpuPerGib, Metric::PeakMib],
    limit: "copy",
    ratios: &[Metric::CpuPerGib, Metric::GibPerSecond],
    start: alone,
};

pub(crate) const CROWD: Scene = Scene {
    name: "crowd",
    title: "100 transfers of 64 MiB at once",
    metrics: &[
        Metric::CpuPerGib,
        Metric::GibPerSecond,
        Metric::AllCpuPerGib,
        Metric::Fairness,
        Metric::PeakMib,
    ],
    limit: PIPING,
    ratios: &[Metric::CpuPerGib, Metric::GibPerSecond],
    start: crowd,
};

fn alone(stage: &Stage) -> Outcome<Vec<Contender>> {
    let limit = |limit: Limit| Running::start(limit).map(|it| (limit.to_string(), boxed(it)));
    let mut carriers = vec![("no relay".to_owned(), boxed(Direct)), limit(Limit::Copy)?];
    carriers.push(limit(Limit::Splice)?);
    carriers.extend(ours(stage, true)?);
    carriers.extend(peers(stage)?);
    Ok(contenders(stage, carriers, 1, stage.plan.bulk_bytes))
}

/// The limits serve one transfer at a time: they take no part.
fn crowd(stage: &Stage) -> Outcome<Vec<Contender>> {
    let mut carriers = vec![("no relay".to_owned(), boxed(Direct))];
    carriers.extend(ours(stage, false)?);
    carriers.extend(peers(stage)?);
    Ok(contenders(stage, carriers, stage.plan.crowd, stage.plan.crowd_bytes))
}

type Named = (String, Box<dyn Carrier>);

fn boxed(carrier: impl Carrier + 'static) -> Box<dyn Carrier> {
    Box::new(carrier)
}

fn contenders(stage: &Stage, carriers: Vec<Named>, transfers: usize, bytes: u64) -> Vec<Contender> {
    let verifies = stage.plan.verifies;
    let contender = |(name, carrier): Named| {
        Contender::new(name, move || carry(carrier.as_ref(), transfers, bytes, verifies))
    };
    carriers.into_iter().map(contender).collect()
}

/// One relay with two workers, and another without pipes.
fn ours(stage: &Stage, with_forms: bool) -> Outcome<Vec<Named>> {
    let relay = Rc::new(Relay::start(stage.relay(), 2, &Setup::default())?);
    let chunks = Setup { more: "[memory]\npipes = 0\n", ..Setup::default() };
    let chunks = Rc::new(Relay::start(stage.relay(), 2, &chunks)?);
    let ways = [
        (ONE_WORKER, &relay, Placement::OneWorker, Form::Raw),
        (TWO_WORKERS, &relay, Placement::TwoWorkers, Form::Raw),
        (CHUNKS_ONE, &chunks, Placement::OneWorker, Form::Raw),
        (CHUNKS_TWO, &chunks, Placement::TwoWorkers, Form::Raw),
        (MULTIPART_ONE, &relay, Placement::OneWorker, Form::Multipart),
        (MULTIPART_TWO, &relay, Placement::TwoWorkers, Form::Multipart),
    ];
    let ways = ways.into_iter().filter(|(.., form)| with_forms || *form == Form::Raw);
    let placed = ways.map(|(name, relay, placement, form)| {
        (name.to_owned(), boxed(Placed { relay: Rc::clone(relay), placement, form }))
    });
    Ok(placed.collect())
}

/// Those that are installed.
fn peers(stage: &Stage) -> Outcome<Vec<Named>> {
    let mut peers = Vec::new();
    if let Some(script) = &stage.plan.piping {
        peers.push((PIPING.to_owned(), boxed(Piping::start(script, None)?)));
    }
    if is_there("nginx") {
        let proxy = Rc::new(Proxy::start(Kind::Nginx)?);
        for direction in [Direction::Upload, Direction::Download] {
            let proxy = Rc::clone(&proxy);
            peers.push((format!("nginx, {direction}"), boxed(Directed { proxy, direction })));
        }
    }
    if is_there("haproxy") {
        for (name, splices) in [("HAProxy", false), ("HAProxy, splice", true)] {
            let proxy = Rc::new(Proxy::start(Kind::HaProxy { splices })?);
            let direction = Direction::Upload;
            peers.push((format!("{name}, {direction}"), boxed(Directed { proxy, direction })));
        }
    }
    Ok(peers)
}
