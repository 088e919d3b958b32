//! Transfers of payload through a target, any number at once, and what they cost.

use crate::Outcome;
use crate::end::End;
use crate::engine::{Driver, Engine};
use crate::process::Tree;
use crate::sample::{Metric, Sample};
use crate::targets::{Carrier, Ends};
use nix::sys::resource::{UsageWho, getrusage};
use std::time::{Duration, Instant};

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// Runs so many transfers of so many bytes each.
pub(crate) fn carry(
    carrier: &dyn Carrier,
    transfers: usize,
    bytes: u64,
    verifies: bool,
) -> Outcome<Sample> {
    let open = || (0..transfers).map(|_| carrier.open(bytes)).collect();
    let mut sample = carry_all(carrier.tree(), bytes, verifies, open)?;
    sample.0.extend(carrier.landed());
    Ok(sample)
}

/// Runs the transfers that `open` opens through a target, of so many bytes each. All senders are in one thread, all
/// receivers in another. The time is from the first byte said to the last one heard; the cost is what it takes from when
/// all are connected until each sender has its answer.
pub(crate) fn carry_all(
    target: Option<&Tree>,
    bytes: u64,
    verifies: bool,
    open: impl FnOnce() -> Outcome<Vec<Ends>>,
) -> Outcome<Sample> {
    let cpu = || target.map_or(Ok(Duration::ZERO), |tree| tree.cpu());
    let watch = target.map(|tree| tree.watch());
    let (senders, receivers): (Vec<End>, Vec<End>) =
        open()?.into_iter().map(|ends| (ends.sender, ends.receiver)).unzip();
    let transfers = senders.len();
    let (before, own_before) = (cpu()?, own_cpu()?);
    let start = Instant::now();
    let receivers = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(receivers, bytes, verifies));
        let sent = run(senders, verifies, &mut Senders);
        let received = receiving.join().map_err(|_| "the receivers' thread panicked")?;
        // The receivers' side knows more of a failure than the senders' side.
        let received = received?;
        sent.map(|()| received)
    })?;
    // Processes that have ended are counted less exactly than before: a short run may seem to have taken nothing.
    let spent = cpu()?.saturating_sub(before);
    let own = own_cpu()? - own_before;
    let gib = bytes as f64 * transfers as f64 / GIB;
    let took = receivers.last.duration_since(start).as_secs_f64();
    let peaks = watch.map_or([0; 2], |watch| watch.peaks());
    let [peak, pipes] = peaks.map(|bytes| bytes as f64 / MIB);
    let mut values = vec![
        (Metric::CpuPerGib, spent.as_secs_f64() / gib),
        (Metric::AllCpuPerGib, (spent + own).as_secs_f64() / gib),
        (Metric::GibPerSecond, gib / took),
        (Metric::PeakMib, peak),
        (Metric::PipesMib, pipes),
    ];
    if transfers > 1 {
        values.push((Metric::Fairness, jain(&receivers.progress)));
    }
    Ok(Sample(values))
}

/// Runs both ends of a transfer, and `meanwhile` beside them, which is told whether one end is over.
pub(crate) fn send_and_receive<T>(
    ends: Ends,
    verifies: bool,
    meanwhile: impl FnOnce(&dyn Fn() -> bool) -> Outcome<T>,
) -> Outcome<T> {
    std::thread::scope(|scope| {
        let sides = [ends.sender, ends.receiver];
        let sides = sides.map(|end| scope.spawn(|| run(vec![end], verifies, &mut Senders)));
        let found = meanwhile(&|| sides.iter().any(|side| side.is_finished()));
        for side in sides {
            // A side knows more of a failure than `meanwhile`.
            side.join().map_err(|_| "a side's thread panicked")??;
        }
        found
    })
}

/// CPU time of this program so far.
fn own_cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(u64::try_from(microseconds.iter().sum::<i64>())?))
}

fn run(ends: Vec<End>, verifies: bool, driver: &mut impl Driver) -> Outcome<()> {
    let mut engine = Engine::new(verifies)?;
    for end in ends {
        engine.add(end)?;
    }
    engine.run(driver)
}

struct Senders;

impl Driver for Senders {
    fn done(&mut self, engine: &mut Engine, _: usize, end: End) -> Outcome<Option<End>> {
        engine.forget(&end);
        Ok(None)
    }
}

struct Receivers {
    bytes: u64,
    /// When the last one was done.
    last: Instant,
    /// How far each was when the first one was done.
    progress: Vec<u64>,
}

impl Driver for Receivers {
    fn done(&mut self, engine: &mut Engine, _: usize, end: End) -> Outcome<Option<End>> {
        self.last = Instant::now();
        engine.forget(&end);
        if self.progress.is_empty() {
            self.progress = engine.ends().map(End::heard).collect();
            self.progress.push(self.bytes);
        }
        Ok(None)
    }
}

fn receive(receivers: Vec<End>, bytes: u64, verifies: bool) -> Outcome<Receivers> {
    let mut driver = Receivers { bytes, last: Instant::now(), progress: Vec::new() };
    run(receivers, verifies, &mut driver)?;
    Ok(driver)
}

/// Jain's fairness index: the square of the sum by the sum of the squares, times how many there are.
fn jain(values: &[u64]) -> f64 {
    let sum: f64 = values.iter().map(|value| *value as f64).sum();
    let squares: f64 = values.iter().map(|value| (*value as f64).powi(2)).sum();
    sum.powi(2) / (values.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::jain;

    #[test]
    fn fairness_is_one_if_all_are_alike() {
        assert!((jain(&[5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[9, 0, 0]) - 1.0 / 3.0).abs() < 1e-9);
    }
}
