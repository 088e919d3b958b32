//! How one generation of workers follows another. The supervisor reads and opens it (`Prepare`) and forks its workers
//! one by one. When all of them serve, it takes over (`Serve`). The previous generation is told to drain, and when it
//! accepts no more, the reload is done. A generation is discarded with its last worker.

use super::{
    Action, Asker, Command, Decider, Generation, GenerationId, Outcome, PATIENCE_MS, Phase,
    STOPPING, Terms, WORKER_RECORDS_MAX, Worker, WorkerId,
};

/// A reload that could not begin yet; later reloads join it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) askers: Vec<Asker>,
    /// When others have had enough time to drain.
    pub(super) ends_ms: u64,
    /// How many free records the reload needs, if it failed for want of them.
    records: usize,
}

/// A generation serves, and the previous ones are about to accept no more.
#[derive(Debug)]
pub(super) struct Retirement {
    pub(super) askers: Vec<Asker>,
    outcome: Outcome,
    /// When the reload is called done, even if a worker that was stopped says nothing.
    pub(super) ends_ms: u64,
}

impl Decider {
    pub(super) fn ask_for_reload(&mut self, asker: Option<Asker>, now_ms: u64) {
        if self.stopping.is_some() {
            self.fail(asker, STOPPING);
            return;
        }
        self.queue(asker, 0, now_ms);
    }

    fn queue(&mut self, asker: Option<Asker>, records: usize, now_ms: u64) {
        let ends_ms = now_ms.saturating_add(self.terms.reload_timeout_ms);
        let queued = self.queued.get_or_insert(Queued { askers: Vec::new(), ends_ms, records });
        queued.askers.extend(asker);
        queued.records = queued.records.max(records);
        if !self.may_reload() {
            self.actions.push(Action::Queued(asker));
        }
    }

    /// Asks for one more reload, for all that wait.
    pub(super) fn queue_all(&mut self, askers: Vec<Asker>, records: usize, now_ms: u64) {
        if askers.is_empty() {
            self.queue(None, records, now_ms);
        }
        askers.into_iter().for_each(|asker| self.queue(Some(asker), records, now_ms));
    }

    /// Reloads run one at a time, and never beside an upgrade.
    fn may_reload(&self) -> bool {
        let is_free = self.retirement.is_none() && self.upgrade.is_none();
        is_free && !self.is_full() && !self.generations.iter().any(Generation::is_in_the_making)
    }

    /// Whether others have to drain first.
    fn is_full(&self) -> bool {
        let records = self.queued.as_ref().map_or(0, |it| it.records);
        let lacks_records =
            records > 0 && self.is_draining() && self.free_records().len() < records;
        lacks_records || self.generations.len() >= self.terms.generations_max
    }

    fn is_draining(&self) -> bool {
        self.generations.iter().any(|it| it.phase == Phase::Draining)
    }

    pub(super) fn expect_generation(&mut self, askers: Vec<Asker>) -> GenerationId {
        let id = self.next_generation;
        self.next_generation += 1;
        self.generations.push(Generation::new(id, self.terms, askers));
        id
    }

    pub(super) fn prepared(&mut self, id: GenerationId, terms: Terms, now_ms: u64) {
        let (free, is_draining) = (self.free_records(), self.is_draining());
        let Some(generation) = self.generation(id) else { return };
        generation.phase = Phase::Forking;
        generation.terms = terms;
        if terms.workers > free.len() && !is_draining {
            let (count, free) = (terms.workers, free.len());
            self.abandon(
                id,
                &format!("{count} workers need more worker records than the {free} that are free"),
            );
            return;
        }
        if terms.workers > free.len() {
            // The reload is prepared again once there is room, so its askers get the configuration of that moment.
            let askers = std::mem::take(&mut generation.askers);
            self.abandon(id, "the reload waits for worker records until workers have drained");
            self.queue_all(askers, terms.workers, now_ms);
            return;
        }
        generation.workers = free.into_iter().take(terms.workers).map(Worker::new).collect();
    }

    fn free_records(&self) -> Vec<WorkerId> {
        let mut is_used = [false; WORKER_RECORDS_MAX];
        for worker in self.generations.iter().flat_map(|it| &it.workers) {
            is_used.get_mut(worker.record().index()).into_iter().for_each(|it| *it = true);
        }
        let free = is_used.iter().enumerate().filter(|(_, is_used)| !**is_used);
        free.filter_map(|(index, _)| WorkerId::new(index)).collect()
    }

    /// Abandons a generation that failed to start.
    pub(super) fn abandon(&mut self, id: GenerationId, why: &str) {
        let Some(generation) = self.generation(id) else { return };
        let (askers, phase) = (std::mem::take(&mut generation.askers), generation.phase);
        if matches!(phase, Phase::Forking | Phase::Starting { .. }) {
            self.actions.push(Action::Abandon { generation: id, why: why.to_owned() });
        }
        self.fail(askers, why);
        self.drain(id);
    }

    pub(super) fn cancel_reloads(&mut self, why: &str) {
        let askers = self.queued.take().map(|it| it.askers);
        self.fail(askers.into_iter().flatten(), why);
        let made = self.generations.iter().filter(|it| it.is_in_the_making());
        let made: Vec<GenerationId> = made.map(|it| it.id).collect();
        made.into_iter().for_each(|id| self.abandon(id, why));
    }

    /// Tells a generation's workers to drain, and replaces none of them any more.
    fn drain(&mut self, id: GenerationId) {
        let Some(generation) = self.generation(id) else { return };
        let told: Vec<WorkerId> = generation.drain().collect();
        let drain = |record| Action::Send { record, command: Command::Drain };
        self.actions.extend(told.into_iter().map(drain));
    }

    pub(super) fn drain_all(&mut self) {
        let all: Vec<GenerationId> = self.generations.iter().map(|it| it.id).collect();
        all.into_iter().for_each(|id| self.drain(id));
    }

    /// Begins the waiting reload if it may begin. If it has waited long enough, ends the oldest draining generation.
    pub(super) fn settle_queue(&mut self, now_ms: u64) {
        let (is_full, may_reload) = (self.is_full(), self.may_reload());
        let Some(queued) = &mut self.queued else { return };
        if may_reload {
            let askers = std::mem::take(&mut queued.askers);
            self.queued = None;
            let id = self.expect_generation(askers);
            self.actions.push(Action::Prepare(id));
        } else if now_ms >= queued.ends_ms {
            queued.ends_ms = now_ms.saturating_add(PATIENCE_MS);
            let oldest = self.generations.iter().find(|it| it.phase == Phase::Draining);
            if let Some(oldest) = oldest.filter(|_| is_full) {
                let kill = |record| Action::Send { record, command: Command::Kill };
                self.actions.push(Action::KillOldest(oldest.id));
                self.actions.extend(oldest.alive().map(kill));
            }
        }
    }

    pub(super) fn serve(&mut self, id: GenerationId, now_ms: u64) {
        let Some(generation) = self.generation(id) else { return };
        generation.phase = Phase::Serving;
        let (askers, terms) = (std::mem::take(&mut generation.askers), generation.terms);
        self.terms = terms;
        self.actions.push(Action::Serve(id));
        let before = self.generations.iter().filter(|it| it.id != id);
        let before: Vec<GenerationId> = before.map(|it| it.id).collect();
        before.into_iter().for_each(|id| self.drain(id));
        let outcome = Outcome::Reloaded { generation: id, workers: terms.workers };
        let ends_ms = now_ms.saturating_add(PATIENCE_MS);
        self.retirement = Some(Retirement { askers, outcome, ends_ms });
    }

    /// Calls a reload done once the previous generations accept no more.
    pub(super) fn settle_retirement(&mut self, now_ms: u64) {
        let Some(retirement) = &self.retirement else { return };
        let mut draining = self.generations.iter().filter(|it| it.phase == Phase::Draining);
        if now_ms >= retirement.ends_ms || !draining.any(Generation::may_accept) {
            self.finish_retirement();
        }
    }

    pub(super) fn finish_retirement(&mut self) {
        let Some(retirement) = self.retirement.take() else { return };
        self.actions.push(Action::Retire);
        let answer = |asker| Action::Answer(asker, retirement.outcome.clone());
        self.actions.extend(retirement.askers.into_iter().map(answer));
    }
}
