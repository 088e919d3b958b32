//! The workers' processes, seen by their parent: forks them, gives them orders, reads their news, and cleans up after
//! the dead.
//!
//! After a death the order is: reap, so that nothing of the worker can still run; start a new epoch, which closes its
//! record; sweep what it owned, and wake the survivors.

use super::decision::Command;
use super::heartbeat::Heartbeat;
use crate::session::{self, SessionHash};
use crate::sys::clock;
use crate::sys::process::{self, Child};
use crate::sys::waker::wake;
use crate::tally::Tally;
use crate::tls::Acceptor;
use crate::worker::channel::{self, MasterEnd, News};
use crate::worker::{self, Inherited, Resources};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm::{End, Owner, WorkerId};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// All workers that have a process.
#[derive(Debug)]
pub(super) struct Workers {
    inherited: &'static Inherited,
    processes: Vec<Process>,
}

/// A worker's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) record: WorkerId,
    pub(super) child: Child,
    pub(super) channel: MasterEnd,
    /// The worker has nothing more to say: it has closed its end, or has said everything.
    pub(super) is_silent: bool,
    pub(super) born_ms: u64,
    pub(super) heartbeat: Heartbeat,
    /// The master has ended it on purpose, and not because it hung.
    pub(super) is_meant_to_end: bool,
}

/// A worker that is reaped and swept.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) record: WorkerId,
    pub(super) status: WaitStatus,
    pub(super) lived_ms: u64,
    /// The master has ended it on purpose.
    pub(super) is_meant_to_end: bool,
}

impl Workers {
    pub(super) fn new(inherited: &'static Inherited, processes: Vec<Process>) -> Self {
        Self { inherited, processes }
    }

    pub(super) fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Descriptors to poll: deaths, and news of workers that may still have some.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let deaths = self.processes.iter().map(move |it| readable(it.child.pidfd.as_fd()));
        let talkers = self.processes.iter().filter(|it| !it.is_silent);
        deaths.chain(talkers.map(move |it| readable(it.channel.news_fd())))
    }

    /// The news of all workers.
    pub(super) fn news(&mut self) -> Vec<(WorkerId, News)> {
        let mut heard = Vec::new();
        for process in self.processes.iter_mut().filter(|it| !it.is_silent) {
            let news = process.channel.news();
            // These two are the last news of a worker.
            process.is_silent = matches!(news, Some(News::Draining | News::Gone));
            heard.extend(news.map(|news| (process.record, news)));
        }
        heard
    }

    /// When to check the next worker's heartbeat.
    pub(super) fn due_ms(&self, hang_timeout_ms: u64) -> Option<u64> {
        self.processes.iter().map(|it| it.heartbeat.due_ms(hang_timeout_ms)).min()
    }

    /// Checks the heartbeats that are due. Returns the workers that hang.
    pub(super) fn ask(&mut self, now_ms: u64, hang_timeout_ms: u64) -> Vec<WorkerId> {
        let Inherited { segment, wakers, .. } = self.inherited;
        let mut hung = Vec::new();
        let due = |it: &&mut Process| it.heartbeat.due_ms(hang_timeout_ms) <= now_ms;
        for process in self.processes.iter_mut().filter(due) {
            let record = segment.shared().record(process.record);
            record.inspect(|record| record.ask_to_look_around());
            let beats = record.map_or(0, shm::WorkerRecord::heartbeats);
            if process.heartbeat.ask(beats, now_ms, hang_timeout_ms) {
                hung.push(process.record);
            }
            // A sleeping worker would not count a heartbeat otherwise.
            wakers.get(process.record.index()).into_iter().for_each(wake);
        }
        hung
    }

    /// Kills a worker that hangs: it has died, as others do.
    pub(super) fn kill(&self, record: WorkerId) {
        let hung = self.processes.iter().find(|it| it.record == record);
        hung.into_iter().for_each(|it| process::send(&it.child, Signal::SIGKILL));
    }

    pub(super) fn send(&mut self, record: WorkerId, command: Command) {
        let Some(process) = self.processes.iter_mut().find(|it| it.record == record) else {
            return;
        };
        process.is_meant_to_end |= matches!(command, Command::Term | Command::Kill);
        let (order, name) = match command {
            Command::Drain => (channel::Order::Drain, "drain"),
            Command::Quit => (channel::Order::Quit, "quit"),
            Command::Term => return process::send(&process.child, Signal::SIGTERM),
            Command::Kill => return process::send(&process.child, Signal::SIGKILL),
        };
        if let Err(error) = process.channel.order(order)
            // A worker that is gone will be reaped.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, order = name, worker = record.index(), "cannot send an order to a worker");
        }
    }

    /// Hands the reopened access log to a worker. `Some(false)`: the worker could not be told; `None`: it is gone.
    pub(super) fn reopen(&self, process: &Process, log: BorrowedFd<'_>) -> Option<bool> {
        let Err(error) = process.channel.reopen(log) else { return Some(true) };
        if error.kind() == io::ErrorKind::BrokenPipe {
            return None;
        }
        let worker = process.record.index();
        tracing::error!(%error, worker, "cannot hand the reopened access log to a worker");
        Some(false)
    }

    /// Forks a worker with `resources`. In the child this calls `prepare` and does not return.
    pub(super) fn fork(
        &mut self,
        resources: &Rc<Resources>,
        record: WorkerId,
        prepare: impl FnOnce(),
    ) -> io::Result<()> {
        let counters = self.inherited.segment.shared().record(record);
        let epoch = counters.map_or(0, shm::WorkerRecord::epoch);
        let (channel, its_end) = channel::pair()?;
        // The TLS library prepares once for all workers, before they give up the file system.
        resources.acceptors.iter().flatten().take(1).for_each(Acceptor::prepare);
        // A child without a pidfd has been ended, but may have served for a moment.
        let forked = process::fork_child().inspect_err(|_| self.clean_up_after(record))?;
        let Some(child) = forked else {
            prepare();
            // The worker keeps its resources for life: the process ends with it.
            let resources = Box::leak(Box::new(Rc::clone(resources)));
            work(record, epoch, its_end, self.inherited, resources)
        };
        let (worker, pid) = (record.index(), child.pid.as_raw());
        tracing::debug!(worker, pid, "forked a worker");
        counters.inspect(|counters| Tally::WorkerForked.count(counters));
        let born_ms = clock::monotonic_ms();
        let heartbeat = Heartbeat::default();
        let (is_silent, is_meant_to_end) = (false, false);
        self.processes.push(Process {
            record,
            child,
            channel,
            is_silent,
            born_ms,
            heartbeat,
            is_meant_to_end,
        });
        Ok(())
    }

    /// Reaps workers that have died, and frees everything that they owned.
    pub(super) fn reap(&mut self) -> Vec<Dead> {
        let mut dead = Vec::new();
        self.processes.retain(|it| match process::reap(&it.child) {
            None => true,
            Some(status) => {
                let lived_ms = clock::monotonic_ms().saturating_sub(it.born_ms);
                dead.push(Dead {
                    record: it.record,
                    status,
                    lived_ms,
                    is_meant_to_end: it.is_meant_to_end,
                });
                false
            }
        });
        dead.iter().for_each(|it| self.clean_up_after(it.record));
        dead
    }

    /// Frees all that a dead worker owned and tells its peers. The caller has reaped its process.
    fn clean_up_after(&self, dead: WorkerId) {
        let shared = self.inherited.segment.shared();
        if let Some(record) = shared.record(dead) {
            record.bump_epoch();
        }
        let wakers = &self.inherited.wakers;
        let mut woken = [false; shm::WORKER_RECORDS_MAX];
        shared.sweep(dead, |slot, survivor: Owner| {
            let sleeps = shared.bell(survivor.worker).is_some_and(|bell| bell.ring(slot));
            let worker = survivor.worker.index();
            // Survivors wake at once, while the sweep goes on. The first wake-up ignores the bell: the dead worker
            // may have been the one to wake this survivor.
            let is_first =
                woken.get_mut(worker).is_some_and(|woken| !std::mem::replace(woken, true));
            if sleeps || is_first {
                wakers.get(worker).into_iter().for_each(wake);
            }
        });
        // Every worker checks the listeners as well: the dead worker may have been woken for a connection.
        let others = self.processes.iter().filter_map(|it| shared.record(it.record));
        others.for_each(shm::WorkerRecord::ask_to_look_around);
        // Wake the survivors that the dead worker had to wake for a session in which it held no place, too.
        let living = self.processes.iter().filter_map(|it| wakers.get(it.record.index()));
        living.for_each(wake);
        self.inherited.segment.permits().sweep(dead);
        let ended = session::end_abandoned(&self.inherited.segment);
        let first = self.first_record();
        (0..ended)
            .zip(first.into_iter().cycle())
            .for_each(|(_, it)| Tally::Ended(End::Left).count(it));
    }
}

impl Workers {
    /// Ends the session with this hash, and tells its parties. Returns whether there was one.
    pub(super) fn end_session(&self, session: SessionHash) -> bool {
        let Inherited { segment, wakers, .. } = self.inherited;
        let shared = segment.shared();
        let has_ended = session::end_hashed(segment, session, |slot, owner| {
            if shared.bell(owner.worker).is_some_and(|bell| bell.ring(slot)) {
                wakers.get(owner.worker.index()).into_iter().for_each(wake);
            }
        });
        let first = self.first_record();
        first.filter(|_| has_ended).into_iter().for_each(|it| Tally::Ended(End::Deleted).count(it));
        has_ended
    }

    /// Where the master counts, which has no record of its own.
    fn first_record(&self) -> Option<&'static shm::WorkerRecord> {
        WorkerId::new(0).and_then(|first| self.inherited.segment.shared().record(first))
    }
}

/// Runs a worker in its process.
fn work(
    record: WorkerId,
    epoch: u32,
    channel: channel::WorkerEnd,
    inherited: &'static Inherited,
    resources: &'static Resources,
) -> ! {
    crate::sys::title::set(&worker::title(record));
    let code = match worker::run(record, epoch, channel, inherited, resources) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the worker ends after an error");
            1
        }
    };
    std::process::exit(code)
}
