//! The workers' processes, as their parent knows them: forks them, gives them orders, hears their news, and
//! cleans up after the dead.
//!
//! The order after a death is: reap, so that nothing of the worker can still run; close its book by a new
//! epoch; sweep what it owned and ring those it leaves behind.

use super::decision::Order;
use super::pulse::Pulse;
use crate::sys::clock;
use crate::sys::process::{self, Child};
use crate::sys::waker::wake;
use crate::tally::Tally;
use crate::tls::Acceptor;
use crate::worker::tether::{self, MasterEnd, News};
use crate::worker::{self, Generation, Inheritance};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm::{Owner, WorkerId};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// All workers that have a process.
#[derive(Debug)]
pub(super) struct Workers {
    inheritance: &'static Inheritance,
    processes: Vec<Process>,
}

/// One worker's process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) record: WorkerId,
    pub(super) child: Child,
    pub(super) tether: MasterEnd,
    /// Nothing more is to be heard from it: it has closed its end, or has said all that it will.
    pub(super) is_silent: bool,
    pub(super) born_ms: u64,
    pub(super) pulse: Pulse,
    /// The master has ended it on purpose, and not because it hung.
    pub(super) is_ended: bool,
}

/// A worker that is no more, and swept.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) record: WorkerId,
    pub(super) status: WaitStatus,
    pub(super) lived_ms: u64,
    /// The master has ended it on purpose.
    pub(super) is_ended: bool,
}

impl Workers {
    pub(super) fn new(inheritance: &'static Inheritance, processes: Vec<Process>) -> Self {
        Self { inheritance, processes }
    }

    pub(super) fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// What to poll for: deaths, and news of those who have some to tell.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let deaths = self.processes.iter().map(move |it| readable(it.child.pidfd.as_fd()));
        let talkers = self.processes.iter().filter(|it| !it.is_silent);
        deaths.chain(talkers.map(move |it| readable(it.tether.news_fd())))
    }

    /// What workers have told.
    pub(super) fn news(&mut self) -> Vec<(WorkerId, News)> {
        let mut heard = Vec::new();
        for process in self.processes.iter_mut().filter(|it| !it.is_silent) {
            let news = process.tether.news();
            // After these two there is nothing left to tell.
            process.is_silent = matches!(news, Some(News::Closed | News::Gone));
            heard.extend(news.map(|news| (process.record, news)));
        }
        heard
    }

    /// When to ask the next worker whether it goes on.
    pub(super) fn due_ms(&self, hang_timeout_ms: u64) -> Option<u64> {
        self.processes.iter().map(|it| it.pulse.due_ms(hang_timeout_ms)).min()
    }

    /// Asks all who are to be asked whether they go on. Returns who does not.
    pub(super) fn ask(&mut self, now_ms: u64, hang_timeout_ms: u64) -> Vec<WorkerId> {
        let Inheritance { segment, wakers, .. } = self.inheritance;
        let mut hung = Vec::new();
        let due = |it: &&mut Process| it.pulse.due_ms(hang_timeout_ms) <= now_ms;
        for process in self.processes.iter_mut().filter(due) {
            let record = segment.shared().record(process.record);
            record.inspect(|record| record.ask());
            let beats = record.map_or(0, shm::WorkerRecord::beats);
            if process.pulse.ask(beats, now_ms, hang_timeout_ms) {
                hung.push(process.record);
            }
            // One that sleeps has no other reason to say that it could.
            wakers.get(process.record.index()).into_iter().for_each(wake);
        }
        hung
    }

    /// Ends a worker that hangs: it has died, as others do.
    pub(super) fn kill(&self, record: WorkerId) {
        let hung = self.processes.iter().find(|it| it.record == record);
        hung.into_iter().for_each(|it| process::send(&it.child, Signal::SIGKILL));
    }

    pub(super) fn send(&mut self, record: WorkerId, order: Order) {
        let Some(process) = self.processes.iter_mut().find(|it| it.record == record) else {
            return;
        };
        process.is_ended |= matches!(order, Order::Term | Order::Kill);
        let signal = |signal| {
            process::send(&process.child, signal);
            Ok(())
        };
        let told = match order {
            Order::Drain => process.tether.order(tether::Order::Drain),
            Order::Quit => process.tether.order(tether::Order::Quit),
            Order::Term => signal(Signal::SIGTERM),
            Order::Kill => signal(Signal::SIGKILL),
        };
        if let Err(error) = told
            // Who is gone will be reaped.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let order = match order {
                Order::Drain => "drain",
                Order::Quit => "quit",
                Order::Term => "term",
                Order::Kill => "kill",
            };
            tracing::warn!(%error, order, worker = record.index(), "a worker cannot be told");
        }
    }

    /// Hands over the access log, opened anew. `Some(false)`: that worker could not be told; `None`: it is no more.
    pub(super) fn reopen(&self, process: &Process, log: BorrowedFd<'_>) -> Option<bool> {
        let Err(error) = process.tether.reopen(log) else { return Some(true) };
        if error.kind() == io::ErrorKind::BrokenPipe {
            return None;
        }
        let worker = process.record.index();
        tracing::error!(%error, worker, "a worker goes on in the old access log");
        Some(false)
    }

    /// Forks a worker of `generation`. In the child `prepare` is called, and this does not return.
    pub(super) fn fork(
        &mut self,
        generation: &Rc<Generation>,
        record: WorkerId,
        prepare: impl FnOnce(),
    ) -> io::Result<()> {
        let book = self.inheritance.segment.shared().record(record);
        let epoch = book.map_or(0, shm::WorkerRecord::epoch);
        let (tether, its_end) = tether::pair()?;
        // What the library does once is done for all workers, and before they give up the files of the system.
        generation.acceptors.iter().flatten().take(1).for_each(Acceptor::prepare);
        // One that cannot be watched is no more, but may have served for a moment.
        let forked = process::fork_child().inspect_err(|_| self.clean_up_after(record))?;
        let Some(child) = forked else {
            prepare();
            // For life, as the process ends with it.
            let generation = Box::leak(Box::new(Rc::clone(generation)));
            work(record, epoch, its_end, self.inheritance, generation)
        };
        let (worker, pid) = (record.index(), child.pid.as_raw());
        tracing::debug!(worker, pid, "forked a worker");
        book.inspect(|book| Tally::WorkerForked.count(book));
        let born_ms = clock::monotonic_ms();
        let pulse = Pulse::default();
        let (is_silent, is_ended) = (false, false);
        self.processes.push(Process { record, child, tether, is_silent, born_ms, pulse, is_ended });
        Ok(())
    }

    /// Reaps who has died, and frees all that they owned.
    pub(super) fn bury_the_dead(&mut self) -> Vec<Dead> {
        let mut dead = Vec::new();
        self.processes.retain(|it| match process::reap(&it.child) {
            None => true,
            Some(status) => {
                let lived_ms = clock::monotonic_ms().saturating_sub(it.born_ms);
                dead.push(Dead { record: it.record, status, lived_ms, is_ended: it.is_ended });
                false
            }
        });
        dead.iter().for_each(|it| self.clean_up_after(it.record));
        dead
    }

    /// Frees all that a dead worker owned and tells its peers. Its process must have been reaped.
    fn clean_up_after(&self, dead: WorkerId) {
        let shared = self.inheritance.segment.shared();
        if let Some(record) = shared.record(dead) {
            record.bump_epoch();
        }
        let wakers = &self.inheritance.wakers;
        let mut woken = [false; shm::WORKER_RECORDS_MAX];
        shared.sweep(dead, |slot, survivor: Owner| {
            let sleeps = shared.bell(survivor.worker).is_some_and(|bell| bell.ring(slot));
            let worker = survivor.worker.index();
            // At once, while the sweep goes on. For the first time whatever the bell says: the dead may have been the
            // one that was to wake it.
            let is_first =
                woken.get_mut(worker).is_some_and(|woken| !std::mem::replace(woken, true));
            if sleeps || is_first {
                wakers.get(worker).into_iter().for_each(wake);
            }
        });
        // Each looks at the listeners as well: the dead may have been the one that was woken for a connection.
        let others = self.processes.iter().filter_map(|it| shared.record(it.record));
        others.for_each(shm::WorkerRecord::ask);
        // Those as well that the dead had to wake for a session that it was not in.
        let living = self.processes.iter().filter_map(|it| wakers.get(it.record.index()));
        living.for_each(wake);
        self.inheritance.segment.permits().sweep(dead);
    }
}

/// What a worker's process does.
fn work(
    record: WorkerId,
    epoch: u32,
    tether: tether::WorkerEnd,
    inheritance: &'static Inheritance,
    generation: &'static Generation,
) -> ! {
    crate::sys::title::set(&worker::title(record));
    let code = match worker::run(record, epoch, tether, inheritance, generation) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "the worker cannot go on");
            1
        }
    };
    std::process::exit(code)
}
