//! The latency of a message: from when the sender begins to write it until the receiver, which waits in its place,
//! has read it whole; and until the sender is told so.
//!
//! A CPU that slept needs time to wake, which distorts the latency: it matters on which CPU the waiting worker or
//! client slept. All contenders have the same pause between two messages, in which the generator works on, so that
//! the receiver's next request has come to its place.

use super::{Contender, LANDED, ONE_WORKER, PIPING, Scene, TWO_WORKERS};
use crate::Outcome;
use crate::end::{End, Step};
use crate::exchanges::{BATCH, Stopwatch};
use crate::hearing::Expect;
use crate::limits::{Limit, Running};
use crate::payload;
use crate::plan::Stage;
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros, percentile};
use crate::targets::limit::{echo_ends, meet_lane};
use crate::targets::piping::Piping;
use crate::targets::relay::{Placement, Receipt, Relay};
use crate::targets::setup::Setup;
use crate::targets::{Carrier, Lane, Requests};
use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub(super) const MESSAGE_BYTES: u64 = 64;
const PAUSE: Duration = Duration::from_micros(150);
const ANSWER_BYTES_MAX: usize = 4096;
/// The share of messages that come first and are not counted.
pub(super) const WARM_UP_SHARE: usize = 20;

pub(crate) const SCENE: Scene = Scene {
    name: "latency",
    title: "Latency of a message of 64 bytes, on connections kept alive",
    remarks: "All but *echo*: the receiver sends its next request before the sender reads its answer. idontstore's \
              messages are a `POST` and a `GET` on the path of one session; its *exchanges* are a `PUT` and a `GET` \
              on another \
              path each time, as those of Piping Server and *meet*, and their sessions are issued between messages, which \
              counts for nothing. The receipt by default is `sent` for messages, and `acked` for exchanges.",
    metrics: &[Metric::Got50, Metric::Got99, Metric::Told50, Metric::CpuEach],
    ratios: &[(Metric::Got50, "echo"), (Metric::Got99, "echo"), (Metric::Got50, PIPING)],
    round_seconds: 25.0,
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let messages = stage.plan.messages;
    let mut contenders = Vec::new();
    let echo = Rc::new(Running::start(Limit::Echo)?);
    contenders
        .push(Contender::new("echo", echo.limit.settings(), move || through_echo(&echo, messages)));
    let meet = Rc::new(Running::start(Limit::Meet)?);
    contenders.push(Contender::new("meet", meet.limit.settings(), move || {
        through_lane(&meet.tree, meet_lane(&meet, 0, MESSAGE_BYTES)?, messages, None)
    }));
    let relay = Rc::new(Relay::start(stage.relay(), &Setup::default())?);
    for receipt in [Receipt::Sent, Receipt::Acked] {
        let relay = Rc::clone(&relay);
        let placement = Placement::AsTheyLand;
        let settings = format!("{}; {placement}; `X-Receipt: {receipt}`", relay.settings);
        contenders.push(Contender::new(
            format!("{LANDED}, exchanges, {receipt}"),
            settings,
            move || {
                let lane = relay.exchange_lane(receipt, MESSAGE_BYTES)?;
                let sample = through_lane(&relay.tree, lane, messages, Some(&relay))?;
                Ok(relay.landed_as(placement, sample))
            },
        ));
    }
    for (name, placement) in [
        (LANDED, Placement::AsTheyLand),
        (ONE_WORKER, Placement::OneWorker),
        (TWO_WORKERS, Placement::TwoWorkers),
    ] {
        for receipt in [Receipt::Sent, Receipt::Acked] {
            let relay = Rc::clone(&relay);
            let settings = format!("{}; {placement}; `X-Receipt: {receipt}`", relay.settings);
            contenders.push(Contender::new(format!("{name}, {receipt}"), settings, move || {
                let lane = relay.lane(placement, receipt, MESSAGE_BYTES)?;
                let sample = through_lane(&relay.tree, lane, messages, None)?;
                Ok(relay.landed_as(placement, sample))
            }));
        }
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Rc::new(Piping::start(script, None)?);
        contenders.push(Contender::new(PIPING, piping.settings(), move || {
            through_lane(&piping.tree, piping.lane(MESSAGE_BYTES)?, messages, None)
        }));
    }
    Ok(contenders)
}

fn through_echo(echo: &Running, messages: usize) -> Outcome<Sample> {
    let (mut sender, mut receiver) = echo_ends(echo)?;
    let message = payload::at(0, MESSAGE_BYTES);
    let mut buffer = vec![0; message.len()];
    let sample = measure(
        &echo.tree,
        messages,
        |_| Ok(()),
        || {
            let start = Instant::now();
            sender.write_all(message)?;
            receiver.read_exact(&mut buffer)?;
            let got = start.elapsed();
            payload::verify(0, &buffer)?;
            Ok([got, got])
        },
    )?;
    // No contender tells its sender anything here.
    Ok(Sample(sample.0.into_iter().filter(|(metric, _)| *metric != Metric::Told50).collect()))
}

/// `issuer` issues sessions, if messages need one each.
fn through_lane(
    tree: &Tree,
    lane: Lane,
    messages: usize,
    issuer: Option<&Relay>,
) -> Outcome<Sample> {
    let Lane { sender, receiver, requests, answer } = lane;
    let (mut sender, mut receiver) = (End::new(sender, []), End::new(receiver, []));
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    // Messages whose receiver's request was sent, at least.
    let number = Cell::new(1);
    let issue = |stopwatch: &mut Stopwatch<'_>| {
        let (Some(relay), Requests::Issued { paths, .. }) = (issuer, &requests) else {
            return Ok(());
        };
        // Also for the receiver's request for the next one.
        if paths.borrow().len() as u64 <= number.get() {
            stopwatch.stop()?;
            paths.borrow_mut().extend(relay.issued(BATCH)?);
            stopwatch.start()?;
        }
        Ok(())
    };
    issue(&mut Stopwatch::new(tree))?;
    receiver.stream.write_all(&requests.get(number.get()))?;
    let sample = measure(tree, messages, issue, || {
        let put = requests.put(number.get());
        let start = Instant::now();
        sender.stream.write_all(&put)?;
        receiver.go_on([Step::Hear(Expect::Payload(MESSAGE_BYTES))]);
        receiver.complete(&mut buffer)?;
        let got = start.elapsed();
        number.set(number.get() + 1);
        // Asked for as a receiver does, at once; it may also bring the acknowledgement along.
        receiver.stream.write_all(&requests.get(number.get()))?;
        sender.go_on([Step::Hear(answer)]);
        sender.complete(&mut buffer)?;
        Ok([got, start.elapsed()])
    });
    if let (Some(relay), Requests::Issued { paths, .. }) = (issuer, &requests) {
        relay.keep_issued(paths.borrow_mut().split_off(usize::try_from(number.get())?));
    }
    sample
}

/// Passes messages on, with a pause before each, in which what is to be prepared is.
fn measure(
    tree: &Tree,
    messages: usize,
    prepare: impl Fn(&mut Stopwatch<'_>) -> Outcome<()>,
    mut pass: impl FnMut() -> Outcome<[Duration; 2]>,
) -> Outcome<Sample> {
    let mut stopwatch = Stopwatch::new(tree);
    let mut pass = |stopwatch: &mut Stopwatch<'_>| {
        prepare(stopwatch)?;
        let start = Instant::now();
        while start.elapsed() < PAUSE {
            std::hint::spin_loop();
        }
        pass()
    };
    for _ in 0..messages.div_ceil(WARM_UP_SHARE) {
        pass(&mut stopwatch)?;
    }
    let mut stopwatch = Stopwatch::new(tree);
    stopwatch.start()?;
    let times: Vec<[Duration; 2]> =
        (0..messages).map(|_| pass(&mut stopwatch)).collect::<Outcome<_>>()?;
    stopwatch.stop()?;
    let mut got: Vec<Duration> = times.iter().map(|[got, _]| *got).collect();
    let mut told: Vec<Duration> = times.iter().map(|[_, told]| *told).collect();
    Ok(Sample(vec![
        (Metric::Got50, percentile(&mut got, 50)),
        (Metric::Got99, percentile(&mut got, 99)),
        (Metric::Told50, percentile(&mut told, 50)),
        (Metric::CpuEach, micros(stopwatch.cpu) / messages as f64),
    ]))
}
