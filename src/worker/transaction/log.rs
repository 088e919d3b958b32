//! The access log's entry of a transaction: records the request's fate, from its head to its line in the log. Without
//! an access log there is no entry, and nothing is done.

use super::{Stage, Transaction};
use crate::access::{Head, LogEntry};
use crate::api::{Answer, ApiName};
use crate::outcome::{ReceiverOutcome, Report, SenderOutcome};
use crate::relay::{Cx, Env, Received, Turn};
use crate::sys::clock;
use crate::tally::Tally;
use crate::worker::incoming::Incoming;

/// Begins the entry of a request for `api`, which was just routed.
pub(in crate::worker) fn log_entry(
    cx: Cx<'_>,
    incoming: Incoming<'_>,
    api: ApiName,
    head: &[u8],
) -> Option<Box<LogEntry>> {
    let log = cx.env.access.as_ref()?;
    let head = Head {
        bytes: head,
        referer: incoming.request.field("referer"),
        user_agent: incoming.request.field("user-agent"),
    };
    Some(log.entry(head, Some(api), cx.now_ms))
}

impl Transaction {
    /// Records a sender's turn.
    pub(super) fn log_sending(&mut self, turn: &Turn<Report>, now_ms: u64) {
        let (Some(entry), Stage::Sending(sending)) = (&mut self.log_entry, &self.stage) else {
            return;
        };
        if !sending.is_waiting() {
            entry.begun(now_ms);
        }
        entry.resumes(sending.position(), sending.skipped_bytes());
        if let Turn::Over(report) = turn {
            entry.ended(report.outcome.label(), Some(report.delivered.unwrap_or(0)));
        }
    }

    /// Records a receiver's turn.
    pub(super) fn log_receiving(&mut self, turn: &Turn<Received>, now_ms: u64) {
        let (Some(entry), Stage::Receiving(receiving)) = (&mut self.log_entry, &self.stage) else {
            return;
        };
        let bytes = receiving.taken_bytes();
        if !receiving.is_waiting() {
            entry.begun(now_ms);
            entry.answered(receiving.status().code(), bytes);
            entry.resumes(receiving.from(), 0);
        }
        if let Turn::Over(Some(outcome)) = turn {
            entry.ended(outcome.label(), Some(bytes));
        }
    }

    /// Records the beginning of an answer. If the request could not be read, `inbox` holds what has come of it.
    pub(super) fn log_answer(&mut self, cx: Cx<'_>, inbox: &[u8], answer: &Answer) {
        let Some(log) = &cx.env.access else { return };
        let unread = Head { bytes: inbox, ..Head::default() };
        let entry = self.log_entry.get_or_insert_with(|| log.entry(unread, None, cx.now_ms));
        entry.answered(answer.status().code(), answer.body_bytes(&self.info));
    }

    /// Records, and counts, that the worker ends a transaction that holds a place, before its transfer has begun.
    pub(super) fn log_end(&mut self, env: &Env, sender: SenderOutcome, receiver: ReceiverOutcome) {
        let (tally, label) = match &self.stage {
            Stage::Sending(it) => (Tally::Sender(it.api().name(), sender), sender.label()),
            Stage::Receiving(it) => (Tally::Receiver(it.api().name(), receiver), receiver.label()),
            _ => return,
        };
        env.count(tally);
        if let Some(entry) = &mut self.log_entry {
            entry.ended(label, Some(0));
        }
    }

    /// Records that the connection ends. `unwritten_bytes` of the answer are still here.
    pub(super) fn log_parting(&mut self, env: &Env, unwritten_bytes: usize) {
        let Some(entry) = &mut self.log_entry else { return };
        entry.client_left();
        if let Stage::Answer { .. } = self.stage {
            entry.falls_short(unwritten_bytes as u64);
        }
        self.write_entry(env, clock::monotonic_ms());
    }

    /// Records that the worker ends, and the connection with it. `unwritten_bytes` of the answer are still here.
    pub(in crate::worker) fn log_cut_off(&mut self, env: &Env, unwritten_bytes: usize) {
        let Some(entry) = &mut self.log_entry else { return };
        match &self.stage {
            Stage::Sending(_) => entry.ended(SenderOutcome::Stopped.label(), None),
            Stage::Receiving(it) => {
                entry.ended(ReceiverOutcome::Stopped.label(), Some(it.taken_bytes()));
            }
            Stage::Answer { .. } => entry.falls_short(unwritten_bytes as u64),
            Stage::Claim(_) | Stage::Over => {}
        }
        self.write_entry(env, clock::monotonic_ms());
    }

    /// Writes the line: the request is over.
    pub(super) fn write_entry(&mut self, env: &Env, now_ms: u64) {
        if let Some(entry) = self.log_entry.take()
            && let Some(log) = &env.access
        {
            log.write(entry, self.info.client, now_ms);
        }
    }
}
