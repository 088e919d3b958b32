//! Safe-conducts under wrk, beside nginx that answers an empty `201` by itself.
//!
//! wrk needs a CPU of its own, so requests a second are those of the two together; what a request costs the
//! target is the figure to compare. It looks at no answer but at its status.

use super::{Contender, NGINX, RELAY, Scene};
use crate::Outcome;
use crate::plan::{Stage, is_there};
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros};
use crate::targets::proxy::{Kind, Proxy};
use crate::targets::relay::{Relay, Setup};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;

const CONNECTIONS: &str = "32";
const SCRIPT: &str = "wrk.method = \"POST\"\nwrk.headers[\"Content-Length\"] = \"0\"\n";

/// Room for a second's safe-conducts at any rate that was seen, which is how long they live; more than the limit of
/// one address can be.
const ROOM: &str = "\
[limits]
sessions_per_address_max = 0
[memory]
segment_bytes = \"768MiB\"
sessions_max = 262144
[timeouts]
session_lifetime = \"1s\"
";

pub(crate) const SCENE: Scene = Scene {
    name: "safe-conducts",
    title: "Safe-conducts under wrk, 32 connections kept alive; nginx answers an empty 201",
    metrics: &[Metric::CpuEach, Metric::PerSecond],
    limit: NGINX,
    ratios: &[Metric::CpuEach, Metric::PerSecond],
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let mut contenders = Vec::new();
    if !is_there("wrk") {
        return Ok(contenders);
    }
    let seconds = stage.plan.span.as_secs().max(1);
    if is_there("nginx") {
        let nginx = Rc::new(Proxy::start(Kind::Nginx)?);
        contenders.push(Contender::new(NGINX, move || wrk(&nginx.tree, nginx.address, seconds)));
    }
    let relay = Rc::new(Relay::start(stage.relay(), 2, &Setup { more: ROOM, tls: None })?);
    contenders.push(Contender::new(RELAY, move || wrk(&relay.tree, relay.address, seconds)));
    Ok(contenders)
}

fn wrk(tree: &Tree, address: SocketAddr, seconds: u64) -> Outcome<Sample> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("post.lua");
    fs::write(&script, SCRIPT)?;
    let cpu = tree.cpu()?;
    let output = Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--timeout", "30s", "-s"])
        .arg(&script)
        .arg(format!("http://{address}/"))
        .output()?;
    let cpu = tree.cpu()? - cpu;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("wrk says\n{text}").into());
    }
    let number = |before: &str, after: &str| {
        let number = text.split(before).nth(1).and_then(|text| text.split(after).next());
        number.and_then(|number| number.trim().parse::<f64>().ok()).ok_or("wrk says something else")
    };
    let per_second = number("Requests/sec:", "\n")?;
    // `N requests in 3.00s, ...`, on a line of its own.
    let line = text.lines().find_map(|line| line.split_once(" requests in "));
    let requests: f64 = line.ok_or("wrk does not say how many")?.0.trim().parse()?;
    if requests < 1.0 {
        return Err("wrk had no answer".into());
    }
    Ok(Sample(vec![(Metric::CpuEach, micros(cpu) / requests), (Metric::PerSecond, per_second)]))
}
