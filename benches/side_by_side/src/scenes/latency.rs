//! The latency of a message: from when the sender begins to write it until the receiver, who waits in its
//! place, has read it whole; and until the sender is told so.
//!
//! What distorts it: a CPU that slept needs time to wake, so it matters on which CPU whoever is to be woken
//! slept. All contenders have the same pause between two messages, in which the generator works on, so that
//! the receiver's next request has come to its place.

use super::{Contender, ONE_WORKER, PIPING, Scene, TWO_WORKERS};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::Expect;
use crate::limits::{Limit, Running};
use crate::payload;
use crate::plan::Stage;
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros, percentile};
use crate::targets::Lane;
use crate::targets::limit::{echo_ends, meet_lane};
use crate::targets::piping::Piping;
use crate::targets::relay::{Placement, Receipt, Relay, Setup};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

const MESSAGE_BYTES: u64 = 64;
const PAUSE: Duration = Duration::from_micros(150);
const ANSWER_BYTES_MAX: usize = 4096;
/// Of all messages, these come first and are not counted.
const WARM_UP_SHARE: usize = 20;

pub(crate) const SCENE: Scene = Scene {
    name: "latency",
    title: "Latency of a message of 64 bytes, on connections kept alive",
    metrics: &[Metric::Got50, Metric::Got99, Metric::Told50, Metric::CpuEach],
    limit: "echo",
    ratios: &[Metric::Got50, Metric::Got99],
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let messages = stage.plan.messages;
    let mut contenders = Vec::new();
    let echo = Rc::new(Running::start(Limit::Echo)?);
    contenders.push(Contender::new("echo", move || through_echo(&echo, messages)));
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", move || {
        through_lane(&meet.tree, meet_lane(&meet, 0, MESSAGE_BYTES)?, messages)
    }));
    let relay = Rc::new(Relay::start(stage.relay(), 2, &Setup::default())?);
    for (name, placement) in
        [(ONE_WORKER, Placement::OneWorker), (TWO_WORKERS, Placement::TwoWorkers)]
    {
        for receipt in [Receipt::Sent, Receipt::Acked] {
            let relay = Rc::clone(&relay);
            contenders.push(Contender::new(format!("{name}, {receipt}"), move || {
                let lane = relay.lane(placement, receipt, MESSAGE_BYTES)?;
                through_lane(&relay.tree, lane, messages)
            }));
        }
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, move || {
            through_lane(&piping.tree, piping.lane(MESSAGE_BYTES)?, messages)
        }));
    }
    Ok(contenders)
}

fn through_echo(echo: &Running, messages: usize) -> Outcome<Sample> {
    let (mut sender, mut receiver) = echo_ends(echo)?;
    let message = payload::at(0, MESSAGE_BYTES);
    let mut buffer = vec![0; message.len()];
    let sample = measure(&echo.tree, messages, || {
        let start = Instant::now();
        sender.write_all(message)?;
        receiver.read_exact(&mut buffer)?;
        let got = start.elapsed();
        payload::verify(0, &buffer)?;
        Ok([got, got])
    })?;
    // Nobody tells its sender anything.
    Ok(Sample(sample.0.into_iter().filter(|(metric, _)| *metric != Metric::Told50).collect()))
}

fn through_lane(tree: &Tree, lane: Lane, messages: usize) -> Outcome<Sample> {
    let Lane { sender, receiver, requests, answer } = lane;
    let (mut sender, mut receiver) = (End::new(sender, []), End::new(receiver, []));
    let (mut buffer, mut number) = (vec![0; ANSWER_BYTES_MAX], 0);
    receiver.stream.write_all(&requests.get(number))?;
    measure(tree, messages, || {
        let put = requests.put(number);
        let start = Instant::now();
        sender.stream.write_all(&put)?;
        receiver.go_on([Step::Hear(Expect::Payload(MESSAGE_BYTES))]);
        receiver.complete(&mut buffer)?;
        let got = start.elapsed();
        number += 1;
        // Asked for as a receiver does, at once; it may also bring the acknowledgement along.
        receiver.stream.write_all(&requests.get(number))?;
        sender.go_on([Step::Hear(answer)]);
        sender.complete(&mut buffer)?;
        Ok([got, start.elapsed()])
    })
}

/// Passes messages on, with a pause before each.
fn measure(
    tree: &Tree,
    messages: usize,
    mut pass: impl FnMut() -> Outcome<[Duration; 2]>,
) -> Outcome<Sample> {
    let mut pass = || {
        let start = Instant::now();
        while start.elapsed() < PAUSE {
            std::hint::spin_loop();
        }
        pass()
    };
    for _ in 0..messages.div_ceil(WARM_UP_SHARE) {
        pass()?;
    }
    let cpu = tree.cpu()?;
    let times: Vec<[Duration; 2]> = (0..messages).map(|_| pass()).collect::<Outcome<_>>()?;
    let cpu = tree.cpu()? - cpu;
    let mut got: Vec<Duration> = times.iter().map(|[got, _]| *got).collect();
    let mut told: Vec<Duration> = times.iter().map(|[_, told]| *told).collect();
    Ok(Sample(vec![
        (Metric::Got50, percentile(&mut got, 50)),
        (Metric::Got99, percentile(&mut got, 99)),
        (Metric::Told50, percentile(&mut told, 50)),
        (Metric::CpuEach, micros(cpu) / messages as f64),
    ]))
}
