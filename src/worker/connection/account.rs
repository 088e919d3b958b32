//! What is written down of a connection's requests: here it is told what becomes of each, from its head to its line
//! in the access log. Without such a log there is no note, and nothing is done.
//!
//! Called by the connection where it counts.

use super::{Connection, State};
use crate::access::{Head, Note};
use crate::http::{Request, Status};
use crate::relay::{Received, Receiving, Relay, Report, Sending, Turn};
use crate::sys::clock;
use crate::tally::{ReceiverOutcome, SenderOutcome, Tally};
use crate::worker::answer::Answer;
use crate::worker::route;

/// A note of `request`, which was just routed, if anything is to be written down.
pub(super) fn note(
    relay: &Relay,
    request: &Request<'_>,
    head: &[u8],
    now_ms: u64,
) -> Option<Box<Note>> {
    let log = relay.access.as_ref()?;
    let head = Head {
        bytes: head,
        referer: request.field("referer"),
        user_agent: request.field("user-agent"),
    };
    Some(log.note(head, Some(route::api(relay, request)), now_ms))
}

/// After a sender's turn.
pub(super) fn of_sender(
    note: &mut Option<Box<Note>>,
    sending: &Sending,
    turn: &Turn<Report>,
    now_ms: u64,
) {
    let Some(note) = note else { return };
    if !sending.is_waiting() {
        note.met(now_ms);
    }
    if let Turn::Over(report) = turn {
        let label = report.sent.counted_as().label();
        note.ended(label, Some(report.delivered.unwrap_or(0)));
    }
}

/// After a receiver's turn.
pub(super) fn of_receiver(
    note: &mut Option<Box<Note>>,
    receiving: &Receiving,
    turn: &Turn<Received>,
    now_ms: u64,
) {
    let Some(note) = note else { return };
    let bytes = receiving.taken_bytes();
    if !receiving.is_waiting() {
        note.met(now_ms);
        note.answered(Status::Ok.code(), bytes);
    }
    if let Turn::Over(received) = turn
        && let Some(outcome) = received.counted_as()
    {
        note.ended(outcome.label(), Some(bytes));
    }
}

impl Connection {
    /// An answer begins; of a request that could not be read, what came of it is in the inbox.
    pub(super) fn account_for_answer(&mut self, relay: &Relay, answer: &Answer, now_ms: u64) {
        let Some(log) = &relay.access else { return };
        let note = self.note.get_or_insert_with(|| {
            log.note(Head { bytes: &self.inbox, ..Head::default() }, None, now_ms)
        });
        note.answered(answer.status().code(), answer.body_bytes(&self.asked));
    }

    /// The connection ends, maybe in the midst of a request.
    pub(super) fn account_for_parting(&mut self, relay: &Relay) {
        let Some(note) = &mut self.note else { return };
        note.client_left();
        if let State::Answer = self.state {
            note.falls_short(self.outbox.rest().len() as u64);
        }
        self.write_down(relay, clock::monotonic_ms());
    }

    /// It is sent away, as the worker is to stop; this is counted as well.
    pub(super) fn account_for_stop(&mut self, relay: &Relay) {
        self.account_for_end(relay, SenderOutcome::Stopped, ReceiverOutcome::Stopped);
    }

    /// It gives way to others; this is counted as well.
    pub(super) fn account_for_displacement(&mut self, relay: &Relay) {
        self.account_for_end(relay, SenderOutcome::Displaced, ReceiverOutcome::Displaced);
    }

    fn account_for_end(&mut self, relay: &Relay, sender: SenderOutcome, receiver: ReceiverOutcome) {
        let (tally, label) = match &self.state {
            State::Sending(it) => {
                let outcome = sender;
                (Tally::Sender(it.manner().api(), outcome), outcome.label())
            }
            State::Receiving(it) => {
                let outcome = receiver;
                (Tally::Receiver(it.manner().api(), outcome), outcome.label())
            }
            _ => return,
        };
        relay.count(tally);
        if let Some(note) = &mut self.note {
            note.ended(label, Some(0));
        }
    }

    /// The worker ends, and with it the connection.
    pub(in crate::worker) fn forsake(&mut self, relay: &Relay) {
        let Some(note) = &mut self.note else { return };
        match &self.state {
            State::Sending(_) => note.ended(SenderOutcome::Stopped.label(), None),
            State::Receiving(it) => {
                note.ended(ReceiverOutcome::Stopped.label(), Some(it.taken_bytes()));
            }
            State::Answer => note.falls_short(self.outbox.rest().len() as u64),
            _ => {}
        }
        self.write_down(relay, clock::monotonic_ms());
    }

    /// The request is over.
    pub(super) fn write_down(&mut self, relay: &Relay, now_ms: u64) {
        if let Some(note) = self.note.take()
            && let Some(log) = &relay.access
        {
            log.write(note, self.asked.client, now_ms);
        }
    }
}
