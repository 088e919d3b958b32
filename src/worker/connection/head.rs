//! Reading the head of a request, and beginning what the request asks for.

use super::rereading::Rereading;
use super::{AGAIN, CLOSE, Connection, ControlFlow, NEXT, Service, State, Step, WAIT};
use crate::address::Scheme;
use crate::api::RequestInfo;
use crate::http::{self, CONTINUE, Fault, FieldRoom, HeadLimits, Parsed, Status};
use crate::pair::Dialect;
use crate::relay::{Cx, Env};
use crate::sys::RecvOutcome;
use crate::tally::Tally;
use crate::worker::action::Routed;
use crate::worker::admission::TurnedAway;
use crate::worker::incoming::Incoming;
use crate::worker::pair::Pair;
use crate::worker::target::Target;
use crate::worker::transaction::log_entry;
use crate::worker::{request, route};

/// Bytes read at a time while a head is awaited: a head and a small body come in one call, and a client that waits and
/// has sent its body too early does not make us hold much.
const HEAD_READ_BYTES: usize = 1536;
/// Reads in one turn while a head is awaited: with more the head is long, and the next turn goes on.
const HEAD_READS_MAX: usize = 16;

impl Connection {
    pub(super) fn read_head(&mut self, cx: Cx<'_>) -> Step {
        for _ in 0..HEAD_READS_MAX {
            if self.begin_pair(cx) {
                return NEXT;
            }
            if self.rereading.is_due(&self.inbox, cx.env.config.limits.head_bytes_max)
                && self.parse_head(cx)
            {
                self.rereading = Rereading::default();
                return NEXT;
            }
            let begins = self.inbox.is_empty();
            if let Err(step) = self.read_more(cx) {
                return step;
            }
            if begins {
                self.deadline_ms = cx.after(cx.env.config.timeouts.head_timeout);
            }
        }
        AGAIN
    }

    /// Begins a party of a pair, if the first byte of the connection is one of a dialect that the listener takes.
    fn begin_pair(&mut self, cx: Cx<'_>) -> bool {
        let State::Head { is_kept_alive: false } = self.state else { return false };
        let Some(first) = self.inbox.first().copied().filter(|_| self.protocols.pair) else {
            return false;
        };
        // A listener that takes no HTTP reads everything else as the line that it is not.
        let other = (!self.protocols.http).then_some(Dialect::Transit);
        let Some(dialect) = Dialect::of(first).or(other) else { return false };
        cx.env.count(Tally::Request);
        match self.admission.count_for(cx, self.remote.address) {
            Ok(()) => self.state = State::Pair(self.pair(cx, dialect)),
            Err(why) => self.turn_pair_away(cx, dialect, why),
        }
        true
    }

    fn pair(&self, cx: Cx<'_>, dialect: Dialect) -> Box<Pair> {
        Box::new(Pair::new(dialect, self.remote.address, self.deadline_ms, cx.now_ms))
    }

    /// Turns the connection away, in the words of a dialect.
    pub(super) fn turn_pair_away(&mut self, cx: Cx<'_>, dialect: Dialect, why: TurnedAway) {
        let mut pair = self.pair(cx, dialect);
        let (_, mut transport) = self.split();
        pair.turn_away(cx, &mut transport, why.why());
        self.state = State::Pair(pair);
        self.hurry(cx);
    }

    /// Reads the head in the inbox, and begins what it asks for. `false`: it is not complete.
    fn parse_head(&mut self, cx: Cx<'_>) -> bool {
        let config = cx.env.config;
        let limits = HeadLimits {
            head_bytes_max: config.limits.head_bytes_max,
            header_fields_max: config.limits.header_fields_max,
        };
        let mut room = FieldRoom::default();
        let (request, bytes) = match http::parse(&self.inbox, &limits, &mut room) {
            Ok(Parsed::Complete(request, bytes)) => (request, bytes),
            Ok(Parsed::Partial) => return false,
            Err(fault) => {
                self.refuse_head(cx, fault);
                return true;
            }
        };
        let (head, behind) = self.inbox.split_at_checked(bytes).unwrap_or((&self.inbox, &[]));
        let target = Target::parse(request.path, &config.messages.mount);
        let body_bytes = match target.takes_body(request.method) {
            true => Some(0),
            false => request::empty_body_bytes(&config.limits, request.framing, behind),
        };
        let Some(body_bytes) = body_bytes else {
            if request.expects_continue && behind.is_empty() {
                self.say_continue();
            }
            return false;
        };
        // The request may have come since this turn began, and with it the acknowledgement of the last report.
        self.report_watch.look(cx, &self.stream, &self.outbox);
        cx.env.count(Tally::Request);
        let client = self.remote.client(&request, &config.trusted_proxies);
        let cors = config.cors.origins.judge(|| request.field("origin"));
        let info = RequestInfo::new(&request, client, body_bytes, cors);
        let own = if self.stream.is_encrypted() { Scheme::Https } else { Scheme::Http };
        let origin = self.remote.origin(&request, own, || self.stream.local_address());
        let incoming = Incoming { request: &request, info: &info, origin: &origin };
        if let Err(why) = self.admission.count_for(cx, client) {
            // The role comes first: the look-up names the session for this request's entry.
            let role = route::role(cx, incoming, &target);
            let entry = log_entry(cx, incoming, target.api(), head);
            self.turn_away(cx, RequestInfo { role, ..info }, entry, why);
            return true;
        }
        let Routed { action, role } = route::route(cx, incoming, &target);
        let entry = log_entry(cx, incoming, target.api(), head);
        self.consume(bytes.saturating_add(body_bytes));
        self.said_continue = false;
        self.begin_transaction(cx, RequestInfo { role, ..info }, entry, action);
        true
    }

    /// Tells a client that holds back a body, which is read with its head, to go on with it; once.
    fn say_continue(&mut self) {
        if !std::mem::replace(&mut self.said_continue, true) {
            self.outbox.bytes().extend_from_slice(CONTINUE);
            // The socket has room for it.
            self.outbox.flush(&mut self.stream);
        }
    }

    /// Reads more bytes of a PROXY line or a head. `Err`: there is nothing to read, and this step comes next.
    pub(super) fn read_more(&mut self, cx: Cx<'_>) -> Result<(), Step> {
        let mut room = [0; HEAD_READ_BYTES];
        match self.stream.recv(&mut room) {
            RecvOutcome::Bytes(bytes) => {
                self.inbox.extend_from_slice(room.get(..bytes).unwrap_or_default());
                Ok(())
            }
            RecvOutcome::WouldBlock => Err(self.await_head(cx)),
            RecvOutcome::Eof => Err(ControlFlow::Break(self.leave(cx))),
            RecvOutcome::Broken => Err(CLOSE),
        }
    }

    fn await_head(&mut self, cx: Cx<'_>) -> Step {
        if self.inbox.is_empty() {
            if self.service == Service::Ending {
                return ControlFlow::Break(self.leave(cx));
            }
            if cx.now_ms >= self.deadline_ms {
                self.close_idle(cx);
                return NEXT;
            }
        }
        if cx.now_ms < self.deadline_ms {
            return WAIT;
        }
        let text = match self.state {
            State::ProxyLine(_) => "the PROXY protocol line did not come in time",
            _ => "the request's head did not come in time",
        };
        self.refuse(cx, self.unreadable(cx.env), Status::RequestTimeout, text);
        NEXT
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.inbox.drain(..bytes.min(self.inbox.len()));
        // A connection that waits holds no more than it must.
        self.inbox.shrink_to_fit();
    }

    fn refuse_head(&mut self, cx: Cx<'_>, fault: Fault) {
        let info = self.unreadable(cx.env);
        self.refuse(cx, info, fault.status(), &fault.to_string());
    }

    /// The assumptions about a request whose head is in the inbox, and cannot be read.
    fn unreadable(&self, env: &Env) -> RequestInfo {
        let head_only = http::begins_head_request(&self.inbox);
        let cors = env.config.cors.origins.judge(|| http::origin_in(&self.inbox));
        RequestInfo { head_only, ..RequestInfo::unreadable(self.remote.address, cors) }
    }
}
