//! The master's end of the control socket. The master never blocks here: a slow asker waits for the master, never the
//! reverse.
//!
//! Invariant: only the user that runs the master, and root, are heard. The number of askers, their lines and their
//! time are bounded. A listener that cannot accept is left alone for a while.

use super::{HEARD, LINE_BYTES_MAX, Line, NOTE, REPLY_BYTES_MAX, Reply, write_reply};
use crate::sys::operator::{self, ListenAddress};
use crate::sys::program;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use socket2::Socket;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Askers that have not sent all of their line; more of them wait in the kernel's queue.
const SPEAKERS_MAX: usize = 8;
/// Askers that wait for something that may take long; more of them are turned away.
const WAITERS_MAX: usize = 32;
/// How long an asker may take for its line.
const LINE_TIMEOUT_MS: u64 = 5000;
/// How long to leave the listener alone when accept(2) fails, most likely for want of descriptors: poll(2) would
/// report it again at once, for ever.
const PAUSE_MS: u64 = 100;

/// The listening socket, and the askers.
#[derive(Debug)]
pub struct Server {
    listener: Socket,
    path: PathBuf,
    /// Device and inode of the path, so that no other master's socket is removed.
    identity: Option<(u64, u64)>,
    askers: Vec<Asker>,
    next_number: u64,
    /// When to listen again after accept(2) has failed.
    resumes_ms: Option<u64>,
}

#[derive(Debug)]
struct Asker {
    number: u64,
    stream: Socket,
    line: Vec<u8>,
    /// Deadline of the line. `None`: the asker waits for its answer.
    line_ends_ms: Option<u64>,
}

impl Server {
    /// Listens at `path`. It replaces the socket of a master that is gone. The socket of a master that lives stays.
    pub fn open(path: &Path) -> io::Result<Self> {
        let listener = operator::listen(&ListenAddress::Unix(path.to_owned()))?;
        let (path, identity) = (path.to_owned(), identity(path));
        let askers = Vec::new();
        Ok(Self { listener, path, identity, askers, next_number: 0, resumes_ms: None })
    }

    /// Descriptors to poll.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let flags = |heard| if heard { PollFlags::POLLIN } else { PollFlags::empty() };
        let asker = move |it: &Asker| flags(it.line_ends_ms.is_some());
        let askers = self.askers.iter().map(move |it| PollFd::new(it.stream.as_fd(), asker(it)));
        let hears = self.resumes_ms.is_none() && self.speakers() < SPEAKERS_MAX;
        askers.chain([PollFd::new(self.listener.as_fd(), flags(hears))])
    }

    /// When to look though nothing came.
    pub fn due_ms(&self) -> Option<u64> {
        let lines_ms = self.askers.iter().filter_map(|asker| asker.line_ends_ms);
        lines_ms.chain(self.resumes_ms).min()
    }

    fn speakers(&self) -> usize {
        self.askers.iter().filter(|asker| asker.line_ends_ms.is_some()).count()
    }

    /// The requests that have arrived, each with the number of its asker.
    pub fn requests(&mut self, now_ms: u64) -> Vec<(u64, Line)> {
        self.accept(now_ms);
        let mut waiters = self.askers.len() - self.speakers();
        let mut requests = Vec::new();
        self.askers.retain_mut(|asker| match asker.hear(now_ms) {
            Heard::Nothing => true,
            Heard::Request(request) if request.takes_long() && waiters >= WAITERS_MAX => {
                let why =
                    format!("{WAITERS_MAX} other requests wait for an answer: try again later");
                asker.answer(&Err(why));
                false
            }
            Heard::Request(request) => {
                waiters += 1;
                asker.tell(&format!("{HEARD}\n"));
                requests.push((asker.number, request));
                true
            }
            Heard::Nonsense => {
                asker.answer(&Err("unknown request".to_owned()));
                false
            }
            Heard::Farewell => false,
        });
        requests
    }

    /// Sends a line to an asker that waits for an answer.
    pub fn note(&mut self, number: u64, text: &str) {
        for asker in self.askers.iter_mut().filter(|asker| asker.number == number) {
            asker.tell(&format!("{NOTE} {text}\n"));
        }
    }

    /// Answers. If the asker is gone, the answer is dropped.
    pub fn answer(&mut self, number: u64, answer: &Reply) {
        for mut asker in self.askers.extract_if(.., |asker| asker.number == number) {
            asker.answer(answer);
        }
    }

    /// Removes the path, if it is still ours, and gives those `asked` the last answer. An asker sees the connection
    /// end when the process is gone.
    pub fn end(mut self, asked: &[u64], answer: &Reply) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // A file that stays is only litter.
            let _ = fs::remove_file(&self.path);
        }
        for mut asker in self.askers.extract_if(.., |asker| asked.contains(&asker.number)) {
            asker.answer(answer);
            // The kernel closes it.
            std::mem::forget(asker);
        }
    }

    fn accept(&mut self, now_ms: u64) {
        if self.resumes_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.resumes_ms = None;
        }
        while self.resumes_ms.is_none() && self.speakers() < SPEAKERS_MAX {
            match operator::accept(&self.listener) {
                Ok(Some(stream)) => self.welcome(stream, now_ms),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, pause_ms = PAUSE_MS, "cannot accept requests");
                    self.resumes_ms = Some(now_ms.saturating_add(PAUSE_MS));
                }
            }
        }
    }

    fn welcome(&mut self, stream: Socket, now_ms: u64) {
        self.next_number += 1;
        let line_ends_ms = Some(now_ms.saturating_add(LINE_TIMEOUT_MS));
        let number = self.next_number;
        let mut asker = Asker { number, stream, line: Vec::new(), line_ends_ms };
        match getsockopt(&asker.stream, sockopt::PeerCredentials) {
            Ok(peer) if peer.uid() == geteuid().as_raw() || peer.uid() == 0 => {
                self.askers.push(asker);
            }
            _ => {
                tracing::warn!("refused a control request of another user");
                asker.answer(&Err(
                    "only the user that runs the relay, or root, may send control requests"
                        .to_owned(),
                ));
            }
        }
    }
}

/// The control socket's state, as one program hands it to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerState {
    path: PathBuf,
    listener: RawFd,
    identity: Option<(u64, u64)>,
    next_number: u64,
    askers: Vec<PastAsker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PastAsker {
    number: u64,
    stream: RawFd,
    line: Vec<u8>,
    line_ends_ms: Option<u64>,
}

impl ServerState {
    /// Every descriptor that it names.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        [self.listener].into_iter().chain(self.askers.iter().map(|it| it.stream))
    }
}

impl Server {
    /// Everything that the next program needs to know.
    #[must_use]
    pub fn state(&self) -> ServerState {
        let asker = |it: &Asker| PastAsker {
            number: it.number,
            stream: it.stream.as_raw_fd(),
            line: it.line.clone(),
            line_ends_ms: it.line_ends_ms,
        };
        ServerState {
            path: self.path.clone(),
            listener: self.listener.as_raw_fd(),
            identity: self.identity,
            next_number: self.next_number,
            askers: self.askers.iter().map(asker).collect(),
        }
    }

    /// Takes over the control socket of the previous program.
    pub fn after(state: ServerState) -> io::Result<Self> {
        let asker = |it: PastAsker| {
            let stream = program::take(it.stream)?.into();
            let PastAsker { number, line, line_ends_ms, .. } = it;
            Ok(Asker { number, stream, line, line_ends_ms })
        };
        let ServerState { path, listener, identity, next_number, askers } = state;
        let listener = program::take(listener)?.into();
        let askers = askers.into_iter().map(asker).collect::<io::Result<_>>()?;
        Ok(Self { listener, path, identity, askers, next_number, resumes_ms: None })
    }
}

enum Heard {
    Nothing,
    Request(Line),
    Nonsense,
    Farewell,
}

impl Asker {
    fn hear(&mut self, now_ms: u64) -> Heard {
        let Some(ends_ms) = self.line_ends_ms else {
            return if self.has_left() { Heard::Farewell } else { Heard::Nothing };
        };
        let mut room = [0; LINE_BYTES_MAX + 1];
        let is_whole = match self.stream.read(&mut room) {
            Ok(0) => true,
            Ok(bytes) => {
                self.line.extend_from_slice(room.get(..bytes).unwrap_or_default());
                self.line.contains(&b'\n') || self.line.len() > LINE_BYTES_MAX
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now_ms < ends_ms => false,
            Err(_) => return Heard::Farewell,
        };
        if !is_whole {
            return Heard::Nothing;
        }
        match Line::parse(self.line.strip_suffix(b"\n").unwrap_or(&self.line)) {
            Some(request) => {
                self.line_ends_ms = None;
                Heard::Request(request)
            }
            None => Heard::Nonsense,
        }
    }

    fn has_left(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn answer(&mut self, answer: &Reply) {
        let text = write_reply(answer);
        let end = text.floor_char_boundary(REPLY_BYTES_MAX - 1);
        let whole = text.get(..end).unwrap_or_default();
        let cut = if end < text.len() { "\n" } else { "" };
        self.tell(&format!("{whole}{cut}"));
    }

    /// Sends it in one write: a socket on which little was sent has room for every answer.
    fn tell(&mut self, text: &str) {
        // An asker that does not read misses it.
        let _ = self.stream.write_all(text.as_bytes());
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|it| (it.dev(), it.ino()))
}
