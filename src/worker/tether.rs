//! The tether between the master and one worker: orders go down, news come up. A worker whose master is
//! gone sees the tether's end.

use crate::sys::channel::{Channel, Heard};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What the master tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take no new connections, and end with the last one: another generation serves.
    Drain,
    /// Take no new connections, and end once running transfers are done: the relay stops.
    Quit,
}

/// What a worker tells the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It takes connections.
    Serves,
    /// It takes none any more.
    Closed,
    /// It will tell nothing more.
    Gone,
}

/// The master's end.
#[derive(Debug)]
pub struct MasterEnd(Channel);

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd(Channel);

/// What a worker hears.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    Order(Order),
    /// Requests are to be written here from now on. `None`: this process has no descriptor left for it.
    Reopen(Option<OwnedFd>),
    /// The master is gone.
    Gone,
}

const DRAIN: u8 = b'd';
const QUIT: u8 = b'q';
const REOPEN: u8 = b'r';
const SERVES: u8 = b's';
const CLOSED: u8 = b'c';

/// Makes both ends.
pub fn pair() -> io::Result<(MasterEnd, WorkerEnd)> {
    let (one, other) = Channel::pair()?;
    Ok((MasterEnd(one), WorkerEnd(other)))
}

impl MasterEnd {
    /// Gives an order. An error if the worker has not heard the last few hundred, or is gone.
    pub fn order(&self, order: Order) -> io::Result<()> {
        let word = match order {
            Order::Drain => DRAIN,
            Order::Quit => QUIT,
        };
        self.0.tell(word, None)
    }

    /// Hands over the access log, opened anew. An error as above.
    pub fn reopen(&self, log: BorrowedFd<'_>) -> io::Result<()> {
        self.0.tell(REOPEN, Some(log))
    }

    /// The next news. What has no meaning ends the conversation.
    #[must_use]
    pub fn news(&self) -> Option<News> {
        match self.0.hear() {
            Heard::Message(SERVES, _) => Some(News::Serves),
            Heard::Message(CLOSED, _) => Some(News::Closed),
            Heard::Message(..) | Heard::Gone => Some(News::Gone),
            Heard::Nothing => None,
        }
    }
}

impl WorkerEnd {
    /// Tells the master. A worker says two things in its life, which fit: an error where the kernel has no memory,
    /// or the master is gone.
    pub(super) fn tell(&self, news: News) -> io::Result<()> {
        match news {
            News::Serves => self.0.tell(SERVES, None),
            News::Closed => self.0.tell(CLOSED, None),
            // That is told by closing it.
            News::Gone => Ok(()),
        }
    }

    pub(super) fn hear(&self) -> Told {
        loop {
            return match self.0.hear() {
                Heard::Message(DRAIN, _) => Told::Order(Order::Drain),
                Heard::Message(QUIT, _) => Told::Order(Order::Quit),
                Heard::Message(REOPEN, log) => Told::Reopen(log),
                Heard::Message(..) => continue,
                Heard::Nothing => Told::Nothing,
                Heard::Gone => Told::Gone,
            };
        }
    }
}

impl From<OwnedFd> for MasterEnd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl AsFd for MasterEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for WorkerEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
