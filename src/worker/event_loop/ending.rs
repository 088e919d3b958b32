//! The end of a worker: it drains or stops when the master says so, and ends with its last connection or in time.

use shm::Phase;

use super::Worker;
use crate::admin::Admin;
use crate::relay::Cx;
use crate::sys::title;
use crate::worker;
use crate::worker::channel::News;

/// The state of the worker. It accepts new connections while it serves, and ends with its last connection after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Serving,
    /// The workers of another generation have taken over. A client may wait for its peer until then; `None`: no client
    /// waits any more.
    Draining {
        waits_end_ms: Option<u64>,
    },
    /// No client waits any more, and a transfer that still runs then is cut off.
    Stopping {
        ends_ms: u64,
    },
    Ended,
}

impl State {
    /// The time when the worker looks again though nothing has happened.
    pub(super) fn next_look_ms(self) -> Option<u64> {
        match self {
            Self::Serving | Self::Ended => None,
            Self::Draining { waits_end_ms } => waits_end_ms,
            Self::Stopping { ends_ms } => Some(ends_ms),
        }
    }
}

impl Worker {
    /// Drains: the workers of another generation have taken over. This worker accepts no new connections, and serves
    /// its own to their end. Their clients still meet the clients of other workers, in the segment.
    pub(super) fn drain(&mut self, now_ms: u64) {
        title::set(&format!("{} draining", worker::title(self.env.owner.worker)));
        let cx = Cx { env: &self.env, now_ms };
        let waits_end_ms = cx.after(cx.env.config.timeouts.drain_timeout);
        self.state = State::Draining { waits_end_ms: Some(waits_end_ms) };
        self.env.record.enter(Phase::Draining);
        self.listeners.close(&self.poll);
        let last = self.listeners.accept_last();
        self.take_in(last, now_ms);
        // A master that is not told waits only until its timeout.
        let _ = self.channel.tell(News::Draining);
        self.connections.drain(Cx { env: &self.env, now_ms });
    }

    pub(super) fn may_stop(&self) -> bool {
        matches!(self.state, State::Serving | State::Draining { .. })
    }

    /// Begins the graceful stop: accepts no new connections, sends away clients that wait, and lets transfers finish.
    pub(super) fn stop(&mut self, now_ms: u64) {
        let cx = Cx { env: &self.env, now_ms };
        self.state = State::Stopping { ends_ms: cx.after(cx.env.config.timeouts.stop_timeout) };
        self.env.record.enter(Phase::Draining);
        self.listeners.close(&self.poll);
        self.connections.stop(cx);
    }

    pub(super) fn leave_in_time(&mut self, now_ms: u64) {
        if let State::Draining { waits_end_ms: Some(waits_end_ms) } = self.state
            && now_ms >= waits_end_ms
        {
            self.state = State::Draining { waits_end_ms: None };
            self.connections.stop(Cx { env: &self.env, now_ms });
        }
        let is_asked = self.admin.as_ref().is_some_and(Admin::is_asked);
        // A pipe must not keep bytes of a cut transfer: there may be no successor to empty it.
        let is_done = self.connections.is_empty() && !self.env.shared().pool().may_be_dirty();
        let is_over = match self.state {
            State::Serving => false,
            State::Draining { .. } => is_done && !is_asked,
            State::Stopping { ends_ms } => now_ms >= ends_ms || (is_done && !is_asked),
            State::Ended => true,
        };
        if is_over {
            self.state = State::Ended;
        }
    }

    /// A worker that drains serves the admin listener to its end: it may be the last worker that can.
    pub(super) fn leave_admin(&mut self, now_ms: u64) {
        let drains = matches!(self.state, State::Draining { .. });
        let is_done = drains && self.connections.is_empty();
        if let Some(admin) = self.admin.as_mut().filter(|_| is_done) {
            admin.close(&self.poll, now_ms);
        }
    }
}
