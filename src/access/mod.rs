//! The access log: one line for each request, as it ends.
//!
//! The master opens the file for a generation of workers. Each worker has an [`AccessLog`], makes a [`LogEntry`] of
//! each request, and writes it when the request is over. Invariant: a line is one write of less than 4 KiB that never
//! waits. A line that finds no room is dropped and counted, and no transfer notices. No key or token is in it
//! (`redact`), and nothing that a client sends can begin a line of its own (`escape`).
#![deny(clippy::indexing_slicing)]

mod entry;
mod escape;
mod line;
mod redact;

pub use entry::LogEntry;

use crate::api::ApiName;
use crate::config::AccessFormat;
use crate::session::{Session, SessionHash, SessionKey};
use crate::sys::clock::{self, LocalTime};
use crate::sys::sink::{Sink, Wrote};
use crate::tally::Tally;
use crate::torn::Ends;
use entry::Words;
use line::Ended;
use shm::{SECRET_BYTES, WorkerRecord};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

/// The longest line, with its end and what may stand before it. A pipe takes 4096 bytes in one piece (pipe(7)).
const LINE_BYTES_MAX: usize = 4095;

/// The logs of all generations share one count of torn ends: mostly they are one log.
const ENDS: Ends = Ends { torn: Tally::AccessTorn, mended: Tally::AccessMended };

/// Where a worker writes requests to.
#[derive(Debug)]
pub struct AccessLog {
    sink: &'static Sink,
    format: AccessFormat,
    /// The messages' mount: the path segment behind it is a key.
    mount: &'static str,
    secret: [u8; SECRET_BYTES],
    /// Where this worker's losses are counted.
    counters: &'static WorkerRecord,
    /// Where all workers count the torn ends of their common log.
    shared_counters: &'static WorkerRecord,
    /// The session of the request that is being routed.
    named: Cell<Option<SessionHash>>,
    line: RefCell<Vec<u8>>,
    spare: RefCell<Option<Box<LogEntry>>>,
    /// The second of the last line, and its name in local time.
    now: Cell<Option<(i64, LocalTime)>>,
}

/// The parts of a request's head that the log writes down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'h> {
    /// The head, from its first line on, or what could be read of it.
    pub bytes: &'h [u8],
    /// `Referer`.
    pub referer: Option<&'h [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'h [u8]>,
}

impl AccessLog {
    /// Writes to `sink` from now on. The first record is the worker's own; all processes that share the log share the
    /// second.
    #[must_use]
    pub fn new(
        sink: &'static Sink,
        format: AccessFormat,
        mount: &'static str,
        secret: [u8; SECRET_BYTES],
        (counters, shared_counters): (&'static WorkerRecord, &'static WorkerRecord),
    ) -> Self {
        Self {
            sink,
            format,
            mount,
            secret,
            counters,
            shared_counters,
            named: Cell::new(None),
            line: RefCell::new(Vec::with_capacity(LINE_BYTES_MAX)),
            spare: RefCell::new(None),
            now: Cell::new(None),
        }
    }

    /// Switches to `file`, the same log after it was reopened.
    pub fn reopen(&self, file: &OwnedFd) -> io::Result<()> {
        self.sink.replace(file.as_fd())
    }

    /// Notes that the request that is being routed is one of the session that `key` opens.
    pub fn name(&self, key: &SessionKey) {
        self.named.set(Some(SessionHash::of(&self.secret, key)));
    }

    /// The same of a session that was found by another name.
    pub fn name_session(&self, session: &Session) {
        self.named.set(Some(session.hash(&self.secret)));
    }

    /// Makes the entry of a request at `now_ms`, with its `api` if that is known.
    #[must_use]
    pub fn entry(&self, head: Head<'_>, api: Option<ApiName>, now_ms: u64) -> Box<LogEntry> {
        let mut entry = self.spare.take().unwrap_or_default();
        let session = self.named.take();
        let mut words = Words::new(entry.begin(api, session, now_ms));
        words.request(|out| redact::request_line(out, head.bytes, self.mount, session));
        words.referer(|out| redact::referer(out, head.referer));
        words.user_agent(|out| redact::user_agent(out, head.user_agent));
        entry
    }

    /// Writes the line of a request that is over, and was `client`'s.
    pub fn write(&self, entry: Box<LogEntry>, client: IpAddr, now_ms: u64) {
        let mut line = self.line.borrow_mut();
        line.clear();
        let time = &self.local_time();
        let ended = Ended { entry: &entry, client, time, now_ms };
        line::write(&mut line, self.format, ended);
        debug_assert!(line.len() < LINE_BYTES_MAX, "{} bytes", line.len());
        self.put(&line);
        self.spare.replace(Some(entry));
    }

    fn local_time(&self) -> LocalTime {
        let second = clock::unix_seconds();
        match self.now.get() {
            Some((at, time)) if at == second => time,
            _ => {
                let time = clock::local_time(second);
                self.now.set(Some((second, time)));
                time
            }
        }
    }

    fn put(&self, line: &[u8]) {
        let wrote = ENDS.write(self.shared_counters, line, |parts| self.sink.write(parts));
        if wrote != Wrote::Whole {
            Tally::AccessDropped.count(self.counters);
        }
    }
}
