//! The event loop of a worker.
//!
//! The loop sleeps until a socket, a bell, a deadline or the master gives a reason. It records what happened, and drives
//! each connection that is concerned, one turn each. Connections own no clock and no poll; all deadlines are in one timer
//! wheel.

mod ending;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;
use shm::{Doorbell, Owner, Phase, WorkerId};

use super::channel::{News, Order, Told, WorkerEnd};
use super::connections::Connections;
use super::inherited::{Inherited, Resources};
use super::listeners::{Accepted, Listeners};
use crate::access::AccessLog;
use crate::admin::{self, Admin};
use crate::diagnostics;
use crate::relay::{Budget, Cx, Env, LocalBell, Pressure, Refused};
use crate::session::Addresses;
use crate::sys::{clock, failed, signal};
use crate::tls::Acceptor;
use ending::State;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;

/// Signals that are meant for the master, but also reach the workers: a terminal, or a user who signals by name, sends
/// them to every process. A worker obeys the master's orders instead.
const SIGNALS_IGNORED: [Signal; 5] =
    [Signal::SIGQUIT, Signal::SIGWINCH, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

const WAKER: Token = Token(0);
const CHANNEL: Token = Token(1);
const FIRST_LISTENER: usize = 16;
/// The tokens of the admin listener come after the most listeners that there can be, and before all connections.
const ADMIN: usize = 1024;
const ADMIN_END: usize = ADMIN + Admin::TOKENS;

pub(super) struct Worker {
    env: Env,
    poll: Poll,
    listeners: Listeners,
    connections: Connections,
    admin: Option<Admin>,
    channel: WorkerEnd,
    /// The acceptor whose library is prepared as soon as there is nothing else to do.
    unprepared: Option<&'static Acceptor>,
    state: State,
}

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        epoch: u32,
        channel: WorkerEnd,
        inherited: &'static Inherited,
        resources: &'static Resources,
    ) -> io::Result<Self> {
        let poll = Poll::new().map_err(|error| failed("making an epoll instance", &error))?;
        signal::block(&SIGNALS_IGNORED)
            .map_err(|error| failed("ignoring the master's signals", &error))?;
        let watched = [
            (inherited.wakers.get(id.index()).ok_or_else(missing)?.as_fd().as_raw_fd(), WAKER),
            (channel.orders_fd(), CHANNEL),
        ];
        for (fd, token) in watched {
            let watched = poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
            watched.map_err(|error| failed("watching the master", &error))?;
        }
        let env = env(id, epoch, inherited, resources)?;
        let Resources { config, listeners, acceptors, admin, .. } = resources;
        let hosts = config.admin.hosts.as_slice();
        let admin = admin.as_ref().map(|it| Admin::new(&poll, it, hosts, ADMIN)).transpose();
        let admin = admin.map(|it| it.map(|it| it.telling_of(certificates(resources))));
        let registry = poll.registry().try_clone();
        let registry = registry.map_err(|error| failed("sharing the epoll instance", &error))?;
        let settings = &config.listeners;
        let listeners = Listeners::new(&poll, listeners, settings, acceptors, FIRST_LISTENER);
        Ok(Self {
            admin: admin.map_err(|error| failed("watching the admin listener", &error))?,
            listeners: listeners.map_err(|error| failed("watching the listeners", &error))?,
            connections: Connections::new(registry, clock::monotonic_ms()),
            env,
            poll,
            channel,
            unprepared: acceptors.iter().flatten().next(),
            state: State::Serving,
        })
    }

    pub(super) fn work(&mut self) -> io::Result<()> {
        let bell = self.env.shared().bell(self.env.owner.worker).copied();
        let bell = bell.ok_or_else(missing)?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut rung = Vec::new();
        let mut began_ms = clock::monotonic_ms();
        self.env.record.enter(Phase::Serving);
        // A master that is not told would wait for this worker.
        self.channel
            .tell(News::Serves)
            .map_err(|error| failed("telling the master that it serves", &error))?;
        while self.state != State::Ended {
            self.env.record.heartbeat();
            // Every bell for the last turns' news has been rung by now.
            self.env.shared().tidy(self.env.owner.worker);
            // The worker takes the bells before it polls the kernel, and acts on them afterwards. If a client left
            // before news came, the worker then knows that it left.
            bell.take(|slot| rung.push(slot));
            rung.extend(std::iter::from_fn(|| self.env.local_bell.hear()));
            let ended_ms = clock::monotonic_ms();
            self.listeners.pace(ended_ms.saturating_sub(began_ms));
            let may_sleep = rung.is_empty() && self.unprepared.is_none();
            let timeout = if may_sleep { self.sleep_for(ended_ms) } else { Some(Duration::ZERO) };
            self.poll_kernel(&bell, &mut events, timeout)?;
            began_ms = clock::monotonic_ms();
            self.take_events(&events, began_ms);
            let is_idle = events.is_empty() && rung.is_empty() && !self.connections.has_work();
            if is_idle {
                self.unprepared.take().into_iter().for_each(Acceptor::prepare);
            }
            rung.drain(..).for_each(|slot| self.connections.hear(slot));
            self.take_turns(began_ms);
            self.leave_admin(began_ms);
            self.leave_in_time(began_ms);
        }
        self.connections.log_cut_off(&self.env);
        Ok(())
    }

    /// Waits for events until `timeout`, or for as long as it takes. A worker that does not sleep needs no waking, and must
    /// not cost others a system call.
    fn poll_kernel(
        &mut self,
        bell: &Doorbell,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let now = Some(Duration::ZERO);
        let sleeps = timeout != now && bell.park();
        match self.poll.poll(events, if sleeps { timeout } else { now }) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(failed("waiting for events", &error));
            }
            _ => {}
        }
        bell.unpark();
        Ok(())
    }

    fn take_events(&mut self, events: &Events, now_ms: u64) {
        events.iter().for_each(|event| self.record_event(event, now_ms));
        // The master asks for this where another worker may have been woken and done nothing: no event tells of that.
        if self.env.record.take_request_to_look_around() {
            let accepted = self.listeners.look(&self.poll, now_ms);
            self.take_in(accepted, now_ms);
            self.admin.iter_mut().for_each(|admin| admin.look(&self.poll, now_ms));
        }
    }

    fn take_turns(&mut self, now_ms: u64) {
        self.connections.run(Cx { env: &self.env, now_ms });
        // A refusal only means that the pipe is not free.
        let _ = self.env.empty_a_pipe();
        self.listeners.resume(&self.poll, now_ms);
        if let Some(admin) = &mut self.admin {
            admin.run(&self.poll, now_ms);
        }
    }

    /// The time until the next deadline. `None`: the worker sleeps until something happens.
    fn sleep_for(&self, now_ms: u64) -> Option<Duration> {
        if self.connections.has_work() || self.env.shared().pool().may_be_dirty() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.connections.next_deadline_ms(),
            self.listeners.resumes_ms(),
            self.admin.as_ref().and_then(Admin::next_deadline_ms),
            self.state.next_look_ms(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now_ms)))
    }

    fn record_event(&mut self, event: &mio::event::Event, now_ms: u64) {
        match event.token() {
            // The eventfd is edge-triggered and never read: every write to it is an event.
            WAKER => {}
            CHANNEL => self.obey(now_ms),
            token if token.0 < FIRST_LISTENER + self.listeners.len() => {
                let accepted = self.listeners.accept(&self.poll, token.0 - FIRST_LISTENER, now_ms);
                self.take_in(accepted, now_ms);
            }
            token if (ADMIN..ADMIN_END).contains(&token.0) => {
                if let Some(admin) = &mut self.admin {
                    admin.record_event(&self.env, &self.poll, token, now_ms);
                }
            }
            token => self.connections.record_event(token, event),
        }
    }

    fn obey(&mut self, now_ms: u64) {
        loop {
            match self.channel.hear() {
                Told::Nothing => return,
                Told::Order(Order::Quit) if self.may_stop() => self.stop(now_ms),
                Told::Order(Order::Drain) if self.state == State::Serving => self.drain(now_ms),
                Told::Order(_) => {}
                Told::Reopen(Some(log)) => self.reopen(&log),
                Told::Reopen(None) => {
                    tracing::error!(
                        "cannot switch to the reopened access log: no descriptor is left"
                    );
                }
                Told::Gone => {
                    self.state = State::Ended;
                    return;
                }
            }
        }
    }

    fn reopen(&self, log: &OwnedFd) {
        if let Some(access) = &self.env.access
            && let Err(error) = access.reopen(log)
        {
            tracing::error!(%error, "cannot switch to the reopened access log");
        }
    }

    fn take_in(&mut self, accepted: Vec<Accepted>, now_ms: u64) {
        for connection in accepted {
            self.connections.add(Cx { env: &self.env, now_ms }, connection);
        }
    }
}

/// The environment of the turns of worker `id`.
fn env(
    id: WorkerId,
    epoch: u32,
    inherited: &'static Inherited,
    resources: &'static Resources,
) -> io::Result<Env> {
    let Inherited { segment, wakers, pipes } = inherited;
    let Resources { config, issue_tokens, access, .. } = resources;
    let record = segment.shared().record(id).ok_or_else(missing)?;
    diagnostics::count_with(record);
    let common = WorkerId::new(0).and_then(|first| segment.shared().record(first));
    let books = (record, common.ok_or_else(missing)?);
    let access = access.as_ref().map(|sink| {
        let mount = config.messages.mount.as_str();
        AccessLog::new(sink, config.log.access_format, mount, segment.secret(), books)
    });
    Ok(Env {
        segment,
        owner: Owner::new(id, epoch),
        record,
        addresses: Addresses::new(segment.secret()),
        access,
        issue_tokens,
        config,
        wakers,
        pipes,
        budget: Budget::default(),
        local_bell: LocalBell::default(),
        refused: Refused::new(),
        pressure: Pressure::default(),
    })
}

/// The certificates that the admin listener tells of.
fn certificates(resources: &Resources) -> Vec<admin::Certificate> {
    let each = resources.listeners.iter().zip(&resources.acceptors);
    each.filter_map(|(listener, acceptor)| {
        let ends = acceptor.as_ref()?.validity()?.ends;
        Some(admin::Certificate { listener: listener.local_addr().ok()?.to_string(), ends })
    })
    .collect()
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}
