//! The relay's status in a few words, for the service manager.

use super::{Decider, Generation, GenerationId, Phase};

/// How the relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Status {
    /// The generation that serves, and how many of its workers live.
    pub(in super::super) serving: Option<(GenerationId, usize)>,
    /// Workers of others that live.
    pub(in super::super) draining: usize,
    /// A reload or an upgrade has begun and is not over. A transition that waits for others has not begun.
    pub(in super::super) is_in_transition: bool,
    /// When a stop runs out of patience, if one has begun.
    pub(in super::super) stops_ms: Option<u64>,
}

impl Decider {
    pub(in super::super) fn status(&self) -> Status {
        let serving = self.generations.iter().find(|it| it.phase == Phase::Serving);
        let draining = self.generations.iter().filter(|it| it.phase == Phase::Draining);
        Status {
            serving: serving.map(|it| (it.id, it.alive().count())),
            draining: draining.map(|it| it.alive().count()).sum(),
            is_in_transition: self.retirement.is_some()
                || self.upgrade.is_some()
                || self.generations.iter().any(Generation::is_in_the_making),
            stops_ms: self.stopping.map(|it| it.ends_ms),
        }
    }
}
