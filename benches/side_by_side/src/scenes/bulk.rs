//! Payload in bulk: one transfer, and many at once.

use super::{
    CHUNKS_ONE, CHUNKS_TWO, COPY, Contender, HAPROXY, LANDED, NGINX, ONE_WORKER, PACKAGED, PIPING,
    Scene, TWO_WORKERS,
};
use crate::Outcome;
use crate::carry::carry;
use crate::limits::{Limit, Running};
use crate::plan::{Stage, is_there};
use crate::sample::Metric;
use crate::targets::limit::Direct;
use crate::targets::piping::Piping;
use crate::targets::proxy::{Directed, Direction, Kind, Proxy, Shape};
use crate::targets::relay::{Placed, Placement, Relay};
use crate::targets::setup::Setup;
use crate::targets::{Carrier, Form};
use std::rc::Rc;

const PACKAGED_PIPES_64: &str = "idontstore, as packaged, 64 pipes";
const LANDED_CHUNKS: &str = "idontstore, as they land, chunks";
const LANDED_CHUNKS_256: &str = "idontstore, as they land, chunks of 256 KiB";
pub(super) const LANDED_PIPES_256: &str = "idontstore, as they land, 256 pipes";

pub(super) const NO_PIPES: &str = "[memory]\npipes = 0\n";
pub(super) const PIPES_256: &str = "[memory]\npipes = 256\n";

pub(crate) const ALONE: Scene = Scene {
    name: "bulk",
    title: "One bulk transfer",
    remarks: "All: one request that says its length, and for idontstore one before the clock starts, which asks for the \
              session on a connection of its own. Proxies know where to connect to, and have had the client's head by then.",
    metrics: &[
        Metric::CpuPerGib,
        Metric::GibPerSecond,
        Metric::AllCpuPerGib,
        Metric::PeakMib,
        Metric::PipesMib,
    ],
    ratios: &[
        (Metric::CpuPerGib, COPY),
        (Metric::GibPerSecond, COPY),
        (Metric::CpuPerGib, PIPING),
        (Metric::GibPerSecond, PIPING),
        (Metric::CpuPerGib, NGINX),
        (Metric::GibPerSecond, NGINX),
        (Metric::CpuPerGib, HAPROXY),
        (Metric::GibPerSecond, HAPROXY),
    ],
    round_seconds: 42.0,
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
        Metric::PipesMib,
    ],
    ratios: &[
        (Metric::CpuPerGib, PIPING),
        (Metric::GibPerSecond, PIPING),
        (Metric::CpuPerGib, NGINX),
        (Metric::GibPerSecond, NGINX),
        (Metric::CpuPerGib, HAPROXY),
        (Metric::GibPerSecond, HAPROXY),
    ],
    round_seconds: 45.0,
    start: crowd,
    ..ALONE
};

fn alone(stage: &Stage) -> Outcome<Vec<Contender>> {
    let mut carriers = vec![("no relay".to_owned(), boxed(Direct))];
    for limit in [Limit::Copy(256), Limit::Copy(512), Limit::Splice] {
        carriers.push((limit.to_string(), boxed(Running::start(limit)?)));
    }
    carriers.extend(ours_alone(stage)?);
    carriers.extend(peers(stage, PROXIES_ALONE)?);
    Ok(contenders(stage, carriers, 1, stage.plan.bulk_bytes))
}

/// The limits serve one transfer at a time: they take no part.
fn crowd(stage: &Stage) -> Outcome<Vec<Contender>> {
    let mut carriers = vec![("no relay".to_owned(), boxed(Direct))];
    carriers.extend(ours_in_crowd(stage)?);
    carriers.extend(peers(stage, PROXIES_IN_CROWD)?);
    Ok(contenders(stage, carriers, stage.plan.crowd, stage.plan.crowd_bytes))
}

pub(super) type Named = (String, Box<dyn Carrier>);

pub(super) fn boxed(carrier: impl Carrier + 'static) -> Box<dyn Carrier> {
    Box::new(carrier)
}

pub(super) fn contenders(
    stage: &Stage,
    carriers: Vec<Named>,
    transfers: usize,
    bytes: u64,
) -> Vec<Contender> {
    let verifies = stage.plan.verifies;
    let contender = |(name, carrier): Named| {
        let settings = carrier.settings();
        Contender::new(name, settings, move || carry(carrier.as_ref(), transfers, bytes, verifies))
    };
    carriers.into_iter().map(contender).collect()
}

pub(super) type Way<'a> = (&'static str, &'a Rc<Relay>, Placement, Form);

pub(super) fn placed(ways: &[Way<'_>]) -> Vec<Named> {
    let placed = ways.iter().map(|(name, relay, placement, form)| {
        let (relay, placement, form) = (Rc::clone(relay), *placement, *form);
        ((*name).to_owned(), boxed(Placed { relay, placement, form }))
    });
    placed.collect()
}

pub(super) fn relay(stage: &Stage, setup: &Setup<'_>) -> Outcome<Rc<Relay>> {
    Ok(Rc::new(Relay::start(stage.relay(), setup)?))
}

pub(super) fn with(more: &str) -> Setup<'_> {
    Setup { more, ..Setup::default() }
}

/// The package's, one with its defaults, and two without pipes.
fn ours_alone(stage: &Stage) -> Outcome<Vec<Named>> {
    use Form::Raw;
    use Placement::{AsTheyLand, OneWorker, TwoWorkers};
    let packaged = relay(stage, &Setup { packaged: true, ..Setup::default() })?;
    let default = relay(stage, &Setup::default())?;
    let chunks = relay(stage, &with(NO_PIPES))?;
    let small = relay(stage, &with("[memory]\npipes = 0\nchunk_bytes = \"256KiB\"\n"))?;
    Ok(placed(&[
        (PACKAGED, &packaged, AsTheyLand, Raw),
        (LANDED, &default, AsTheyLand, Raw),
        (LANDED_CHUNKS, &chunks, AsTheyLand, Raw),
        (LANDED_CHUNKS_256, &small, AsTheyLand, Raw),
        (ONE_WORKER, &default, OneWorker, Raw),
        (TWO_WORKERS, &default, TwoWorkers, Raw),
        (CHUNKS_ONE, &chunks, OneWorker, Raw),
        (CHUNKS_TWO, &chunks, TwoWorkers, Raw),
    ]))
}

/// Also one with as many pipes as a user without privilege may have, and one with as many as a crowd has use for.
fn ours_in_crowd(stage: &Stage) -> Outcome<Vec<Named>> {
    use Form::Raw;
    use Placement::{AsTheyLand, OneWorker, TwoWorkers};
    let packaged = relay(stage, &Setup { packaged: true, ..Setup::default() })?;
    let default = relay(stage, &Setup::default())?;
    let most = Setup { packaged: true, ..with("[memory]\npipes = 64\n") };
    let most = relay(stage, &most)?;
    let pipes = relay(stage, &with(PIPES_256))?;
    let chunks = relay(stage, &with(NO_PIPES))?;
    Ok(placed(&[
        (PACKAGED, &packaged, AsTheyLand, Raw),
        (PACKAGED_PIPES_64, &most, AsTheyLand, Raw),
        (LANDED, &default, AsTheyLand, Raw),
        (LANDED_PIPES_256, &pipes, AsTheyLand, Raw),
        (LANDED_CHUNKS, &chunks, AsTheyLand, Raw),
        (ONE_WORKER, &default, OneWorker, Raw),
        (TWO_WORKERS, &default, TwoWorkers, Raw),
    ]))
}

const COPIES: Kind = Kind::HaProxy { splices: false };
const SPLICES: Kind = Kind::HaProxy { splices: true };
const UPLOAD: &[Direction] = &[Direction::Upload];
const BOTH: &[Direction] = &[Direction::Upload, Direction::Download];

/// A proxy, the size of its buffers in KiB if it is told one, and in which directions it runs.
type ProxyWay = (Kind, Option<usize>, &'static [Direction]);

const PROXIES_ALONE: &[ProxyWay] = &[
    (Kind::Nginx, None, UPLOAD),
    (Kind::Nginx, Some(256), BOTH),
    (Kind::Nginx, Some(512), BOTH),
    (COPIES, None, UPLOAD),
    (COPIES, Some(256), UPLOAD),
    (COPIES, Some(512), BOTH),
    (SPLICES, Some(256), UPLOAD),
    (SPLICES, Some(512), BOTH),
];

const PROXIES_IN_CROWD: &[ProxyWay] = &[
    (Kind::Nginx, Some(256), UPLOAD),
    (Kind::Nginx, Some(512), BOTH),
    (COPIES, Some(256), UPLOAD),
    (COPIES, Some(512), UPLOAD),
    (SPLICES, Some(256), UPLOAD),
    (SPLICES, Some(512), UPLOAD),
];

/// The peers that are installed.
fn peers(stage: &Stage, ways: &[ProxyWay]) -> Outcome<Vec<Named>> {
    let mut peers = Vec::new();
    if let Some(script) = &stage.plan.piping {
        peers.push((PIPING.to_owned(), boxed(Piping::start(script, None)?)));
    }
    for (kind, buffer_kib, directions) in ways {
        if !is_there(kind.program()) {
            continue;
        }
        let shape = Shape::new(*kind, *buffer_kib);
        let proxy = Rc::new(Proxy::start(&shape)?);
        for direction in *directions {
            let (proxy, direction) = (Rc::clone(&proxy), *direction);
            let name = format!("{}, {direction}", shape.name());
            peers.push((name, boxed(Directed { proxy, direction })));
        }
    }
    Ok(peers)
}
