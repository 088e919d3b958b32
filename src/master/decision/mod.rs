//! What the master does next, as a function of what has happened. Pure: no system call, no clock, no file.
//!
//! `supervisor` tells the [`Decider`] each event, in the order in which they happened, and then does what it
//! asks for, in that order; what came of an action is the next event. `reload` is how one generation of
//! workers follows another, `upgrade` how the master becomes another program.
//!
//! What must always hold:
//! - a worker record has one process at most, and so one generation;
//! - no more generations live than may, and one at most is not told to leave, but for the time in which
//!   its successor comes to serve;
//! - who asks is answered once.

mod generation;
mod reload;
#[cfg(test)]
mod simulation;
mod standing;
mod upgrade;

use generation::{Generation, Phase, Says, State, Worker};
use reload::{Handover, Queued};
use shm::{WORKER_RECORDS_MAX, WorkerId};
pub(super) use standing::Standing;
use upgrade::Upgrade;
pub(super) use upgrade::{Past, PastError};

/// How long workers have to do what they were told, before it goes on without them: to die of what they
/// were sent, before they are killed; to accept no more, before a reload is called done.
const PATIENCE_MS: u64 = 1000;
/// Why nothing new is begun any more.
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
    /// For a generation's workers to serve, and for another program to show that it could.
    pub(super) start_timeout_ms: u64,
    /// For a reload to wait until others have drained.
    pub(super) reload_timeout_ms: u64,
    pub(super) stop_timeout_ms: u64,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The configuration is to be read again.
    Reload(Option<Asker>),
    /// The master is to become what is now installed as its program.
    Upgrade(Option<Asker>),
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
    /// A worker takes connections now.
    Serves(WorkerId),
    /// A worker takes no connections any more.
    Closed(WorkerId),
    /// A worker's process is reaped, and what it owned is cleaned up.
    Ended(WorkerId),
    /// The other program could take over, or why not.
    Tried(Result<(), String>),
    /// The master is still the program that it was.
    NotReplaced(String),
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
    /// From now on this generation is what the relay is.
    Serve(GenerationId),
    /// Listeners that only earlier generations had are closed.
    Retire,
    /// This generation will not serve: listeners that only it would have had are closed.
    Close {
        generation: GenerationId,
        why: String,
    },
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
    /// A reload has waited too long for this generation, which is ended.
    Hasten(GenerationId),
    /// Let the other program show that it could take over.
    Try,
    /// It will not take over; if it still shows whether it could, it is not to any more.
    NoUpgrade(String),
    /// Become the other program.
    Replace,
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
    queued: Option<Queued>,
    handover: Option<Handover>,
    upgrade: Option<Upgrade>,
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
    pub(super) fn new(terms: Terms, now_ms: u64) -> Self {
        let mut decider = Self::without_generations(terms, Self::FIRST);
        let first = decider.expect_generation(Vec::new());
        decider.prepared(first, terms, now_ms);
        decider
    }

    fn without_generations(terms: Terms, next_generation: GenerationId) -> Self {
        Self {
            generations: Vec::new(),
            next_generation,
            terms,
            queued: None,
            handover: None,
            upgrade: None,
            stopping: None,
            actions: Vec::new(),
        }
    }

    /// Takes in what has happened, and says what to do about it.
    pub(super) fn step(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Reload(asker) => self.ask_for_reload(asker, now_ms),
            Event::Upgrade(asker) => self.ask_for_upgrade(asker),
            Event::Stop { graceful, asker } => self.stop(graceful, asker, now_ms),
            Event::Drain => {
                self.give_up_plans("all workers were told to drain instead");
                self.leave_all();
            }
            Event::Prepared { generation, terms } => self.prepared(generation, terms, now_ms),
            Event::NotPrepared { generation, why } => {
                self.give_up(generation, &why);
                // There is nothing to let go.
                self.generations.retain(|it| it.id != generation);
            }
            Event::Forked(record) => self.forked(record, now_ms),
            Event::NotForked { record, why } => self.ended(record, &why, now_ms),
            Event::Serves(record) => self.says(record, Says::Serves),
            Event::Closed(record) => self.says(record, Says::Closed),
            Event::Ended(record) => {
                self.ended(record, "a worker died before it served: the log says why", now_ms)
            }
            Event::Tried(outcome) => self.tried(outcome),
            Event::NotReplaced(why) => self.give_up_upgrade(&why),
            Event::Tick => {}
        }
        self.settle(now_ms);
        std::mem::take(&mut self.actions)
    }

    /// When to be told that time has passed.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let workers = self.generations.iter().flat_map(|it| &it.workers);
        let plans = [
            self.stopping.map(|it| it.ends_ms),
            self.queued.as_ref().map(|it| it.ends_ms),
            self.handover.as_ref().map(|it| it.ends_ms),
            self.upgrade.as_ref().and_then(Upgrade::ends_ms),
        ];
        let starts = self.generations.iter().filter_map(Generation::starts_ms);
        workers.filter_map(Worker::due_ms).chain(starts).chain(plans.into_iter().flatten()).min()
    }

    /// Whether there is a generation that takes connections.
    pub(super) fn serves(&self) -> bool {
        self.generations.iter().any(|it| it.phase == Phase::Serving)
    }

    /// Whether there is no worker, and none will come by itself.
    pub(super) fn is_idle(&self) -> bool {
        self.generations.is_empty()
    }

    /// Whose worker has `record`.
    pub(super) fn generation_of(&self, record: WorkerId) -> Option<GenerationId> {
        self.generations.iter().find(|it| it.has(record)).map(|it| it.id)
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

    fn generation(&mut self, id: GenerationId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|it| it.id == id)
    }

    fn with(&mut self, record: WorkerId) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|it| it.has(record))
    }

    fn fail(&mut self, askers: impl IntoIterator<Item = Asker>, why: &str) {
        let answer = |asker| Action::Answer(asker, Outcome::Failed(why.to_owned()));
        self.actions.extend(askers.into_iter().map(answer));
    }

    fn forked(&mut self, record: WorkerId, now_ms: u64) {
        let Some(generation) = self.with(record) else { return };
        generation.set(record, State::Alive { born_ms: now_ms, says: Says::Nothing });
        if generation.phase == Phase::Leaving {
            let order = self.stopping.map_or(Order::Drain, |stopping| stopping.order);
            self.actions.push(Action::Send { record, order });
        }
    }

    fn says(&mut self, record: WorkerId, says: Says) {
        if let Some(generation) = self.with(record) {
            generation.says(record, says);
        }
    }

    /// A worker has no process any more, or did not come to have one.
    fn ended(&mut self, record: WorkerId, why: &str, now_ms: u64) {
        let Some(generation) = self.with(record) else { return };
        let (id, is_needed) = (generation.id, generation.is_in_the_making());
        generation.ended(record, now_ms);
        if is_needed {
            self.give_up(id, why);
        }
    }

    fn stop(&mut self, graceful: bool, asker: Option<Asker>, now_ms: u64) {
        self.actions.extend(asker.map(|asker| Action::Answer(asker, Outcome::Stopping)));
        if graceful && self.stopping.is_some() {
            return;
        }
        self.give_up_plans(STOPPING);
        if self.stopping.is_none() {
            self.actions.push(Action::CloseListeners);
        }
        let patience_ms = if graceful { self.terms.stop_timeout_ms } else { 0 };
        let ends_ms = now_ms.saturating_add(patience_ms).saturating_add(PATIENCE_MS);
        let order = if graceful { Order::Quit } else { Order::Term };
        self.stopping = Some(Stopping { ends_ms, order });
        self.generations.iter_mut().for_each(|it| drop(it.leave()));
        self.send_all(order);
    }

    fn send_all(&mut self, order: Order) {
        let alive = self.generations.iter().flat_map(Generation::alive);
        self.actions.extend(alive.map(|record| Action::Send { record, order }));
    }

    /// Nothing that was planned will come.
    fn give_up_plans(&mut self, why: &str) {
        self.finish_handover();
        self.give_up_upgrade(why);
        self.give_up_reloads(why);
    }

    /// What follows from how things are now.
    fn settle(&mut self, now_ms: u64) {
        if let Some(stopping) = &mut self.stopping
            && now_ms >= stopping.ends_ms
        {
            let ends_ms = now_ms.saturating_add(PATIENCE_MS);
            *stopping = Stopping { ends_ms, order: Order::Kill };
            self.send_all(Order::Kill);
        }
        loop {
            let actions = self.actions.len();
            self.let_go();
            self.settle_handover(now_ms);
            self.settle_upgrade(now_ms);
            self.settle_queue(now_ms);
            for index in 0..self.generations.len() {
                self.bring_up(index, now_ms);
            }
            if self.actions.len() == actions {
                break;
            }
        }
        self.settle_replacement();
    }

    /// Generations whose last worker is gone.
    fn let_go(&mut self) {
        let gone = |it: &mut Generation| it.phase == Phase::Leaving && it.workers.is_empty();
        let gone = self.generations.extract_if(.., gone).map(|it| Action::Discard(it.id));
        self.actions.extend(gone);
    }

    /// Forks who is to be forked, and lets a generation serve that is complete.
    fn bring_up(&mut self, index: usize, now_ms: u64) {
        let ends_ms = now_ms.saturating_add(self.terms.start_timeout_ms);
        let Some(generation) = self.generations.get_mut(index) else { return };
        let id = generation.id;
        let fork = |record| Action::Fork { generation: id, record };
        match generation.phase {
            Phase::Serving => self.actions.extend(generation.fork_due(now_ms).map(fork)),
            // One by one: after the first that cannot be forked no further one needs to be.
            Phase::Forking if generation.is_being_forked() => {}
            Phase::Forking => match generation.fork_next() {
                Some(record) => self.actions.push(fork(record)),
                None => generation.phase = Phase::Starting { ends_ms },
            },
            Phase::Starting { .. } if generation.is_complete() => self.serve(id, now_ms),
            Phase::Starting { ends_ms } if now_ms >= ends_ms => {
                self.give_up(id, "its workers did not come to serve within start_timeout");
            }
            Phase::Starting { .. } | Phase::Preparing | Phase::Unwanted | Phase::Leaving => {}
        }
    }
}
