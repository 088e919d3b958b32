//! How the relay stands, in a few words: what a service manager is told.

use super::{Decider, Generation, GenerationId, Phase};

/// How the relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Standing {
    /// The generation that serves, and how many of its workers live.
    pub(in super::super) serving: Option<(GenerationId, usize)>,
    /// Workers of others that live.
    pub(in super::super) leaving: usize,
    /// A reload or an upgrade has begun and is not over. One that waits for others has not begun.
    pub(in super::super) is_renewing: bool,
    /// When patience with a stop ends, once it has begun.
    pub(in super::super) stops_ms: Option<u64>,
}

impl Decider {
    pub(in super::super) fn standing(&self) -> Standing {
        let serving = self.generations.iter().find(|it| it.phase == Phase::Serving);
        let leaving = self.generations.iter().filter(|it| it.phase == Phase::Leaving);
        Standing {
            serving: serving.map(|it| (it.id, it.alive().count())),
            leaving: leaving.map(|it| it.alive().count()).sum(),
            is_renewing: self.handover.is_some()
                || self.upgrade.is_some()
                || self.generations.iter().any(Generation::is_in_the_making),
            stops_ms: self.stopping.map(|it| it.ends_ms),
        }
    }
}
