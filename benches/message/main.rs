//! The latency of a message: the real program beside a bare socket echo.
//!
//!     cargo bench --bench message [-- [--messages=N] [--rounds=N] [--bytes=N]]     default: 2000, 5, 64
//!     cargo bench --bench message -- --test                        50 messages, 1 round: does it run?
//!
//! What is measured. The relay is the shipped binary with two workers. Host and guest are two
//! connections of this program, both kept alive; they are on one worker or on two. The guest's `GET`
//! waits in its place. Then the host's `POST` is sent, head and body in one write, and the time taken
//! until the guest has read the whole message (*got*), and until the host has read its answer
//! (*told*). In between the guest asks for the next message, as a guest does; *told* has the time of
//! that `write` in it, and with `acked` it is what brings the acknowledgement. A guest that would not
//! ask again leaves it to the kernel's delayed acknowledgement, 40 ms. *cost* is the CPU time of the
//! relay's processes, user and system, a message.
//!
//! Beside it, by turns, `echo`: this program started once more as a process that reads from a blocking
//! socket what there is and writes it back. A message of the same size goes there and back, which is
//! as many sockets and as many processes to wake as a message through one worker takes: the least it
//! can cost. Each round gives ratios; only these say something about the relay.
//!
//! What distorts it.
//! - On two CPUs, two workers and their client share them. It is then the scheduler's choice who waits.
//! - A CPU that slept needs time to wake, and a virtual one more; who is measured first meets it.
//! - A virtual machine's CPUs move: `line` is the time that a cache line takes from one to the other,
//!   taken before each round. Compare rounds with like ones only.
//! - Anything else that runs, above all at the 99th percentile.
//!
//! So nothing here passes or fails by a time. It fails when a message is lost or altered.

mod chat;
#[path = "../support/connection.rs"]
mod connection;
mod echo;
mod latency;
#[path = "../support/measure.rs"]
mod measure;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/yardstick.rs"]
mod yardstick;

use chat::{Chat, Level};
use echo::Echo;
use latency::{Batch, Latency};
use measure::{Spread, line_ns};
use relay::{Placement, Relay};
use std::error::Error;
use std::fmt;

/// Messages that go before those that count.
const WARM_UP: usize = 50;

/// How much to do.
struct Plan {
    bytes: usize,
    messages: usize,
    rounds: usize,
}

impl Plan {
    /// What the command line asks for; `None` if it asks for another benchmark. Without `--bench`, which
    /// `cargo bench` adds, only whether it runs is asked, as criterion has it.
    fn read(arguments: &[String]) -> Result<Option<Self>, Box<dyn Error>> {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let number = |flag: &str, default: usize| {
            let value = arguments.iter().find_map(|argument| argument.strip_prefix(flag));
            value.map_or(Ok(default), str::parse)
        };
        if arguments.iter().any(|it| !it.starts_with('-') && !"message".contains(it.as_str())) {
            return Ok(None);
        }
        let measures = has("--bench") && !has("--test");
        let (messages, rounds) = if measures { (2000, 5) } else { (50, 1) };
        let messages = number("--messages=", messages)?.max(1);
        let rounds = number("--rounds=", rounds)?.max(1);
        Ok(Some(Self { bytes: number("--bytes=", 64)?.max(1), messages, rounds }))
    }
}

/// A way through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    placement: Placement,
    level: Level,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:11} {:5}", self.placement, self.level)
    }
}

/// A batch by either, one right after the other.
struct Pair {
    way: Way,
    echo: Latency,
    echo_cost: f64,
    got: Latency,
    told: Latency,
    cost: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == echo::ARGUMENT) {
        return Ok(echo::serve()?);
    }
    let Some(plan) = Plan::read(&arguments)? else { return Ok(()) };
    let cpus = std::thread::available_parallelism()?;
    println!("message: {} bytes, {} a round, {cpus} CPUs; times in us", plan.bytes, plan.messages);
    println!(
        "\n  round   line  way                 echo p50    p99    got p50    p99   told p50    p99       cost"
    );
    let pairs = run(&plan)?;
    println!("\n  relay / echo, pair by pair: median [range]");
    println!(
        "  way                got p50               got p99               told p50              told p99              cost"
    );
    ways().for_each(|way| summarise(&pairs, way));
    Ok(())
}

fn ways() -> impl Iterator<Item = Way> {
    let placements = [Placement::SameWorker, Placement::TwoWorkers].into_iter();
    placements
        .flat_map(|placement| [Level::Sent, Level::Acked].map(|level| Way { placement, level }))
}

/// All rounds: each way by turns, with an echo before it.
fn run(plan: &Plan) -> Result<Vec<Pair>, Box<dyn Error>> {
    let relay = Relay::start(2)?;
    let mut echo = Echo::start()?;
    let mut pairs = Vec::new();
    for round in 1..=plan.rounds {
        for way in ways() {
            let line = line_ns().map_or("-".to_owned(), |ns| format!("{ns:.0} ns"));
            let pair = measure(plan, &relay, &mut echo, way)?;
            println!("  {round:5} {line:>6}  {}  {}", pair.way, row(&pair));
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn measure(
    plan: &Plan,
    relay: &Relay,
    echo: &mut Echo,
    wanted: Way,
) -> Result<Pair, Box<dyn Error>> {
    let body = vec![b'm'; plan.bytes];
    let mut there_and_back = Batch::of(plan.messages);
    let echo_cost = there_and_back.run(&echo.pids(), WARM_UP, || Ok([echo.pass(&body)?]))?;
    let (mut chat, placement) = Chat::start(relay, wanted.placement, wanted.level, &body)?;
    let mut passed = Batch::of(plan.messages);
    let cost = passed.run(&relay.pids, WARM_UP, || chat.pass())?;
    chat.end()?;
    let [echo] = there_and_back.latencies();
    let [got, told] = passed.latencies();
    Ok(Pair { way: Way { placement, ..wanted }, echo, echo_cost, got, told, cost })
}

fn row(pair: &Pair) -> String {
    let Pair { echo, echo_cost, got, told, cost, .. } = pair;
    format!(
        "{:8.1} {:6.1}   {:8.1} {:6.1}   {:8.1} {:6.1}   {cost:5.1} to {echo_cost:.1}",
        echo.p50, echo.p99, got.p50, got.p99, told.p50, told.p99
    )
}

fn summarise(pairs: &[Pair], way: Way) {
    let pairs: Vec<&Pair> = pairs.iter().filter(|pair| pair.way == way).collect();
    if pairs.is_empty() {
        return println!("  {way}  was not to be had");
    }
    let ratio = |value: fn(&Pair) -> f64| {
        format!("x {:.2}", Spread::of(pairs.iter().map(|pair| value(pair))))
    };
    println!(
        "  {way}  {:22}{:22}{:22}{:22}{}",
        ratio(|it| it.got.p50 / it.echo.p50),
        ratio(|it| it.got.p99 / it.echo.p99),
        ratio(|it| it.told.p50 / it.echo.p50),
        ratio(|it| it.told.p99 / it.echo.p99),
        ratio(|it| it.cost / it.echo_cost),
    );
}
