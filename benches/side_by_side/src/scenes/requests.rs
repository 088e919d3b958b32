//! Safe-conducts under wrk, beside nginx that answers `201` by itself: with the fields and the length of our answer, and
//! with nothing in it.
//!
//! wrk needs a CPU of its own, so requests a second are those of the two together; what a request costs the target is
//! the figure to compare. wrk looks only at the status of an answer.

use super::{Contender, NGINX_ANSWER, RELAY, Scene};
use crate::Outcome;
use crate::hearing::Head;
use crate::machine::SECOND_ADDRESS;
use crate::plan::{Stage, is_there};
use crate::process::{Tree, scratch};
use crate::sample::{Metric, Sample, micros};
use crate::stream::Stream;
use crate::targets::proxy::{Kind, Proxy, Shape};
use crate::targets::relay::{Placement, Relay, answer_of};
use crate::targets::setup::Setup;
use crate::targets::{WORKERS, free_address};
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;

const CONNECTIONS: &str = "32";
/// Each of two threads has an address of its own to connect to, from which it then comes.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["Content-Length"] = "0"
local ports = { {"127.0.0.1", "FIRST"}, {"127.0.0.2", "SECOND"} }
local count = 0
function setup(thread)
    count = count + 1
    thread.addr = wrk.lookup(ports[count][1], ports[count][2])[1]
end
"#;

/// Room for a second's safe-conducts, which is how long they live. Each of two addresses may have as many as can be
/// configured, so that they are counted; where that is not enough, wrk has an answer `429`, and the run fails.
const ROOM: &str = "\
[limits]
sessions_per_address_max = 65536
[memory]
segment_bytes = \"768MiB\"
sessions_max = 262144
[timeouts]
session_lifetime = \"1s\"
";

/// The fields that nginx writes into an answer of its own accord.
const OF_NGINX: [&str; 5] = ["Server", "Date", "Content-Type", "Content-Length", "Connection"];
/// A text that is longer may need a longer `Content-Length`.
const ATTEMPTS: usize = 4;
const NGINX_EMPTY: &str = "nginx, empty answer";

pub(crate) const SCENE: Scene = Scene {
    name: "safe-conducts",
    title: "Safe-conducts under wrk, 32 connections kept alive",
    remarks: "All: `POST /` with an empty body. idontstore draws keys, keeps a session for each and counts it for its \
              address, which may have more of them than by default, for a shorter time; wrk has two addresses; \
              nginx answers the same bytes each time and keeps nothing.",
    metrics: &[Metric::CpuEach, Metric::PerSecond],
    ratios: &[(Metric::CpuEach, NGINX_ANSWER), (Metric::PerSecond, NGINX_ANSWER)],
    round_seconds: 12.0,
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let mut contenders = Vec::new();
    if !is_there("wrk") {
        return Ok(contenders);
    }
    let seconds = stage.plan.span.as_secs().max(1);
    let second = SocketAddr::from((SECOND_ADDRESS, free_address()?.port()));
    let more = format!("[[listener]]\naddress = \"{second}\"\n{ROOM}");
    let relay = Rc::new(Relay::start(stage.relay(), &Setup { more: &more, ..Setup::default() })?);
    if is_there("nginx") {
        let ours = relay.answer()?;
        let (same, bytes) = same_answer(&ours)?;
        let empty = nginx_with("return 201;")?;
        let answers = [
            (
                NGINX_ANSWER,
                same,
                "with the fields of idontstore's answer and a text that makes it as long",
            ),
            (NGINX_EMPTY, empty, "with no text and no field beside its own"),
        ];
        for (name, nginx, what) in answers {
            let settings = format!(
                "{WORKERS} workers; `return 201` {what}: {} bytes where idontstore's has {bytes}; `access_log off`, \
                 `keepalive_requests 1000000000`",
                answer_of(Stream::connect(nginx.address, None)?)?.message_bytes()
            );
            contenders.push(Contender::new(name, settings, move || {
                let nginx = &nginx;
                wrk(&nginx.tree, nginx.address, nginx.address.port(), seconds)
            }));
        }
    }
    contenders.push(Contender::new(RELAY, relay.settings.clone(), move || {
        let sample = wrk(&relay.tree, relay.address, second.port(), seconds)?;
        Ok(relay.landed_as(Placement::AsTheyLand, sample))
    }));
    Ok(contenders)
}

fn nginx_with(answer: &str) -> Outcome<Proxy> {
    Proxy::start(&Shape { answer, ..Shape::new(Kind::Nginx, None) })
}

/// An nginx that answers with the fields of `head`, and with a text that makes the answer as long; and the length in
/// bytes.
fn same_answer(head: &Head) -> Outcome<(Proxy, u64)> {
    let (wanted, mut text_bytes) = (head.message_bytes(), head.body_bytes());
    for _ in 0..ATTEMPTS {
        let nginx = nginx_with(&with_fields_of(head, text_bytes))?;
        let had = answer_of(Stream::connect(nginx.address, None)?)?.message_bytes();
        // The fields that nginx writes of its own accord may be longer than those that they stand for.
        if had == wanted || had > wanted + text_bytes {
            return Ok((nginx, wanted));
        }
        text_bytes = text_bytes + wanted - had;
    }
    Err("nginx's answer cannot be made as long as idontstore's".into())
}

/// The directives that make nginx answer with the fields of `head` and a text of this length.
fn with_fields_of(head: &Head, text_bytes: u64) -> String {
    let quoted = |text: &str| text.replace(['"', '\\', '$'], "_");
    let mut text = String::new();
    let kind = head.field("Content-Type").unwrap_or("text/plain");
    let _ = write!(text, "default_type \"{}\"; ", quoted(kind));
    for (name, value) in head.fields() {
        if !OF_NGINX.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            let _ = write!(text, "add_header {name} \"{}\"; ", quoted(value));
        }
    }
    let bytes = usize::try_from(text_bytes).unwrap_or_default();
    text + &format!("return 201 \"{}\";", "x".repeat(bytes))
}

/// `second`: the port at the second address.
fn wrk(tree: &Tree, address: SocketAddr, second: u16, seconds: u64) -> Outcome<Sample> {
    let directory = scratch()?;
    let script = directory.path().join("post.lua");
    let ports = [("FIRST", address.port()), ("SECOND", second)];
    let text = ports
        .iter()
        .fold(SCRIPT.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
    fs::write(&script, text)?;
    let cpu = tree.cpu()?;
    let output = Command::new("wrk")
        .args(["-t2", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--timeout", "30s", "-s"])
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
