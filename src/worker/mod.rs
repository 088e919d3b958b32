//! A worker: one thread around one `mio::Poll`, made after the fork.
//!
//! The loop sleeps until a socket, a bell, a deadline or the master gives a reason, notes what
//! happened, and drives each connection that is concerned, one turn each. Connections own no clock
//! and no poll; all deadlines are in one timer wheel.

mod admission;
mod answer;
mod connection;
mod connections;
mod crowding;
mod door;
mod exchange;
mod issuing;
mod listeners;
mod messages;
mod origin;
mod outcomes;
mod preview;
mod request;
mod route;
mod safe_conduct;
pub mod tether;
mod turns;
mod waiting;
mod wheel;

use crate::access::AccessLog;
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::diagnostics;
use crate::relay::{Pressure, Refused, Relay, Round, millis};
use crate::sandbox;
use crate::session::{Addresses, IssueTokens};
use crate::sys::pipe::Pipe;
use crate::sys::sink::Sink;
use crate::sys::{clock, failed, process, signal, title};
use crate::tls::Acceptor;
use connections::Connections;
use listeners::{Accepted, Listeners};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::Signal;
use shm::{Owner, Phase, Segment, WorkerId};
use socket2::Socket;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tether::{News, Order, Told, WorkerEnd};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;

/// Signals that are meant for the master, whoever sends them to all of us: a terminal does, and so does who
/// signals by name. A worker goes by what the master tells it.
const SIGNALS_IGNORED: [Signal; 5] =
    [Signal::SIGQUIT, Signal::SIGWINCH, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

const WAKER: Token = Token(0);
const TETHER: Token = Token(1);
const FIRST_LISTENER: usize = 16;
/// Behind the most listeners that there can be, and before all connections.
const ADMIN: usize = 1024;
const ADMIN_END: usize = ADMIN + Admin::TOKENS;

/// Standard input, output and error, both descriptors of the tether, the epoll instance and a copy of that.
const OWN_DESCRIPTORS: usize = 7;

/// What the master made once, for every worker there will be.
#[derive(Debug)]
pub struct Inheritance {
    /// The shared memory.
    pub segment: Segment,
    /// What wakes each worker, by record.
    pub wakers: Vec<EventFd>,
    /// What payload passes through without being copied: as many as the segment has tags for.
    pub pipes: Vec<Pipe>,
}

/// What the master made for the workers of one configuration, until the next reload.
#[derive(Debug)]
pub struct Generation {
    /// The settings.
    pub config: Config,
    /// The listening sockets, in the order of the settings. Those whose address stays are the next
    /// generation's as well.
    pub listeners: Vec<Rc<TcpListener>>,
    /// How each of them answers TLS, if it does, in the same order.
    pub acceptors: Vec<Option<Acceptor>>,
    /// What a request for a session may have to bring.
    pub issue_tokens: IssueTokens,
    /// The admin listener, if there is one.
    pub admin: Option<Rc<Socket>>,
    /// The access log, if there is one.
    pub access: Option<Sink>,
}

impl Generation {
    /// The listening sockets, each with its URL.
    pub fn listened_on(&self) -> impl Iterator<Item = (&Rc<TcpListener>, String)> {
        let each = self.listeners.iter().zip(&self.acceptors);
        each.filter_map(|(listener, acceptor)| {
            let scheme = if acceptor.is_some() { "https" } else { "http" };
            Some((listener, format!("{scheme}://{}", listener.local_addr().ok()?)))
        })
    }

    /// What a worker with this `tether` has in common with others.
    fn shared(&self, tether: [RawFd; 2]) -> sandbox::Shared {
        let mut fds = tether.to_vec();
        fds.extend(self.listeners.iter().map(|listener| listener.as_raw_fd()));
        fds.extend(self.admin.iter().map(|listener| listener.as_raw_fd()));
        sandbox::Shared { fds, log: self.access.as_ref().map(|log| log.as_fd().as_raw_fd()) }
    }
}

impl Inheritance {
    /// How many descriptors a worker of `generation` has beside its connections'.
    #[must_use]
    pub fn descriptors(&self, generation: &Generation) -> usize {
        self.keep(generation).len().saturating_add(OWN_DESCRIPTORS)
    }

    /// Every descriptor that a worker of `generation` keeps beside standard input, output and error. The segment is
    /// mapped.
    fn keep(&self, generation: &Generation) -> Vec<RawFd> {
        let mut keep = process::raw(&self.wakers);
        keep.extend(self.pipes.iter().flat_map(Pipe::fds));
        keep.extend(generation.listeners.iter().map(|listener| listener.as_raw_fd()));
        keep.extend(generation.admin.iter().map(|listener| listener.as_raw_fd()));
        keep.extend(generation.access.iter().map(|log| log.as_fd().as_raw_fd()));
        keep
    }
}

/// What a worker is called in `ps`.
#[must_use]
pub fn title(id: WorkerId) -> String {
    format!("idontstore: worker process {}", id.index())
}

/// Runs worker `id` of `generation` until it is told to stop, by its end of the tether. To be called in a
/// process that was just forked.
pub fn run(
    id: WorkerId,
    epoch: u32,
    tether: WorkerEnd,
    inheritance: &'static Inheritance,
    generation: &'static Generation,
) -> io::Result<()> {
    let mut keep = inheritance.keep(generation);
    keep.extend(tether.fds());
    let shared = generation.shared(tether.fds());
    process::close_all_but(&keep)?;
    process::leave_stdin()?;
    let mut worker = Worker::new(id, epoch, tether, inheritance, generation)?;
    if let Err(error) = process::die_before_parent() {
        tracing::debug!(%error, "the kernel may kill the master before its workers, for want of memory");
    }
    let Config { user, sandbox, .. } = &generation.config;
    sandbox::enter(user, sandbox.then_some(&shared)).map_err(io::Error::other)?;
    worker.work()
}

struct Worker {
    relay: Relay,
    poll: Poll,
    listeners: Listeners,
    connections: Connections,
    admin: Option<Admin>,
    tether: WorkerEnd,
    /// Whose library is to be prepared as soon as there is nothing else to do.
    unprepared: Option<&'static Acceptor>,
    /// It accepts nothing any more, and ends with its last connection.
    leaving: bool,
    /// When who still waits is sent away, once it drains.
    drained_ms: Option<u64>,
    /// When the graceful stop is over, once it has begun.
    stops_ms: Option<u64>,
    over: bool,
}

impl Worker {
    fn new(
        id: WorkerId,
        epoch: u32,
        tether: WorkerEnd,
        inheritance: &'static Inheritance,
        generation: &'static Generation,
    ) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let Inheritance { segment, wakers, pipes } = inheritance;
        let Generation { config, listeners, acceptors, issue_tokens, admin, access } = generation;
        let poll = Poll::new().map_err(|error| failed("making an epoll instance", &error))?;
        signal::block(&SIGNALS_IGNORED)
            .map_err(|error| failed("ignoring the master's signals", &error))?;
        let watched = [
            (wakers.get(id.index()).ok_or_else(missing)?.as_fd().as_raw_fd(), WAKER),
            (tether.orders_fd(), TETHER),
        ];
        for (fd, token) in watched {
            let watched = poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
            watched.map_err(|error| failed("watching the master", &error))?;
        }
        let record = segment.shared().record(id).ok_or_else(missing)?;
        diagnostics::count_in(record);
        let common = WorkerId::new(0).and_then(|first| segment.shared().record(first));
        let books = (record, common.ok_or_else(missing)?);
        let access = access.as_ref().map(|sink| {
            let mount = config.messages.mount.as_str();
            AccessLog::new(sink, config.log.access_format, mount, segment.secret(), books)
        });
        let relay = Relay {
            segment,
            owner: Owner::new(id, epoch),
            record,
            addresses: Addresses::new(segment.secret()),
            access,
            issue_tokens,
            config,
            wakers,
            pipes,
            round: Round::default(),
            refused: Refused::new(),
            pressure: Pressure::default(),
        };
        let hosts = config.admin.hosts.as_slice();
        let admin = admin.as_ref().map(|it| Admin::new(&poll, it, hosts, ADMIN)).transpose();
        let certificates = listeners.iter().zip(acceptors).filter_map(|(listener, acceptor)| {
            let ends = acceptor.as_ref()?.validity()?.ends;
            Some(admin::Certificate { listener: listener.local_addr().ok()?.to_string(), ends })
        });
        let admin = admin.map(|it| it.map(|it| it.telling_of(certificates.collect())));
        let registry = poll.registry().try_clone();
        let registry = registry.map_err(|error| failed("sharing the epoll instance", &error))?;
        let settings = &config.listeners;
        let listeners = Listeners::new(&poll, listeners, settings, acceptors, FIRST_LISTENER);
        Ok(Self {
            admin: admin.map_err(|error| failed("watching the admin listener", &error))?,
            listeners: listeners.map_err(|error| failed("watching the listeners", &error))?,
            connections: Connections::new(
                segment.shared().sessions(),
                registry,
                clock::monotonic_ms(),
            ),
            relay,
            poll,
            tether,
            unprepared: acceptors.iter().flatten().next(),
            leaving: false,
            drained_ms: None,
            stops_ms: None,
            over: false,
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let bell = self.relay.shared().bell(self.relay.owner.worker).copied();
        let bell = bell.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut rung = Vec::new();
        let mut began_ms = clock::monotonic_ms();
        self.relay.record.enter(Phase::Serving);
        // Unheard, it would be waited for.
        self.tether
            .tell(News::Serves)
            .map_err(|error| failed("telling the master that it serves", &error))?;
        while !self.over {
            self.relay.record.beat();
            // All that the last turn had news for have been rung for.
            self.relay.shared().tidy(self.relay.owner.worker);
            // Taken before the kernel is asked and heard after: whoever hears of news that a client's
            // leaving came before knows that it has left.
            bell.take(|slot| rung.push(slot));
            rung.extend(std::iter::from_fn(|| self.relay.round.hear()));
            let now = Some(Duration::ZERO);
            let may_sleep = rung.is_empty() && self.unprepared.is_none();
            let ended_ms = clock::monotonic_ms();
            self.listeners.pace(ended_ms.saturating_sub(began_ms));
            let timeout = if may_sleep { self.sleep_for(ended_ms) } else { now };
            // Whoever does not sleep needs no waking, and must not cost anybody a system call.
            let sleeps = timeout != now && bell.park();
            match self.poll.poll(&mut events, if sleeps { timeout } else { now }) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(failed("waiting for events", &error));
                }
                _ => {}
            }
            bell.unpark();
            let now_ms = clock::monotonic_ms();
            began_ms = now_ms;
            events.iter().for_each(|event| self.note(event, now_ms));
            if self.relay.record.is_asked() {
                let accepted = self.listeners.look(&self.poll, now_ms);
                self.take_in(accepted, now_ms);
                self.admin.iter_mut().for_each(|admin| admin.look(&self.poll, now_ms));
            }
            let is_idle = events.is_empty() && rung.is_empty() && !self.connections.has_work();
            if is_idle {
                self.unprepared.take().into_iter().for_each(Acceptor::prepare);
            }
            rung.drain(..).for_each(|slot| self.connections.ring(slot));
            self.connections.run(&self.relay, now_ms);
            // A refusal concerns nobody: the pipe is not free.
            let _ = self.relay.empty_a_pipe();
            self.listeners.resume(&self.poll, now_ms);
            if let Some(admin) = &mut self.admin {
                admin.run(&self.poll, now_ms);
            }
            self.leave_admin(now_ms);
            self.leave_in_time(now_ms);
        }
        self.connections.forsake(&self.relay);
        Ok(())
    }

    /// Who drains answers on the admin listener to its end: it may be the last one that could.
    fn leave_admin(&mut self, now_ms: u64) {
        let is_done = self.leaving && self.stops_ms.is_none() && self.connections.is_empty();
        if let Some(admin) = self.admin.as_mut().filter(|_| is_done) {
            admin.close(&self.poll, now_ms);
        }
    }

    /// `None`: until something happens.
    fn sleep_for(&self, now_ms: u64) -> Option<Duration> {
        if self.connections.has_work() || self.relay.shared().pool().may_be_dirty() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.connections.next_deadline_ms(),
            self.listeners.resumes_ms(),
            self.admin.as_ref().and_then(Admin::next_deadline_ms),
            self.drained_ms,
            self.stops_ms,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now_ms)))
    }

    fn note(&mut self, event: &mio::event::Event, now_ms: u64) {
        match event.token() {
            // Edge-triggered and never read: every write is an event.
            WAKER => {}
            TETHER => self.obey(now_ms),
            token if token.0 < FIRST_LISTENER + self.listeners.len() => {
                let accepted = self.listeners.accept(&self.poll, token.0 - FIRST_LISTENER, now_ms);
                self.take_in(accepted, now_ms);
            }
            token if (ADMIN..ADMIN_END).contains(&token.0) => {
                if let Some(admin) = &mut self.admin {
                    admin.note(&self.relay, &self.poll, token, now_ms);
                }
            }
            token => self.connections.note(token, event),
        }
    }

    fn obey(&mut self, now_ms: u64) {
        loop {
            match self.tether.hear() {
                Told::Nothing => return,
                Told::Order(Order::Quit) if self.stops_ms.is_none() => self.begin_to_stop(now_ms),
                Told::Order(Order::Drain) if !self.leaving => self.begin_to_drain(now_ms),
                Told::Order(_) => {}
                Told::Reopen(Some(log)) => self.reopen(&log),
                Told::Reopen(None) => {
                    tracing::error!(
                        "the access log stays the old one: there is no descriptor left"
                    );
                }
                Told::Gone => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    fn reopen(&self, log: &OwnedFd) {
        if let Some(access) = &self.relay.access
            && let Err(error) = access.reopen(log)
        {
            tracing::error!(%error, "the access log stays the old one");
        }
    }

    fn take_in(&mut self, accepted: Vec<Accepted>, now_ms: u64) {
        for connection in accepted {
            self.connections.add(&self.relay, connection, now_ms);
        }
    }

    /// Another generation has taken over: no new connections; who is here is served to the end, and
    /// meets those who come to the others in the segment.
    fn begin_to_drain(&mut self, now_ms: u64) {
        title::set(&format!("{} draining", title(self.relay.owner.worker)));
        let timeout = millis(self.relay.config.timeouts.drain_timeout);
        (self.leaving, self.drained_ms) = (true, Some(now_ms.saturating_add(timeout)));
        self.relay.record.enter(Phase::Stopping);
        self.listeners.close(&self.poll);
        let last = self.listeners.accept_last();
        self.take_in(last, now_ms);
        // A master that is not told waits no longer than it has patience.
        let _ = self.tether.tell(News::Closed);
        self.connections.drain(&self.relay, now_ms);
    }

    /// Graceful stop: no new connections; who waits is sent away; transfers finish.
    fn begin_to_stop(&mut self, now_ms: u64) {
        let timeout = millis(self.relay.config.timeouts.stop_timeout);
        self.stops_ms = Some(now_ms.saturating_add(timeout));
        self.relay.record.enter(Phase::Stopping);
        (self.leaving, self.drained_ms) = (true, None);
        self.listeners.close(&self.poll);
        self.connections.stop(&self.relay, now_ms);
    }

    fn leave_in_time(&mut self, now_ms: u64) {
        if self.drained_ms.is_some_and(|drained_ms| now_ms >= drained_ms) {
            self.drained_ms = None;
            self.connections.stop(&self.relay, now_ms);
        }
        let is_late = self.stops_ms.is_some_and(|stops_ms| now_ms >= stops_ms);
        let is_asked = self.admin.as_ref().is_some_and(Admin::is_asked);
        // Nothing of a cut transfer stays in a pipe: there may be no successor to empty it.
        let is_done = self.connections.is_empty() && !self.relay.shared().pool().may_be_dirty();
        self.over |= is_late || (self.leaving && is_done && !is_asked);
    }
}
