//! Decides what the master does next, from the events so far. Pure: no system call, no clock, no file.
//!
//! `supervisor` tells the [`Decider`] the events in the order in which they happened, and carries out its actions in
//! their order. The result of an action is the next event. `reload` is how one generation of workers follows another,
//! `upgrade` how the master becomes another program.
//!
//! Invariant:
//! - a worker record has one process at most, and so belongs to one generation;
//! - no more generations live than `generations_max`; all of them but one drain, except while the next one starts to
//!   serve;
//! - every asker is answered once.

mod generation;
mod reload;
#[cfg(test)]
mod simulation;
mod status;
mod upgrade;

use generation::{Generation, Phase, Says, State, Worker};
use reload::{Queued, Retirement};
use shm::{WORKER_RECORDS_MAX, WorkerId};
pub(super) use status::Status;
use upgrade::Upgrade;
pub(super) use upgrade::{DeciderState, DeciderStateError};

/// How long workers have to do what they were told: to die of a signal, before they are killed; to accept no more,
/// before a reload is called done.
const PATIENCE_MS: u64 = 1000;
/// Why nothing new is begun any more.
const STOPPING: &str = "the relay is stopping";

/// A generation: 0 is the first.
pub(super) type GenerationId = u64;
/// A client of the control socket that waits for an answer.
pub(super) type Asker = u64;

/// The settings of a generation's configuration that concern the decider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) workers: usize,
    pub(super) generations_max: usize,
    /// Time for a generation's workers to serve, and for another program to show that it could take over.
    pub(super) start_timeout_ms: u64,
    /// Time for a reload to wait until others have drained.
    pub(super) reload_timeout_ms: u64,
    pub(super) stop_timeout_ms: u64,
}

/// An event.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Read the configuration again.
    Reload(Option<Asker>),
    /// Become the program that is installed now.
    Upgrade(Option<Asker>),
    /// The relay stops: once transfers are done, or at once.
    Stop {
        graceful: bool,
        asker: Option<Asker>,
    },
    /// All workers drain; the master stays.
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
    Draining(WorkerId),
    /// A worker's process is reaped, and what it owned is cleaned up.
    Ended(WorkerId),
    /// The verdict of the trial: the other program could take over, or why not.
    Tried(Result<(), String>),
    /// The replacement failed: the master is still the same program.
    NotReplaced(String),
    /// Time has passed.
    Tick,
}

/// An action that the supervisor carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read the configuration and open what it asks for.
    Prepare(GenerationId),
    Fork {
        generation: GenerationId,
        record: WorkerId,
    },
    /// Let this generation serve, and no other.
    Serve(GenerationId),
    /// Close the listeners that only earlier generations had.
    Retire,
    /// This generation has failed: close the listeners that only it would have had.
    Abandon {
        generation: GenerationId,
        why: String,
    },
    Send {
        record: WorkerId,
        command: Command,
    },
    /// Close all listeners.
    CloseListeners,
    /// Drop the resources of a generation.
    Discard(GenerationId),
    Answer(Asker, Outcome),
    /// A reload has to wait: for an earlier one, or for a generation to end.
    Queued(Option<Asker>),
    /// A reload has waited too long: end this generation.
    KillOldest(GenerationId),
    /// Let the other program show that it could take over.
    Try,
    /// Drop the upgrade; if the trial still runs, end it.
    NoUpgrade(String),
    /// Become the other program.
    Replace,
}

/// A command to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Drain,
    /// End once transfers are done.
    Quit,
    /// End.
    Term,
    Kill,
}

/// An answer to an asker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Reloaded { generation: GenerationId, workers: usize },
    Stopping,
    Failed(String),
}

/// The master's plan for its generations.
#[derive(Debug)]
pub(super) struct Decider {
    generations: Vec<Generation>,
    next_generation: GenerationId,
    /// Terms of the generation that served last.
    terms: Terms,
    queued: Option<Queued>,
    retirement: Option<Retirement>,
    upgrade: Option<Upgrade>,
    stopping: Option<Stopping>,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    /// When patience ends.
    ends_ms: u64,
    command: Command,
}

impl Decider {
    /// The generation that a master starts with.
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
            retirement: None,
            upgrade: None,
            stopping: None,
            actions: Vec::new(),
        }
    }

    /// Takes an event, and returns the actions that follow.
    pub(super) fn step(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Reload(asker) => self.ask_for_reload(asker, now_ms),
            Event::Upgrade(asker) => self.ask_for_upgrade(asker),
            Event::Stop { graceful, asker } => self.stop(graceful, asker, now_ms),
            Event::Drain => {
                self.cancel_plans("all workers drain instead");
                self.drain_all();
            }
            Event::Prepared { generation, terms } => self.prepared(generation, terms, now_ms),
            Event::NotPrepared { generation, why } => {
                self.abandon(generation, &why);
                // There is nothing to let go.
                self.generations.retain(|it| it.id != generation);
            }
            Event::Forked(record) => self.forked(record, now_ms),
            Event::NotForked { record, why } => self.ended(record, &why, now_ms),
            Event::Serves(record) => self.says(record, Says::Serves),
            Event::Draining(record) => self.says(record, Says::Draining),
            Event::Ended(record) => {
                self.ended(record, "a worker died before it served: see the log", now_ms)
            }
            Event::Tried(outcome) => self.tried(outcome),
            Event::NotReplaced(why) => self.cancel_upgrade(&why),
            Event::Tick => {}
        }
        self.settle(now_ms);
        std::mem::take(&mut self.actions)
    }

    /// When the next `Tick` is due.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let workers = self.generations.iter().flat_map(|it| &it.workers);
        let plans = [
            self.stopping.map(|it| it.ends_ms),
            self.queued.as_ref().map(|it| it.ends_ms),
            self.retirement.as_ref().map(|it| it.ends_ms),
            self.upgrade.as_ref().and_then(Upgrade::ends_ms),
        ];
        let starts = self.generations.iter().filter_map(Generation::starts_ms);
        workers.filter_map(Worker::due_ms).chain(starts).chain(plans.into_iter().flatten()).min()
    }

    /// Whether a generation serves.
    pub(super) fn serves(&self) -> bool {
        self.generations.iter().any(|it| it.phase == Phase::Serving)
    }

    /// Whether there is no generation.
    pub(super) fn is_idle(&self) -> bool {
        self.generations.is_empty()
    }

    /// The generation whose worker has `record`.
    pub(super) fn generation_of(&self, record: WorkerId) -> Option<GenerationId> {
        self.generations.iter().find(|it| it.has(record)).map(|it| it.id)
    }

    /// Whether the worker at `record` was told to end.
    pub(super) fn drains(&self, record: WorkerId) -> bool {
        let is_its = |it: &&Generation| it.has(record);
        self.generations.iter().find(is_its).is_some_and(|it| it.phase == Phase::Draining)
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
        if generation.phase == Phase::Draining {
            let command = self.stopping.map_or(Command::Drain, |stopping| stopping.command);
            self.actions.push(Action::Send { record, command });
        }
    }

    fn says(&mut self, record: WorkerId, says: Says) {
        if let Some(generation) = self.with(record) {
            generation.says(record, says);
        }
    }

    /// Records that a worker has no process any more, or could not be forked.
    fn ended(&mut self, record: WorkerId, why: &str, now_ms: u64) {
        let Some(generation) = self.with(record) else { return };
        let (id, is_needed) = (generation.id, generation.is_in_the_making());
        generation.ended(record, now_ms);
        if is_needed {
            self.abandon(id, why);
        }
    }

    fn stop(&mut self, graceful: bool, asker: Option<Asker>, now_ms: u64) {
        self.actions.extend(asker.map(|asker| Action::Answer(asker, Outcome::Stopping)));
        if graceful && self.stopping.is_some() {
            return;
        }
        self.cancel_plans(STOPPING);
        if self.stopping.is_none() {
            self.actions.push(Action::CloseListeners);
        }
        let patience_ms = if graceful { self.terms.stop_timeout_ms } else { 0 };
        let ends_ms = now_ms.saturating_add(patience_ms).saturating_add(PATIENCE_MS);
        let command = if graceful { Command::Quit } else { Command::Term };
        self.stopping = Some(Stopping { ends_ms, command });
        self.generations.iter_mut().for_each(|it| drop(it.drain()));
        self.send_all(command);
    }

    fn send_all(&mut self, command: Command) {
        let alive = self.generations.iter().flat_map(Generation::alive);
        self.actions.extend(alive.map(|record| Action::Send { record, command }));
    }

    /// Cancels everything that was planned.
    fn cancel_plans(&mut self, why: &str) {
        self.finish_retirement();
        self.cancel_upgrade(why);
        self.cancel_reloads(why);
    }

    /// Derives all actions that the present state demands.
    fn settle(&mut self, now_ms: u64) {
        if let Some(stopping) = &mut self.stopping
            && now_ms >= stopping.ends_ms
        {
            let ends_ms = now_ms.saturating_add(PATIENCE_MS);
            *stopping = Stopping { ends_ms, command: Command::Kill };
            self.send_all(Command::Kill);
        }
        // The loop ends: every action moves a generation or a plan to its next phase.
        loop {
            let actions = self.actions.len();
            self.discard_ended();
            self.settle_retirement(now_ms);
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

    /// Discards generations whose last worker is gone.
    fn discard_ended(&mut self) {
        let gone = |it: &mut Generation| it.phase == Phase::Draining && it.workers.is_empty();
        let gone = self.generations.extract_if(.., gone).map(|it| Action::Discard(it.id));
        self.actions.extend(gone);
    }

    /// Forks the workers that are due, and lets a complete generation serve.
    fn bring_up(&mut self, index: usize, now_ms: u64) {
        let ends_ms = now_ms.saturating_add(self.terms.start_timeout_ms);
        let Some(generation) = self.generations.get_mut(index) else { return };
        let id = generation.id;
        let fork = |record| Action::Fork { generation: id, record };
        match generation.phase {
            Phase::Serving => self.actions.extend(generation.fork_due(now_ms).map(fork)),
            // Forks one by one: if a fork fails, the generation has failed and no further fork is needed.
            Phase::Forking if generation.is_being_forked() => {}
            Phase::Forking => match generation.fork_next() {
                Some(record) => self.actions.push(fork(record)),
                None => generation.phase = Phase::Starting { ends_ms },
            },
            Phase::Starting { .. } if generation.is_complete() => self.serve(id, now_ms),
            Phase::Starting { ends_ms } if now_ms >= ends_ms => {
                self.abandon(id, "its workers did not start to serve within start_timeout");
            }
            Phase::Starting { .. } | Phase::Preparing | Phase::Draining => {}
        }
    }
}
