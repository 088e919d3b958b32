//! Supervision: forks workers, hears of their deaths, cleans up after the dead, forks again, stops.
//!
//! Signals only record; one loop turns what has happened into actions. The order after a death is:
//! reap, so that nothing of the worker can still run; close its book by a new epoch; sweep what it
//! owned and ring those it leaves behind; fork its successor.

use super::backoff::Backoff;
use crate::relay::millis;
use crate::sys::process::{self, Child};
use crate::sys::{clock, listener, signal, title};
use crate::tally::Tally;
use crate::worker::{self, Inheritance};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;
use shm::{Owner, WorkerId};
use std::io;
use std::os::fd::AsFd;

/// How long workers have to die of what they were sent before they are killed.
const LAST_WARNING_MS: u64 = 1000;

/// The master's view of its workers.
pub(super) struct Supervisor {
    inheritance: &'static Inheritance,
    signals: SignalFd,
    workers: Vec<Worker>,
    /// Once we are to stop: when patience ends.
    stop_ends_ms: Option<u64>,
}

struct Worker {
    id: WorkerId,
    child: Option<Child>,
    born_ms: u64,
    backoff: Backoff,
    /// When it is to be forked, if it has no process.
    due_ms: u64,
}

impl Supervisor {
    pub(super) fn new(inheritance: &'static Inheritance, signals: SignalFd) -> Self {
        let count = inheritance.config.workers.get();
        let worker = |id| {
            let backoff = Backoff::default();
            Worker { id, child: None, born_ms: 0, backoff, due_ms: 0 }
        };
        let workers = (0..count).filter_map(WorkerId::new).map(worker).collect();
        Self { inheritance, signals, workers, stop_ends_ms: None }
    }

    /// Forks every worker.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let now_ms = clock::monotonic_ms();
        self.workers.iter_mut().try_for_each(|worker| worker.fork(self.inheritance, now_ms))
    }

    /// Looks after the workers until all have stopped, as they were told to.
    pub(super) fn supervise(&mut self) -> io::Result<()> {
        while self.stop_ends_ms.is_none() || self.workers.iter().any(|it| it.child.is_some()) {
            self.sleep()?;
            let now_ms = clock::monotonic_ms();
            while let Some(signal) = signal::next(&self.signals) {
                self.obey(signal, now_ms);
            }
            self.bury_the_dead(now_ms);
            match self.stop_ends_ms {
                None => self.fork_the_due(now_ms),
                Some(ends_ms) if now_ms >= ends_ms => {
                    self.signal_all(Signal::SIGKILL);
                    self.stop_ends_ms = Some(now_ms.saturating_add(LAST_WARNING_MS));
                }
                Some(_) => {}
            }
        }
        let census = self.inheritance.segment.shared().census();
        tracing::info!(?census, "stopped");
        Ok(())
    }

    /// Sleeps until a signal, a death, or the next thing that is due.
    fn sleep(&self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let children = self.workers.iter().filter_map(|worker| worker.child.as_ref());
        fds.extend(children.map(|child| PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)));
        let forks = self.workers.iter().filter(|worker| worker.child.is_none());
        let forks = forks.map(|worker| worker.due_ms).filter(|_| self.stop_ends_ms.is_none());
        let due_ms = forks.chain(self.stop_ends_ms).min();
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

    fn obey(&mut self, signal: Signal, now_ms: u64) {
        let (pass_on, patience_ms) = match signal {
            Signal::SIGQUIT if self.stop_ends_ms.is_some() => return,
            Signal::SIGQUIT => {
                let timeout = millis(self.inheritance.config.timeouts.stop_timeout);
                (Signal::SIGQUIT, timeout.saturating_add(LAST_WARNING_MS))
            }
            _ => (Signal::SIGTERM, LAST_WARNING_MS),
        };
        tracing::info!(signal = signal.as_str(), "stopping");
        self.stop_ends_ms = Some(now_ms.saturating_add(patience_ms));
        for listener in &self.inheritance.listeners {
            // For every process that shares it: a connection that nobody would accept is refused.
            listener::close(listener);
        }
        self.signal_all(pass_on);
    }

    fn signal_all(&self, signal: Signal) {
        for child in self.workers.iter().filter_map(|worker| worker.child.as_ref()) {
            // It is not reaped yet, so the pid is still its own; it may have ended all the same.
            let _ = kill(child.pid, signal);
        }
    }

    fn bury_the_dead(&mut self, now_ms: u64) {
        for worker in &mut self.workers {
            let Some(status) = worker.child.as_ref().and_then(process::reap) else { continue };
            worker.child = None;
            let lived_ms = now_ms.saturating_sub(worker.born_ms);
            clean_up_after(worker.id, self.inheritance);
            if self.stop_ends_ms.is_none() {
                let delay_ms = worker.backoff.after(lived_ms);
                worker.due_ms = now_ms.saturating_add(delay_ms);
                let record = self.inheritance.segment.shared().record(worker.id);
                record.inspect(|record| Tally::WorkerDied.count(record));
                let cause = cause(status);
                let worker = worker.id.index();
                tracing::error!(worker, cause, lived_ms, delay_ms, "a worker died");
            }
        }
    }

    fn fork_the_due(&mut self, now_ms: u64) {
        for worker in &mut self.workers {
            if worker.child.is_some() || worker.due_ms > now_ms {
                continue;
            }
            if let Err(error) = worker.fork(self.inheritance, now_ms) {
                worker.due_ms = now_ms.saturating_add(worker.backoff.after(0));
                tracing::error!(%error, worker = worker.id.index(), "cannot fork a worker");
            }
        }
    }
}

impl Worker {
    /// Forks. In the child this does not return.
    fn fork(&mut self, inheritance: &'static Inheritance, now_ms: u64) -> io::Result<()> {
        let record = inheritance.segment.shared().record(self.id);
        let epoch = record.map_or(0, shm::WorkerRecord::epoch);
        let Some(child) = process::fork_child()? else {
            title::set(&format!("idontstore: worker process {}", self.id.index()));
            let code = match worker::run(self.id, epoch, inheritance) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!(%error, "the worker cannot go on");
                    1
                }
            };
            std::process::exit(code);
        };
        tracing::debug!(worker = self.id.index(), pid = child.pid.as_raw(), "forked a worker");
        record.inspect(|record| Tally::WorkerForked.count(record));
        self.child = Some(child);
        self.born_ms = now_ms;
        Ok(())
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
