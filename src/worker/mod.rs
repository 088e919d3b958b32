//! A worker: one thread around one `mio::Poll`, made after the fork.
//!
//! The loop sleeps until a socket, a bell, a deadline or the master gives a reason, notes what
//! happened, and drives each connection that is concerned, one turn each. Connections own no clock
//! and no poll; all deadlines are in one timer wheel.

mod admission;
mod answer;
mod connection;
mod connections;
mod door;
mod exchange;
mod listeners;
mod messages;
mod origin;
mod outcomes;
mod request;
mod route;
mod wheel;

use crate::admin::Admin;
use crate::config::Config;
use crate::relay::{Relay, millis};
use crate::session::Addresses;
use crate::sys::{clock, process, signal};
use crate::tls::Acceptor;
use connections::Connections;
use listeners::Listeners;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use shm::{Owner, Phase, Segment, WorkerId};
use socket2::Socket;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;

const WAKER: Token = Token(0);
const LIFELINE: Token = Token(1);
const SIGNALS: Token = Token(2);
const FIRST_LISTENER: usize = 16;
/// Behind the most listeners that there can be, and before all connections.
const ADMIN: usize = 1024;
const ADMIN_END: usize = ADMIN + Admin::TOKENS;

/// What the master made before the fork, for every worker.
#[derive(Debug)]
pub struct Inheritance {
    /// The settings.
    pub config: Config,
    /// The shared memory.
    pub segment: Segment,
    /// What wakes each worker, by record.
    pub wakers: Vec<EventFd>,
    /// The listening sockets.
    pub listeners: Vec<TcpListener>,
    /// How each of them answers TLS, if it does, in the same order.
    pub acceptors: Vec<Option<Acceptor>>,
    /// The admin listener, if there is one.
    pub admin: Option<Socket>,
    /// Readable once the master is gone.
    pub lifeline: OwnedFd,
}

impl Inheritance {
    /// Every descriptor that a worker keeps beside standard input, output and error.
    fn keep(&self) -> Vec<RawFd> {
        let mut keep = process::raw(&self.wakers);
        keep.extend(process::raw(&self.listeners));
        keep.extend(process::raw(&self.admin));
        keep.extend([self.lifeline.as_raw_fd(), self.segment.fd().as_raw_fd()]);
        keep
    }
}

/// Runs worker `id` until it is told to stop. To be called in a process that was just forked.
pub fn run(id: WorkerId, epoch: u32, inheritance: &'static Inheritance) -> io::Result<()> {
    process::close_all_but(&inheritance.keep());
    signal::unblock_all()?;
    let mut worker = Worker::new(id, epoch, inheritance)?;
    worker.work()
}

struct Worker {
    relay: Relay,
    poll: Poll,
    listeners: Listeners,
    connections: Connections,
    admin: Option<Admin>,
    signals: SignalFd,
    /// When the graceful stop is over, once it has begun.
    stops_ms: Option<u64>,
    over: bool,
}

impl Worker {
    fn new(id: WorkerId, epoch: u32, inheritance: &'static Inheritance) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let Inheritance { config, segment, wakers, listeners, acceptors, admin, lifeline } =
            inheritance;
        let poll = Poll::new()?;
        let signals = signal::listen(&[Signal::SIGQUIT])?;
        let watched = [
            (wakers.get(id.index()).ok_or_else(missing)?.as_fd().as_raw_fd(), WAKER),
            (lifeline.as_raw_fd(), LIFELINE),
            (signals.as_raw_fd(), SIGNALS),
        ];
        for (fd, token) in watched {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let relay = Relay {
            segment,
            owner: Owner::new(id, epoch),
            record: segment.shared().record(id).ok_or_else(missing)?,
            addresses: Addresses::new(segment.secret()),
            config,
            wakers,
        };
        let admin = admin.as_ref().map(|listener| Admin::new(&poll, listener, ADMIN));
        Ok(Self {
            admin: admin.transpose()?,
            listeners: Listeners::new(
                &poll,
                listeners,
                &config.listeners,
                acceptors,
                FIRST_LISTENER,
            )?,
            connections: Connections::new(segment.shared().sessions(), clock::monotonic_ms()),
            relay,
            poll,
            signals,
            stops_ms: None,
            over: false,
        })
    }

    fn work(&mut self) -> io::Result<()> {
        let bell = self.relay.shared().bell(self.relay.owner.worker).copied();
        let bell = bell.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut rung = Vec::new();
        self.relay.record.enter(Phase::Serving);
        while !self.over {
            // Taken before the kernel is asked and heard after: whoever hears of news that a client's
            // leaving came before knows that it has left.
            bell.take(|slot| rung.push(slot));
            let now = Some(Duration::ZERO);
            let timeout = if rung.is_empty() { self.sleep_for(clock::monotonic_ms()) } else { now };
            // Whoever does not sleep needs no waking, and must not cost anybody a system call.
            let sleeps = timeout != now && bell.park();
            match self.poll.poll(&mut events, if sleeps { timeout } else { now }) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            bell.unpark();
            let now_ms = clock::monotonic_ms();
            events.iter().try_for_each(|event| self.note(event, now_ms))?;
            rung.drain(..).for_each(|slot| self.connections.ring(slot));
            self.connections.run(&self.relay, now_ms);
            self.listeners.resume(&self.poll, now_ms)?;
            if let Some(admin) = &mut self.admin {
                admin.run(&self.poll, now_ms)?;
            }
            self.stop_in_time(now_ms);
        }
        Ok(())
    }

    /// `None`: until something happens.
    fn sleep_for(&self, now_ms: u64) -> Option<Duration> {
        if self.connections.has_work() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.connections.next_deadline_ms(),
            self.listeners.resumes_ms(),
            self.admin.as_ref().and_then(Admin::next_deadline_ms),
            self.stops_ms,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now_ms)))
    }

    fn note(&mut self, event: &mio::event::Event, now_ms: u64) -> io::Result<()> {
        match event.token() {
            // Edge-triggered and never read: every write is an event.
            WAKER => {}
            LIFELINE => self.over = true,
            SIGNALS => {
                while let Some(signal) = signal::next(&self.signals) {
                    if signal == Signal::SIGQUIT && self.stops_ms.is_none() {
                        self.begin_to_stop(now_ms)?;
                    }
                }
            }
            token if token.0 < FIRST_LISTENER + self.listeners.len() => {
                let accepted =
                    self.listeners.accept(&self.poll, token.0 - FIRST_LISTENER, now_ms)?;
                for connection in accepted {
                    self.connections.add(&self.relay, &self.poll, connection, now_ms);
                }
            }
            token if (ADMIN..ADMIN_END).contains(&token.0) => {
                if let Some(admin) = &mut self.admin {
                    admin.note(&self.relay, &self.poll, token, now_ms)?;
                }
            }
            token => self.connections.note(token, event),
        }
        Ok(())
    }

    /// Graceful stop: no new connections; who waits is sent away; transfers finish.
    fn begin_to_stop(&mut self, now_ms: u64) -> io::Result<()> {
        let timeout = millis(self.relay.config.timeouts.stop_timeout);
        self.stops_ms = Some(now_ms.saturating_add(timeout));
        self.relay.record.enter(Phase::Stopping);
        self.listeners.close(&self.poll)?;
        self.connections.stop(&self.relay, now_ms);
        Ok(())
    }

    fn stop_in_time(&mut self, now_ms: u64) {
        if let Some(stops_ms) = self.stops_ms {
            self.over |= self.connections.is_empty() || now_ms >= stops_ms;
        }
    }
}
