//! Pairs: two parties that exchange raw bytes. Bytes pass one way and both ways over one pair, and over many at once. Then
//! two parties send each other a small message by turns.
//!
//! All pairs are up before the clock starts. With payload one way, the work ends when each party has heard that its peer
//! sends no more. With payload both ways, the work ends when each party has heard all.

use super::bulk::{self, LANDED_PIPES_256, PIPES_256, relay, with};
use super::latency::{MESSAGE_BYTES, WARM_UP_SHARE};
use super::{
    Contender, HAPROXY, LANDED, ONE_WORKER, PIPES_256_ONE, PIPES_256_TWO, SOCAT, SPLICE, Scene,
    TRANSIT_RELAY, TWO_WORKERS,
};
use crate::Outcome;
use crate::carry::carry_all;
use crate::limits::{Limit, Running};
use crate::payload;
use crate::plan::{Stage, is_there};
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros, percentile};
use crate::stream::Stream;
use crate::targets::limit::{Direct, echo_ends};
use crate::targets::pair::{PassingProxy, PlacedPairs, Socat, TransitRelay, both_ways};
use crate::targets::proxy::{Kind, Proxy, Shape};
use crate::targets::relay::{Placement, Relay};
use crate::targets::setup::Setup;
use crate::targets::{Carrier, Pairing};
use std::rc::Rc;
use std::time::{Duration, Instant};

const ECHO: &str = "echo";
/// The sizes of buffers in KiB that HAProxy and socat run with, beside their own choice.
const BUFFERS_KIB: [Option<usize>; 2] = [None, Some(512)];

pub(crate) const ONE_WAY: Scene = Scene {
    name: "pair",
    title: "A pair, and payload one way",
    remarks: "No HTTP. All: both parties are connected before the clock starts. idontstore and the transit relay have told \
              them that they are paired; HAProxy and socat have connected to the second party. The receiver sends no \
              more once it has all, and the sender hears that.",
    ratios: &[
        (Metric::CpuPerGib, SPLICE),
        (Metric::GibPerSecond, SPLICE),
        (Metric::CpuPerGib, HAPROXY),
        (Metric::GibPerSecond, HAPROXY),
        (Metric::CpuPerGib, TRANSIT_RELAY),
        (Metric::GibPerSecond, TRANSIT_RELAY),
        (Metric::CpuPerGib, SOCAT),
        (Metric::GibPerSecond, SOCAT),
    ],
    round_seconds: 35.0,
    start: one_way,
    ..bulk::ALONE
};

pub(crate) const BOTH_WAYS: Scene = Scene {
    name: "pair-both",
    title: "A pair, and payload both ways at once",
    remarks: "As with payload one way, but each party sends half of it, and closes once it has sent and heard all: the \
              transit relay ends both directions when a party sends no more. *Jain* is of the two directions. *splice* \
              passes bytes one way alone, so it takes no part.",
    metrics: &[
        Metric::CpuPerGib,
        Metric::GibPerSecond,
        Metric::AllCpuPerGib,
        Metric::Fairness,
        Metric::PeakMib,
        Metric::PipesMib,
    ],
    ratios: &[
        (Metric::CpuPerGib, HAPROXY),
        (Metric::GibPerSecond, HAPROXY),
        (Metric::CpuPerGib, TRANSIT_RELAY),
        (Metric::GibPerSecond, TRANSIT_RELAY),
        (Metric::CpuPerGib, SOCAT),
        (Metric::GibPerSecond, SOCAT),
    ],
    start: at_once,
    ..ONE_WAY
};

pub(crate) const CROWD: Scene = Scene {
    name: "pair-crowd",
    title: "100 pairs at once, and 64 MiB one way over each",
    remarks: "Each pair is as one alone with payload one way. HAProxy may have a pipe for each pair, and so may contenders \
              with 256 pipes. *splice* serves one transfer at a time, so it takes no part.",
    round_seconds: 60.0,
    start: crowd,
    ..BOTH_WAYS
};

pub(crate) const TRIPS: Scene = Scene {
    name: "pair-trips",
    title: "Round trip of 64 bytes over a pair",
    remarks: "The first party sends a message, the second one answers with another as soon as it has that, and so on, \
              without a pause. The generator is both, in one thread. *echo* passes messages one way alone, so there are \
              two of them: by the one the message goes, by the other the answer.",
    metrics: &[Metric::Trip50, Metric::Trip99, Metric::CpuEach],
    ratios: &[
        (Metric::Trip50, ECHO),
        (Metric::Trip99, ECHO),
        (Metric::Trip50, HAPROXY),
        (Metric::Trip50, TRANSIT_RELAY),
    ],
    round_seconds: 10.0,
    start: trips,
};

type Named = (String, Box<dyn Pairing>);

fn one_way(stage: &Stage) -> Outcome<Vec<Contender>> {
    let splice: Named = (SPLICE.to_owned(), Box::new(Running::start(Limit::Splice)?));
    let pairings = std::iter::once(splice).chain(all(stage)?).collect();
    Ok(bulk::contenders(stage, carriers(pairings), 1, stage.plan.bulk_bytes))
}

fn at_once(stage: &Stage) -> Outcome<Vec<Contender>> {
    let (bytes, verifies) = (stage.plan.bulk_bytes / 2, stage.plan.verifies);
    let contender = |(name, pairing): Named| {
        let settings = pairing.settings();
        Contender::new(name, settings, move || {
            let open = || both_ways(pairing.as_ref(), bytes);
            let mut sample = carry_all(pairing.tree(), bytes, verifies, open)?;
            sample.0.extend(pairing.landed());
            Ok(sample)
        })
    };
    Ok(all(stage)?.into_iter().map(contender).collect())
}

fn crowd(stage: &Stage) -> Outcome<Vec<Contender>> {
    let default = relay(stage, &Setup::default())?;
    let pipes = relay(stage, &with(PIPES_256))?;
    let mut pairings: Vec<Named> = vec![
        ("no relay".to_owned(), Box::new(Direct)),
        placed(LANDED, &default, Placement::AsTheyLand),
        placed(LANDED_PIPES_256, &pipes, Placement::AsTheyLand),
        placed(PIPES_256_ONE, &pipes, Placement::OneWorker),
        placed(PIPES_256_TWO, &pipes, Placement::TwoWorkers),
    ];
    pairings.extend(peers(stage)?);
    let (pairs, bytes) = (stage.plan.crowd, stage.plan.crowd_bytes);
    Ok(bulk::contenders(stage, carriers(pairings), pairs, bytes))
}

fn trips(stage: &Stage) -> Outcome<Vec<Contender>> {
    let messages = stage.plan.messages;
    let echoes = [Running::start(Limit::Echo)?, Running::start(Limit::Echo)?];
    let settings = format!("two of them, one each way; each {}", Limit::Echo.settings());
    let echo = Contender::new(ECHO, settings, move || {
        let [one, other] = &echoes;
        round_trips(&[&one.tree, &other.tree], through_echoes(one, other)?, messages)
    });
    let contender = |(name, pairing): Named| {
        let settings = pairing.settings();
        Contender::new(name, settings, move || {
            let trees: Vec<&Tree> = pairing.tree().into_iter().collect();
            let [first, second] = pairing.pair()?;
            let parties = [Party::over(first)?, Party::over(second)?];
            let mut sample = round_trips(&trees, parties, messages)?;
            sample.0.extend(pairing.landed());
            Ok(sample)
        })
    };
    let pairings = all(stage)?.into_iter().map(contender);
    Ok(std::iter::once(echo).chain(pairings).collect())
}

fn carriers(pairings: Vec<Named>) -> Vec<(String, Box<dyn Carrier>)> {
    pairings.into_iter().map(|(name, pairing)| (name, pairing as Box<dyn Carrier>)).collect()
}

/// All that pass bytes both ways.
fn all(stage: &Stage) -> Outcome<Vec<Named>> {
    let mut pairings: Vec<Named> = vec![("no relay".to_owned(), Box::new(Direct))];
    pairings.extend(ours(&relay(stage, &Setup::default())?));
    pairings.extend(peers(stage)?);
    Ok(pairings)
}

fn ours(relay: &Rc<Relay>) -> [Named; 3] {
    [
        placed(LANDED, relay, Placement::AsTheyLand),
        placed(ONE_WORKER, relay, Placement::OneWorker),
        placed(TWO_WORKERS, relay, Placement::TwoWorkers),
    ]
}

fn placed(name: &str, relay: &Rc<Relay>, placement: Placement) -> Named {
    (name.to_owned(), Box::new(PlacedPairs { relay: Rc::clone(relay), placement }))
}

/// The peers that are installed.
fn peers(stage: &Stage) -> Outcome<Vec<Named>> {
    let mut peers: Vec<Named> = Vec::new();
    let splices = Kind::HaProxy { splices: true };
    for buffer_kib in BUFFERS_KIB.into_iter().filter(|_| is_there(splices.program())) {
        let shape = Shape { passes_bytes: true, ..Shape::new(splices, buffer_kib) };
        peers.push((shape.name(), Box::new(PassingProxy(Proxy::start(&shape)?))));
    }
    for buffer_kib in BUFFERS_KIB.into_iter().filter(|_| Socat::version().is_some()) {
        peers.push((Socat::name(buffer_kib), Box::new(Socat::start(buffer_kib)?)));
    }
    let twist = stage.plan.twist.as_ref();
    if let Some(twist) = twist.filter(|twist| TransitRelay::version(twist).is_some()) {
        peers.push((TRANSIT_RELAY.to_owned(), Box::new(TransitRelay::start(twist)?)));
    }
    Ok(peers)
}

/// A party: where it says something, and where it hears its peer.
struct Party {
    says: Stream,
    hears: Stream,
}

impl Party {
    /// A party that has one connection for both.
    fn over(stream: Stream) -> Outcome<Self> {
        Ok(Self { says: stream.share()?, hears: stream })
    }
}

/// Two parties with an *echo* each way: the first party says to the one, the second party to the other.
fn through_echoes(one: &Running, other: &Running) -> Outcome<[Party; 2]> {
    let ([first_says, second_hears], [second_says, first_hears]) = (ends(one)?, ends(other)?);
    let first = Party { says: first_says, hears: first_hears };
    Ok([first, Party { says: second_says, hears: second_hears }])
}

fn ends(echo: &Running) -> Outcome<[Stream; 2]> {
    let (sender, receiver) = echo_ends(echo)?;
    Ok([Stream::over(sender, None)?, Stream::over(receiver, None)?])
}

/// Passes messages there and back between two parties of `trees`.
fn round_trips(trees: &[&Tree], parties: [Party; 2], trips: usize) -> Outcome<Sample> {
    let [mut first, mut second] = parties;
    let message = payload::at(0, MESSAGE_BYTES);
    let mut buffer = vec![0; message.len()];
    let mut trip = || {
        let start = Instant::now();
        pass(message, &mut first.says, &mut second.hears, &mut buffer)?;
        pass(message, &mut second.says, &mut first.hears, &mut buffer)?;
        Ok(start.elapsed())
    };
    (0..trips.div_ceil(WARM_UP_SHARE)).try_for_each(|_| trip().map(|_| ()))?;
    let cpu = || trees.iter().map(|tree| tree.cpu()).sum::<Outcome<Duration>>();
    let before = cpu()?;
    let mut times: Vec<Duration> = (0..trips).map(|_| trip()).collect::<Outcome<_>>()?;
    let spent = cpu()? - before;
    let mut values = vec![
        (Metric::Trip50, percentile(&mut times, 50)),
        (Metric::Trip99, percentile(&mut times, 99)),
    ];
    if !trees.is_empty() {
        values.push((Metric::CpuEach, micros(spent) / trips as f64));
    }
    Ok(Sample(values))
}

/// Passes a message, which arrives whole and unaltered.
fn pass(message: &[u8], from: &mut Stream, to: &mut Stream, buffer: &mut [u8]) -> Outcome<()> {
    from.write_all(message)?;
    to.read_exact(buffer)?;
    payload::verify(0, buffer)
}
