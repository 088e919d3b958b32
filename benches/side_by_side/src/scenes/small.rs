//! Exchanges of 1 KiB: on fresh connections, and on connections that are kept alive; 1 and 16 at a time.

use super::{Contender, LANDED, ONE_WORKER, PIPING, Scene, TWO_WORKERS};
use crate::Outcome;
use crate::exchanges::{BODY_BYTES, Fresh, fresh, kept_alive};
use crate::limits::{Limit, Running};
use crate::plan::Stage;
use crate::sample::Metric;
use crate::targets::limit::meet_lane;
use crate::targets::piping::Piping;
use crate::targets::relay::{Placement, Receipt, Relay};
use crate::targets::setup::Setup;
use crate::targets::{Carrier, Lane};
use std::rc::Rc;

const FRESH: Scene = Scene {
    name: "",
    title: "",
    remarks: "All: a `PUT` and a `GET` at once, each on a connection that the generator closes after the answer, in batches \
              of 500 between which the clock stands still. Piping Server and *meet* know no sessions. idontstore's \
              are asked \
              for on a third connection, by a third request; *issued* are contenders whose sessions were issued between \
              batches, so that the rest is the same for all.",
    metrics: &[Metric::PerSecond, Metric::CpuEach, Metric::PerCpuSecond],
    ratios: &[
        (Metric::PerSecond, PIPING),
        (Metric::PerCpuSecond, PIPING),
        (Metric::PerSecond, "meet"),
        (Metric::PerCpuSecond, "meet"),
    ],
    round_seconds: 32.0,
    start: fresh_1,
};

const KEPT_REMARKS: &str = "All: a receiver sends its next request as soon as it has a body, a sender as soon as it has its \
    answer, with a pause after each 500 exchanges, in which the clock stands still. idontstore's messages are a \
    `POST` and a `GET` on the path \
    of one session; its *exchanges* are a `PUT` and a `GET` on another path each time, as those of Piping Server \
    and *meet*, \
    and their sessions are issued in the pauses. The receipt by default is `sent` for messages, and `acked` for exchanges.";

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
    remarks: KEPT_REMARKS,
    start: kept_1,
    ..FRESH
};

pub(crate) const KEPT_16: Scene = Scene {
    name: "kept-16",
    title: "Exchanges of 1 KiB on connections kept alive, 16 at a time",
    remarks: KEPT_REMARKS,
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

/// The kernel decides by chance on which worker each connection lands, as in life.
fn on_fresh(stage: &Stage, lanes: usize) -> Outcome<Vec<Contender>> {
    let span = stage.plan.span;
    let mut contenders = Vec::new();
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", meet.limit.settings(), move || {
        fresh(&meet.tree, Fresh::Paths(meet.address), lanes, span)
    }));
    let relay = Rc::new(Relay::start(stage.relay(), &Setup::default())?);
    for receipt in [Receipt::Sent, Receipt::Acked] {
        for is_issued in [false, true] {
            let relay = Rc::clone(&relay);
            let issued = if is_issued { ", issued" } else { "" };
            let settings =
                format!("{}; {}; `X-Receipt: {receipt}`", relay.settings, Placement::AsTheyLand);
            let name = format!("{LANDED}{issued}, {receipt}");
            contenders.push(Contender::new(name, settings, move || {
                let its = Rc::clone(&relay);
                let kind = if is_issued {
                    Fresh::Issued(its, receipt)
                } else {
                    Fresh::Asked(its, receipt)
                };
                let sample = fresh(&relay.tree, kind, lanes, span)?;
                Ok(relay.landed_as(Placement::AsTheyLand, sample))
            }));
        }
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, piping.settings(), move || {
            fresh(&piping.tree, Fresh::Paths(piping.address), lanes, span)
        }));
    }
    Ok(contenders)
}

fn on_kept(stage: &Stage, count: usize) -> Outcome<Vec<Contender>> {
    let span = stage.plan.span;
    let mut contenders = Vec::new();
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", meet.limit.settings(), move || {
        let lanes = lanes(count, |number| meet_lane(&meet, number, BODY_BYTES))?;
        kept_alive(&meet.tree, lanes, span, None)
    }));
    contenders.extend(ours_kept(stage, count)?);
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, piping.settings(), move || {
            let lanes = lanes(count, |_| piping.lane(BODY_BYTES))?;
            kept_alive(&piping.tree, lanes, span, None)
        }));
    }
    Ok(contenders)
}

fn ours_kept(stage: &Stage, count: usize) -> Outcome<Vec<Contender>> {
    let span = stage.plan.span;
    let relay = Rc::new(Relay::start(stage.relay(), &Setup::default())?);
    let mut contenders = Vec::new();
    for receipt in [Receipt::Sent, Receipt::Acked] {
        let (relay, placement) = (Rc::clone(&relay), Placement::AsTheyLand);
        let settings = format!("{}; {placement}; `X-Receipt: {receipt}`", relay.settings);
        let name = format!("{LANDED}, exchanges, {receipt}");
        contenders.push(Contender::new(name, settings, move || {
            let lanes = lanes(count, |_| relay.exchange_lane(receipt, BODY_BYTES))?;
            let sample = kept_alive(&relay.tree, lanes, span, Some(&relay))?;
            Ok(relay.landed_as(placement, sample))
        }));
    }
    for (name, placement) in [
        (LANDED, Placement::AsTheyLand),
        (ONE_WORKER, Placement::OneWorker),
        (TWO_WORKERS, Placement::TwoWorkers),
    ] {
        // Each has a relay of its own: a session of messages lives on, and one address may not have many.
        let relay = Rc::new(Relay::start(stage.relay(), &Setup::default())?);
        for receipt in [Receipt::Sent, Receipt::Acked] {
            let relay = Rc::clone(&relay);
            let settings = format!("{}; {placement}; `X-Receipt: {receipt}`", relay.settings);
            contenders.push(Contender::new(format!("{name}, {receipt}"), settings, move || {
                let lanes = lanes(count, |_| relay.lane(placement, receipt, BODY_BYTES))?;
                let sample = kept_alive(&relay.tree, lanes, span, None)?;
                Ok(relay.landed_as(placement, sample))
            }));
        }
    }
    Ok(contenders)
}

fn lanes(count: usize, open: impl Fn(usize) -> Outcome<Lane>) -> Outcome<Vec<Lane>> {
    (0..count).map(open).collect()
}
