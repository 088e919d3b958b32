//! A scene: attackers and honest clients at the same time.

use crate::bots::Acted;
use crate::honest::{self, Outcome};
use crate::process::Storm;
use crate::scenes::Scene;
use crate::target::Target;
use std::io;
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
}

impl Scale {
    /// The promises that must hold.
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

/// The results of a scene.
#[derive(Debug)]
pub struct Beside {
    /// The honest clients alone, if that was measured.
    pub alone: Option<Outcome>,
    /// The honest clients beside the attack.
    pub beside: Outcome,
    /// The work of the attackers.
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
///
/// # Errors
/// If the attackers' process cannot be started, or does not say what it did.
pub fn run(target: &Target, scene: &Scene, scale: &Scale) -> io::Result<Beside> {
    raise_limits();
    let is_measured = !scale.alone.is_zero();
    let alone = is_measured.then(|| honest::work(target, scale, scale.alone));
    let storm = Storm::start(target, scene, scale)?;
    let beside = honest::work(target, scale, scale.duration);
    Ok(Beside { alone, beside, attack: storm.end()? })
}

/// As many descriptors as there may be.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A connection that cannot be opened counts among the attackers' failures.
    let _ = setrlimit(Resource::Nofile, limit);
}
