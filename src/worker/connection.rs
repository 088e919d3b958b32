//! One client's connection: what it waits for, and what comes next.
//!
//! The worker drives it whenever its socket, its session's bell or its deadline gives a reason.
//! States are named by what they wait for. Requests are served one after the other: nothing of the
//! next one is looked at before the last one is answered.

mod account;
mod arrival;
mod post;
mod rereading;
mod yielding;

pub(super) use post::Post;
pub(super) use yielding::Standstill;

use super::admission::{Admission, TurnedAway};
use super::answer::{Answer, Asked};
use super::door::{Door, Entered};
use super::origin::Peer;
use super::outcomes;
use super::request;
use super::route::{self, Action};
use crate::access::Note;
use crate::address::Scheme;
use crate::http::{self, CONTINUE, Fault, FieldRoom, HeadLimits, Parsed, Status};
use crate::relay::{Outbox, Received, Receiving, Reception, Relay, Sending, Sent, Turn, millis};
use crate::stream::Stream;
use crate::sys::{Got, Put};
use crate::tally::Tally;
use crate::tls::Acceptor;
use rereading::Rereading;
use shm::TakeError;

/// Bytes read at a time while a head is awaited: a head and a small body come in one call, and what
/// a client that waits has sent too early stays small.
const HEAD_READ_BYTES: usize = 1536;
/// Reads in one turn of those that bring a head: it is long then, and the next turn goes on.
const HEAD_READS_MAX: usize = 16;
/// Bytes that a client may have sent behind a chunked body: with more, its connection is the last to be
/// heard of, for they would be kept for as long as the next request waits.
const PIPELINED_BYTES_MAX: u64 = 2048;
/// Bytes read at a time only to be dropped.
const DRAIN_READ_BYTES: usize = 16384;
/// Reads of those in one turn: a transfer may move four times as much, at least.
const DRAIN_READS_MAX: usize = 4;
/// Steps in one turn: some ten requests that a client has sent in a row.
const STEPS_MAX: usize = 32;
/// How long a kept-alive connection may stay silent once the worker drains: a client that uses it all the
/// time sends its next request before that, and is answered `Connection: close`; one that does not is
/// as near to the end as with any other idle timeout.
const LAST_IDLE_MS: u64 = 1000;

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    peer: Peer,
    admission: Admission,
    /// Bytes that were read and belong to what comes next.
    inbox: Vec<u8>,
    /// How much of the head in the inbox was read.
    rereading: Rereading,
    outbox: Outbox,
    state: State,
    asked: Asked,
    /// What will be written down of the request, if anything.
    note: Option<Box<Note>>,
    deadline_ms: u64,
    service: Service,
    /// The client was told to go on with a body that is read with its head.
    said_continue: bool,
    /// It is only told why it is not served.
    is_turned_away: bool,
}

/// How long the connection will be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Lasting,
    /// The next answer is the last, and who waits may go on waiting: the worker drains.
    LastAnswer,
    /// What is being served is the last, and nobody waits any more: the worker is to stop.
    Ending,
}

#[derive(Debug)]
enum State {
    /// What a trusted balancer says before anything else; TLS is spoken after it where there is an acceptor.
    ProxyLine(Option<&'static Acceptor>),
    /// Keys for TLS.
    Handshake,
    /// A request's head.
    Head,
    /// A place that may come free.
    Door(Box<Door>),
    Sending(Box<Sending>),
    Receiving(Box<Receiving>),
    /// Room in the socket for an answer.
    Answer,
    /// The end of what the client sends, so that it sees our answer and not a reset.
    Drain {
        bytes_left: u64,
    },
}

/// What the worker is to do with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something happens.
    Wait,
    /// Drive it again after the others.
    Again,
    /// Drop it.
    Close,
}

enum Step {
    Go,
    Stop(Next),
}

impl Connection {
    /// A connection that is to be served. With a `greeting` it has to come from a trusted balancer, and TLS is spoken
    /// behind its line where there is an acceptor.
    pub(super) fn new(
        relay: &Relay,
        stream: Stream,
        peer: Peer,
        admission: Admission,
        greeting: Option<Option<&'static Acceptor>>,
        now_ms: u64,
    ) -> Self {
        let mut connection = Self::begin(relay, stream, peer, now_ms);
        connection.admission = admission;
        if let Some(acceptor) = greeting
            && peer.is_proxy
        {
            connection.state = State::ProxyLine(acceptor);
        } else if greeting.is_some() {
            tracing::debug!(peer = %peer.address, "refused: PROXY protocol is for trusted_proxies");
            let text = "only trusted proxies may connect here";
            let answer = Answer::error(Status::BadRequest, text, &connection.asked);
            connection.answer(relay, &answer, now_ms);
        } else if connection.stream.is_encrypted() {
            connection.begin_handshake(relay, now_ms);
        }
        connection
    }

    fn begin(relay: &Relay, stream: Stream, peer: Peer, now_ms: u64) -> Self {
        Self {
            stream,
            peer,
            admission: Admission::default(),
            inbox: Vec::new(),
            rereading: Rereading::default(),
            outbox: Outbox::default(),
            state: State::Head,
            asked: Asked::unreadable(peer.address, relay.config.cors.origins.judge(|| None)),
            note: None,
            deadline_ms: now_ms.saturating_add(millis(relay.config.timeouts.head_timeout)),
            service: Service::Lasting,
            said_continue: false,
            is_turned_away: false,
        }
    }

    /// A connection that is only told that there are too many.
    pub(super) fn turned_away(
        relay: &Relay,
        stream: Stream,
        peer: Peer,
        why: TurnedAway,
        now_ms: u64,
    ) -> Self {
        let mut connection = Self::begin(relay, stream, peer, now_ms);
        connection.turn_away(relay, why, now_ms);
        connection
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether it is only told why it is not served: it counts for nobody, and leaves soon.
    pub(super) fn is_turned_away(&self) -> bool {
        self.is_turned_away
    }

    /// When it is to be driven though nothing has happened.
    pub(super) fn deadline_ms(&self) -> u64 {
        match &self.state {
            State::Sending(sending) => sending.next_look_ms(),
            State::Receiving(receiving) => receiving.next_look_ms(),
            _ => self.deadline_ms,
        }
    }

    /// Does what can be done now.
    pub(super) fn drive(&mut self, relay: &Relay, now_ms: u64) -> Next {
        for _ in 0..STEPS_MAX {
            let step = match self.state {
                State::ProxyLine(acceptor) => self.read_proxy_line(relay, acceptor, now_ms),
                State::Handshake => self.shake_hands(relay, now_ms),
                State::Head => self.read_head(relay, now_ms),
                State::Door(_) => self.enter(relay, now_ms),
                State::Sending(_) => self.send(relay, now_ms),
                State::Receiving(_) => self.receive(relay, now_ms),
                State::Answer => self.write_answer(relay, now_ms),
                State::Drain { .. } => self.drain(now_ms),
            };
            if let Step::Stop(next) = step {
                return next;
            }
        }
        Next::Again
    }

    /// Gives up all it has.
    pub(super) fn close(&mut self, relay: &Relay) {
        self.account_for_parting(relay);
        self.leave(relay);
        self.admission.release(relay);
    }

    /// Leaves the place it holds. Returns what a receiver asked for.
    fn leave(&mut self, relay: &Relay) -> Option<Reception> {
        let (reception, left) = match std::mem::replace(&mut self.state, State::Head) {
            State::Sending(sending) => (None, sending.leave(relay)),
            State::Receiving(receiving) => {
                let (reception, left) = receiving.leave(relay);
                (Some(reception), left)
            }
            State::Door(door) => {
                door.leave(relay);
                (None, Ok(()))
            }
            _ => (None, Ok(())),
        };
        if let Err(refusal) = left {
            tracing::error!(%refusal, "a place could not be left: its slot is damaged");
        }
        reception
    }

    /// The worker drains: who was told so far that the connection goes on may send one more request,
    /// if it is on its way.
    pub(super) fn leave_soon(&mut self, now_ms: u64) -> Next {
        self.service = Service::LastAnswer;
        match &mut self.state {
            // Nothing was asked here yet, or it is being asked.
            State::ProxyLine(_) | State::Handshake => {}
            State::Head if !self.asked.goes_on() || !self.inbox.is_empty() => {}
            State::Head => {
                self.deadline_ms = self.deadline_ms.min(now_ms.saturating_add(LAST_IDLE_MS));
            }
            State::Door(door) => {
                door.close_after();
                self.asked.keep_alive = false;
            }
            State::Sending(_) => self.asked.keep_alive = false,
            State::Receiving(receiving) if receiving.is_waiting() => {
                receiving.close_after();
                self.asked.keep_alive = false;
            }
            State::Receiving(_) | State::Answer | State::Drain { .. } => {}
        }
        Next::Again
    }

    /// The worker is to stop: whoever only waits is sent away, whoever transfers may finish.
    pub(super) fn stop(&mut self, relay: &Relay, now_ms: u64) -> Next {
        self.asked.keep_alive = false;
        self.service = Service::Ending;
        match &self.state {
            State::Handshake if self.stream.is_silent() => Next::Close,
            State::ProxyLine(_) | State::Head
                if self.inbox.is_empty() && self.stream.unread() == 0 =>
            {
                self.part(relay, now_ms)
            }
            // Its turn tells whether it waits, or somebody has begun with it who was not heard yet.
            _ => Next::Again,
        }
    }

    fn stop_waiting(&mut self, relay: &Relay, now_ms: u64) -> Step {
        self.account_for_stop(relay);
        self.leave(relay);
        self.send_away(relay, now_ms);
        Step::Go
    }

    fn send_away(&mut self, relay: &Relay, now_ms: u64) {
        let text = "the relay is being stopped, or has been reloaded";
        self.answer(relay, &Answer::error(Status::Unavailable, text, &self.asked), now_ms);
    }

    fn read_head(&mut self, relay: &Relay, now_ms: u64) -> Step {
        for _ in 0..HEAD_READS_MAX {
            if self.rereading.is_due(&self.inbox, relay.config.limits.head_bytes_max)
                && let Some(step) = self.parse_head(relay, now_ms)
            {
                self.rereading = Rereading::default();
                return step;
            }
            let begins = self.inbox.is_empty();
            if let Some(step) = self.read_more(relay, now_ms) {
                return step;
            }
            if begins {
                let timeout = millis(relay.config.timeouts.head_timeout);
                self.deadline_ms = now_ms.saturating_add(timeout);
            }
        }
        Step::Stop(Next::Again)
    }

    /// Reads the head in the inbox, and does what it asks for. `None`: it is not complete.
    fn parse_head(&mut self, relay: &Relay, now_ms: u64) -> Option<Step> {
        let limits = &relay.config.limits;
        let limits = HeadLimits {
            head_bytes_max: limits.head_bytes_max,
            header_fields_max: limits.header_fields_max,
        };
        let mut room = FieldRoom::default();
        let (request, bytes) = match http::parse(&self.inbox, &limits, &mut room) {
            Ok(Parsed::Complete(request, bytes)) => (request, bytes),
            Ok(Parsed::Partial) => return None,
            Err(fault) => return Some(self.refuse(relay, fault, now_ms)),
        };
        let behind = self.inbox.get(bytes..).unwrap_or_default();
        let Some(body_bytes) = request::empty_body_bytes(relay, &request, behind) else {
            if request.expects_continue && behind.is_empty() {
                self.say_continue();
            }
            return None;
        };
        relay.count(Tally::Request);
        let client = self.peer.client(&request, &relay.config.trusted_proxies);
        self.asked = request::asked(relay, &request, client, body_bytes);
        self.asked.keep_alive &= self.service == Service::Lasting;
        let head = self.inbox.get(..bytes).unwrap_or_default();
        if let Err(why) = self.admission.count_for(relay, client, now_ms) {
            self.note = account::note(relay, &request, head, now_ms);
            self.asked.role = route::role(relay, &request, now_ms);
            return Some(self.turn_away(relay, why, now_ms));
        }
        let local = || self.stream.local_address();
        let own = if self.stream.is_encrypted() { Scheme::Https } else { Scheme::Http };
        let origin = self.peer.origin(&request, own, local);
        let asked = &mut self.asked;
        let action = route::route(relay, &request, asked, &origin, now_ms);
        self.note = account::note(relay, &request, head, now_ms);
        self.consume(bytes.saturating_add(body_bytes));
        self.said_continue = false;
        Some(self.act(relay, action, now_ms))
    }

    /// Tells a client that holds back a body, which is read with its head, to go on with it; once.
    fn say_continue(&mut self) {
        if !std::mem::replace(&mut self.said_continue, true) {
            self.outbox.bytes().extend_from_slice(CONTINUE);
            // The socket has room for it.
            self.outbox.flush(&mut self.stream);
        }
    }

    fn turn_away(&mut self, relay: &Relay, why: TurnedAway, now_ms: u64) -> Step {
        self.asked.keep_alive = false;
        self.is_turned_away = true;
        self.answer(relay, &why.answer(&self.asked), now_ms);
        // As long for all that is left: a handshake, the answer, and what follows it.
        self.deadline_ms = now_ms.saturating_add(millis(relay.config.timeouts.linger_timeout));
        Step::Go
    }

    /// Reads more of what a connection or a request begins with; if there is nothing, what comes next.
    fn read_more(&mut self, relay: &Relay, now_ms: u64) -> Option<Step> {
        let mut room = [0; HEAD_READ_BYTES];
        match self.stream.recv(&mut room) {
            Got::Bytes(bytes) => {
                self.inbox.extend_from_slice(room.get(..bytes).unwrap_or_default());
                None
            }
            Got::Dry => Some(self.await_head(relay, now_ms)),
            Got::End => Some(Step::Stop(self.part(relay, now_ms))),
            Got::Broken => Some(Step::Stop(Next::Close)),
        }
    }

    /// The end, between two requests.
    fn part(&mut self, relay: &Relay, now_ms: u64) -> Next {
        if self.stream.say_goodbye() == Put::Full {
            self.linger(relay, now_ms);
            return Next::Again;
        }
        Next::Close
    }

    /// The end of a connection that stands idle, unless something has come that epoll has not told of yet. A request that
    /// crosses our FIN is read and dropped: its client sees an end without an answer and not a reset, so it knows that
    /// nobody took the request.
    fn close_idle(&mut self, relay: &Relay, now_ms: u64) {
        if !self.stream.look_for_more() {
            self.linger(relay, now_ms);
        }
    }

    fn await_head(&mut self, relay: &Relay, now_ms: u64) -> Step {
        if self.inbox.is_empty() {
            if self.service == Service::Ending {
                return Step::Stop(self.part(relay, now_ms));
            }
            if now_ms >= self.deadline_ms {
                self.close_idle(relay, now_ms);
                return Step::Go;
            }
        }
        if now_ms < self.deadline_ms {
            return Step::Stop(Next::Wait);
        }
        self.asked = self.unreadable(relay);
        let text = match self.state {
            State::ProxyLine(_) => "the PROXY protocol line did not come in time",
            _ => "the request's head did not come in time",
        };
        self.answer(relay, &Answer::error(Status::RequestTimeout, text, &self.asked), now_ms);
        Step::Go
    }

    fn consume(&mut self, bytes: usize) {
        self.inbox.drain(..bytes.min(self.inbox.len()));
        // Whoever waits holds no more than it must.
        self.inbox.shrink_to_fit();
    }

    /// What to assume of the request whose head is in the inbox, and cannot be read.
    fn unreadable(&self, relay: &Relay) -> Asked {
        let head_only = http::begins_head_request(&self.inbox);
        let cors = relay.config.cors.origins.judge(|| http::origin_in(&self.inbox));
        Asked { head_only, ..Asked::unreadable(self.peer.address, cors) }
    }

    fn refuse(&mut self, relay: &Relay, fault: Fault, now_ms: u64) -> Step {
        self.asked = self.unreadable(relay);
        let answer = Answer::error(fault.status(), &fault.to_string(), &self.asked);
        self.answer(relay, &answer, now_ms);
        Step::Go
    }

    fn act(&mut self, relay: &Relay, action: Action, now_ms: u64) -> Step {
        match action {
            Action::Answer(answer) => self.answer(relay, &answer, now_ms),
            Action::Enter { lane, errand, wait } => {
                if let Some(note) = &mut self.note {
                    note.asks_for(errand.role());
                }
                self.asked.wait = wait;
                let wait_ends_ms = now_ms.saturating_add(millis(wait));
                self.state = State::Door(Door::new(relay, lane, errand, wait_ends_ms, now_ms));
            }
        }
        Step::Go
    }

    /// Asks for the place.
    fn enter(&mut self, relay: &Relay, now_ms: u64) -> Step {
        if self.service == Service::Ending {
            return self.stop_waiting(relay, now_ms);
        }
        let State::Door(door) = std::mem::replace(&mut self.state, State::Head) else {
            return Step::Go;
        };
        if door.waits() {
            self.stream.look();
        }
        // A sender that has said all it will say may do so before it asks; who was told to wait, and
        // left, is gone.
        if self.stream.is_broken() || (self.stream.is_leaving() && door.waits()) {
            door.leave(relay);
            return Step::Stop(Next::Close);
        }
        let (slot, comes_back) = (door.slot(), door.comes_back());
        let answer = match door.enter(relay, now_ms) {
            Entered::Sending(sending) => {
                self.state = State::Sending(sending);
                return Step::Go;
            }
            Entered::Receiving(receiving) => {
                self.state = State::Receiving(receiving);
                return Step::Go;
            }
            Entered::NotYet(door) => {
                self.deadline_ms = door.next_look_ms(now_ms);
                self.state = State::Door(door);
                return Step::Stop(Next::Wait);
            }
            Entered::No(TakeError::Ended) if comes_back => {
                Answer::error(Status::Gone, "the session is over", &self.asked)
            }
            Entered::No(TakeError::Ended) => route::no_session(&self.asked),
            Entered::No(TakeError::Taken | TakeError::Leaving) => {
                Answer::error(Status::Conflict, "the place is taken", &self.asked)
            }
            Entered::No(TakeError::Refused(refusal)) => route::damaged(refusal, slot, &self.asked),
        };
        self.answer(relay, &answer, now_ms);
        Step::Go
    }

    fn send(&mut self, relay: &Relay, now_ms: u64) -> Step {
        let State::Sending(sending) = &mut self.state else { return Step::Go };
        let (stream, inbox, outbox) = (&mut self.stream, &mut self.inbox, &mut self.outbox);
        let turn = sending.turn(relay, stream, inbox, outbox, now_ms);
        // Nothing but an interim answer, which the socket has room for.
        outbox.flush(stream);
        account::of_sender(&mut self.note, sending, &turn, now_ms);
        let report = match turn {
            Turn::Wait if self.service == Service::Ending && sending.is_waiting() => {
                return self.stop_waiting(relay, now_ms);
            }
            Turn::Wait => return Step::Stop(Next::Wait),
            Turn::Again => return Step::Stop(Next::Again),
            Turn::Over(report) => report,
        };
        // After a fault it is not known where the next request begins.
        self.asked.unread = !sending.has_read_all()
            || matches!(report.sent, Sent::Fault(_))
            || self.inbox.len() as u64 + self.stream.kept() > PIPELINED_BYTES_MAX;
        relay.count(Tally::Sender(sending.manner().api(), report.sent.counted_as()));
        let answer = outcomes::to_sender(&report, sending.manner(), &self.asked);
        self.leave(relay);
        match answer {
            Some(answer) => self.answer(relay, &answer, now_ms),
            None => return Step::Stop(Next::Close),
        }
        Step::Go
    }

    fn receive(&mut self, relay: &Relay, now_ms: u64) -> Step {
        let State::Receiving(receiving) = &mut self.state else { return Step::Go };
        let turn = receiving.turn(relay, &mut self.stream, &mut self.outbox, now_ms);
        account::of_receiver(&mut self.note, receiving, &turn, now_ms);
        let received = match turn {
            Turn::Wait if self.service == Service::Ending && receiving.is_waiting() => {
                return self.stop_waiting(relay, now_ms);
            }
            Turn::Wait => return Step::Stop(Next::Wait),
            Turn::Again => return Step::Stop(Next::Again),
            Turn::Over(received) => received,
        };
        if let Some(end) = received.counted_as() {
            relay.count(Tally::Receiver(receiving.manner().api(), end));
        }
        let (lane, wait_ends_ms) = (receiving.lane(), receiving.wait_ends_ms());
        let answer = outcomes::to_receiver(received, receiving.manner(), &self.asked);
        let reception = self.leave(relay);
        match received {
            Received::Complete => self.after_answer(relay, now_ms),
            Received::Truncated | Received::Left => return Step::Stop(Next::Close),
            Received::GivenUp => {
                self.stream.reset_on_close();
                return Step::Stop(Next::Close);
            }
            Received::Again => {
                let Some(reception) = reception else { return Step::Stop(Next::Close) };
                self.state = State::Door(Door::again(relay, lane, reception, wait_ends_ms, now_ms));
            }
            _ => match answer {
                Some(answer) => self.answer(relay, &answer, now_ms),
                None => return Step::Stop(Next::Close),
            },
        }
        Step::Go
    }

    /// Begins to write an answer, which the client is to take as quickly as it is to write a head.
    fn answer(&mut self, relay: &Relay, answer: &Answer, now_ms: u64) {
        // What follows a head that states no length may be a body, and is no request.
        self.asked.keep_alive &= answer.status() != Status::LengthRequired;
        answer.write(self.outbox.bytes(), &self.asked);
        relay.count(Tally::Answer(answer.status()));
        self.account_for_answer(relay, answer, now_ms);
        self.state = State::Answer;
        self.deadline_ms = now_ms.saturating_add(millis(relay.config.timeouts.head_timeout));
    }

    fn write_answer(&mut self, relay: &Relay, now_ms: u64) -> Step {
        match self.outbox.flush(&mut self.stream) {
            Put::Bytes(_) => {
                self.after_answer(relay, now_ms);
                Step::Go
            }
            Put::Full if now_ms < self.deadline_ms => Step::Stop(Next::Wait),
            Put::Full | Put::Broken => Step::Stop(Next::Close),
        }
    }

    /// The answer is written: the next request, or the end.
    fn after_answer(&mut self, relay: &Relay, now_ms: u64) {
        self.write_down(relay, now_ms);
        let timeouts = &relay.config.timeouts;
        if self.asked.goes_on() {
            if self.peer.is_proxy {
                // The next request may be another client's.
                self.admission.release(relay);
            }
            // An idle connection holds no buffer.
            self.outbox = Outbox::default();
            self.state = State::Head;
            self.deadline_ms = now_ms.saturating_add(if !self.inbox.is_empty() {
                millis(timeouts.head_timeout)
            } else if self.service == Service::Lasting {
                millis(timeouts.idle_timeout)
            } else {
                LAST_IDLE_MS
            });
            return;
        }
        self.linger(relay, now_ms);
    }

    /// Stays until the client has seen the end, for a while.
    fn linger(&mut self, relay: &Relay, now_ms: u64) {
        self.inbox = Vec::new();
        self.state = State::Drain { bytes_left: relay.config.limits.linger_bytes_max };
        if !self.is_turned_away {
            self.deadline_ms = now_ms.saturating_add(millis(relay.config.timeouts.linger_timeout));
        }
    }

    /// Says that this is the end, as soon as there is room for that; reads and drops, without parsing, within bounds.
    fn drain(&mut self, now_ms: u64) -> Step {
        let State::Drain { bytes_left } = &mut self.state else { return Step::Go };
        let is_said = self.stream.shut();
        let mut room = [0; DRAIN_READ_BYTES];
        for _ in 0..DRAIN_READS_MAX {
            if now_ms >= self.deadline_ms {
                return Step::Stop(Next::Close);
            }
            match *bytes_left {
                0 if is_said && self.stream.is_leaving() => return Step::Stop(Next::Close),
                // A client that is not read from comes to a stop, and then sees its answer. A close would
                // be a reset to it.
                0 => return Step::Stop(Next::Wait),
                _ => {}
            }
            match self.stream.recv(&mut room) {
                Got::Bytes(bytes) => *bytes_left = bytes_left.saturating_sub(bytes as u64),
                Got::Dry => return Step::Stop(Next::Wait),
                // It may read on all the same.
                Got::End if !is_said => return Step::Stop(Next::Wait),
                Got::End | Got::Broken => return Step::Stop(Next::Close),
            }
        }
        Step::Stop(Next::Again)
    }
}
