//! Accepting connections: in turn with the other workers, a few at a time.

use crate::config::{self, Protocols};
use crate::sys::{epoll, listener};
use crate::tls::Acceptor;
use mio::{Poll, Token};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;

/// Connections accepted in a row before another worker is woken for the next, for each millisecond since the last ones:
/// an attack that makes rounds long must not make newcomers wait for more of them.
const ACCEPTS_MAX: usize = 4;
/// A round that takes longer counts as one of so many milliseconds, so that the number accepted at once is bounded.
const ROUND_MS_MAX: u64 = 16;
/// Connections taken in at the end from each listener.
const LAST_ACCEPTS_MAX: usize = 256;
/// The pause of a listener that cannot be accepted from, most likely for lack of descriptors: without a pause the
/// kernel would report it again at once, for ever.
const PAUSE_MS: u64 = 100;

/// A connection that was just accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    /// The address of the remote.
    pub(super) remote: IpAddr,
    pub(super) protocols: Protocols,
    /// A PROXY line comes before anything else.
    pub(super) proxy_protocol: bool,
    /// TLS follows, with this acceptor.
    pub(super) acceptor: Option<&'static Acceptor>,
}

impl Accepted {
    fn new(
        socket: TcpStream,
        remote: SocketAddr,
        settings: &config::Listener,
        acceptor: Option<&'static Acceptor>,
    ) -> Self {
        Self {
            socket,
            remote: remote.ip().to_canonical(),
            protocols: settings.protocols,
            proxy_protocol: settings.proxy_protocol,
            acceptor,
        }
    }
}

/// The shared listeners, as one worker watches them.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: &'static [Rc<TcpListener>],
    /// The settings of each, in the same order.
    settings: &'static [config::Listener],
    /// The acceptor of each that speaks TLS.
    acceptors: &'static [Option<Acceptor>],
    first_token: usize,
    watched: bool,
    resumes_ms: Option<u64>,
    /// Connections that are accepted in a row, this round.
    accepts_max: usize,
}

impl Listeners {
    pub(super) fn new(
        poll: &Poll,
        sockets: &'static [Rc<TcpListener>],
        settings: &'static [config::Listener],
        acceptors: &'static [Option<Acceptor>],
        first_token: usize,
    ) -> io::Result<Self> {
        let (watched, resumes_ms, accepts_max) = (false, None, ACCEPTS_MAX);
        let mut listeners =
            Self { sockets, settings, acceptors, first_token, watched, resumes_ms, accepts_max };
        listeners.watch(poll)?;
        Ok(listeners)
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// The time when paused listeners are watched again.
    pub(super) fn resumes_ms(&self) -> Option<u64> {
        self.resumes_ms
    }

    /// Takes the duration of the last round into account.
    pub(super) fn pace(&mut self, round_ms: u64) {
        self.accepts_max = accepts_max(round_ms);
    }

    /// Accepts a few from listener `index`, then lets other workers go first.
    pub(super) fn accept(&mut self, poll: &Poll, index: usize, now_ms: u64) -> Vec<Accepted> {
        let accepted = self.accept_some(poll, index, now_ms);
        let Some(listener) = self.sockets.get(index).filter(|_| self.watched) else {
            return accepted;
        };
        let again = epoll::remove(poll, listener.as_raw_fd())
            .and_then(|()| self.watch_one(poll, index, listener));
        if let Err(error) = again {
            self.put_off(poll, &error, now_ms);
        }
        accepted
    }

    /// Accepts a few from each listener without an event: the kernel wakes one worker for a connection, and that worker
    /// may have died or may hang.
    pub(super) fn look(&mut self, poll: &Poll, now_ms: u64) -> Vec<Accepted> {
        let indices = 0..self.sockets.len();
        indices.flat_map(|index| self.accept_some(poll, index, now_ms)).collect()
    }

    /// Accepts a few from listener `index`, if the listeners are watched.
    fn accept_some(&mut self, poll: &Poll, index: usize, now_ms: u64) -> Vec<Accepted> {
        let mut accepted = Vec::new();
        let both = self.sockets.get(index).zip(self.settings.get(index));
        let Some((listener, settings)) = both.filter(|_| self.watched) else {
            return accepted;
        };
        let acceptor = self.acceptors.get(index).and_then(Option::as_ref);
        for _ in 0..self.accepts_max {
            match listener::accept(listener) {
                Ok((socket, remote)) => {
                    accepted.push(Accepted::new(socket, remote, settings, acceptor));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_about_one_connection(&error) => {}
                // The master has stopped listening, and will tell us why.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.unwatch(poll);
                    return accepted;
                }
                Err(error) => {
                    tracing::warn!(%error, pause_ms = PAUSE_MS, "cannot accept connections");
                    self.pause(poll, now_ms);
                    return accepted;
                }
            }
        }
        accepted
    }

    /// Accepts connections that came before this worker left the listeners: the kernel may have woken this worker alone
    /// for them. A connection that is not taken in here comes to another worker together with the next one.
    pub(super) fn accept_last(&mut self) -> Vec<Accepted> {
        let mut accepted = Vec::new();
        let each = self.sockets.iter().zip(self.settings).zip(self.acceptors);
        for ((listener, settings), acceptor) in each {
            for _ in 0..LAST_ACCEPTS_MAX {
                match listener::accept(listener) {
                    Ok((socket, remote)) => {
                        accepted.push(Accepted::new(socket, remote, settings, acceptor.as_ref()));
                    }
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(_) => break,
                }
            }
        }
        accepted
    }

    /// Watches the listeners again if their pause is over.
    pub(super) fn resume(&mut self, poll: &Poll, now_ms: u64) {
        if self.resumes_ms.is_some_and(|at_ms| at_ms <= now_ms)
            && let Err(error) = self.watch(poll)
        {
            self.put_off(poll, &error, now_ms);
        }
    }

    /// Accepts no more.
    pub(super) fn close(&mut self, poll: &Poll) {
        self.resumes_ms = None;
        self.unwatch(poll);
    }

    /// Pauses: the kernel most likely has no memory for the watch. Other workers accept meanwhile, and the connections
    /// that are served here must not suffer for it.
    fn put_off(&mut self, poll: &Poll, error: &io::Error, now_ms: u64) {
        tracing::warn!(%error, pause_ms = PAUSE_MS, "cannot watch the listeners");
        self.pause(poll, now_ms);
    }

    fn pause(&mut self, poll: &Poll, now_ms: u64) {
        self.unwatch(poll);
        self.resumes_ms = Some(now_ms.saturating_add(PAUSE_MS));
    }

    fn watch(&mut self, poll: &Poll) -> io::Result<()> {
        // This undoes a watch that only some listeners got as well.
        self.watched = true;
        for (index, listener) in self.sockets.iter().enumerate() {
            self.watch_one(poll, index, listener)?;
        }
        self.resumes_ms = None;
        Ok(())
    }

    fn watch_one(&self, poll: &Poll, index: usize, listener: &TcpListener) -> io::Result<()> {
        epoll::add_exclusive(poll, listener.as_raw_fd(), Token(self.first_token + index))
    }

    fn unwatch(&mut self, poll: &Poll) {
        if std::mem::replace(&mut self.watched, false) {
            for listener in self.sockets {
                // The call fails for a listener that is not watched, which is the intended state.
                let _ = epoll::remove(poll, listener.as_raw_fd());
            }
        }
    }
}

/// Connections to accept in a row after a round that took so long.
fn accepts_max(round_ms: u64) -> usize {
    let rounds = round_ms.clamp(1, ROUND_MS_MAX);
    ACCEPTS_MAX.saturating_mul(usize::try_from(rounds).unwrap_or(1))
}

/// Whether the error concerns one connection alone: accept(2) passes on what went wrong with the next one.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    let kinds = [
        ConnectionAborted,
        ConnectionReset,
        HostUnreachable,
        Interrupted,
        NetworkDown,
        NetworkUnreachable,
    ];
    kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::accepts_max;

    #[test]
    fn a_long_round_accepts_more_and_never_without_bound() {
        assert_eq!([0, 1, 10, 16, u64::MAX].map(accepts_max), [4, 4, 40, 64, 64]);
    }
}
