//! A generation: what is left to do until it serves, and which of its workers live. Only the
//! [`Decider`](super::Decider) changes it.

use super::super::backoff::Backoff;
use super::{Asker, GenerationId, Terms};
use shm::WorkerId;

/// A generation of workers.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) id: GenerationId,
    pub(super) phase: Phase,
    pub(super) terms: Terms,
    /// Askers to answer once it serves, or has failed.
    pub(super) askers: Vec<Asker>,
    pub(super) workers: Vec<Worker>,
}

/// The phase of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The supervisor opens its resources. No other event comes in between.
    Preparing,
    Forking,
    /// All workers are forked, and not all have said yet that they serve.
    Starting {
        ends_ms: u64,
    },
    Serving,
    /// Workers that end are not replaced.
    Draining,
}

/// A worker, with the record that it has as long as its generation keeps it.
#[derive(Debug)]
pub(super) struct Worker {
    record: WorkerId,
    state: State,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Planned,
    Forking,
    Alive {
        born_ms: u64,
        says: Says,
    },
    /// Waits to be forked again.
    Due {
        at_ms: u64,
    },
}

/// The last news of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Serves,
    /// The worker takes no connections any more.
    Draining,
}

impl Generation {
    pub(super) fn new(id: GenerationId, terms: Terms, askers: Vec<Asker>) -> Self {
        Self { id, phase: Phase::Preparing, terms, askers, workers: Vec::new() }
    }

    pub(super) fn is_in_the_making(&self) -> bool {
        !matches!(self.phase, Phase::Serving | Phase::Draining)
    }

    /// Whether all its workers serve.
    pub(super) fn is_complete(&self) -> bool {
        let serves = |it: &Worker| matches!(it.state, State::Alive { says: Says::Serves, .. });
        self.workers.iter().all(serves)
    }

    /// Whether one of its workers may still take connections.
    pub(super) fn may_accept(&self) -> bool {
        let drains = |it: &Worker| matches!(it.state, State::Alive { says: Says::Draining, .. });
        !self.workers.iter().all(drains)
    }

    /// When patience with its start ends.
    pub(super) fn starts_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Starting { ends_ms } => Some(ends_ms),
            _ => None,
        }
    }

    /// Records the news of the worker at `record`.
    pub(super) fn says(&mut self, record: WorkerId, news: Says) {
        let its = self.workers.iter_mut().find(|worker| worker.record == record);
        if let Some(State::Alive { says, .. }) = its.map(|worker| &mut worker.state) {
            *says = news;
        }
    }

    /// Whether the generation has the worker at `record`.
    pub(super) fn has(&self, record: WorkerId) -> bool {
        self.workers.iter().any(|worker| worker.record == record)
    }

    pub(super) fn set(&mut self, record: WorkerId, state: State) {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.record == record) {
            worker.state = state;
        }
    }

    /// Workers that have a process.
    pub(super) fn alive(&self) -> impl Iterator<Item = WorkerId> {
        let alive = |worker: &&Worker| matches!(worker.state, State::Alive { .. });
        self.workers.iter().filter(alive).map(|worker| worker.record)
    }

    pub(super) fn is_being_forked(&self) -> bool {
        self.workers.iter().any(|worker| worker.state == State::Forking)
    }

    /// The next worker to fork, if one has not been forked yet.
    pub(super) fn fork_next(&mut self) -> Option<WorkerId> {
        let planned = self.workers.iter_mut().find(|worker| worker.state == State::Planned)?;
        planned.state = State::Forking;
        Some(planned.record)
    }

    /// Workers that are to be forked again now.
    pub(super) fn fork_due(&mut self, now_ms: u64) -> impl Iterator<Item = WorkerId> {
        self.workers.iter_mut().filter_map(move |worker| {
            worker.due_ms().filter(|at_ms| *at_ms <= now_ms)?;
            worker.state = State::Forking;
            Some(worker.record)
        })
    }

    /// Records that the worker at `record` has no process any more, or could not be forked.
    pub(super) fn ended(&mut self, record: WorkerId, now_ms: u64) {
        if self.phase == Phase::Draining {
            self.workers.retain(|worker| worker.record != record);
        } else if let Some(worker) = self.workers.iter_mut().find(|it| it.record == record) {
            worker.ended(now_ms);
        }
    }

    /// Stops replacing workers. Returns the living workers that have to be told.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = WorkerId> {
        let is_news = std::mem::replace(&mut self.phase, Phase::Draining) != Phase::Draining;
        self.workers.retain(|it| matches!(it.state, State::Forking | State::Alive { .. }));
        self.alive().filter(move |_| is_news)
    }
}

impl Worker {
    pub(super) fn new(record: WorkerId) -> Self {
        Self::in_state(record, State::Planned)
    }

    pub(super) fn in_state(record: WorkerId, state: State) -> Self {
        Self { record, state, backoff: Backoff::default() }
    }

    pub(super) fn record(&self) -> WorkerId {
        self.record
    }

    /// When its process was forked, if it has one.
    pub(super) fn born_ms(&self) -> Option<u64> {
        match self.state {
            State::Alive { born_ms, .. } => Some(born_ms),
            _ => None,
        }
    }

    /// When it is to be forked again.
    pub(super) fn due_ms(&self) -> Option<u64> {
        match self.state {
            State::Due { at_ms } => Some(at_ms),
            _ => None,
        }
    }

    fn ended(&mut self, now_ms: u64) {
        let lived_ms = self.born_ms().map_or(0, |born_ms| now_ms.saturating_sub(born_ms));
        let at_ms = now_ms.saturating_add(self.backoff.after(lived_ms));
        self.state = State::Due { at_ms };
    }
}
