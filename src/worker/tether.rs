//! The tether between the master and one worker: orders go down, news come up. A worker whose master is
//! gone sees the tether's end.
//!
//! What must always hold: the master believes no worker. A word that is not its turn ends the conversation, so that a
//! worker can keep the master busy with two words of news and no more.

use crate::sys::channel::{self, Heard, NewsIn, NewsOut, OrdersIn, OrdersOut};
use std::cell::Cell;
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
pub struct MasterEnd {
    orders: OrdersOut,
    news: NewsIn,
    has_served: Cell<bool>,
}

/// A worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    orders: OrdersIn,
    news: NewsOut,
}

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
    let (orders, its_orders) = channel::orders()?;
    let (its_news, news) = channel::news()?;
    let has_served = Cell::new(false);
    Ok((MasterEnd { orders, news, has_served }, WorkerEnd { orders: its_orders, news: its_news }))
}

impl MasterEnd {
    /// The end that the program before has left: where orders go, and where news come from.
    #[must_use]
    pub fn after(orders: OwnedFd, news: OwnedFd) -> Self {
        Self { orders: orders.into(), news: news.into(), has_served: Cell::new(false) }
    }

    /// The descriptors, in the order of [`Self::after`].
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.orders.as_fd().as_raw_fd(), self.news.as_fd().as_raw_fd()]
    }

    /// What to poll for: news.
    #[must_use]
    pub fn news_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Gives an order. An error if the worker has not heard the last few hundred, or is gone.
    pub fn order(&self, order: Order) -> io::Result<()> {
        let word = match order {
            Order::Drain => DRAIN,
            Order::Quit => QUIT,
        };
        self.orders.tell(word, None)
    }

    /// Hands over the access log, opened anew. An error as above.
    pub fn reopen(&self, log: BorrowedFd<'_>) -> io::Result<()> {
        self.orders.tell(REOPEN, Some(log))
    }

    /// The next news. What has no meaning, or is said a second time, ends the conversation.
    #[must_use]
    pub fn news(&self) -> Option<News> {
        match self.news.hear() {
            Heard::Word(SERVES) if !self.has_served.replace(true) => Some(News::Serves),
            Heard::Word(CLOSED) => Some(News::Closed),
            Heard::Word(_) | Heard::Gone => Some(News::Gone),
            Heard::Nothing => None,
        }
    }
}

impl WorkerEnd {
    /// The descriptors: orders come from the first, and news go to the second.
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.orders.as_fd().as_raw_fd(), self.news.as_fd().as_raw_fd()]
    }

    /// What to watch for orders.
    pub(super) fn orders_fd(&self) -> RawFd {
        self.orders.as_fd().as_raw_fd()
    }

    /// Tells the master. A worker says two things in its life, which fit: an error where the master is gone.
    pub(super) fn tell(&self, news: News) -> io::Result<()> {
        match news {
            News::Serves => self.news.tell(SERVES),
            News::Closed => self.news.tell(CLOSED),
            // That is told by closing it.
            News::Gone => Ok(()),
        }
    }

    pub(super) fn hear(&self) -> Told {
        loop {
            return match self.orders.hear() {
                Heard::Word((DRAIN, _)) => Told::Order(Order::Drain),
                Heard::Word((QUIT, _)) => Told::Order(Order::Quit),
                Heard::Word((REOPEN, log)) => Told::Reopen(log),
                Heard::Word(_) => continue,
                Heard::Nothing => Told::Nothing,
                Heard::Gone => Told::Gone,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_worker_that_repeats_itself_is_not_heard_any_more() {
        let (master, worker) = pair().unwrap();
        for word in [SERVES, SERVES] {
            worker.news.tell(word).unwrap();
        }
        assert_eq!([master.news(), master.news()], [Some(News::Serves), Some(News::Gone)]);
        let (master, worker) = pair().unwrap();
        worker.news.tell(QUIT).unwrap();
        assert_eq!(master.news(), Some(News::Gone));
    }
}
