//! Supervision: forks workers, hears of their deaths, cleans up after the dead, and does what the
//! [`Decider`] makes of all that.
//!
//! Signals, deaths and requests only record; one loop hands them to the decider, one by one, and does
//! what it answers. The order after a death is: reap, so that nothing of the worker can still run; close
//! its book by a new epoch; sweep what it owned and ring those it leaves behind; then decide.

use super::decision::{Action, Asker, Decider, Event, GenerationId, Order, Outcome, Terms};
use super::diagnostics::Diagnostics;
use super::{explain, opening};
use crate::config::Source;
use crate::control::{self, Request};
use crate::relay::millis;
use crate::sys::process::{self, Child};
use crate::sys::{clock, listener, signal, title};
use crate::tally::Tally;
use crate::tls::Rotation;
use crate::worker::{self, Generation, Inheritance};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use shm::{Owner, WorkerId};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

/// The signals that the master obeys.
pub(super) const SIGNALS: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGWINCH];

/// The master's hands and eyes.
pub(super) struct Supervisor {
    inheritance: &'static Inheritance,
    outside: Outside,
    decider: Decider,
    generations: BTreeMap<GenerationId, Rc<Generation>>,
    /// The one that serves, or served last.
    current: Rc<Generation>,
    workers: Vec<Worker>,
}

/// What the master reads from and writes to.
pub(super) struct Outside {
    /// Where a reload finds the configuration.
    pub(super) source: Source,
    pub(super) diagnostics: Diagnostics,
    pub(super) signals: SignalFd,
    pub(super) control: Option<control::Server>,
    /// The keys of TLS tickets.
    pub(super) rotation: Rotation,
}

/// A worker that has a process.
struct Worker {
    record: WorkerId,
    child: Child,
    born_ms: u64,
}

impl Supervisor {
    pub(super) fn new(
        inheritance: &'static Inheritance,
        first: Generation,
        outside: Outside,
    ) -> Self {
        let (decider, current) = (Decider::new(terms(&first)), Rc::new(first));
        let generations = BTreeMap::from([(Decider::FIRST, Rc::clone(&current))]);
        let workers = Vec::new();
        Self { inheritance, outside, decider, generations, current, workers }
    }

    /// Forks the first workers.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.decide(Event::Tick);
        if self.decider.serves() { Ok(()) } else { Err(io::Error::other("see above")) }
    }

    /// Looks after the workers until all have stopped, as they were told to.
    pub(super) fn supervise(&mut self) -> io::Result<()> {
        while !self.decider.is_over() {
            self.sleep()?;
            while let Some(signal) = signal::next(&self.outside.signals) {
                self.obey(signal);
            }
            self.bury_the_dead();
            self.hear_requests();
            if let Err(error) = self.outside.rotation.turn(clock::monotonic_ms()) {
                tracing::error!(%error, "the keys of TLS tickets stay as they are");
            }
            self.decide(Event::Tick);
        }
        if let Some(control) = self.outside.control.take() {
            control.remove();
        }
        let census = self.inheritance.segment.shared().census();
        tracing::info!(?census, "stopped");
        Ok(())
    }

    /// Sleeps until a signal, a death, a request, or the next thing that is due.
    fn sleep(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.outside.signals.as_fd(), PollFlags::POLLIN)];
        let pidfds = self.workers.iter().map(|worker| worker.child.pidfd.as_fd());
        fds.extend(pidfds.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
        fds.extend(self.outside.control.iter().flat_map(control::Server::poll_fds));
        let asked_ms = self.outside.control.as_ref().and_then(control::Server::due_ms);
        let due_ms = self.decider.due_ms().into_iter().chain(asked_ms);
        let due_ms = due_ms.chain([self.outside.rotation.due_ms()]).min();
        let left_ms = due_ms.map(|due_ms| due_ms.saturating_sub(clock::monotonic_ms()));
        let timeout = match left_ms {
            None => PollTimeout::NONE,
            Some(ms) => PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn obey(&mut self, signal: Signal) {
        tracing::info!(signal = signal.as_str(), "told by a signal");
        self.decide(match signal {
            Signal::SIGHUP => Event::Reload(None),
            Signal::SIGWINCH => Event::Drain,
            Signal::SIGQUIT => Event::Stop { graceful: true, asker: None },
            _ => Event::Stop { graceful: false, asker: None },
        });
    }

    fn hear_requests(&mut self) {
        let Some(control) = &mut self.outside.control else { return };
        for (asker, request) in control.requests(clock::monotonic_ms()) {
            tracing::info!(?request, "told by the control socket");
            let asker = Some(asker);
            self.decide(match request {
                Request::Reload => Event::Reload(asker),
                Request::Quit => Event::Stop { graceful: true, asker },
                Request::Stop => Event::Stop { graceful: false, asker },
            });
        }
    }

    fn bury_the_dead(&mut self) {
        let reap = |worker: &mut Worker| Some((process::reap(&worker.child)?, worker.record));
        let mut dead = Vec::new();
        self.workers.retain_mut(|worker| match reap(worker) {
            None => true,
            Some((status, record)) => {
                dead.push((record, status, worker.born_ms));
                false
            }
        });
        for (record, status, born_ms) in dead {
            clean_up_after(record, self.inheritance);
            let (worker, cause) = (record.index(), cause(status));
            if self.decider.is_leaving(record) && matches!(status, WaitStatus::Exited(_, 0)) {
                tracing::debug!(worker, "a worker is done");
            } else if !self.decider.is_stopping() {
                let lived_ms = clock::monotonic_ms().saturating_sub(born_ms);
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
            Action::Prepare(id) => return Some(self.prepare(id)),
            Action::Fork { generation, record } => return Some(self.fork(generation, record)),
            Action::Serve(id) => self.serve(id),
            Action::Close(id) => {
                if let Some(generation) = self.generations.get(&id) {
                    opening::close_but(generation, &self.current);
                }
            }
            Action::Send { record, order } => self.send(record, order),
            Action::CloseListeners => {
                tracing::info!("stopping");
                // For every process that shares it: a connection that nobody would accept is refused.
                let generations = self.generations.values().chain([&self.current]);
                generations.flat_map(|it| &it.listeners).for_each(|it| listener::close(it));
            }
            Action::Discard(id) => {
                self.generations.remove(&id);
                tracing::info!(generation = id, "a generation of workers is gone");
            }
            Action::Answer(asker, outcome) => self.answer(asker, outcome),
            Action::Queued => tracing::info!("the reload waits until workers have drained"),
        }
        None
    }

    fn prepare(&mut self, generation: GenerationId) -> Event {
        match opening::next(&self.outside.source, &self.inheritance.segment, &self.current) {
            Ok(opened) => {
                let terms = terms(&opened);
                self.generations.insert(generation, Rc::new(opened));
                Event::Prepared { generation, terms }
            }
            Err(error) => {
                let why = explain(&error);
                tracing::error!("no reload, everything stays as it was: {why}");
                Event::NotPrepared { generation, why }
            }
        }
    }

    fn serve(&mut self, id: GenerationId) {
        let Some(next) = self.generations.get(&id) else { return };
        if id != Decider::FIRST {
            opening::take_over(&self.current, next);
            self.outside.diagnostics.set_level(next.config.log_level);
            tracing::info!(generation = id, workers = next.config.workers, "reloaded");
        }
        self.current = Rc::clone(next);
    }

    fn send(&self, record: WorkerId, order: Order) {
        let signal = match order {
            Order::Drain => Signal::SIGWINCH,
            Order::Quit => Signal::SIGQUIT,
            Order::Term => Signal::SIGTERM,
            Order::Kill => Signal::SIGKILL,
        };
        if let Some(worker) = self.workers.iter().find(|worker| worker.record == record) {
            // It is not reaped yet, so the pid is still its own; it may have ended all the same.
            let _ = kill(worker.child.pid, signal);
        }
    }

    fn answer(&mut self, asker: Asker, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Reloaded { generation, workers } => {
                Ok(format!("reloaded: generation {generation}, workers: {workers}"))
            }
            Outcome::Stopping => Ok("stopping".to_owned()),
            Outcome::Failed(why) => Err(why),
        };
        if let Some(control) = &mut self.outside.control {
            control.answer(asker, &answer);
        }
    }

    /// Forks. In the child this does not return.
    fn fork(&mut self, generation: GenerationId, record: WorkerId) -> Event {
        let Some(generation) = self.generations.get(&generation) else {
            return Event::NotForked { record, why: "its generation is gone".to_owned() };
        };
        let book = self.inheritance.segment.shared().record(record);
        let epoch = book.map_or(0, shm::WorkerRecord::epoch);
        match process::fork_child() {
            Ok(Some(child)) => {
                let (worker, pid) = (record.index(), child.pid.as_raw());
                tracing::debug!(worker, pid, "forked a worker");
                book.inspect(|book| Tally::WorkerForked.count(book));
                self.workers.push(Worker { record, child, born_ms: clock::monotonic_ms() });
                Event::Forked(record)
            }
            Ok(None) => {
                self.outside.diagnostics.set_level(generation.config.log_level);
                // For life, as the process ends with it.
                let generation = Box::leak(Box::new(Rc::clone(generation)));
                work(record, epoch, self.inheritance, generation)
            }
            Err(error) => {
                tracing::error!(%error, worker = record.index(), "cannot fork a worker");
                Event::NotForked { record, why: format!("cannot fork a worker: {error}") }
            }
        }
    }
}

/// What a worker's process does.
fn work(
    record: WorkerId,
    epoch: u32,
    inheritance: &'static Inheritance,
    generation: &'static Generation,
) -> ! {
    title::set(&worker::title(record));
    let code = match worker::run(record, epoch, inheritance, generation) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the worker cannot go on");
            1
        }
    };
    std::process::exit(code)
}

fn terms(generation: &Generation) -> Terms {
    let config = &generation.config;
    Terms {
        workers: config.workers.get(),
        generations_max: config.generations_max,
        stop_timeout_ms: millis(config.timeouts.stop_timeout),
    }
}

/// Frees all that a dead worker owned and tells its peers. Its process must have been reaped.
fn clean_up_after(dead: WorkerId, inheritance: &Inheritance) {
    let shared = inheritance.segment.shared();
    if let Some(record) = shared.record(dead) {
        record.bump_epoch();
    }
    shared.sweep(dead, |slot, survivor: Owner| {
        let _ = shared.bell(survivor.worker).is_some_and(|bell| bell.ring(slot));
    });
    inheritance.segment.permits().sweep(dead);
    // Every worker, whatever the bells say: the dead may have been the one that was to wake it.
    for waker in &inheritance.wakers {
        // It fails only when its count is full, and then the sleeper is awake.
        let _ = waker.write(1);
    }
}

fn cause(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit code {code}"),
        WaitStatus::Signaled(_, signal, _) => signal.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}
