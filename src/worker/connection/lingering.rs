//! The end of a connection: the client sees our last answer, or an end between two requests, and not a reset.

use super::{AGAIN, CLOSE, Connection, State, Step, WAIT};
use crate::relay::{Cx, Turn};
use crate::sys::{RecvOutcome, SendOutcome};

/// Bytes read at a time only to be dropped.
const DROP_READ_BYTES: usize = 16384;
/// Reads of those in one turn: a transfer may move at least four times as much.
const DROP_READS_MAX: usize = 4;

impl Connection {
    /// Ends the connection between two requests.
    pub(super) fn leave(&mut self, cx: Cx<'_>) -> Turn<()> {
        if self.stream.say_goodbye() == SendOutcome::WouldBlock {
            self.linger(cx);
            return Turn::Again;
        }
        Turn::Over(())
    }

    /// Ends an idle connection, unless something has come that epoll has not reported yet. A request that crosses our
    /// FIN is read and dropped: its client sees an end without an answer and not a reset, so it knows that nobody took
    /// the request.
    pub(super) fn close_idle(&mut self, cx: Cx<'_>) {
        if !self.stream.look_for_more() {
            self.linger(cx);
        }
    }

    /// Stays for a while, until the client has seen the end.
    pub(super) fn linger(&mut self, cx: Cx<'_>) {
        self.inbox = Vec::new();
        self.state = State::Linger { bytes_left: cx.env.config.limits.linger_bytes_max };
        if !self.is_turned_away {
            self.deadline_ms = cx.after(cx.env.config.timeouts.linger_timeout);
        }
    }

    /// Sends our end as soon as there is room for it. Reads and drops what the client sends, without parsing, within
    /// bounds.
    pub(super) fn drop_rest(&mut self, now_ms: u64) -> Step {
        let State::Linger { bytes_left } = &mut self.state else { return AGAIN };
        let is_said = self.stream.shut();
        let mut room = [0; DROP_READ_BYTES];
        for _ in 0..DROP_READS_MAX {
            if now_ms >= self.deadline_ms {
                return CLOSE;
            }
            match *bytes_left {
                0 if is_said && self.stream.is_leaving() => return CLOSE,
                // A client whose bytes are not read stops sending, and then sees its answer. A close would be a reset
                // to it.
                0 => return WAIT,
                _ => {}
            }
            match self.stream.recv(&mut room) {
                RecvOutcome::Bytes(bytes) => *bytes_left = bytes_left.saturating_sub(bytes as u64),
                RecvOutcome::WouldBlock => return WAIT,
                // The client may read on all the same.
                RecvOutcome::Eof if !is_said => return WAIT,
                RecvOutcome::Eof | RecvOutcome::Broken => return CLOSE,
            }
        }
        AGAIN
    }
}
