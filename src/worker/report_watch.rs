//! The watch over a delivery report, until its sender has it.
//!
//! A session that is over remembers whether its sender knows that all was delivered. The connection asks the kernel for
//! that, whenever it is driven and at intervals, until the client's TCP has acknowledged the answer. Invariant: a
//! session that is watched learns the result once, at the latest when the connection closes.

use shm::{SessionRef, Told};

use crate::relay::{Cx, Env, Outbox};
use crate::stream::Stream;

/// The interval at which the kernel is asked whether the client's TCP has acknowledged an answer.
const LOOK_MS: u64 = 100;

/// The watch over one connection's last report, if its last answer was one.
#[derive(Debug, Default)]
pub(super) struct ReportWatch(Option<Watched>);

#[derive(Clone, Copy, Debug)]
struct Watched {
    session: SessionRef,
    next_look_ms: u64,
}

impl ReportWatch {
    /// Begins the watch over the next answer, if that is the report of a session. A client that has sent the next
    /// request after the last report is taken to have that report.
    pub(super) fn begin(&mut self, cx: Cx<'_>, session: Option<SessionRef>) {
        self.end(cx.env, Told::Told);
        let next_look_ms = cx.now_ms.saturating_add(LOOK_MS);
        self.0 = session.map(|session| Watched { session, next_look_ms });
    }

    /// Checks whether the client has the report. Both ends may have closed by now: an acknowledgement counts anyway.
    pub(super) fn look(&mut self, cx: Cx<'_>, stream: &Stream, outbox: &Outbox) {
        let Some(watched) = &mut self.0 else { return };
        if outbox.is_empty() && stream.unacknowledged() == 0 {
            self.end(cx.env, Told::Told);
        } else {
            watched.next_look_ms = cx.now_ms.saturating_add(LOOK_MS);
        }
    }

    /// Ends the watch with the connection: what is not acknowledged by now never will be.
    pub(super) fn close(&mut self, env: &Env, stream: &Stream, outbox: &Outbox) {
        if self.0.is_some() {
            let is_told = outbox.is_empty() && stream.unacknowledged() == 0;
            self.end(env, if is_told { Told::Told } else { Told::Untold });
        }
    }

    /// The time of the next check.
    pub(super) fn next_look_ms(&self) -> u64 {
        self.0.map_or(u64::MAX, |watched| watched.next_look_ms)
    }

    fn end(&mut self, env: &Env, told: Told) {
        if let Some(Watched { session, .. }) = self.0.take() {
            env.shared().end_telling(session, told, env.owner);
        }
    }
}
