//! The connection of one client: its transport, and its state between two requests.
//!
//! The worker drives it whenever its socket, its session's bell or its deadline gives a reason. A state is named by
//! what it waits for. Requests are served one after the other, each as a [`Transaction`]: the connection looks at the
//! next request only after the last one is answered.

mod arrival;
mod head;
mod lingering;
mod rereading;
mod view;

use std::net::IpAddr;
use std::ops::ControlFlow;

use super::action::Action;
use super::admission::{Admission, TurnedAway};
use super::origin::Remote;
use super::pair::Pair;
use super::report_watch::ReportWatch;
use super::transaction::{Done, Service, Standstill, Transaction, Transport};
use crate::access::LogEntry;
use crate::api::{Answer, RequestInfo};
use crate::config::Protocols;
use crate::http::Status;
use crate::pair::Dialect;
use crate::relay::{Cx, Env, Io, Outbox, Turn};
use crate::stream::Stream;
use crate::tls::Acceptor;
use rereading::Rereading;

/// Steps in one turn: about ten requests that a client has sent in a row.
const STEPS_MAX: usize = 32;
/// The time that a kept-alive connection may stay silent once the worker drains. A client that uses it all the time
/// sends its next request before that, and is answered `Connection: close`. For any other client this end is as good as
/// an idle timeout.
const LAST_IDLE_MS: u64 = 1000;

/// The connection of one client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    remote: Remote,
    protocols: Protocols,
    /// The client of the last request, as far as that is known.
    client: IpAddr,
    admission: Admission,
    /// Bytes that were read and belong to what comes next.
    inbox: Vec<u8>,
    /// The part of the head in the inbox that was read.
    rereading: Rereading,
    outbox: Outbox,
    state: State,
    /// The time when it is driven though nothing has happened; a transaction has its own.
    deadline_ms: u64,
    service: Service,
    /// The client was told to continue with a body that is read with its head.
    said_continue: bool,
    /// The connection is only told why it is not served.
    is_turned_away: bool,
    report_watch: ReportWatch,
}

#[derive(Debug)]
enum State {
    /// Waits for a trusted proxy's line. TLS follows where there is an acceptor.
    ProxyLine(Option<&'static Acceptor>),
    /// Waits for the TLS handshake.
    Handshake,
    /// Waits for a request's head, or for the first byte of a pair's dialect.
    Head {
        /// The client was told that the connection goes on after an earlier request.
        is_kept_alive: bool,
    },
    /// Serves a request.
    Transaction(Transaction),
    /// Serves a party of a pair.
    Pair(Box<Pair>),
    /// Waits for the client's end, so that the client sees our answer and not a reset.
    Linger { bytes_left: u64 },
}

/// The state before the first request of a connection.
const FIRST_HEAD: State = State::Head { is_kept_alive: false };

/// The result of one step: go on with the next one, or end this turn. A turn that is over ends the connection.
type Step = ControlFlow<Turn<()>>;

const NEXT: Step = ControlFlow::Continue(());
const WAIT: Step = ControlFlow::Break(Turn::Wait);
const AGAIN: Step = ControlFlow::Break(Turn::Again);
const CLOSE: Step = ControlFlow::Break(Turn::Over(()));

/// An accepted connection, and the way it begins.
pub(super) struct Opening {
    pub(super) stream: Stream,
    pub(super) remote: Remote,
    pub(super) protocols: Protocols,
    pub(super) preamble: Preamble,
}

/// The bytes that a listener expects before anything else.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preamble {
    /// The first request, or the TLS handshake where the stream is encrypted already.
    None,
    /// A trusted proxy's line. TLS follows where there is an acceptor.
    ProxyLine(Option<&'static Acceptor>),
}

impl Connection {
    /// A connection that is served, if it begins as its listener expects.
    pub(super) fn new(cx: Cx<'_>, opening: Opening, admission: Admission) -> Self {
        let Opening { stream, remote, protocols, preamble } = opening;
        let mut connection = Self::begin(cx, stream, remote);
        connection.admission = admission;
        connection.protocols = protocols;
        match preamble {
            Preamble::ProxyLine(acceptor) if remote.is_proxy => {
                connection.state = State::ProxyLine(acceptor);
            }
            Preamble::ProxyLine(_) => connection.refuse_direct(cx),
            Preamble::None if connection.stream.is_encrypted() => connection.begin_handshake(cx),
            Preamble::None => {}
        }
        connection
    }

    /// A connection that is only told why it is not served.
    pub(super) fn turned_away(cx: Cx<'_>, opening: Opening, why: TurnedAway) -> Self {
        let mut connection = Self::begin(cx, opening.stream, opening.remote);
        connection.protocols = opening.protocols;
        connection.turn_away_early(cx, why);
        connection
    }

    /// Turns away a client that has not said yet what it speaks: by HTTP, where the listener takes that.
    fn turn_away_early(&mut self, cx: Cx<'_>, why: TurnedAway) {
        if self.protocols.http {
            let info = self.no_request(cx.env);
            self.turn_away(cx, info, None, why);
        } else {
            self.turn_pair_away(cx, Dialect::Transit, why);
        }
    }

    fn begin(cx: Cx<'_>, stream: Stream, remote: Remote) -> Self {
        Self {
            stream,
            remote,
            protocols: Protocols::HTTP,
            client: remote.address,
            admission: Admission::default(),
            inbox: Vec::new(),
            rereading: Rereading::default(),
            outbox: Outbox::default(),
            state: FIRST_HEAD,
            deadline_ms: cx.after(cx.env.config.timeouts.head_timeout),
            service: Service::Lasting,
            said_continue: false,
            is_turned_away: false,
            report_watch: ReportWatch::default(),
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Does everything that can be done now.
    pub(super) fn drive(&mut self, cx: Cx<'_>) -> Turn<()> {
        self.report_watch.look(cx, &self.stream, &self.outbox);
        for _ in 0..STEPS_MAX {
            let step = match self.state {
                State::ProxyLine(acceptor) => self.read_proxy_line(cx, acceptor),
                State::Handshake => self.handshake(cx),
                State::Head { .. } => self.read_head(cx),
                State::Transaction(_) | State::Pair(_) => self.serve(cx),
                State::Linger { .. } => self.drop_rest(cx.now_ms),
            };
            if let ControlFlow::Break(turn) = step {
                return turn;
            }
        }
        Turn::Again
    }

    /// Leaves the place that the connection holds, and gives back its permit.
    pub(super) fn close(&mut self, env: &Env) {
        match &mut self.state {
            State::Transaction(transaction) => transaction.close(env, self.outbox.rest().len()),
            State::Pair(pair) => pair.close(env, &self.stream),
            _ => {}
        }
        self.report_watch.close(env, &self.stream, &self.outbox);
        self.admission.give_back(env);
    }

    /// Logs a transfer that is cut off because the worker ends.
    pub(super) fn log_cut_off(&mut self, env: &Env) {
        self.report_watch.close(env, &self.stream, &self.outbox);
        match &mut self.state {
            State::Transaction(transaction) => {
                transaction.log_cut_off(env, self.outbox.rest().len());
            }
            State::Pair(pair) => pair.log_cut_off(env),
            _ => {}
        }
    }

    /// Drains: a client that was told that the connection goes on may send one more request, if that is on its way.
    pub(super) fn drain(&mut self, cx: Cx<'_>) -> Turn<()> {
        self.service = Service::LastAnswer;
        if let State::Head { is_kept_alive: true } = self.state
            && self.inbox.is_empty()
        {
            self.deadline_ms = self.deadline_ms.min(cx.now_ms.saturating_add(LAST_IDLE_MS));
        }
        Turn::Again
    }

    /// Stops: sends away a client that only waits, and lets a transfer finish.
    pub(super) fn stop(&mut self, cx: Cx<'_>) -> Turn<()> {
        self.service = Service::Ending;
        match &self.state {
            State::Handshake if self.stream.is_silent() => Turn::Over(()),
            State::ProxyLine(_) | State::Head { .. }
                if self.inbox.is_empty() && self.stream.unread() == 0 =>
            {
                self.leave(cx)
            }
            // The turn finds out whether the client waits, or its peer has begun and we have not heard the bell yet.
            _ => Turn::Again,
        }
    }

    /// Gives way to another client. An idle connection gets no answer.
    pub(super) fn give_way(&mut self, cx: Cx<'_>) -> Turn<()> {
        if self.standstill() != Some(Standstill::Waiting) {
            return Turn::Over(());
        }
        match self.split() {
            (State::Transaction(transaction), mut transport) => {
                let answer = TurnedAway::Full.answer(transaction.info());
                transaction.displace(cx, &mut transport, &answer);
            }
            (State::Pair(pair), mut transport) => pair.displace(cx, &mut transport),
            _ => return Turn::Over(()),
        }
        self.hurry(cx);
        Turn::Again
    }

    /// The state, and the transport for what is served in it.
    fn split(&mut self) -> (&mut State, Transport<'_>) {
        let io = Io { stream: &mut self.stream, inbox: &mut self.inbox, outbox: &mut self.outbox };
        let (service, report_watch) = (self.service, &mut self.report_watch);
        (&mut self.state, Transport { io, service, report_watch })
    }

    /// Does the next step of what is served.
    fn serve(&mut self, cx: Cx<'_>) -> Step {
        let step = match self.split() {
            (State::Transaction(transaction), mut transport) => {
                transaction.step(cx, &mut transport)
            }
            (State::Pair(pair), mut transport) => pair.step(cx, &mut transport),
            _ => return NEXT,
        };
        match step {
            ControlFlow::Continue(()) => NEXT,
            ControlFlow::Break(Turn::Wait) => WAIT,
            ControlFlow::Break(Turn::Again) => AGAIN,
            ControlFlow::Break(Turn::Over(Done::Close)) => CLOSE,
            ControlFlow::Break(Turn::Over(Done::Linger)) => {
                self.linger(cx);
                NEXT
            }
            ControlFlow::Break(Turn::Over(Done::GoesOn)) => {
                self.await_next(cx);
                NEXT
            }
        }
    }

    /// Waits for the next request.
    fn await_next(&mut self, cx: Cx<'_>) {
        if self.remote.is_proxy {
            // The next request may be another client's.
            self.admission.give_back(cx.env);
        }
        // An idle connection holds no buffer.
        self.outbox = Outbox::default();
        self.state = State::Head { is_kept_alive: true };
        let timeouts = &cx.env.config.timeouts;
        self.deadline_ms = match self.service {
            _ if !self.inbox.is_empty() => cx.after(timeouts.head_timeout),
            Service::Lasting => cx.after(timeouts.idle_timeout),
            Service::LastAnswer | Service::Ending => cx.now_ms.saturating_add(LAST_IDLE_MS),
        };
    }

    /// Begins to carry out `action`, which a request asks for.
    fn begin_transaction(
        &mut self,
        cx: Cx<'_>,
        info: RequestInfo,
        log_entry: Option<Box<LogEntry>>,
        action: Action,
    ) {
        self.client = info.client;
        let (_, mut transport) = self.split();
        let transaction = Transaction::begin(cx, &mut transport, info, log_entry, action);
        self.state = State::Transaction(transaction);
    }

    /// Answers a request that could not be read.
    fn refuse(&mut self, cx: Cx<'_>, info: RequestInfo, status: Status, text: &str) {
        let answer = Answer::error(status, text, &info);
        self.begin_transaction(cx, info, None, answer.into());
    }

    fn turn_away(
        &mut self,
        cx: Cx<'_>,
        info: RequestInfo,
        log_entry: Option<Box<LogEntry>>,
        why: TurnedAway,
    ) {
        let info = RequestInfo { keep_alive: false, ..info };
        let answer = why.answer(&info);
        self.begin_transaction(cx, info, log_entry, answer.into());
        self.hurry(cx);
    }

    /// Turns the connection away: the answer and the lingering after it share one short timeout.
    fn hurry(&mut self, cx: Cx<'_>) {
        self.is_turned_away = true;
        self.deadline_ms = cx.after(cx.env.config.timeouts.linger_timeout);
        if let State::Transaction(transaction) = &mut self.state {
            transaction.answer_by(self.deadline_ms);
        }
    }

    /// The assumptions where the client has asked for nothing.
    fn no_request(&self, env: &Env) -> RequestInfo {
        RequestInfo::unreadable(self.client, env.config.cors.origins.judge(|| None))
    }
}
