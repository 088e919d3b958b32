//! One whole transfer over loopback: the real program beside a bare copy loop.
//!
//!     cargo bench --bench transfer [-- [--mib=N] [--rounds=N]]      default: 1024 MiB, 5 rounds
//!     cargo bench --bench transfer -- --test                        64 MiB, 1 round: does it run?
//!
//! What is measured. The relay is the shipped binary with its own master and workers. Its sender is a
//! raw socket that sends `PUT` with a `Content-Length`, its receiver one that reads every byte into
//! memory; both are threads of this program. *Speed* is payload over the time from the sender's first
//! byte to the receiver's last. *Cost* is the CPU time of the relay's processes, master and workers,
//! user and system, from before the requests until the sender has its `200`, as `/proc` counts it.
//!
//! Beside it, by turns in the same minute, the same payload goes through `copy`: this program started
//! once more as a process that does nothing but read 256 KiB and write 256 KiB on blocking sockets.
//! It knows no HTTP, no deadline, no second client: the least that a relay in one process which copies
//! can cost. Each round gives a ratio of the two; only the ratios say something about the relay.
//!
//! With two workers, both placements are sought by turns, sender and receiver on the same worker and
//! on two; which one it was is said by the segment's counters afterwards, and rounds are grouped by
//! what they said. A relay on two workers may well be faster than `copy`: it has two CPUs.
//!
//! What distorts it.
//! - Four busy parties (sender, receiver, two workers) share the machine's CPUs. On few of them it is
//!   a matter of scheduling who waits for whom, and rounds differ by a third.
//! - Loopback has no network card: what TCP does for either end is billed to whoever happens to run,
//!   mostly to who calls send. Cost is thus not all the relay's own, and not all of the relay's.
//! - Congestion control. `bbr` paces with timers, which on loopback halves the speed and adds about
//!   half to the cost of everything; `cubic` and `reno` do not. What the system has is printed. Another
//!   can be had, by root, in a network namespace of its own: `unshare -n`, with `lo` up and
//!   `net.ipv4.tcp_congestion_control` set there.
//! - A virtual machine's CPUs move. While two of them have a cache in common, a line goes from one to
//!   the other in some 40 ns; when they have not, in 180, and whatever two CPUs touch costs half as
//!   much again or twice. `line` is that time, taken before each round: compare rounds with like ones
//!   only.
//! - Anything else that runs.
//!
//! So nothing here passes or fails by a time. It fails when a byte is missing.

mod client;
#[path = "../support/connection.rs"]
mod connection;
mod copy;
mod cost;
#[path = "../support/measure.rs"]
mod measure;
#[path = "../support/relay.rs"]
mod relay;
mod whole;
#[path = "../support/yardstick.rs"]
mod yardstick;

use copy::Copy;
use cost::Sample;
use measure::{Spread, line_ns};
use relay::{Placement, Relay};
use std::error::Error;
use std::fs;

const MIB: u64 = 1 << 20;

/// How much to do.
struct Plan {
    bytes: u64,
    rounds: usize,
}

impl Plan {
    /// What the command line asks for; `None` if it asks for another benchmark. Without `--bench`, which
    /// `cargo bench` adds, only whether it runs is asked, as criterion has it.
    fn read(arguments: &[String]) -> Result<Option<Self>, Box<dyn Error>> {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let number = |flag: &str, default: u64| {
            let value = arguments.iter().find_map(|argument| argument.strip_prefix(flag));
            value.map_or(Ok(default), str::parse)
        };
        if arguments.iter().any(|it| !it.starts_with('-') && !"transfer".contains(it.as_str())) {
            return Ok(None);
        }
        let measures = has("--bench") && !has("--test");
        let (mib, rounds) = if measures { (1024, 5) } else { (64, 1) };
        let bytes = number("--mib=", mib)?.max(1) * MIB;
        let rounds = usize::try_from(number("--rounds=", rounds)?)?.max(1);
        Ok(Some(Self { bytes, rounds }))
    }
}

/// A transfer by either, one right after the other.
struct Pair {
    placement: Placement,
    copy: Sample,
    relay: Sample,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == copy::ARGUMENT) {
        return Ok(copy::serve()?);
    }
    let Some(plan) = Plan::read(&arguments)? else { return Ok(()) };
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    println!(
        "transfer: {} MiB, {} CPUs, congestion control {}",
        plan.bytes / MIB,
        std::thread::available_parallelism()?,
        congestion.as_deref().unwrap_or("unknown").trim(),
    );
    let copy = Copy::start()?;
    run(&plan, &copy, 1, &[Placement::SameWorker])?;
    run(&plan, &copy, 2, &[Placement::SameWorker, Placement::TwoWorkers])
}

/// All rounds with so many workers: each placement by turns.
fn run(
    plan: &Plan,
    copy: &Copy,
    workers: usize,
    placements: &[Placement],
) -> Result<(), Box<dyn Error>> {
    let relay = Relay::start(workers)?;
    println!("\n{workers} worker{}", if workers == 1 { "" } else { "s" });
    println!(
        "  round   line  placement    copy GiB/s  CPU-s/GiB  relay GiB/s  CPU-s/GiB   speed x   cost x"
    );
    let mut pairs = Vec::new();
    for round in 1..=plan.rounds {
        for wanted in placements {
            let line = line_ns().map_or("-".to_owned(), |ns| format!("{ns:.0} ns"));
            let of_copy = copy.transfer(plan.bytes)?;
            let (of_relay, placement) = relay.transfer(plan.bytes, *wanted)?;
            let pair = Pair { placement, copy: of_copy, relay: of_relay };
            println!("  {round:5} {line:>6}  {:11}  {}", placement.to_string(), row(&pair));
            pairs.push(pair);
        }
    }
    for placement in placements {
        summarise(&pairs, *placement);
    }
    Ok(())
}

fn row(pair: &Pair) -> String {
    format!(
        "{:10.2} {:10.3} {:12.2} {:10.3} {:9.2} {:8.2}",
        pair.copy.speed,
        pair.copy.cost,
        pair.relay.speed,
        pair.relay.cost,
        speed_ratio(pair),
        cost_ratio(pair),
    )
}

/// Above 1: the relay is faster than `copy`.
fn speed_ratio(pair: &Pair) -> f64 {
    pair.relay.speed / pair.copy.speed
}

/// Above 1: the relay is dearer than `copy`.
fn cost_ratio(pair: &Pair) -> f64 {
    pair.relay.cost / pair.copy.cost
}

fn summarise(pairs: &[Pair], placement: Placement) {
    let pairs: Vec<&Pair> = pairs.iter().filter(|pair| pair.placement == placement).collect();
    let spread = |value: &dyn Fn(&Pair) -> f64| Spread::of(pairs.iter().map(|pair| value(pair)));
    println!("  {placement}, rounds: {}; median [range]", pairs.len());
    if pairs.is_empty() {
        return;
    }
    let line = |name, first: Spread, second: Spread| {
        println!("    {name:6} {first:.2} GiB/s  {second:.3} CPU-s/GiB")
    };
    line("copy", spread(&|pair| pair.copy.speed), spread(&|pair| pair.copy.cost));
    line("relay", spread(&|pair| pair.relay.speed), spread(&|pair| pair.relay.cost));
    println!(
        "    relay / copy, pair by pair: speed x {:.2}, cost x {:.2}",
        spread(&speed_ratio),
        spread(&cost_ratio)
    );
}
