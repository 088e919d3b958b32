//! The channel between the master and one worker: orders go down, news come up. A worker whose master is gone sees the
//! end of the channel.
//!
//! Invariant: the master believes no worker. A word out of turn ends the conversation, so a worker can keep the master
//! busy with two words of news and no more.

use crate::sys::seqpacket::{self, Heard, NewsIn, NewsOut, OrdersIn, OrdersOut};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An order from the master to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Accept no new connections, and end with the last one: another generation serves.
    Drain,
    /// Accept no new connections, and end once running transfers are done: the relay stops.
    Quit,
}

/// News from a worker to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The worker accepts connections.
    Serves,
    /// The worker accepts no more connections.
    Draining,
    /// The worker will send no more news.
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

/// A message that a worker may hear.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    Order(Order),
    /// The access log to write to from now on. `None`: this process has no descriptor left for it.
    Reopen(Option<OwnedFd>),
    /// The master is gone.
    Gone,
}

const DRAIN: u8 = b'd';
const QUIT: u8 = b'q';
const REOPEN: u8 = b'r';
const SERVES: u8 = b's';
const DRAINING: u8 = b'c';

/// Makes both ends.
pub fn pair() -> io::Result<(MasterEnd, WorkerEnd)> {
    let (orders, its_orders) = seqpacket::orders()?;
    let (its_news, news) = seqpacket::news()?;
    let has_served = Cell::new(false);
    Ok((MasterEnd { orders, news, has_served }, WorkerEnd { orders: its_orders, news: its_news }))
}

impl MasterEnd {
    /// The end that the previous program has left: the descriptors for orders and for news.
    #[must_use]
    pub fn after(orders: OwnedFd, news: OwnedFd) -> Self {
        Self { orders: orders.into(), news: news.into(), has_served: Cell::new(false) }
    }

    /// The descriptors, in the order of [`Self::after`].
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.orders.as_fd().as_raw_fd(), self.news.as_fd().as_raw_fd()]
    }

    /// The descriptor to poll for news.
    #[must_use]
    pub fn news_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Gives an order. Fails if the worker has not heard the last few hundred, or is gone.
    pub fn order(&self, order: Order) -> io::Result<()> {
        let word = match order {
            Order::Drain => DRAIN,
            Order::Quit => QUIT,
        };
        self.orders.tell(word, None)
    }

    /// Hands over the reopened access log. Fails as above.
    pub fn reopen(&self, log: BorrowedFd<'_>) -> io::Result<()> {
        self.orders.tell(REOPEN, Some(log))
    }

    /// The next news. A word without meaning, or a repeated one, ends the conversation.
    #[must_use]
    pub fn news(&self) -> Option<News> {
        match self.news.hear() {
            Heard::Word(SERVES) if !self.has_served.replace(true) => Some(News::Serves),
            Heard::Word(DRAINING) => Some(News::Draining),
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

    /// The descriptor to watch for orders.
    pub(super) fn orders_fd(&self) -> RawFd {
        self.orders.as_fd().as_raw_fd()
    }

    /// Sends news to the master. A worker does so twice in its life, and both fit: this fails only if the master is
    /// gone.
    pub(super) fn tell(&self, news: News) -> io::Result<()> {
        match news {
            News::Serves => self.news.tell(SERVES),
            News::Draining => self.news.tell(DRAINING),
            // The worker tells that by closing its end.
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
