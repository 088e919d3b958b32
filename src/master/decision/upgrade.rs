//! The master becomes another program and stays the parent of its workers. The installed program first shows, in a
//! process of its own, that it can take over (`Try`). Then it takes the place of this program in this very process
//! (`Replace`). It finds all generations as they were (`DeciderState`), and reloads.

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
    /// The upgrade waits for a reload that has begun.
    Asked,
    /// Deadline for the trial to succeed.
    Trying {
        ends_ms: u64,
    },
    /// The trial has succeeded.
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

/// The decider's state, as one program hands it to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct DeciderState {
    next_generation: GenerationId,
    generations: Vec<GenerationState>,
    askers: Vec<Asker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct GenerationState {
    id: GenerationId,
    serves: bool,
    workers: Vec<WorkerState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WorkerState {
    record: usize,
    /// `None`: the worker has no process, and is to be forked again.
    born_ms: Option<u64>,
}

/// Why a decider's state contradicts itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum DeciderStateError {
    /// There is no such worker record.
    #[error("this program has no worker record {0}")]
    Record(usize),
    /// Two have the same worker record.
    #[error("worker record {0} has two workers")]
    Twice(usize),
}

impl DeciderState {
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
            self.fail(asker, "another upgrade is in progress");
        } else {
            self.upgrade = Some(Upgrade { asker, stage: Stage::Asked });
        }
    }

    pub(super) fn settle_upgrade(&mut self, now_ms: u64) {
        let is_busy =
            self.retirement.is_some() || self.generations.iter().any(Generation::is_in_the_making);
        let Some(upgrade) = &mut self.upgrade else { return };
        match upgrade.stage {
            Stage::Asked if !is_busy => {
                let ends_ms = now_ms.saturating_add(self.terms.start_timeout_ms);
                upgrade.stage = Stage::Trying { ends_ms };
                self.actions.push(Action::Try);
            }
            Stage::Trying { ends_ms } if now_ms >= ends_ms => {
                self.cancel_upgrade("the new program did not answer within start_timeout");
            }
            Stage::Asked | Stage::Trying { .. } | Stage::Ready | Stage::Replacing => {}
        }
    }

    /// Becomes the other program once nothing else is to be done: pending actions would be lost.
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
            Err(why) => self.cancel_upgrade(&why),
        }
    }

    pub(super) fn cancel_upgrade(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        self.actions.push(Action::NoUpgrade(why.to_owned()));
        self.fail(upgrade.asker, why);
    }

    /// Everything that the next program needs to know.
    pub(in super::super) fn state(&self) -> DeciderState {
        let worker =
            |it: &Worker| WorkerState { record: it.record().index(), born_ms: it.born_ms() };
        let generation = |it: &Generation| GenerationState {
            id: it.id,
            serves: it.phase == Phase::Serving,
            workers: it.workers.iter().map(worker).collect(),
        };
        let queued = self.queued.iter().flat_map(|it| it.askers.iter().copied());
        DeciderState {
            next_generation: self.next_generation,
            generations: self.generations.iter().map(generation).collect(),
            askers: queued.chain(self.upgrade.iter().filter_map(|it| it.asker)).collect(),
        }
    }

    /// A decider after an upgrade: it reloads, so that its own program's workers take over.
    pub(in super::super) fn after(
        state: &DeciderState,
        terms: Terms,
        now_ms: u64,
    ) -> Result<Self, DeciderStateError> {
        let mut decider = Self::without_generations(terms, state.next_generation);
        for before in &state.generations {
            let mut generation = Generation::new(before.id, terms, Vec::new());
            generation.phase = if before.serves { Phase::Serving } else { Phase::Draining };
            let says = if before.serves { Says::Serves } else { Says::Draining };
            for worker in &before.workers {
                let record =
                    WorkerId::new(worker.record).ok_or(DeciderStateError::Record(worker.record))?;
                if generation.has(record) || decider.with(record).is_some() {
                    return Err(DeciderStateError::Twice(worker.record));
                }
                generation.workers.push(match worker.born_ms {
                    Some(born_ms) => Worker::in_state(record, State::Alive { born_ms, says }),
                    None => Worker::in_state(record, State::Due { at_ms: now_ms }),
                });
            }
            decider.generations.push(generation);
        }
        decider.queue_all(state.askers.clone(), 0, now_ms);
        Ok(decider)
    }
}
