//! The machine: a network of our own, what it is, and what its CPUs are doing at the moment.

use crate::Outcome;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The boundary between the two distances at which pairs of CPUs were seen: some 25 to 100 ns with a cache in common,
/// 180 to 245 without.
pub(crate) const NEAR_NS_MAX: f64 = 130.0;

/// CPUs that other programs keep busy, at most: a run with more before it is told as disturbed.
pub(crate) const OTHERS_MAX: f64 = 0.1;

/// A second address that clients have.
pub(crate) const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Moves this program, and all that it starts, into a network of its own, with `reno`; needs root. The caller does so
/// before it starts a second thread. Returns the result in words.
pub(crate) fn enter_network() -> String {
    let here = "the system's network";
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        return format!("{here}, as one of its own was not to be had: {error}");
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        return "a network of its own, whose loopback is not up: `ip` is missing".to_owned();
    }
    // Makes a client that connects to this address come from it, too: without this, all of 127.0.0.0/8 comes from
    // 127.0.0.1.
    let second = format!("{SECOND_ADDRESS}/32");
    let _ = Command::new("ip").args(["address", "add", &second, "dev", "lo"]).status();
    let set = |name: &str, value: &str| fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    let reno = set("tcp_congestion_control", "reno");
    let ports = set("ip_local_port_range", "2048 65000");
    match reno.and(ports) {
        Ok(()) => "a network namespace of its own".to_owned(),
        Err(error) => format!("a network namespace of its own, as the system set it up: {error}"),
    }
}

/// As many open files as the system lets us have, for us and for those we start.
pub(crate) fn raise_files() -> Outcome<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// A description of the machine, one line each; no names of hosts, no paths.
pub(crate) fn description(network: &str) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("unknown")
            .trim_start_matches([':', '=', ' ', '\t'])
            .trim_matches('"')
            .to_owned()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib = memory.split(' ').next().and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    vec![
        format!("CPU: {}, {} of them", cpu_model(), cpus()),
        format!("memory: {:.0} GiB", kib / f64::from(1 << 20)),
        format!("kernel: {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("system: {}", field(&read("/etc/os-release"), "PRETTY_NAME")),
        format!("congestion control: {}", read("/proc/sys/net/ipv4/tcp_congestion_control").trim()),
        format!("network: loopback in {network}"),
    ]
}

pub(crate) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split(':').nth(1));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |name| name.trim().to_owned())
}

pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How far the CPUs were from each other during a run: the host of a virtual machine moves them, and
/// everything that two CPUs touch costs up to twice as much when they have no cache in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Distance {
    Near,
    Far,
    /// The host moved the CPUs meanwhile, they could not be probed, or other programs used the machine.
    Mixed,
}

impl Distance {
    pub(crate) const ALL: [Self; 3] = [Self::Near, Self::Far, Self::Mixed];

    /// The distance, from a probe before the run and one after it.
    pub(crate) fn of(probes: [Option<f64>; 2]) -> Self {
        match probes.map(|ns| ns.map(|ns| ns <= NEAR_NS_MAX)) {
            [Some(true), Some(true)] => Self::Near,
            [Some(false), Some(false)] => Self::Far,
            _ => Self::Mixed,
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Mixed => "mixed",
        })
    }
}

/// Nanoseconds that a cache line takes from one CPU to another: the best of several looks, since in
/// the others the two threads may have shared one, as they do until the scheduler has parted them.
/// `None` where there is but one CPU to be had.
pub(crate) fn line_ns() -> Option<f64> {
    const LOOKS: u32 = 50;
    const LOOK: Duration = Duration::from_millis(1);
    /// Further apart than any two CPUs are: they were never at it at the same time.
    const NS_MAX: f64 = 10_000.0;
    std::thread::available_parallelism().ok().filter(|cpus| cpus.get() > 1)?;
    let (ball, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let hit_back = |parity| {
        let seen = ball.load(Ordering::Acquire);
        if seen % 2 == parity {
            ball.store(seen + 1, Ordering::Release);
        }
        seen
    };
    let best = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                hit_back(1);
            }
        });
        let looks = (0..LOOKS).map(|_| {
            let (start, first) = (Instant::now(), hit_back(0));
            while start.elapsed() < LOOK {
                hit_back(0);
            }
            start.elapsed().as_nanos() as f64 / (hit_back(0) - first).max(1) as f64
        });
        let best = looks.fold(f64::INFINITY, f64::min);
        over.store(true, Ordering::Relaxed);
        best
    });
    Some(best).filter(|ns| *ns < NS_MAX)
}

/// CPUs that are busy though nothing of ours runs: waits a little for there to be none.
pub(crate) fn others() -> f64 {
    const LOOK: Duration = Duration::from_millis(200);
    const LOOKS: usize = 5;
    let mut looks = (0..LOOKS).map(|_| {
        let (start, before) = (Instant::now(), busy_seconds());
        std::thread::sleep(LOOK);
        (busy_seconds() - before) / start.elapsed().as_secs_f64()
    });
    let mut last = 0.0;
    looks.find(|busy| {
        last = *busy;
        *busy <= OTHERS_MAX
    });
    last
}

/// CPU seconds that the whole machine has worked so far, in hundredths: `stat` (proc(5)).
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; what the host took (steal) is not among them.
    let working = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index));
    working.sum::<f64>() / 100.0
}
