//! The admin listener: answers the operator's questions about the relay.
//!
//! Every worker watches the listener and answers from shared memory, so every answer is about all workers. A draining
//! worker goes on watching to its end, so that a worker is left to say that the relay is not ready. The worker calls
//! [`Admin`] for events and deadlines of its sockets, and `cli` calls [`ask_status`]. Invariant: no answer has a key
//! or a token. An answer is made from one snapshot without a lock. Everything that grows is bounded. Over TCP no page
//! of a browser gets an answer.

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
use crate::relay::Env;
use crate::sys::{clock, epoll, operator};
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
/// Time from accepting a connection to its end: the worker cuts off a slower client.
const TIMEOUT_MS: u64 = 10_000;
/// Connections that are accepted before the listener is closed for good; the rest is closed.
const LAST_ACCEPTS_MAX: usize = 64;
/// How long to leave a listener alone when accept(2) fails.
const PAUSE_MS: u64 = 100;

const METHODS: &str = "GET, HEAD";

/// The admin listener as one worker serves it.
#[derive(Debug)]
pub struct Admin {
    listener: &'static Socket,
    /// The listener's token, and the first of as many as there can be connections.
    first_token: usize,
    connections: Slab<Connection>,
    /// When to watch the listener again.
    resumes_ms: Option<u64>,
    is_closed: bool,
    /// Whether a browser can come here.
    is_tcp: bool,
    /// The names that it answers to over TCP.
    hosts: &'static [String],
    /// The certificates of the listeners that this worker serves.
    certificates: Vec<Certificate>,
}

impl Admin {
    /// Tokens that it uses.
    pub const TOKENS: usize = 1 + CONNECTIONS_MAX;

    /// Watches `listener`; its events have tokens from `first_token` on. Requests over TCP have to name an address or
    /// one of `hosts`.
    pub fn new(
        poll: &Poll,
        listener: &'static Socket,
        hosts: &'static [String],
        first_token: usize,
    ) -> io::Result<Self> {
        epoll::add_exclusive(poll, listener.as_raw_fd(), Token(first_token))?;
        let connections = Slab::with_capacity(CONNECTIONS_MAX);
        let is_tcp = operator::local_address(listener).is_some();
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

    /// When to [`run`](Self::run) it though nothing has happened.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = self.connections.iter().map(|(_, connection)| connection.deadline_ms);
        deadlines.chain(self.resumes_ms).min()
    }

    /// Handles an event of one of its sockets.
    pub fn record_event(&mut self, env: &Env, poll: &Poll, token: Token, now_ms: u64) {
        match token.0.checked_sub(self.first_token + 1) {
            Some(key) => self.drive(env, key),
            None if self.is_closed => {}
            None => self.accept(poll, now_ms),
        }
    }

    /// Accepts a connection without an event: the worker that was woken for it may have died, or may hang.
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

    /// Accepts the connections that wait, as this worker may have been woken for them, and then no more.
    pub fn close(&mut self, poll: &Poll, now_ms: u64) {
        if self.is_closed {
            return;
        }
        for _ in 0..LAST_ACCEPTS_MAX {
            let Ok(Some(socket)) = operator::accept(self.listener) else { break };
            self.take_in(poll, socket, now_ms);
        }
        self.unwatch(poll);
    }

    /// Watches the listener no more.
    fn unwatch(&mut self, poll: &Poll) {
        (self.is_closed, self.resumes_ms) = (true, None);
        // Removing fails if the listener is not watched, which is the goal.
        let _ = epoll::remove(poll, self.listener.as_raw_fd());
    }

    /// Whether a client waits for an answer.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.connections.is_empty()
    }

    /// Accepts one connection; the next one is an event of its own.
    fn accept(&mut self, poll: &Poll, now_ms: u64) {
        match operator::accept(self.listener) {
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

    fn drive(&mut self, env: &Env, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_heard = |host: &str| !self.is_tcp || caller::is_known(host, self.hosts);
        let answer = |request: &Request<'_>, out: &mut Vec<u8>| match is_heard(request.host) {
            true => answer((env, &self.certificates), request, out),
            false => {
                write(out, text(Status::Forbidden, caller::WHY), request.method == Method::Head)
            }
        };
        if connection.drive(answer).is_break() {
            self.connections.remove(key);
        }
    }
}

/// The pages of the admin listener.
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
type Told<'t> = (&'t Env, &'t [Certificate]);

fn answer(told: Told<'_>, request: &Request<'_>, out: &mut Vec<u8>) {
    let is_head = request.method == Method::Head;
    let content = match (Page::of(request.path), request.method) {
        (None, _) => {
            text(Status::NotFound, "this listener answers /healthz, /readyz, /metrics and /status")
        }
        (Some(page), Method::Get | Method::Head) => show(told, &page, request),
        (Some(_), _) => text(Status::MethodNotAllowed, "allowed here: GET, HEAD"),
    };
    write(out, content, is_head);
}

fn show((env, certificates): Told<'_>, page: &Page, request: &Request<'_>) -> Content {
    let look = || {
        let mut snapshot = Snapshot::take(env.segment, clock::monotonic_ms());
        // A draining worker may have older certificates than those that serve.
        if env.record.phase() == Phase::Serving {
            snapshot.certificates = certificates.to_vec();
        }
        snapshot
    };
    let failed = |_| text(Status::InternalError, "cannot write the answer");
    match page {
        Page::Health => text(Status::Ok, "alive"),
        Page::Readiness if snapshot::is_ready(env.segment) => text(Status::Ok, "ready"),
        Page::Readiness => text(Status::Unavailable, "draining"),
        Page::Metrics => {
            let format = Format::wanted(request.fields("Accept"));
            metrics::write(look()).map_or_else(failed, |text| {
                (Status::Ok, format.content_type(), format.written(text))
            })
        }
        Page::Status => match serde_json::to_string(&status::StatusReport::new(&look())) {
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
