//! How the master becomes another program, and stays the parent of its workers: the program that is now
//! installed first shows, in a process of its own, that it can take over (`Try`), then takes the place of
//! this one in this very process (`Replace`). It finds all generations as they were (`Past`), and reloads.

use super::{
    Action, Asker, Decider, Generation, GenerationId, Phase, STOPPING, Says, State, Terms, Worker,
    WorkerId,
};
use serde::{Deserialize, Serialize};

/// An upgrade that was asked for.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) asker: Option<Asker>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits until a reload is done that has begun.
    Asked,
    /// The other program has until then to show that it could take over.
    Trying {
        ends_ms: u64,
    },
    /// It has shown it.
    Ready,
    Replacing,
}

impl Upgrade {
    pub(super) fn ends_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Trying { ends_ms } => Some(ends_ms),
            Stage::Asked | Stage::Ready | Stage::Replacing => None,
        }
    }
}

/// What one program tells the next of its generations.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Past {
    next_generation: GenerationId,
    generations: Vec<PastGeneration>,
    askers: Vec<Asker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PastGeneration {
    id: GenerationId,
    serves: bool,
    workers: Vec<PastWorker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PastWorker {
    record: usize,
    /// `None`: it has no process, and is to be forked again.
    born_ms: Option<u64>,
}

/// Why what is said of the past cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum PastError {
    /// There is no such worker record.
    #[error("worker record {0} is none of this program's")]
    Record(usize),
    /// Two have the same worker record.
    #[error("worker record {0} is said to have two workers")]
    Twice(usize),
}

impl Past {
    /// The generation that served, if one did.
    pub(in super::super) fn serving(&self) -> Option<GenerationId> {
        self.generations.iter().find(|it| it.serves).map(|it| it.id)
    }

    /// The records of all workers that have a process, in order.
    pub(in super::super) fn living(&self) -> Vec<usize> {
        let workers = self.generations.iter().flat_map(|it| &it.workers);
        let mut living: Vec<usize> =
            workers.filter(|it| it.born_ms.is_some()).map(|it| it.record).collect();
        living.sort_unstable();
        living
    }
}

impl Decider {
    pub(super) fn ask_for_upgrade(&mut self, asker: Option<Asker>) {
        if self.stopping.is_some() {
            self.fail(asker, STOPPING);
        } else if self.upgrade.is_some() {
            self.fail(asker, "an upgrade is under way already");
        } else {
            self.upgrade = Some(Upgrade { asker, stage: Stage::Asked });
        }
    }

    pub(super) fn settle_upgrade(&mut self, now_ms: u64) {
        let is_busy =
            self.handover.is_some() || self.generations.iter().any(Generation::is_in_the_making);
        let Some(upgrade) = &mut self.upgrade else { return };
        match upgrade.stage {
            Stage::Asked if !is_busy => {
                let ends_ms = now_ms.saturating_add(self.terms.start_timeout_ms);
                upgrade.stage = Stage::Trying { ends_ms };
                self.actions.push(Action::Try);
            }
            Stage::Trying { ends_ms } if now_ms >= ends_ms => {
                self.give_up_upgrade("the new program did not answer within start_timeout");
            }
            Stage::Asked | Stage::Trying { .. } | Stage::Ready | Stage::Replacing => {}
        }
    }

    /// Becomes the other program, if that is all that there is to do: anything else would be lost.
    pub(super) fn settle_replacement(&mut self) {
        let is_busy =
            !self.actions.is_empty() || self.generations.iter().any(Generation::is_being_forked);
        let is_ready = |it: &&mut Upgrade| it.stage == Stage::Ready;
        if let Some(upgrade) = self.upgrade.as_mut().filter(is_ready).filter(|_| !is_busy) {
            upgrade.stage = Stage::Replacing;
            self.actions.push(Action::Replace);
        }
    }

    pub(super) fn tried(&mut self, outcome: Result<(), String>) {
        let is_tried = |it: &&mut Upgrade| matches!(it.stage, Stage::Trying { .. });
        let Some(upgrade) = self.upgrade.as_mut().filter(is_tried) else { return };
        match outcome {
            Ok(()) => upgrade.stage = Stage::Ready,
            Err(why) => self.give_up_upgrade(&why),
        }
    }

    pub(super) fn give_up_upgrade(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        self.actions.push(Action::NoUpgrade(why.to_owned()));
        self.fail(upgrade.asker, why);
    }

    /// All that the next program needs to know.
    pub(in super::super) fn past(&self) -> Past {
        let worker =
            |it: &Worker| PastWorker { record: it.record().index(), born_ms: it.born_ms() };
        let generation = |it: &Generation| PastGeneration {
            id: it.id,
            serves: it.phase == Phase::Serving,
            workers: it.workers.iter().map(worker).collect(),
        };
        let queued = self.queued.iter().flat_map(|it| it.askers.iter().copied());
        Past {
            next_generation: self.next_generation,
            generations: self.generations.iter().map(generation).collect(),
            askers: queued.chain(self.upgrade.iter().filter_map(|it| it.asker)).collect(),
        }
    }

    /// A master that was another program until now: it reloads, for its own workers to take over.
    pub(in super::super) fn after(
        past: &Past,
        terms: Terms,
        now_ms: u64,
    ) -> Result<Self, PastError> {
        let mut decider = Self::without_generations(terms, past.next_generation);
        for before in &past.generations {
            let mut generation = Generation::new(before.id, terms, Vec::new());
            generation.phase = if before.serves { Phase::Serving } else { Phase::Leaving };
            let says = if before.serves { Says::Serves } else { Says::Closed };
            for worker in &before.workers {
                let record =
                    WorkerId::new(worker.record).ok_or(PastError::Record(worker.record))?;
                if generation.has(record) || decider.with(record).is_some() {
                    return Err(PastError::Twice(worker.record));
                }
                generation.workers.push(match worker.born_ms {
                    Some(born_ms) => Worker::in_state(record, State::Alive { born_ms, says }),
                    None => Worker::in_state(record, State::Due { at_ms: now_ms }),
                });
            }
            decider.generations.push(generation);
        }
        decider.queue_all(past.askers.clone(), 0, now_ms);
        Ok(decider)
    }
}
