//! How one generation of workers follows another. It is read and opened (`Prepare`), forked worker by worker,
//! and only when all of them serve it takes over (`Serve`); the one before it is told to drain, and when that
//! accepts no more, the reload is done. A generation is let go (`Discard`) with its last worker.

use super::{
    Action, Asker, Decider, Generation, GenerationId, Order, Outcome, PATIENCE_MS, Phase, STOPPING,
    Terms, WORKER_RECORDS_MAX, Worker, WorkerId,
};

/// A reload that could not begin yet; all that come meanwhile are one.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) askers: Vec<Asker>,
    /// When others have had time enough to drain.
    pub(super) ends_ms: u64,
    /// How many records it lacked when it was prepared: one less than this is too few.
    records: usize,
}

/// A generation serves, and those before it are about to accept no more.
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) askers: Vec<Asker>,
    outcome: Outcome,
    /// When it is called done, whatever workers say that may be stopped.
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

    /// Asks for one more reload, for whoever waits.
    pub(super) fn queue_all(&mut self, askers: Vec<Asker>, records: usize, now_ms: u64) {
        if askers.is_empty() {
            self.queue(None, records, now_ms);
        }
        askers.into_iter().for_each(|asker| self.queue(Some(asker), records, now_ms));
    }

    /// One at a time, and while nothing else is under way.
    fn may_reload(&self) -> bool {
        let is_free = self.handover.is_none() && self.upgrade.is_none();
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
        self.generations.iter().any(|it| it.phase == Phase::Leaving)
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
        if generation.phase == Phase::Unwanted {
            generation.phase = Phase::Leaving;
            return;
        }
        generation.phase = Phase::Forking;
        generation.terms = terms;
        if terms.workers > free.len() && !is_draining {
            let (count, free) = (terms.workers, free.len());
            self.give_up(
                id,
                &format!("{count} workers need more than the {free} free worker records"),
            );
            return;
        }
        if terms.workers > free.len() {
            // It is prepared again once it has room: who waits, waits for what is in the file by then.
            let askers = std::mem::take(&mut generation.askers);
            self.give_up(id, "it waits for worker records, until workers have drained");
            self.queue_all(askers, terms.workers, now_ms);
            return;
        }
        generation.workers = free.into_iter().take(terms.workers).map(Worker::new).collect();
    }

    fn free_records(&self) -> Vec<WorkerId> {
        let mut is_taken = [false; WORKER_RECORDS_MAX];
        for worker in self.generations.iter().flat_map(|it| &it.workers) {
            is_taken.get_mut(worker.record().index()).into_iter().for_each(|it| *it = true);
        }
        let free = is_taken.iter().enumerate().filter(|(_, is_taken)| !**is_taken);
        free.filter_map(|(index, _)| WorkerId::new(index)).collect()
    }

    /// A generation that does not come to serve.
    pub(super) fn give_up(&mut self, id: GenerationId, why: &str) {
        let Some(generation) = self.generation(id) else { return };
        let (askers, phase) = (std::mem::take(&mut generation.askers), generation.phase);
        if matches!(phase, Phase::Forking | Phase::Starting { .. }) {
            self.actions.push(Action::Close { generation: id, why: why.to_owned() });
        }
        self.fail(askers, why);
        self.leave(id);
    }

    pub(super) fn give_up_reloads(&mut self, why: &str) {
        let askers = self.queued.take().map(|it| it.askers);
        self.fail(askers.into_iter().flatten(), why);
        let made = self.generations.iter().filter(|it| it.is_in_the_making());
        let made: Vec<GenerationId> = made.map(|it| it.id).collect();
        made.into_iter().for_each(|id| self.give_up(id, why));
    }

    /// Tells a generation's workers to drain, and replaces none of them any more.
    fn leave(&mut self, id: GenerationId) {
        let Some(generation) = self.generation(id) else { return };
        let told: Vec<WorkerId> = generation.leave().collect();
        let drain = |record| Action::Send { record, order: Order::Drain };
        self.actions.extend(told.into_iter().map(drain));
    }

    pub(super) fn leave_all(&mut self) {
        let all: Vec<GenerationId> = self.generations.iter().map(|it| it.id).collect();
        all.into_iter().for_each(|id| self.leave(id));
    }

    /// Begins the reload that waits, if it may; ends the oldest of those who drain, if it waited long enough.
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
            let oldest = self.generations.iter().find(|it| it.phase == Phase::Leaving);
            if let Some(oldest) = oldest.filter(|_| is_full) {
                let kill = |record| Action::Send { record, order: Order::Kill };
                self.actions.push(Action::Hasten(oldest.id));
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
        before.into_iter().for_each(|id| self.leave(id));
        let outcome = Outcome::Reloaded { generation: id, workers: terms.workers };
        let ends_ms = now_ms.saturating_add(PATIENCE_MS);
        self.handover = Some(Handover { askers, outcome, ends_ms });
    }

    /// Calls a reload done whose predecessors accept no more.
    pub(super) fn settle_handover(&mut self, now_ms: u64) {
        let Some(handover) = &self.handover else { return };
        let mut leaving = self.generations.iter().filter(|it| it.phase == Phase::Leaving);
        if now_ms >= handover.ends_ms || !leaving.any(Generation::may_accept) {
            self.finish_handover();
        }
    }

    pub(super) fn finish_handover(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        self.actions.push(Action::Retire);
        let answer = |asker| Action::Answer(asker, handover.outcome.clone());
        self.actions.extend(handover.askers.into_iter().map(answer));
    }
}
