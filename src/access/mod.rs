//! The access log: one line for each request, as it ends.
//!
//! The master opens the file, for a generation of workers; each worker has an [`AccessLog`], takes a [`Note`] of each
//! request, and writes it when the request is over. What must always hold: a line is one write of less than 4 KiB
//! that waits for nobody; one that finds no room is dropped and counted, and no transfer notices; no key or token is
//! in it (`redact`), and nothing that a client sends can begin a line of its own (`escape`).
#![deny(clippy::indexing_slicing)]

mod escape;
mod line;
mod note;
mod redact;

pub use note::Note;

use crate::config::AccessFormat;
use crate::session::{SessionHash, SessionKey};
use crate::sys::clock::{self, LocalTime};
use crate::sys::sink::{Sink, Wrote};
use crate::tally::{Api, Tally};
use crate::torn::Ends;
use note::Words;
use shm::{SECRET_BYTES, WorkerRecord};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

/// The longest line, with its end and what may stand before it. A pipe takes 4096 bytes in one piece (pipe(7)).
const LINE_BYTES_MAX: usize = 4095;

/// All generations' logs have their torn ends counted together: mostly they are one.
const ENDS: Ends = Ends { torn: Tally::AccessTorn, mended: Tally::AccessMended };

/// What a worker writes requests to.
#[derive(Debug)]
pub struct AccessLog {
    sink: &'static Sink,
    format: AccessFormat,
    /// The messages' mount: what stands behind it is a key.
    mount: &'static str,
    secret: [u8; SECRET_BYTES],
    /// Where this worker's losses are counted.
    book: &'static WorkerRecord,
    /// Where all workers count the torn ends of the log that they share.
    common_book: &'static WorkerRecord,
    /// The session of the request that is being routed.
    named: Cell<Option<SessionHash>>,
    line: RefCell<Vec<u8>>,
    spare: RefCell<Option<Box<Note>>>,
    /// The second of the last line, and what it is called here.
    now: Cell<Option<(i64, LocalTime)>>,
}

/// Of a request's head, what is written down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'h> {
    /// The head, from its first line on; or what came of it.
    pub bytes: &'h [u8],
    /// `Referer`.
    pub referer: Option<&'h [u8]>,
    /// `User-Agent`.
    pub user_agent: Option<&'h [u8]>,
}

impl AccessLog {
    /// Writes to `sink` from now on. Of the records, the first is the worker's own; the other is the same for all.
    #[must_use]
    pub fn new(
        sink: &'static Sink,
        format: AccessFormat,
        mount: &'static str,
        secret: [u8; SECRET_BYTES],
        (book, common_book): (&'static WorkerRecord, &'static WorkerRecord),
    ) -> Self {
        Self {
            sink,
            format,
            mount,
            secret,
            book,
            common_book,
            named: Cell::new(None),
            line: RefCell::new(Vec::with_capacity(LINE_BYTES_MAX)),
            spare: RefCell::new(None),
            now: Cell::new(None),
        }
    }

    /// Goes on in `file`, which is the same log opened anew.
    pub fn reopen(&self, file: &OwnedFd) -> io::Result<()> {
        self.sink.replace(file.as_fd())
    }

    /// The request that is being routed is one of the session that `key` is good for.
    pub fn name(&self, key: &SessionKey) {
        self.named.set(Some(SessionHash::of(&self.secret, key)));
    }

    /// Takes a note of a request, `now_ms`, that is for `api`, if that much is known.
    #[must_use]
    pub fn note(&self, head: Head<'_>, api: Option<Api>, now_ms: u64) -> Box<Note> {
        let mut note = self.spare.take().unwrap_or_default();
        let session = self.named.take();
        let mut words = Words::new(note.begin(api, session, now_ms));
        words.request(|out| redact::request_line(out, head.bytes, self.mount, session));
        words.referer(|out| redact::referer(out, head.referer));
        words.user_agent(|out| redact::user_agent(out, head.user_agent));
        note
    }

    /// Writes the line of a request that is over, and was `client`'s.
    pub fn write(&self, note: Box<Note>, client: IpAddr, now_ms: u64) {
        let mut line = self.line.borrow_mut();
        line.clear();
        line::write(&mut line, self.format, &note, client, &self.local_time(), now_ms);
        debug_assert!(line.len() < LINE_BYTES_MAX, "{} bytes", line.len());
        self.put(&line);
        self.spare.replace(Some(note));
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
        let wrote = ENDS.write(self.common_book, line, |parts| self.sink.write(parts));
        if wrote != Wrote::Whole {
            Tally::AccessDropped.count(self.book);
        }
    }
}
