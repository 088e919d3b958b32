//! A scene: attackers and honest clients at the same time.

use crate::bots::{self, Acted};
use crate::honest::{self, Outcome};
use crate::scenes::Scene;
use crate::target::Target;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Connections of the attackers; more only where their number is what a scene is about.
    pub connections: usize,
    /// Honest transfers at a time.
    pub transfers: u8,
    /// Bytes of each, and how many in a second.
    pub transfer_bytes: u64,
    /// See [`Self::transfer_bytes`].
    pub bytes_per_second: u64,
    /// Honest exchanges of small files, at most.
    pub exchanges_per_second: u64,
    /// How long the attack lasts.
    pub duration: Duration,
    /// How long the honest clients are measured alone before it; zero: not at all.
    pub alone: Duration,
    /// How much the attackers stand back for others on this machine, as nice(2) has it: a real one brings CPUs of its own.
    pub nice: i32,
}

impl Scale {
    /// What is promised to hold.
    #[must_use]
    pub fn long() -> Self {
        Self {
            connections: 1000,
            transfers: 20,
            transfer_bytes: 12 << 20,
            bytes_per_second: 3 << 20,
            exchanges_per_second: 100,
            duration: Duration::from_secs(60),
            alone: Duration::from_secs(10),
            nice: 19,
        }
    }

    /// For a machine that has other things to do.
    #[must_use]
    pub fn short() -> Self {
        Self {
            connections: 400,
            transfers: 6,
            transfer_bytes: 6 << 20,
            exchanges_per_second: 20,
            duration: Duration::from_secs(6),
            alone: Duration::ZERO,
            ..Self::long()
        }
    }
}

/// What came of a scene.
#[derive(Debug)]
pub struct Beside {
    /// The honest clients alone, if that was measured.
    pub alone: Option<Outcome>,
    /// The honest clients beside the attack.
    pub beside: Outcome,
    /// What the attackers did.
    pub attack: Acted,
}

impl Beside {
    /// The speed that transfers, and exchanges, keep beside the attack; 1.0 is all of it.
    #[must_use]
    pub fn ratios(&self) -> Option<[f64; 2]> {
        let alone = self.alone.as_ref()?;
        let transfers = self.beside.bytes_per_second / alone.bytes_per_second;
        Some([transfers, self.beside.exchanges_per_second / alone.exchanges_per_second])
    }

    /// Whether every honest transfer and exchange has succeeded.
    #[must_use]
    pub fn is_unharmed(&self) -> bool {
        let all = [self.alone.as_ref(), Some(&self.beside)];
        all.into_iter().flatten().all(|it| {
            it.transfers.failed + it.exchanges.failed == 0
                && it.transfers.done > 0
                && it.exchanges.done > 0
        })
    }
}

/// Runs `scene` against `target`, which has to be fresh.
#[must_use]
pub fn run(target: &Target, scene: &Scene, scale: &Scale) -> Beside {
    raise_limits();
    let is_measured = !scale.alone.is_zero();
    let alone = is_measured.then(|| honest::work(target, scale, scale.alone));
    let is_over = AtomicBool::new(false);
    let (beside, attack) = thread::scope(|scope| {
        let storm = scope.spawn(|| bots::storm(target, scene, scale, &is_over));
        let beside = honest::work(target, scale, scale.duration);
        is_over.store(true, Ordering::Relaxed);
        (beside, storm.join().unwrap_or_default())
    });
    Beside { alone, beside, attack }
}

/// As many descriptors as there may be.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What cannot be opened is counted among the attackers' failures.
    let _ = setrlimit(Resource::Nofile, limit);
}
