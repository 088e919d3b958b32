//! Supervision: gathers all events and carries out what the [`Decider`] makes of them.
//!
//! Signals, deaths, news and requests are only recorded. One loop gives them to the decider, one by one, and carries
//! out its actions.

mod replies;
mod upgrade;

use super::decision::{Action, Asker, Decider, Event, GenerationId, Terms};
use super::notify::Notifier;
use super::program::{Program, Trial};
use super::workers::{Dead, Workers};
use super::{explain, resources};
use crate::config::Source;
use crate::control;
use crate::diagnostics::Diagnostics;
use crate::sys::clock::millis;
use crate::sys::process::{self, Child, cause};
use crate::sys::{clock, listener, signal};
use crate::tally::Tally;
use crate::tls::Rotation;
use crate::worker::channel::News;
use crate::worker::{Inherited, Resources};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use replies::done;
use shm::WorkerId;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use upgrade::OldWorkers;

/// The signals that the master obeys.
pub(super) const SIGNALS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// How long to sleep if poll(2) fails.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Askers that wait for the end of the relay; more of them are only told that it stops.
const STOPPERS_MAX: usize = 32;

/// The master's hands and eyes.
pub(super) struct Supervisor {
    inherited: &'static Inherited,
    outside: Outside,
    decider: Decider,
    generations: BTreeMap<GenerationId, Rc<Resources>>,
    /// The generation that serves, or served last.
    current: Rc<Resources>,
    workers: Workers,
    trial: Option<Trial>,
    /// Trials that were killed and are not reaped yet.
    killed_trials: Vec<Child>,
    /// Set as long as the serving workers are the previous program's.
    old_workers: Option<OldWorkers>,
    /// Why the first workers did not start to serve.
    failure: Option<String>,
    /// Askers that wait for the end of the relay.
    stoppers: Vec<Asker>,
    /// The generation with which this program took over.
    upgraded: Option<GenerationId>,
}

/// The master's inputs and outputs.
pub(super) struct Outside {
    /// The program of this process, which an upgrade starts again.
    pub(super) program: Program,
    /// Where a reload finds the configuration.
    pub(super) source: Source,
    pub(super) diagnostics: Diagnostics,
    pub(super) signals: SignalFd,
    pub(super) control: Option<control::Server>,
    /// The keys of TLS tickets.
    pub(super) rotation: Rotation,
    pub(super) notifier: Notifier,
    /// The listeners belong to the service manager, and stay open when the relay ends.
    pub(super) is_activated: bool,
}

/// The generations and workers that a supervisor begins with.
pub(super) struct Running {
    pub(super) decider: Decider,
    /// The number of `current`, if it serves.
    pub(super) serving: Option<GenerationId>,
    /// The generation that serves, or served last.
    pub(super) current: Rc<Resources>,
    pub(super) workers: Workers,
}

impl Supervisor {
    /// Supervises a relay whose first generation is opened.
    pub(super) fn new(inherited: &'static Inherited, first: Resources, outside: Outside) -> Self {
        let decider = Decider::new(terms(&first), clock::monotonic_ms());
        let workers = Workers::new(inherited, Vec::new());
        let (serving, current) = (Some(Decider::FIRST), Rc::new(first));
        Self::with(inherited, outside, Running { decider, serving, current, workers })
    }

    /// Supervises a relay whose master was another program until now. `cannot_fork` is why no worker of the generation
    /// that serves can be forked, if so.
    pub(super) fn after(
        inherited: &'static Inherited,
        outside: Outside,
        running: Running,
        cannot_fork: Option<String>,
    ) -> Self {
        let old_workers = Some(OldWorkers { serving: running.serving, cannot_fork });
        Self { old_workers, ..Self::with(inherited, outside, running) }
    }

    fn with(inherited: &'static Inherited, outside: Outside, running: Running) -> Self {
        let Running { decider, serving, current, workers } = running;
        Self {
            inherited,
            outside,
            decider,
            generations: serving.map(|id| (id, Rc::clone(&current))).into_iter().collect(),
            current,
            workers,
            trial: None,
            killed_trials: Vec::new(),
            old_workers: None,
            failure: None,
            stoppers: Vec::new(),
            upgraded: None,
        }
    }

    /// Forks the first workers, and waits until they serve, or are stopped.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.decide(Event::Tick);
        self.notify();
        while !self.decider.serves() && !self.decider.is_over() {
            if self.decider.is_idle() {
                self.leave_no_files();
                return Err(io::Error::other(self.failure.take().unwrap_or_default()));
            }
            self.turn();
        }
        Ok(())
    }

    /// Supervises the workers until all have stopped.
    pub(super) fn supervise(&mut self) {
        self.decide(Event::Tick);
        self.notify();
        while !self.decider.is_over() {
            self.turn();
        }
        let census = self.inherited.segment.shared().census();
        tracing::info!(
            chunks_held = census.chunks_held,
            pipes_held = census.pipes_held,
            places_held = census.places_held,
            sessions_live = census.sessions_live,
            slots_between = census.slots_between,
            "stopped"
        );
        self.leave_no_files();
    }

    /// Removes the files of Unix sockets, and answers the askers that wait for the end.
    fn leave_no_files(&mut self) {
        resources::close_admin(&self.current);
        if let Some(control) = self.outside.control.take() {
            control.end(&self.stoppers, &Ok("stopped".to_owned()));
        }
    }

    fn turn(&mut self) {
        self.sleep();
        self.hear_signals();
        for (record, news) in self.workers.news() {
            self.decide(match news {
                News::Serves => Event::Serves(record),
                // A worker that is gone accepts nothing, but is dead only when it is reaped.
                News::Draining | News::Gone => Event::Draining(record),
            });
        }
        self.reap();
        self.killed_trials.retain(|child| process::reap(child).is_none());
        self.reap_strangers();
        if let Some(outcome) = self.trial.as_mut().and_then(Trial::outcome) {
            self.trial = None;
            self.decide(Event::Tried(outcome));
        }
        self.end_the_hung();
        self.hear_requests();
        if let Err(error) = self.outside.rotation.turn(clock::monotonic_ms()) {
            tracing::error!(%error, "cannot draw a new key for TLS tickets");
        }
        self.decide(Event::Tick);
        self.notify();
    }

    /// Tells the service manager the status.
    fn notify(&mut self) {
        self.outside.notifier.tell(&self.decider.status(), clock::monotonic_ms());
    }

    /// Sleeps until a signal, a death, news, a request, or the next deadline.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(self.outside.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.workers.poll_fds());
        fds.extend(self.trial.iter().map(Trial::poll_fd));
        let ended = self.killed_trials.iter().map(|child| child.pidfd.as_fd());
        fds.extend(ended.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
        fds.extend(self.outside.control.iter().flat_map(control::Server::poll_fds));
        let asked_ms = self.outside.control.as_ref().and_then(control::Server::due_ms);
        let told_ms = self.outside.notifier.due_ms();
        let due_ms = self.decider.due_ms().into_iter().chain(asked_ms);
        let due_ms = due_ms.chain(self.workers.due_ms(self.hang_timeout_ms()));
        let due_ms = due_ms.chain([self.outside.rotation.due_ms()]).chain(told_ms).min();
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(clock::monotonic_ms()));
        let timeout = match left_ms {
            None => PollTimeout::NONE,
            Some(ms) => PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Memory is short: the descriptors can be read all the same, and no worker may be lost for it.
            Err(errno) => {
                let error = io::Error::from(errno);
                tracing::error!(%error, "the master cannot wait for events");
                thread::sleep(POLL_PAUSE);
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        tracing::info!(signal = signal.as_str(), "received a signal");
        self.decide(match signal {
            Signal::SIGUSR1 => {
                // The sender of the signal reads of a failure in the log.
                let _ = self.reopen();
                return;
            }
            Signal::SIGHUP => Event::Reload(None),
            Signal::SIGUSR2 => Event::Upgrade(None),
            Signal::SIGWINCH => Event::Drain,
            Signal::SIGQUIT => Event::Stop { graceful: true, asker: None },
            _ => Event::Stop { graceful: false, asker: None },
        });
    }

    /// Reaps children that are neither workers nor trials: children of a shell that became this program, and orphans
    /// if this is process 1.
    fn reap_strangers(&self) {
        let trial = self.trial.iter().map(Trial::pid);
        let own = self.workers.processes().iter().map(|it| it.child.pid).chain(trial);
        let own: Vec<Pid> = own.chain(self.killed_trials.iter().map(|it| it.pid)).collect();
        process::reap_all_but(&own);
    }

    /// Kills workers that hang: what they serve is lost, and would be held for ever.
    fn end_the_hung(&mut self) {
        let hang_timeout_ms = self.hang_timeout_ms();
        for record in self.workers.ask(clock::monotonic_ms(), hang_timeout_ms) {
            tracing::error!(
                worker = record.index(),
                hang_timeout_ms,
                "killing a worker that hangs"
            );
            self.workers.kill(record);
        }
    }

    fn hang_timeout_ms(&self) -> u64 {
        millis(self.current.config.timeouts.hang_timeout)
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = signal::next(&self.outside.signals) {
            self.obey(signal);
        }
    }

    fn reap(&mut self) {
        let dead = self.workers.reap();
        if !dead.is_empty() {
            // A terminal signals all processes, and a worker dies at once. By now the master has its signal, too.
            self.hear_signals();
        }
        for Dead { record, status, lived_ms, is_meant_to_end } in dead {
            let (worker, cause) = (record.index(), cause(status));
            let is_meant = match status {
                WaitStatus::Exited(_, 0) => self.decider.drains(record),
                WaitStatus::Signaled(_, Signal::SIGTERM | Signal::SIGINT, _) => {
                    is_meant_to_end || self.decider.is_stopping()
                }
                _ => is_meant_to_end,
            };
            if is_meant {
                tracing::debug!(worker, cause, "a worker exited");
            } else {
                tracing::error!(worker, cause, lived_ms, "a worker died");
                let counters = self.inherited.segment.shared().record(record);
                counters.inspect(|counters| Tally::WorkerDied.count(counters));
            }
            self.decide(Event::Ended(record));
        }
    }

    /// Gives the decider an event, carries out its actions, and gives it their results.
    fn decide(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.decider.step(event, clock::monotonic_ms()) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Prepare(id) => {
                self.outside.notifier.reloading();
                return Some(self.prepare(id));
            }
            Action::Fork { generation, record } => return Some(self.fork(generation, record)),
            Action::Serve(id) => self.serve(id),
            Action::Retire => self.close_all_but_current(self.generations.values()),
            // A failed start is told to its caller instead.
            Action::Abandon { generation: Decider::FIRST, why } => self.failure = Some(why),
            Action::Abandon { generation, why } => {
                tracing::error!(generation, "reload failed, {}: {why}", self.consequence());
                self.close_all_but_current(self.generations.get(&generation));
            }
            Action::Send { record, command } => self.workers.send(record, command),
            Action::CloseListeners => {
                tracing::info!("stopping");
                self.close_listeners();
            }
            Action::Discard(id) => {
                self.generations.remove(&id);
                if self.failure.is_none() {
                    tracing::info!(generation = id, "all workers of a generation have exited");
                }
            }
            Action::Answer(asker, outcome) => self.answer(asker, outcome),
            Action::Queued(asker) => self.put_off(asker),
            Action::KillOldest(id) => {
                tracing::warn!(
                    generation = id,
                    "killing the oldest draining generation: a reload has waited for reload_timeout"
                );
            }
            Action::Try => {
                self.outside.notifier.reloading();
                return self.try_program();
            }
            Action::NoUpgrade(why) => {
                tracing::error!("upgrade failed, nothing has changed: {why}");
                self.killed_trials.extend(self.trial.take().map(Trial::kill));
            }
            Action::Replace => return Some(self.replace()),
        }
        None
    }

    fn prepare(&mut self, generation: GenerationId) -> Event {
        let Outside { source, is_activated, .. } = &self.outside;
        match resources::next(source, &self.inherited.segment, &self.current, *is_activated) {
            Ok(opened) => {
                let terms = terms(&opened);
                self.generations.insert(generation, Rc::new(opened));
                Event::Prepared { generation, terms }
            }
            Err(error) => {
                let why = explain(&error);
                tracing::error!("reload failed, {}: {why}", self.consequence());
                Event::NotPrepared { generation, why }
            }
        }
    }

    fn serve(&mut self, id: GenerationId) {
        let Some(next) = self.generations.get(&id) else { return };
        if id != Decider::FIRST {
            resources::take_over(&self.current, next);
            self.outside.diagnostics.change(&next.config.log);
            let is_upgrade = self.old_workers.take().is_some();
            self.upgraded = is_upgrade.then_some(id).or(self.upgraded);
            let done = done(is_upgrade);
            tracing::info!(generation = id, workers = next.config.workers, "{done}");
        }
        self.current = Rc::clone(next);
    }

    fn close_all_but_current<'a>(&self, generations: impl IntoIterator<Item = &'a Rc<Resources>>) {
        generations.into_iter().for_each(|it| resources::close_all_but(it, &self.current));
    }

    /// Shuts the listeners in every process that shares them, so that the kernel refuses connections that nobody
    /// would accept. A connection to a service manager's listener waits there until the relay starts again.
    fn close_listeners(&self) {
        if !self.outside.is_activated {
            let generations = self.generations.values().chain([&self.current]);
            generations.flat_map(|it| &it.listeners).for_each(|it| listener::close(it));
        }
    }

    /// Forks a worker. In the child this does not return.
    fn fork(&mut self, generation: GenerationId, record: WorkerId) -> Event {
        if let Some(OldWorkers { serving, cannot_fork: Some(why) }) = &self.old_workers
            && *serving == Some(generation)
        {
            tracing::error!(worker = record.index(), "cannot fork a worker: {why}");
            return Event::NotForked { record, why: why.clone() };
        }
        let Some(resources) = self.generations.get(&generation) else {
            return Event::NotForked { record, why: "its generation has ended".to_owned() };
        };
        let diagnostics = &self.outside.diagnostics;
        let begin = || diagnostics.change(&resources.config.log);
        match self.workers.fork(resources, record, begin) {
            Ok(()) => Event::Forked(record),
            Err(error) => {
                // Log this only for the serving generation: `Action::Abandon` reports why a new one failed.
                if self.decider.serves() && Rc::ptr_eq(resources, &self.current) {
                    tracing::error!(%error, worker = record.index(), "cannot fork a worker");
                }
                Event::NotForked { record, why: format!("cannot fork a worker: {error}") }
            }
        }
    }
}

pub(super) fn terms(resources: &Resources) -> Terms {
    let config = &resources.config;
    Terms {
        workers: config.workers.get(),
        generations_max: config.generations_max,
        start_timeout_ms: millis(config.timeouts.start_timeout),
        reload_timeout_ms: millis(config.timeouts.reload_timeout),
        stop_timeout_ms: millis(config.timeouts.stop_timeout),
    }
}
