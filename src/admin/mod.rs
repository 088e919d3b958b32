//! The admin listener: what whoever runs the relay asks it about itself.
//!
//! Every worker watches the listener and answers from shared memory, so whichever answers tells of all of
//! them. A worker that drains watches on to its end, so that somebody says that the relay is not ready when
//! none serves. The worker calls [`Admin`] when its sockets or deadlines give a reason, and `cli` calls
//! [`ask_status`]. What must always hold: no key and no token is ever told, an answer is made from one look
//! without a lock, and everything that grows is bounded; over TCP no answer goes to a page of a browser.

mod ask;
mod caller;
mod connection;
mod exposition;
mod metrics;
mod snapshot;
mod status;
mod table;

pub use ask::{AskError, ask_status};
pub use snapshot::Certificate;

use crate::http::{Method, Request, ResponseHead, Status};
use crate::relay::Relay;
use crate::sys::{clock, epoll, private};
use connection::Connection;
use exposition::Format;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use shm::Phase;
use slab::Slab;
use snapshot::Snapshot;
use socket2::Socket;
use std::io;
use std::os::fd::AsRawFd;
use std::time::SystemTime;

/// Connections of one worker at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 16;
/// From accepting a connection to its end: who is slower is cut off.
const TIMEOUT_MS: u64 = 10_000;
/// Connections that are accepted in the end; those that are too many are closed.
const LAST_ACCEPTS_MAX: usize = 64;
/// How long to leave a listener alone that cannot be accepted from.
const PAUSE_MS: u64 = 100;

const METHODS: &str = "GET, HEAD";

/// The admin listener as one worker serves it.
#[derive(Debug)]
pub struct Admin {
    listener: &'static Socket,
    /// Its own token, and the first of as many as there can be connections.
    first_token: usize,
    connections: Slab<Connection>,
    /// When to watch the listener again.
    resumes_ms: Option<u64>,
    is_closed: bool,
    /// Whether a browser can come here.
    is_tcp: bool,
    /// The names that it answers to there.
    hosts: &'static [String],
    /// Of the listeners that this worker serves.
    certificates: Vec<Certificate>,
}

impl Admin {
    /// Tokens that it uses.
    pub const TOKENS: usize = 1 + CONNECTIONS_MAX;

    /// Watches `listener`; its events have tokens from `first_token` on.
    /// Over TCP it answers to `hosts` beside addresses.
    pub fn new(
        poll: &Poll,
        listener: &'static Socket,
        hosts: &'static [String],
        first_token: usize,
    ) -> io::Result<Self> {
        epoll::add_exclusive(poll, listener.as_raw_fd(), Token(first_token))?;
        let connections = Slab::with_capacity(CONNECTIONS_MAX);
        let is_tcp = private::local_address(listener).is_some();
        let (resumes_ms, is_closed) = (None, false);
        let certificates = Vec::new();
        Ok(Self {
            listener,
            first_token,
            connections,
            resumes_ms,
            is_closed,
            is_tcp,
            hosts,
            certificates,
        })
    }

    /// Tells of these certificates.
    #[must_use]
    pub fn telling_of(self, certificates: Vec<Certificate>) -> Self {
        Self { certificates, ..self }
    }

    /// When it wants to [`run`](Self::run) though nothing has happened.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = self.connections.iter().map(|(_, connection)| connection.deadline_ms);
        deadlines.chain(self.resumes_ms).min()
    }

    /// Deals with an event of one of its sockets.
    pub fn note(&mut self, relay: &Relay, poll: &Poll, token: Token, now_ms: u64) {
        match token.0.checked_sub(self.first_token + 1) {
            Some(key) => self.drive(relay, key),
            None if self.is_closed => {}
            None => self.accept(poll, now_ms),
        }
    }

    /// Accepts a connection that nobody has told of: the worker that was woken for it may have died, or may hang.
    pub fn look(&mut self, poll: &Poll, now_ms: u64) {
        if !self.is_closed {
            self.accept(poll, now_ms);
        }
    }

    /// Does what is due.
    pub fn run(&mut self, poll: &Poll, now_ms: u64) {
        self.connections.retain(|_, connection| now_ms < connection.deadline_ms);
        if self.resumes_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            let listener = self.listener.as_raw_fd();
            self.resumes_ms = match epoll::add_exclusive(poll, listener, Token(self.first_token)) {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, pause_ms = PAUSE_MS, "cannot watch the admin listener");
                    Some(now_ms.saturating_add(PAUSE_MS))
                }
            };
        }
    }

    /// Accepts those who have come, as this worker may have been the one that was woken for them, and then
    /// no more.
    pub fn close(&mut self, poll: &Poll, now_ms: u64) {
        if self.is_closed {
            return;
        }
        for _ in 0..LAST_ACCEPTS_MAX {
            let Ok(Some(socket)) = private::accept(self.listener) else { break };
            self.take_in(poll, socket, now_ms);
        }
        self.unwatch(poll);
    }

    /// Watches the listener no more.
    fn unwatch(&mut self, poll: &Poll) {
        (self.is_closed, self.resumes_ms) = (true, None);
        // It fails where it is not watched, which is what was wanted.
        let _ = epoll::remove(poll, self.listener.as_raw_fd());
    }

    /// Whether somebody waits for an answer.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Accepts one; whatever waits behind it is an event of its own.
    fn accept(&mut self, poll: &Poll, now_ms: u64) {
        match private::accept(self.listener) {
            Ok(Some(socket)) => self.take_in(poll, socket, now_ms),
            Ok(None) => {}
            // The master has stopped listening here.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.unwatch(poll),
            Err(error) => {
                tracing::warn!(%error, pause_ms = PAUSE_MS, "cannot accept admin connections");
                let _ = epoll::remove(poll, self.listener.as_raw_fd());
                self.resumes_ms = Some(now_ms.saturating_add(PAUSE_MS));
            }
        }
    }

    fn take_in(&mut self, poll: &Poll, socket: Socket, now_ms: u64) {
        if self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let fd = socket.as_raw_fd();
        let deadline_ms = now_ms.saturating_add(TIMEOUT_MS);
        let key = self.connections.insert(Connection::new(socket, deadline_ms));
        let token = Token(self.first_token + 1 + key);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if poll.registry().register(&mut SourceFd(&fd), token, interest).is_err() {
            self.connections.remove(key);
        }
    }

    fn drive(&mut self, relay: &Relay, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_heard = |host: &str| !self.is_tcp || caller::is_known(host, self.hosts);
        let answer = |request: &Request<'_>, out: &mut Vec<u8>| match is_heard(request.host) {
            true => answer((relay, &self.certificates), request, out),
            false => {
                write(out, text(Status::Forbidden, caller::WHY), request.method == Method::Head)
            }
        };
        if connection.drive(answer).is_break() {
            self.connections.remove(key);
        }
    }
}

/// What there is to ask for.
enum Page {
    /// Whether this worker's loop turns.
    Health,
    /// Whether new connections are served.
    Readiness,
    Metrics,
    Status,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Metrics,
            "/status" => Self::Status,
            _ => return None,
        })
    }
}

/// An answer's status, content type and body.
type Content = (Status, &'static str, String);

fn text(status: Status, line: &str) -> Content {
    (status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// The relay, and the certificates of its listeners.
type Told<'t> = (&'t Relay, &'t [Certificate]);

fn answer(told: Told<'_>, request: &Request<'_>, out: &mut Vec<u8>) {
    let is_head = request.method == Method::Head;
    let content = match (Page::of(request.path), request.method) {
        (None, _) => text(Status::NotFound, "/healthz, /readyz, /metrics and /status are here"),
        (Some(page), Method::Get | Method::Head) => show(told, &page, request),
        (Some(_), _) => text(Status::MethodNotAllowed, "allowed here: GET, HEAD"),
    };
    write(out, content, is_head);
}

fn show((relay, certificates): Told<'_>, page: &Page, request: &Request<'_>) -> Content {
    let look = || {
        let mut snapshot = Snapshot::take(relay.segment, clock::monotonic_ms());
        // One that drains may have older ones than those who serve.
        if relay.record.phase() == Phase::Serving {
            snapshot.certificates = certificates.to_vec();
        }
        snapshot
    };
    let failed = |_| text(Status::InternalError, "it cannot be written down");
    match page {
        Page::Health => text(Status::Ok, "alive"),
        Page::Readiness if snapshot::is_ready(relay.segment) => text(Status::Ok, "ready"),
        Page::Readiness => text(Status::Unavailable, "stopping"),
        Page::Metrics => {
            let format = Format::wanted(request.fields("Accept"));
            metrics::write(look()).map_or_else(failed, |text| {
                (Status::Ok, format.content_type(), format.written(text))
            })
        }
        Page::Status => match serde_json::to_string(&status::Report::new(&look())) {
            Ok(body) => (Status::Ok, "application/json", body + "\n"),
            Err(_) => failed(std::fmt::Error),
        },
    }
}

fn write(out: &mut Vec<u8>, (status, content_type, body): Content, is_head: bool) {
    let mut head = ResponseHead::start(out, status, SystemTime::now());
    if status == Status::MethodNotAllowed {
        head.field("Allow", METHODS);
    }
    head.field("Content-Type", content_type).field("Cache-Control", "no-store");
    if exposition::is_negotiated(content_type) {
        head.field("Vary", "Accept");
    }
    head.content_length(body.len() as u64).close().end();
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
}
