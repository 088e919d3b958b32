//! Going on with a file: what it costs to read from a sender what its receiver has already.
//!
//! The sender sends all of the file, the receiver asks for the last quarter. The measurement ends when the relay is
//! about to pass on the first byte that the receiver lacks.

use super::{COPY, Contender, LANDED, Scene};
use crate::Outcome;
use crate::carry::{carry, send_and_receive};
use crate::limits::{Limit, Running};
use crate::payload::PERIOD_BYTES;
use crate::plan::Stage;
use crate::sample::{Metric, Sample};
use crate::targets::Carrier;
use crate::targets::relay::{Placement, Relay};
use crate::targets::setup::Setup;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

const GIB: f64 = (1u64 << 30) as f64;
/// How often it is looked whether all that the receiver has was read.
const LOOK_EACH: Duration = Duration::from_micros(200);

pub(crate) const SPLICE: &str = "splice";
pub(crate) const TLS: &str = "idontstore, as they land, HTTPS";

pub(crate) const SCENE: Scene = Scene {
    name: "resume",
    title: "Going on with a file whose first three quarters the receiver has",
    remarks: "idontstore: per GiB of what is read and dropped, until the rest begins to be passed on; neither chunks nor \
              pipes are used. The receiver asks by `Range`; the sender begins at byte 0. The limits pass as much from one \
              connection to another.",
    metrics: &[Metric::CpuPerGib, Metric::GibPerSecond],
    ratios: &[
        (Metric::CpuPerGib, COPY),
        (Metric::CpuPerGib, SPLICE),
        (Metric::GibPerSecond, COPY),
        (Metric::GibPerSecond, SPLICE),
    ],
    round_seconds: 14.0,
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let (total, verifies) = (stage.plan.bulk_bytes, stage.plan.verifies);
    // A multiple of the period, so that the rest of the payload reads as the whole does.
    let from = total / 4 * 3 / PERIOD_BYTES as u64 * PERIOD_BYTES as u64;
    let mut contenders = Vec::new();
    for limit in [Limit::Copy(256), Limit::Copy(512), Limit::Splice] {
        let running = Running::start(limit)?;
        let settings = running.settings();
        contenders.push(Contender::new(limit.to_string(), settings, move || {
            carry(&running, 1, from, verifies)
        }));
    }
    let files = (stage.certificate.certificate_file(), stage.certificate.key_file());
    let tls = Some((&stage.certificate.client, files.0.as_path(), files.1.as_path()));
    for (name, tls) in [(LANDED, None), (TLS, tls)] {
        let relay = Rc::new(Relay::start(stage.relay(), &Setup { tls, ..Setup::default() })?);
        let settings = format!("{}; {}", relay.settings, Placement::AsTheyLand);
        contenders.push(Contender::new(name, settings, move || {
            let sample = go_on(&relay, from, total, verifies)?;
            Ok(relay.landed_as(Placement::AsTheyLand, sample))
        }));
    }
    Ok(contenders)
}

fn go_on(relay: &Relay, from: u64, total: u64, verifies: bool) -> Outcome<Sample> {
    let ends = relay.open_rest(from, total)?;
    let all = relay.skipped() + from;
    let (before, start) = (relay.tree.cpu()?, Instant::now());
    let measured = send_and_receive(ends, verifies, |is_over| {
        while relay.skipped() < all {
            if is_over() {
                return Err("it ended before all that the receiver has was read".into());
            }
            thread::sleep(LOOK_EACH);
        }
        Ok((relay.tree.cpu()?, start.elapsed()))
    });
    let (after, took) = measured?;
    let gib = from as f64 / GIB;
    Ok(Sample(vec![
        (Metric::CpuPerGib, (after - before).as_secs_f64() / gib),
        (Metric::GibPerSecond, gib / took.as_secs_f64()),
    ]))
}
