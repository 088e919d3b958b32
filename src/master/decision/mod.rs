//! What the master does next, as a function of what has happened. Pure: no system call, no clock, no file.
//!
//! `supervisor` tells the [`Decider`] each event, in the order in which they happened, and then does what it
//! asks for, in that order; what came of an action is the next event. A generation is read and opened
//! (`Prepare`), forked worker by worker, and only when all are there it takes over (`Serve`) and the one
//! before it is told to drain. It is let go (`Discard`) with its last worker.
//!
//! What must always hold:
//! - a worker record has one process at most, and so one generation;
//! - no more generations live than may, and one at most is not told to leave, but for the moment in which
//!   its successor is being forked;
//! - who asks is answered once.

mod generation;
#[cfg(test)]
mod simulation;

use generation::{Generation, Phase, State, Worker};
use shm::{WORKER_RECORDS_MAX, WorkerId};

/// How long workers have to die of what they were sent before they are killed.
const LAST_WARNING_MS: u64 = 1000;
/// Why there will be no reload any more.
const STOPPING: &str = "the relay is being stopped";

/// A generation: 0 is the first.
pub(super) type GenerationId = u64;
/// Somebody who waits for an answer.
pub(super) type Asker = u64;

/// What a generation's configuration says about its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) workers: usize,
    pub(super) generations_max: usize,
    pub(super) stop_timeout_ms: u64,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The configuration is to be read again.
    Reload(Option<Asker>),
    /// Everything is to end: once transfers are done, or at once.
    Stop {
        graceful: bool,
        asker: Option<Asker>,
    },
    /// All workers are to drain; the master stays.
    Drain,
    Prepared {
        generation: GenerationId,
        terms: Terms,
    },
    NotPrepared {
        generation: GenerationId,
        why: String,
    },
    Forked(WorkerId),
    NotForked {
        record: WorkerId,
        why: String,
    },
    /// A worker's process is reaped, and what it owned is cleaned up.
    Ended(WorkerId),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the configuration and open what it asks for.
    Prepare(GenerationId),
    Fork {
        generation: GenerationId,
        record: WorkerId,
    },
    /// From now on this generation is what the relay is: listeners that are not its own are closed.
    Serve(GenerationId),
    /// This generation will not serve: listeners that only it would have had are closed.
    Close(GenerationId),
    Send {
        record: WorkerId,
        order: Order,
    },
    /// Nobody listens any more.
    CloseListeners,
    /// Let go of what was prepared for a generation.
    Discard(GenerationId),
    Answer(Asker, Outcome),
    /// A reload has to wait: for one before it, or for a generation to end.
    Queued(Option<Asker>),
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Drain,
    /// End once transfers are done.
    Quit,
    /// End.
    Term,
    Kill,
}

/// What somebody who asked is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reloaded { generation: GenerationId, workers: usize },
    Stopping,
    Failed(String),
}

/// The master's view of its generations.
#[derive(Debug)]
pub(super) struct Decider {
    generations: Vec<Generation>,
    next_generation: GenerationId,
    /// Of the generation that served last.
    terms: Terms,
    /// Who waits for a reload that could not begin yet.
    queued: Option<Vec<Asker>>,
    stopping: Option<Stopping>,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    /// When patience ends.
    ends_ms: u64,
    order: Order,
}

impl Decider {
    /// The generation that a master begins with.
    pub(super) const FIRST: GenerationId = 0;

    /// A master whose first generation is prepared.
    pub(super) fn new(terms: Terms) -> Self {
        let mut decider = Self {
            generations: Vec::new(),
            next_generation: Self::FIRST,
            terms,
            queued: None,
            stopping: None,
            actions: Vec::new(),
        };
        let first = decider.expect_generation(Vec::new());
        decider.prepared(first, terms);
        decider
    }

    /// Takes in what has happened, and says what to do about it.
    pub(super) fn step(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Reload(asker) => self.ask_for_reload(asker),
            Event::Stop { graceful, asker } => self.stop(graceful, asker, now_ms),
            Event::Drain => {
                self.give_up_reloads("all workers were told to drain instead");
                self.leave_all();
            }
            Event::Prepared { generation, terms } => self.prepared(generation, terms),
            Event::NotPrepared { generation, why } => {
                self.give_up(generation, &why);
                // There is nothing to let go.
                self.generations.retain(|it| it.id != generation);
            }
            Event::Forked(record) => self.forked(record, now_ms),
            Event::NotForked { record, why } => self.not_forked(record, &why, now_ms),
            Event::Ended(record) => self.ended(record, now_ms),
            Event::Tick => {}
        }
        self.settle(now_ms);
        std::mem::take(&mut self.actions)
    }

    /// When to be told that time has passed.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let workers = self.generations.iter().flat_map(|it| &it.workers);
        let ends_ms = self.stopping.map(|stopping| stopping.ends_ms);
        workers.filter_map(Worker::due_ms).chain(ends_ms).min()
    }

    /// Whether there is a generation that takes connections.
    pub(super) fn serves(&self) -> bool {
        self.generations.iter().any(|it| it.phase == Phase::Serving)
    }

    /// Whether the worker at `record` was told to end.
    pub(super) fn is_leaving(&self, record: WorkerId) -> bool {
        let is_its = |it: &&Generation| it.has(record);
        self.generations.iter().find(is_its).is_some_and(|it| it.phase == Phase::Leaving)
    }

    /// Whether the master was told to stop, and nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.is_some() && self.generations.is_empty()
    }

    /// Whether the master was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn ask_for_reload(&mut self, asker: Option<Asker>) {
        if self.stopping.is_some() {
            self.fail(asker.into_iter().collect(), STOPPING);
            return;
        }
        self.queued.get_or_insert_default().extend(asker);
        if !self.may_reload() {
            self.actions.push(Action::Queued(asker));
        }
    }

    /// One at a time, and no more generations than may live.
    fn may_reload(&self) -> bool {
        self.generations.len() < self.terms.generations_max
            && !self.generations.iter().any(Generation::is_in_the_making)
    }

    fn expect_generation(&mut self, askers: Vec<Asker>) -> GenerationId {
        let id = self.next_generation;
        self.next_generation += 1;
        self.generations.push(Generation::new(id, self.terms, askers));
        id
    }

    fn prepared(&mut self, id: GenerationId, terms: Terms) {
        let free = self.free_records();
        let Some(generation) = self.generation(id) else { return };
        if generation.phase == Phase::Unwanted {
            generation.phase = Phase::Leaving;
            return;
        }
        generation.phase = Phase::Forking;
        generation.terms = terms;
        if terms.workers > free.len() {
            let why = format!(
                "{} workers do not fit beside those that drain: of {WORKER_RECORDS_MAX} worker \
                 records {} are free",
                terms.workers,
                free.len(),
            );
            self.give_up(id, &why);
            return;
        }
        generation.workers = free.into_iter().take(terms.workers).map(Worker::new).collect();
    }

    fn free_records(&self) -> Vec<WorkerId> {
        let records = (0..WORKER_RECORDS_MAX).filter_map(WorkerId::new);
        records.filter(|record| !self.generations.iter().any(|it| it.has(*record))).collect()
    }

    fn generation(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|it| it.id == id)
    }

    /// A generation that does not come to serve.
    fn give_up(&mut self, id: GenerationId, why: &str) {
        let Some(generation) = self.generation(id) else { return };
        let (askers, phase) = (std::mem::take(&mut generation.askers), generation.phase);
        if phase == Phase::Forking {
            self.actions.push(Action::Close(id));
        }
        self.fail(askers, why);
        self.leave(id);
    }

    fn give_up_reloads(&mut self, why: &str) {
        let askers = self.queued.take().unwrap_or_default();
        self.fail(askers, why);
        let made = self.generations.iter().filter(|it| it.is_in_the_making());
        let made: Vec<GenerationId> = made.map(|it| it.id).collect();
        made.into_iter().for_each(|id| self.give_up(id, why));
    }

    fn fail(&mut self, askers: Vec<Asker>, why: &str) {
        let answer = |asker| Action::Answer(asker, Outcome::Failed(why.to_owned()));
        self.actions.extend(askers.into_iter().map(answer));
    }

    /// Tells a generation's workers to drain, and replaces none of them any more.
    fn leave(&mut self, id: GenerationId) {
        let Some(generation) = self.generation(id) else { return };
        let told: Vec<WorkerId> = generation.leave().collect();
        let drain = |record| Action::Send { record, order: Order::Drain };
        self.actions.extend(told.into_iter().map(drain));
    }

    fn leave_all(&mut self) {
        let all: Vec<GenerationId> = self.generations.iter().map(|it| it.id).collect();
        all.into_iter().for_each(|id| self.leave(id));
    }

    fn stop(&mut self, graceful: bool, asker: Option<Asker>, now_ms: u64) {
        self.actions.extend(asker.map(|asker| Action::Answer(asker, Outcome::Stopping)));
        if graceful && self.stopping.is_some() {
            return;
        }
        self.give_up_reloads(STOPPING);
        if self.stopping.is_none() {
            self.actions.push(Action::CloseListeners);
        }
        let patience_ms = if graceful { self.terms.stop_timeout_ms } else { 0 };
        let ends_ms = now_ms.saturating_add(patience_ms).saturating_add(LAST_WARNING_MS);
        let order = if graceful { Order::Quit } else { Order::Term };
        self.stopping = Some(Stopping { ends_ms, order });
        self.generations.iter_mut().for_each(|it| drop(it.leave()));
        self.send_all(order);
    }

    fn send_all(&mut self, order: Order) {
        let alive = self.generations.iter().flat_map(Generation::alive);
        self.actions.extend(alive.map(|record| Action::Send { record, order }));
    }

    fn forked(&mut self, record: WorkerId, now_ms: u64) {
        let Some(generation) = self.generations.iter_mut().find(|it| it.has(record)) else {
            return;
        };
        generation.set(record, State::Alive { born_ms: now_ms });
        if generation.phase == Phase::Leaving {
            let order = self.stopping.map_or(Order::Drain, |stopping| stopping.order);
            self.actions.push(Action::Send { record, order });
        }
    }

    fn not_forked(&mut self, record: WorkerId, why: &str, now_ms: u64) {
        let Some(generation) = self.generations.iter_mut().find(|it| it.has(record)) else {
            return;
        };
        let (id, phase) = (generation.id, generation.phase);
        generation.ended(record, now_ms);
        if phase == Phase::Forking {
            self.give_up(id, why);
        }
    }

    fn ended(&mut self, record: WorkerId, now_ms: u64) {
        if let Some(generation) = self.generations.iter_mut().find(|it| it.has(record)) {
            generation.ended(record, now_ms);
        }
    }

    /// What follows from how things are now.
    fn settle(&mut self, now_ms: u64) {
        if let Some(stopping) = &mut self.stopping
            && now_ms >= stopping.ends_ms
        {
            *stopping =
                Stopping { ends_ms: now_ms.saturating_add(LAST_WARNING_MS), order: Order::Kill };
            self.send_all(Order::Kill);
        }
        loop {
            let actions = self.actions.len();
            self.let_go();
            self.begin_queued_reload();
            for index in 0..self.generations.len() {
                self.bring_up(index, now_ms);
            }
            if self.actions.len() == actions {
                return;
            }
        }
    }

    /// Generations whose last worker is gone.
    fn let_go(&mut self) {
        let gone = |it: &mut Generation| it.phase == Phase::Leaving && it.workers.is_empty();
        let gone = self.generations.extract_if(.., gone).map(|it| Action::Discard(it.id));
        self.actions.extend(gone);
    }

    fn begin_queued_reload(&mut self) {
        if self.may_reload()
            && let Some(askers) = self.queued.take()
        {
            let id = self.expect_generation(askers);
            self.actions.push(Action::Prepare(id));
        }
    }

    /// Forks who is to be forked, and lets a generation serve that is complete.
    fn bring_up(&mut self, index: usize, now_ms: u64) {
        let Some(generation) = self.generations.get_mut(index) else { return };
        let id = generation.id;
        let fork = |record| Action::Fork { generation: id, record };
        match generation.phase {
            Phase::Serving => self.actions.extend(generation.fork_due(now_ms).map(fork)),
            // One by one: after the first that cannot be forked no further one needs to be.
            Phase::Forking if generation.is_being_forked() => {}
            Phase::Forking => match generation.fork_next() {
                Some(record) => self.actions.push(fork(record)),
                None => self.serve(id),
            },
            Phase::Preparing | Phase::Unwanted | Phase::Leaving => {}
        }
    }

    fn serve(&mut self, id: GenerationId) {
        let Some(generation) = self.generation(id) else { return };
        generation.phase = Phase::Serving;
        let (askers, terms) = (std::mem::take(&mut generation.askers), generation.terms);
        self.terms = terms;
        self.actions.push(Action::Serve(id));
        let before = self.generations.iter().filter(|it| it.id != id);
        let before: Vec<GenerationId> = before.map(|it| it.id).collect();
        before.into_iter().for_each(|id| self.leave(id));
        let outcome = Outcome::Reloaded { generation: id, workers: terms.workers };
        let answer = |asker| Action::Answer(asker, outcome.clone());
        self.actions.extend(askers.into_iter().map(answer));
    }
}
