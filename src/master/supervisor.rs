//! Supervision: hears of all that happens and does what the [`Decider`] makes of it.
//!
//! Signals, deaths, news and requests only record; one loop hands them to the decider, one by one, and does
//! what it answers.

use super::decision::{Action, Asker, Decider, Event, GenerationId, Outcome, Terms};
use super::notify::Notifier;
use super::program::{Program, Trial};
use super::reopening::{self, Reopened};
use super::state::State;
use super::workers::{Dead, Workers};
use super::{explain, opening};
use crate::config::Source;
use crate::control::{self, Request};
use crate::diagnostics::Diagnostics;
use crate::relay::millis;
use crate::sys::process::{self, Child, cause};
use crate::sys::{clock, listener, signal};
use crate::tally::Tally;
use crate::tls::Rotation;
use crate::worker::tether::News;
use crate::worker::{Generation, Inheritance};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use shm::WorkerId;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

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

/// How long to sleep where the kernel cannot say when there is something to do.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Askers that wait for the end; others are told only that it is under way.
const STOPPERS_MAX: usize = 32;

/// The master's hands and eyes.
pub(super) struct Supervisor {
    inheritance: &'static Inheritance,
    outside: Outside,
    decider: Decider,
    generations: BTreeMap<GenerationId, Rc<Generation>>,
    /// The one that serves, or served last.
    current: Rc<Generation>,
    workers: Workers,
    trial: Option<Trial>,
    /// Trials that were ended, until they are reaped.
    abandoned: Vec<Child>,
    /// As long as the workers that serve are another program's.
    heir: Option<Heir>,
    /// Why the first workers did not come to serve.
    failure: Option<String>,
    /// Who has asked for the end, and waits for it.
    stoppers: Vec<Asker>,
    /// The generation by which this program took over from another.
    upgraded: Option<GenerationId>,
}

/// What is still another program's.
struct Heir {
    serving: Option<GenerationId>,
    lack: Option<String>,
}

/// What the master reads from and writes to.
pub(super) struct Outside {
    /// What was started, and is started again for an upgrade.
    pub(super) program: Program,
    /// Where a reload finds the configuration.
    pub(super) source: Source,
    pub(super) diagnostics: Diagnostics,
    pub(super) signals: SignalFd,
    pub(super) control: Option<control::Server>,
    /// The keys of TLS tickets.
    pub(super) rotation: Rotation,
    pub(super) notifier: Notifier,
    /// The listeners are the service manager's, and stay when we go.
    pub(super) is_activated: bool,
}

impl Supervisor {
    /// Of a relay whose first generation is opened.
    pub(super) fn new(
        inheritance: &'static Inheritance,
        first: Generation,
        outside: Outside,
    ) -> Self {
        let decider = Decider::new(terms(&first), clock::monotonic_ms());
        let workers = Workers::new(inheritance, Vec::new());
        let serving = Some(Decider::FIRST);
        Self::with(inheritance, outside, decider, serving, Rc::new(first), workers)
    }

    /// Of a relay whose master was another program until now. `current` served last, and serves still if
    /// its number is given; no worker of it can be forked if it has a `lack`.
    pub(super) fn after(
        inheritance: &'static Inheritance,
        outside: Outside,
        decider: Decider,
        serving: Option<GenerationId>,
        current: Rc<Generation>,
        lack: Option<String>,
        workers: Workers,
    ) -> Self {
        let heir = Some(Heir { serving, lack });
        Self { heir, ..Self::with(inheritance, outside, decider, serving, current, workers) }
    }

    fn with(
        inheritance: &'static Inheritance,
        outside: Outside,
        decider: Decider,
        serving: Option<GenerationId>,
        current: Rc<Generation>,
        workers: Workers,
    ) -> Self {
        Self {
            inheritance,
            outside,
            decider,
            generations: serving.map(|id| (id, Rc::clone(&current))).into_iter().collect(),
            current,
            workers,
            trial: None,
            abandoned: Vec::new(),
            heir: None,
            failure: None,
            stoppers: Vec::new(),
            upgraded: None,
        }
    }

    /// Forks the first workers, and waits until they serve, or were stopped before.
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

    /// Looks after the workers until all have stopped, as they were told to.
    pub(super) fn supervise(&mut self) {
        self.decide(Event::Tick);
        self.notify();
        while !self.decider.is_over() {
            self.turn();
        }
        let census = self.inheritance.segment.shared().census();
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

    /// Takes the files of Unix sockets away, and tells those who wait for the end.
    fn leave_no_files(&mut self) {
        opening::close_admin(&self.current);
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
                // Who is gone takes none, but is dead only when it is reaped.
                News::Closed | News::Gone => Event::Closed(record),
            });
        }
        self.bury_the_dead();
        self.abandoned.retain(|child| process::reap(child).is_none());
        self.reap_strangers();
        if let Some(outcome) = self.trial.as_mut().and_then(Trial::outcome) {
            self.trial = None;
            self.decide(Event::Tried(outcome));
        }
        self.end_the_hung();
        self.hear_requests();
        if let Err(error) = self.outside.rotation.turn(clock::monotonic_ms()) {
            tracing::error!(%error, "the keys of TLS tickets stay as they are");
        }
        self.decide(Event::Tick);
        self.notify();
    }

    /// Tells the service manager how things stand.
    fn notify(&mut self) {
        self.outside.notifier.tell(&self.decider.standing(), clock::monotonic_ms());
    }

    /// Sleeps until a signal, a death, news, a request, or the next thing that is due.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(self.outside.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.workers.poll_fds());
        fds.extend(self.trial.iter().map(Trial::poll_fd));
        let ended = self.abandoned.iter().map(|child| child.pidfd.as_fd());
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
            // For want of memory: whoever is to be heard can be heard all the same, but no workers may be lost for it.
            Err(errno) => {
                let error = io::Error::from(errno);
                tracing::error!(%error, "the master cannot wait for events");
                thread::sleep(POLL_PAUSE);
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        tracing::info!(signal = signal.as_str(), "told by a signal");
        self.decide(match signal {
            Signal::SIGUSR1 => {
                // Whoever sent it reads of a failure in the log.
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

    fn hear_requests(&mut self) {
        let Some(control) = &mut self.outside.control else { return };
        for (number, request) in control.requests(clock::monotonic_ms()) {
            tracing::info!(request = request.as_str(), "told by the control socket");
            let asker = Some(number);
            self.decide(match request {
                Request::Reopen => {
                    let answer = self.reopen();
                    self.tell(number, &answer);
                    continue;
                }
                Request::Reload => Event::Reload(asker),
                Request::Upgrade => Event::Upgrade(asker),
                Request::Quit => Event::Stop { graceful: true, asker },
                Request::Stop => Event::Stop { graceful: false, asker },
            });
        }
    }

    /// Reaps children that are neither workers nor programs that were tried: what a shell has left to us that became
    /// this program, and as process 1 whatever has lost its parent.
    fn reap_strangers(&self) {
        let trial = self.trial.iter().map(Trial::pid);
        let own = self.workers.processes().iter().map(|it| it.child.pid).chain(trial);
        let own: Vec<Pid> = own.chain(self.abandoned.iter().map(|it| it.pid)).collect();
        process::reap_all_but(&own);
    }

    /// Kills who does not go on: what it serves is lost, and would be held for ever.
    fn end_the_hung(&mut self) {
        let hang_timeout_ms = self.hang_timeout_ms();
        for record in self.workers.ask(clock::monotonic_ms(), hang_timeout_ms) {
            tracing::error!(
                worker = record.index(),
                hang_timeout_ms,
                "a worker hangs, and is killed"
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

    fn bury_the_dead(&mut self) {
        let dead = self.workers.bury_the_dead();
        if !dead.is_empty() {
            // A terminal signals all processes, and a worker dies at once. The order to stop is here as well by now.
            self.hear_signals();
        }
        for Dead { record, status, lived_ms, is_ended } in dead {
            let (worker, cause) = (record.index(), cause(status));
            let is_meant = match status {
                WaitStatus::Exited(_, 0) => self.decider.is_leaving(record),
                WaitStatus::Signaled(_, Signal::SIGTERM | Signal::SIGINT, _) => {
                    is_ended || self.decider.is_stopping()
                }
                _ => is_ended,
            };
            if is_meant {
                tracing::debug!(worker, cause, "a worker is done");
            } else {
                tracing::error!(worker, cause, lived_ms, "a worker died");
                let book = self.inheritance.segment.shared().record(record);
                book.inspect(|book| Tally::WorkerDied.count(book));
            }
            self.decide(Event::Ended(record));
        }
    }

    /// Tells the decider what has happened, does what it wants done, and tells it what came of that.
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
                self.outside.notifier.renewing();
                return Some(self.prepare(id));
            }
            Action::Fork { generation, record } => return Some(self.fork(generation, record)),
            Action::Serve(id) => self.serve(id),
            Action::Retire => self.close_but_current(self.generations.values()),
            // At the start, whoever started us is told.
            Action::Close { generation: Decider::FIRST, why } => self.failure = Some(why),
            Action::Close { generation, why } => {
                tracing::error!(generation, "no reload, {}: {why}", self.consequence());
                self.close_but_current(self.generations.get(&generation));
            }
            Action::Send { record, order } => self.workers.send(record, order),
            Action::CloseListeners => {
                tracing::info!("stopping");
                self.close_listeners();
            }
            Action::Discard(id) => {
                self.generations.remove(&id);
                if self.failure.is_none() {
                    tracing::info!(generation = id, "a generation of workers is gone");
                }
            }
            Action::Answer(asker, outcome) => self.answer(asker, outcome),
            Action::Queued(asker) => self.put_off(asker),
            Action::Hasten(id) => {
                tracing::warn!(
                    generation = id,
                    "ended, as a reload waits for longer than reload_timeout"
                );
            }
            Action::Try => {
                self.outside.notifier.renewing();
                return self.try_program();
            }
            Action::NoUpgrade(why) => {
                tracing::error!("no upgrade, everything stays as it was: {why}");
                self.abandoned.extend(self.trial.take().map(Trial::abandon));
            }
            Action::Replace => return Some(self.replace()),
        }
        None
    }

    fn prepare(&mut self, generation: GenerationId) -> Event {
        let Outside { source, is_activated, .. } = &self.outside;
        match opening::next(source, &self.inheritance.segment, &self.current, *is_activated) {
            Ok(opened) => {
                let terms = terms(&opened);
                self.generations.insert(generation, Rc::new(opened));
                Event::Prepared { generation, terms }
            }
            Err(error) => {
                let why = explain(&error);
                tracing::error!("no reload, {}: {why}", self.consequence());
                Event::NotPrepared { generation, why }
            }
        }
    }

    fn serve(&mut self, id: GenerationId) {
        let Some(next) = self.generations.get(&id) else { return };
        if id != Decider::FIRST {
            opening::take_over(&self.current, next);
            self.outside.diagnostics.change(&next.config.log);
            let is_upgrade = self.heir.take().is_some();
            self.upgraded = is_upgrade.then_some(id).or(self.upgraded);
            let done = done(is_upgrade);
            tracing::info!(generation = id, workers = next.config.workers, "{done}");
        }
        self.current = Rc::clone(next);
        self.heir = None;
    }

    /// What becomes of a reload that fails.
    fn consequence(&self) -> &'static str {
        match self.heir {
            None => "everything stays as it was",
            Some(_) => "the new program goes on with the old workers",
        }
    }

    fn close_but_current<'a>(&self, generations: impl IntoIterator<Item = &'a Rc<Generation>>) {
        generations.into_iter().for_each(|it| opening::close_but(it, &self.current));
    }

    /// For every process that shares them: a connection that nobody would accept is refused. One to a service
    /// manager's listener waits there until we are started again.
    fn close_listeners(&self) {
        if !self.outside.is_activated {
            let generations = self.generations.values().chain([&self.current]);
            generations.flat_map(|it| &it.listeners).for_each(|it| listener::close(it));
        }
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Reloaded { generation, workers } => Ok(format!(
                "{}: generation {generation}, workers: {workers}, version {}",
                done(self.upgraded == Some(generation)),
                env!("CARGO_PKG_VERSION")
            )),
            Outcome::Stopping if self.stoppers.len() < STOPPERS_MAX => {
                self.stoppers.push(asker);
                return self.note(asker, "stopping");
            }
            Outcome::Stopping => Ok("stopping".to_owned()),
            Outcome::Failed(why) if self.heir.is_some() => {
                Err(format!("{}: {why}", self.consequence()))
            }
            Outcome::Failed(why) => Err(why),
        };
        self.tell(asker, &answer);
    }

    fn tell(&mut self, asker: Asker, answer: &control::Answer) {
        if let Some(control) = &mut self.outside.control {
            control.answer(asker, answer);
        }
    }

    fn note(&mut self, asker: Asker, text: &str) {
        if let Some(control) = &mut self.outside.control {
            control.note(asker, text);
        }
    }

    /// Goes on in access logs that are opened anew.
    fn reopen(&self) -> control::Answer {
        let (decider, workers) = (&self.decider, &self.workers);
        let reopened = reopening::reopen(&self.generations, &self.current, decider, workers);
        match reopened {
            Ok(Reopened { logs, workers, untold: 0 }) => {
                tracing::info!(logs, workers, "access logs were opened anew");
                Ok(format!("reopened: access logs: {logs}, workers: {workers}"))
            }
            Ok(Reopened { untold, .. }) => {
                Err(format!("workers that go on in the old access log: {untold}"))
            }
            Err(error) => {
                let why = explain(&error);
                tracing::error!("access logs stay as they were: {why}");
                Err(why)
            }
        }
    }

    fn put_off(&mut self, asker: Option<Asker>) {
        const WHY: &str = "the reload waits for one before it, or for workers that drain";
        tracing::info!("{WHY}");
        if let Some(asker) = asker {
            self.note(asker, &format!("queued: {WHY}"));
        }
    }

    /// Forks. In the child this does not return.
    fn fork(&mut self, generation: GenerationId, record: WorkerId) -> Event {
        if let Some(Heir { serving, lack: Some(lack) }) = &self.heir
            && *serving == Some(generation)
        {
            tracing::error!(worker = record.index(), "cannot fork a worker: {lack}");
            return Event::NotForked { record, why: lack.clone() };
        }
        let Some(generation) = self.generations.get(&generation) else {
            return Event::NotForked { record, why: "its generation is gone".to_owned() };
        };
        let diagnostics = &self.outside.diagnostics;
        let begin = || diagnostics.change(&generation.config.log);
        match self.workers.fork(generation, record, begin) {
            Ok(()) => Event::Forked(record),
            Err(error) => {
                // Of a generation in the making it will be said why it does not come to serve.
                if self.decider.serves() && Rc::ptr_eq(generation, &self.current) {
                    tracing::error!(%error, worker = record.index(), "cannot fork a worker");
                }
                Event::NotForked { record, why: format!("cannot fork a worker: {error}") }
            }
        }
    }

    /// All that another program needs to go on from here.
    fn state(&self) -> State {
        let control = self.outside.control.as_ref();
        let (past, is_activated) = (self.decider.past(), self.outside.is_activated);
        State::new(self.inheritance, &self.current, is_activated, past, &self.workers, control)
    }

    fn try_program(&mut self) -> Option<Event> {
        match self.outside.program.try_out(&self.state()) {
            Ok(trial) => {
                self.trial = Some(trial);
                None
            }
            Err(error) => Some(Event::Tried(Err(format!("cannot try the new program: {error}")))),
        }
    }

    /// Becomes the program that is installed now. Returns only if it could not.
    fn replace(&mut self) -> Event {
        tracing::info!("the new program takes over");
        self.outside.notifier.alive();
        let error = self.outside.program.become_next(&self.state());
        Event::NotReplaced(format!("cannot start the new program: {error}"))
    }
}

/// What has happened when a generation comes to serve after another.
fn done(is_upgrade: bool) -> &'static str {
    if is_upgrade { "upgraded" } else { "reloaded" }
}

pub(super) fn terms(generation: &Generation) -> Terms {
    let config = &generation.config;
    Terms {
        workers: config.workers.get(),
        generations_max: config.generations_max,
        start_timeout_ms: millis(config.timeouts.start_timeout),
        reload_timeout_ms: millis(config.timeouts.reload_timeout),
        stop_timeout_ms: millis(config.timeouts.stop_timeout),
    }
}
