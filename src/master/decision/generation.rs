//! One generation: what is left to do until it serves, and who of its workers lives. Changed by the
//! [`Decider`](super::Decider) alone.

use super::super::backoff::Backoff;
use super::{Asker, GenerationId, Terms};
use shm::WorkerId;

/// A generation of workers.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) id: GenerationId,
    pub(super) phase: Phase,
    pub(super) terms: Terms,
    /// Who is to be told once it serves, or will not.
    pub(super) askers: Vec<Asker>,
    pub(super) workers: Vec<Worker>,
}

/// What a generation is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Preparing,
    /// It is not wanted any more, but what it needs is still being opened.
    Unwanted,
    Forking,
    /// All are forked, and not all have said yet that they serve.
    Starting {
        ends_ms: u64,
    },
    Serving,
    /// Who has ended is not replaced.
    Leaving,
}

/// One worker, and the record that it has for as long as its generation is to have it.
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
    /// To be forked again.
    Due {
        at_ms: u64,
    },
}

/// What a worker has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Serves,
    /// It takes no connections any more.
    Closed,
}

impl Generation {
    pub(super) fn new(id: GenerationId, terms: Terms, askers: Vec<Asker>) -> Self {
        Self { id, phase: Phase::Preparing, terms, askers, workers: Vec::new() }
    }

    pub(super) fn is_in_the_making(&self) -> bool {
        !matches!(self.phase, Phase::Serving | Phase::Leaving)
    }

    /// Whether all its workers serve.
    pub(super) fn is_complete(&self) -> bool {
        let serves = |it: &Worker| matches!(it.state, State::Alive { says: Says::Serves, .. });
        self.workers.iter().all(serves)
    }

    /// Whether one of its workers may still take connections.
    pub(super) fn may_accept(&self) -> bool {
        let closed = |it: &Worker| matches!(it.state, State::Alive { says: Says::Closed, .. });
        !self.workers.iter().all(closed)
    }

    /// When patience with its start ends.
    pub(super) fn starts_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Starting { ends_ms } => Some(ends_ms),
            _ => None,
        }
    }

    /// Takes in what the worker at `record` has said.
    pub(super) fn says(&mut self, record: WorkerId, news: Says) {
        let its = self.workers.iter_mut().find(|worker| worker.record == record);
        if let Some(State::Alive { says, .. }) = its.map(|worker| &mut worker.state) {
            *says = news;
        }
    }

    /// Whether the worker at `record` is one of its own.
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

    /// The next worker that has not been forked yet, which is to be forked now.
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

    /// The worker at `record` has no process any more, or did not come to have one.
    pub(super) fn ended(&mut self, record: WorkerId, now_ms: u64) {
        if self.phase == Phase::Leaving {
            self.workers.retain(|worker| worker.record != record);
        } else if let Some(worker) = self.workers.iter_mut().find(|it| it.record == record) {
            worker.ended(now_ms);
        }
    }

    /// Replaces nobody any more. Returns who is alive and did not know.
    pub(super) fn leave(&mut self) -> impl Iterator<Item = WorkerId> {
        let is_news = !matches!(self.phase, Phase::Preparing | Phase::Unwanted | Phase::Leaving);
        match self.phase {
            Phase::Preparing => self.phase = Phase::Unwanted,
            Phase::Forking | Phase::Starting { .. } | Phase::Serving => self.phase = Phase::Leaving,
            Phase::Unwanted | Phase::Leaving => {}
        }
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
