//! Receivers that wait: what each takes of memory, and what all cost while nothing happens.

use super::{Contender, PIPING, RELAY, Scene};
use crate::Outcome;
use crate::plan::Stage;
use crate::process::{Tree, eventually};
use crate::sample::{Metric, Sample};
use crate::stream::Stream;
use crate::targets::piping::Piping;
use crate::targets::relay::{Relay, Setup};
use crate::targets::request;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Room for so many, and nobody's time is up meanwhile.
const ROOM: &str = "\
[limits]
connections_per_address_max = 0
sessions_per_address_max = 0
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
    metrics: &[Metric::BytesEach, Metric::IdleCpu, Metric::IdleCpuBefore],
    limit: PIPING,
    ratios: &[Metric::BytesEach],
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let (receivers, span) = (stage.plan.idle, stage.plan.idle_span);
    let program = stage.relay().clone();
    let mut contenders = Vec::new();
    // A process that has had many connections keeps some of their memory: a new one for each run.
    contenders.push(Contender::new(RELAY, move || {
        let relay = Relay::start(&program, 2, &Setup { more: ROOM, tls: None })?;
        let paths = relay.ask(receivers)?;
        let all_wait = || eventually(|| (relay.places_held() == receivers).then_some(()));
        wait(&relay.tree, relay.address, &paths, span, all_wait)
    }));
    if let Some(script) = stage.plan.piping.clone() {
        contenders.push(Contender::new(PIPING, move || {
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
    let bytes = tree.memory().saturating_sub(before) as f64 / paths.len() as f64;
    Ok(Sample(vec![
        (Metric::BytesEach, bytes),
        (Metric::IdleCpu, idle),
        (Metric::IdleCpuBefore, idle_before),
    ]))
}

/// What a target uses once it has come to rest, for so long; milliseconds a second.
fn idle_cpu(tree: &Tree, span: Duration) -> Outcome<f64> {
    let (cpu, start) = (until_rest(tree)?, Instant::now());
    thread::sleep(span);
    let took = start.elapsed();
    Ok((tree.cpu()? - cpu).as_secs_f64() * 1e3 / took.as_secs_f64())
}

/// Waits until the target has done what it was asked: it uses less than a hundredth of a CPU. Its CPU time
/// by then.
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
