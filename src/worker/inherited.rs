//! The things that a worker gets from the master: those of every worker, and those of one configuration.
//!
//! The master makes both before it forks. Invariant: a worker keeps no other descriptor.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;

use nix::sys::eventfd::EventFd;
use shm::Segment;
use socket2::Socket;

use crate::config::Config;
use crate::sandbox;
use crate::session::IssueTokens;
use crate::sys::pipe::Pipe;
use crate::sys::process;
use crate::sys::sink::Sink;
use crate::tls::Acceptor;

/// Standard input, output and error, both descriptors of the channel, the epoll instance and a copy of that.
const OWN_DESCRIPTORS: usize = 7;

/// The things that the master makes once, for every worker there will be.
#[derive(Debug)]
pub struct Inherited {
    /// The shared memory.
    pub segment: Segment,
    /// The eventfd that wakes each worker, by record.
    pub wakers: Vec<EventFd>,
    /// The pipes through which payload passes without being copied: as many as the segment has tags for.
    pub pipes: Vec<Pipe>,
}

/// The things that the master opens for the workers of one configuration, until the next reload.
#[derive(Debug)]
pub struct Resources {
    /// The settings.
    pub config: Config,
    /// The listening sockets, in the order of the settings. The next generation keeps those whose address stays.
    pub listeners: Vec<Rc<TcpListener>>,
    /// The acceptor of each listener that speaks TLS, in the same order.
    pub acceptors: Vec<Option<Acceptor>>,
    /// The tokens that a request for a session may have to bring.
    pub issue_tokens: IssueTokens,
    /// The admin listener, if there is one.
    pub admin: Option<Rc<Socket>>,
    /// The access log, if there is one.
    pub access: Option<Sink>,
}

impl Resources {
    /// The listening sockets, each with its URL.
    pub fn listened_on(&self) -> impl Iterator<Item = (&Rc<TcpListener>, String)> {
        let each = self.listeners.iter().zip(&self.acceptors);
        each.filter_map(|(listener, acceptor)| {
            let scheme = if acceptor.is_some() { "https" } else { "http" };
            Some((listener, format!("{scheme}://{}", listener.local_addr().ok()?)))
        })
    }

    /// The descriptors that a worker with this `channel` shares with others.
    pub(super) fn shared(&self, channel: [RawFd; 2]) -> sandbox::Shared {
        let mut fds = channel.to_vec();
        fds.extend(self.listeners.iter().map(|listener| listener.as_raw_fd()));
        fds.extend(self.admin.iter().map(|listener| listener.as_raw_fd()));
        sandbox::Shared { fds, log: self.access.as_ref().map(|log| log.as_fd().as_raw_fd()) }
    }
}

impl Inherited {
    /// The number of descriptors that a worker with `resources` has apart from its connections'.
    #[must_use]
    pub fn descriptors(&self, resources: &Resources) -> usize {
        self.keep(resources).len().saturating_add(OWN_DESCRIPTORS)
    }

    /// The descriptors that a worker with `resources` keeps apart from standard input, output and error. The segment is
    /// mapped.
    pub(super) fn keep(&self, resources: &Resources) -> Vec<RawFd> {
        let mut keep = process::raw(&self.wakers);
        keep.extend(self.pipes.iter().flat_map(Pipe::fds));
        keep.extend(resources.listeners.iter().map(|listener| listener.as_raw_fd()));
        keep.extend(resources.admin.iter().map(|listener| listener.as_raw_fd()));
        keep.extend(resources.access.iter().map(|log| log.as_fd().as_raw_fd()));
        keep
    }
}
