//! Receivers that wait: what each takes of memory, and what all cost while nothing happens.

use super::{Contender, PIPING, RELAY, Scene};
use crate::Outcome;
use crate::plan::Stage;
use crate::process::{Tree, eventually};
use crate::sample::{Metric, Sample};
use crate::stream::Stream;
use crate::targets::piping::{self, Piping};
use crate::targets::relay::Relay;
use crate::targets::request;
use crate::targets::setup::Setup;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Room for so many receivers, and timeouts that end for no receiver meanwhile.
const ROOM: &str = "\
[limits]
connections_per_address_max = 16384
sessions_per_address_max = 16384
connections_max = 16384
[memory]
sessions_max = 16384
[timeouts]
head_timeout = \"1h\"
wait_timeout = \"1h\"
";
/// How long a target may take to come to rest, and is watched for that.
const REST: Duration = Duration::from_millis(500);

pub(crate) const SCENE: Scene = Scene {
    name: "idle",
    title: "10,000 receivers that wait",
    remarks: "All: a fresh program for each run, and a `GET` on a connection of its own for each receiver. idontstore's \
              sessions are asked for before, on one connection; one address may have all of them, as all receivers \
              are one, and timeouts are long. Piping Server has no such limits. \
              *bytes each* is by how much the memory of the programs grows, which leaves out idontstore's segment, \
              since it is in \
              RAM from the start; *all memory* is all that the programs have, with the segment, divided by the receivers. \
              What sockets take in the kernel is in neither.",
    metrics: &[Metric::BytesEach, Metric::AllBytesEach, Metric::IdleCpu, Metric::IdleCpuBefore],
    ratios: &[(Metric::BytesEach, PIPING), (Metric::AllBytesEach, PIPING)],
    round_seconds: 50.0,
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let (receivers, span) = (stage.plan.idle, stage.plan.idle_span);
    let program = stage.relay().clone();
    let mut contenders = Vec::new();
    // A process that has had many connections keeps some of their memory: a new one for each run.
    let settings = Setup { more: ROOM, ..Setup::default() }.settings(None);
    contenders.push(Contender::new(RELAY, settings, move || {
        let relay = Relay::start(&program, &Setup { more: ROOM, ..Setup::default() })?;
        let paths = relay.ask(receivers)?;
        let all_wait = || eventually(|| (relay.places_held() == receivers).then_some(()));
        wait(&relay.tree, relay.address, &paths, span, all_wait)
    }));
    if let Some(script) = stage.plan.piping.clone() {
        contenders.push(Contender::new(PIPING, piping::SETTINGS, move || {
            let piping = Piping::start(&script, None)?;
            let paths: Vec<String> = (0..receivers).map(|_| piping.path()).collect();
            wait(&piping.tree, piping.address, &paths, span, || Ok(()))
        }));
    }
    Ok(contenders)
}

/// Lets a receiver wait on each of the paths.
fn wait(
    tree: &Tree,
    address: SocketAddr,
    paths: &[String],
    span: Duration,
    all_wait: impl FnOnce() -> Outcome<()>,
) -> Outcome<Sample> {
    let idle_before = idle_cpu(tree, span)?;
    let before = tree.memory();
    let mut waiting = Vec::with_capacity(paths.len());
    for path in paths {
        let mut stream = Stream::connect(address, None)?;
        stream.write_all(&request("GET", path, ""))?;
        waiting.push(stream);
    }
    all_wait()?;
    let idle = idle_cpu(tree, span)?;
    let (after, count) = (tree.memory(), paths.len() as f64);
    Ok(Sample(vec![
        (Metric::BytesEach, after.saturating_sub(before) as f64 / count),
        (Metric::AllBytesEach, after as f64 / count),
        (Metric::IdleCpu, idle),
        (Metric::IdleCpuBefore, idle_before),
    ]))
}

/// The CPU time that a target at rest uses in so long; milliseconds a second.
fn idle_cpu(tree: &Tree, span: Duration) -> Outcome<f64> {
    let (cpu, start) = (until_rest(tree)?, Instant::now());
    thread::sleep(span);
    let took = start.elapsed();
    Ok((tree.cpu()? - cpu).as_secs_f64() * 1e3 / took.as_secs_f64())
}

/// Waits until the target has done what it was asked: it uses less than a hundredth of a CPU. Returns its CPU time by
/// then.
fn until_rest(tree: &Tree) -> Outcome<Duration> {
    let mut before = tree.cpu()?;
    loop {
        thread::sleep(REST);
        let now = tree.cpu()?;
        if now - before < REST / 100 {
            return Ok(now);
        }
        before = now;
    }
}
