//! A connection that speaks a pair dialect: from its first byte to its end.
//!
//! `Connection` hands over once the first byte tells the dialect, and drives the [`Pair`] a step at a time. `dialect`
//! reads and writes the words, `seeking` finds the session and a half of it, and `relay::PairEnd` is the party from
//! then on. Invariant: from the word that tells a client that it is paired, the relay looks at nothing that passes.

mod dialect;
mod seeking;
mod view;

use std::net::IpAddr;
use std::ops::ControlFlow;

use shm::End;

use super::admission::TurnedAway;
use super::claim::Retry;
use super::transaction::{Done, Service, Step, Transport};
use crate::access::{Head, LogEntry};
use crate::api::ApiName;
use crate::http::Status;
use crate::outcome::SenderOutcome;
use crate::pair::Dialect;
use crate::relay::{Cx, Env, Met, PairEnd, Peer, Turn, receiver_outcome};
use crate::session::Session;
use crate::stream::Stream;
use crate::sys::{RecvOutcome, SendOutcome, clock};
use crate::tally::Tally;
use dialect::{Asked, Why};
use seeking::{Refused, Sought, Wanted};

/// How often a TLV client is told that it waits.
const WAITING_EACH_MS: u64 = 20_000;
/// Bytes read at a time before the two are paired: the longest first message has a few more than 4096.
const READ_BYTES: usize = 1536;

const STOPPED: Refused = Refused {
    status: Status::Unavailable,
    text: "the relay is being stopped, or has been reloaded",
};
const NOBODY: Refused = Refused { status: Status::GatewayTimeout, text: "nobody came" };
const LATE: Refused =
    Refused { status: Status::RequestTimeout, text: "the first message did not come in time" };
const DELETED: Refused = Refused { status: Status::Gone, text: "the session was deleted" };
const PEER_LEFT: Refused = Refused { status: Status::Gone, text: "the other party has left" };

/// A client's part in a pair.
#[derive(Debug)]
pub(super) struct Pair {
    dialect: Dialect,
    client: IpAddr,
    began_ms: u64,
    log_entry: Option<Box<LogEntry>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not all of the client's first message has come.
    Asking { deadline_ms: u64 },
    /// The client waits for a half of its pair.
    Seeking { wanted: Wanted, spare_of: Option<u32>, retry: Retry, look_ms: u64 },
    /// The client holds a half. If its peer leaves before the two are paired, it looks for this again.
    Party { party: Box<PairEnd>, again: Option<Wanted>, told_ms: u64 },
    /// The last words wait for room in the socket.
    Farewell { deadline_ms: u64 },
    /// It holds nothing any more.
    Over,
}

const NEXT: Step = ControlFlow::Continue(());
const CLOSE: Step = ControlFlow::Break(Turn::Over(Done::Close));
const LINGER: Step = ControlFlow::Break(Turn::Over(Done::Linger));

impl Pair {
    /// A client whose first byte has told its `dialect`.
    pub(super) fn new(dialect: Dialect, client: IpAddr, deadline_ms: u64, now_ms: u64) -> Self {
        let stage = Stage::Asking { deadline_ms };
        Self { dialect, client, began_ms: now_ms, log_entry: None, stage }
    }

    /// Does the next thing that can be done now.
    pub(super) fn step(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        match &mut self.stage {
            Stage::Asking { deadline_ms } => {
                let deadline_ms = *deadline_ms;
                self.ask(cx, transport, deadline_ms)
            }
            Stage::Seeking { .. } => self.seek(cx, transport),
            Stage::Party { party, .. } if party.is_paired() => self.pass(cx, transport),
            Stage::Party { .. } => self.wait(cx, transport),
            Stage::Farewell { deadline_ms } => {
                let is_late = cx.now_ms >= *deadline_ms;
                match transport.io.outbox.flush(transport.io.stream) {
                    SendOutcome::Bytes(_) => LINGER,
                    SendOutcome::WouldBlock if !is_late => ControlFlow::Break(Turn::Wait),
                    SendOutcome::WouldBlock | SendOutcome::Broken => CLOSE,
                }
            }
            Stage::Over => CLOSE,
        }
    }

    /// Reads the first message.
    fn ask(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, deadline_ms: u64) -> Step {
        let (asked, bytes) = match dialect::read(self.dialect, transport.io.inbox) {
            Ok(Some(asked)) => asked,
            Ok(None) => return self.read_more(cx, transport, deadline_ms),
            Err(text) => return self.refuse(cx, transport, &Why::Malformed(&text)),
        };
        let inbox = &mut transport.io.inbox;
        inbox.drain(..bytes.min(inbox.len()));
        inbox.shrink_to_fit();
        if transport.service == Service::Ending {
            return self.refuse(cx, transport, &Why::Refused(STOPPED));
        }
        let begun = match asked {
            Asked::Token { token, side } => {
                let name = cx.env.addresses.name(b"transit", &token);
                self.begin_seeking(cx, Wanted::Named { name, side });
                Ok(())
            }
            Asked::NewCode => self.begin_sending(cx, transport),
            Asked::Code(code) => self.begin_receiving(cx, &code),
        };
        match begun {
            Ok(()) => NEXT,
            Err(refused) => self.refuse(cx, transport, &Why::Refused(refused)),
        }
    }

    fn read_more(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, deadline_ms: u64) -> Step {
        let mut room = [0; READ_BYTES];
        match transport.io.stream.recv(&mut room) {
            RecvOutcome::Bytes(bytes) => {
                transport.io.inbox.extend_from_slice(room.get(..bytes).unwrap_or_default());
                NEXT
            }
            RecvOutcome::WouldBlock if cx.now_ms >= deadline_ms => {
                self.refuse(cx, transport, &Why::Refused(LATE))
            }
            RecvOutcome::WouldBlock => ControlFlow::Break(Turn::Wait),
            RecvOutcome::Eof | RecvOutcome::Broken => CLOSE,
        }
    }

    /// Issues a session, and tells the client its code.
    fn begin_sending(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Result<(), Refused> {
        let (key, session, places) = seeking::issue(cx, self.client)?;
        let lifetime_s = u32::try_from(session.lifetime.as_secs()).unwrap_or(u32::MAX);
        dialect::write_code(transport.io.outbox.bytes(), lifetime_s, &key.to_string());
        let party = PairEnd::new(cx, places, self.client, Peer::MayCome);
        self.begin_party(cx, &session, party, None);
        Ok(())
    }

    /// Looks for the session of a sender's code.
    fn begin_receiving(&mut self, cx: Cx<'_>, code: &str) -> Result<(), Refused> {
        let session = seeking::find(cx, self.client, code)?;
        self.begin_seeking(cx, Wanted::Second(session));
        Ok(())
    }

    fn begin_seeking(&mut self, cx: Cx<'_>, wanted: Wanted) {
        let retry = Retry::new(cx.now_ms, cx.after(cx.env.config.timeouts.place_wait));
        self.stage = Stage::Seeking { wanted, spare_of: None, retry, look_ms: cx.now_ms };
    }

    /// The client holds a half of `session`.
    fn begin_party(
        &mut self,
        cx: Cx<'_>,
        session: &Session,
        party: PairEnd,
        again: Option<Wanted>,
    ) {
        self.begin_entry(cx.env, Some(session));
        self.stage = Stage::Party { party: Box::new(party), again, told_ms: cx.now_ms };
    }

    /// Looks for a half.
    fn seek(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        if let Some(step) = self.hear_client(cx, transport) {
            return step;
        }
        if transport.service == Service::Ending {
            return self.refuse(cx, transport, &Why::Refused(STOPPED));
        }
        let Stage::Seeking { wanted, spare_of, retry, look_ms } = &mut self.stage else {
            return NEXT;
        };
        let wanted = *wanted;
        match seeking::seek(cx, self.client, wanted) {
            Sought::Found(found) => {
                let (session, places) = *found;
                let (peer, again) = match wanted {
                    Wanted::Named { .. } => (Peer::MayCome, Some(wanted)),
                    Wanted::Second(_) => (Peer::IsThere, None),
                };
                let party = PairEnd::new(cx, places, self.client, peer);
                self.begin_party(cx, &session, party, again);
                NEXT
            }
            Sought::Soon { pause_ms } if retry.may_wait(cx.now_ms) => {
                retry.put_off(cx.now_ms);
                let pause_ends_ms = cx.now_ms.saturating_add(pause_ms);
                (*spare_of, *look_ms) = (None, retry.next_ms().max(pause_ends_ms));
                ControlFlow::Break(Turn::Wait)
            }
            Sought::Soon { .. } => self.refuse(cx, transport, &Why::Refused(seeking::BUSY)),
            Sought::Spare { session, look_ms: at_ms } => {
                // It may wait for as long as the first connection does.
                *retry = Retry::new(cx.now_ms, cx.after(cx.env.config.timeouts.place_wait));
                (*spare_of, *look_ms) = (Some(session.slot), at_ms);
                ControlFlow::Break(Turn::Wait)
            }
            Sought::Redundant => {
                self.note_refusal(cx, Status::Conflict, 0);
                self.stage = Stage::Over;
                LINGER
            }
            Sought::Refused(refused) => self.refuse(cx, transport, &Why::Refused(refused)),
        }
    }

    /// A turn of a client that waits for its peer.
    fn wait(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        if let Some(step) = self.hear_client(cx, transport) {
            return step;
        }
        let Stage::Party { party, again, told_ms } = &mut self.stage else { return NEXT };
        let outcome = match party.wait(cx, transport.io.stream) {
            Met::Paired => {
                dialect::write_paired(self.dialect, transport.io.outbox.bytes());
                if let Some(entry) = &mut self.log_entry {
                    entry.begun(cx.now_ms);
                }
                return NEXT;
            }
            Met::NotYet if transport.service == Service::Ending => SenderOutcome::Stopped,
            Met::NotYet => {
                let outbox = &mut transport.io.outbox;
                if cx.now_ms >= told_ms.saturating_add(WAITING_EACH_MS) {
                    *told_ms = cx.now_ms;
                    // A client that does not read gets no second word behind the first.
                    if outbox.is_empty() {
                        dialect::write_waiting(self.dialect, outbox.bytes());
                    }
                }
                outbox.flush(transport.io.stream);
                return ControlFlow::Break(Turn::Wait);
            }
            Met::Over(outcome) => outcome,
        };
        match (outcome, *again) {
            // Its peer left before the two were paired: another may come.
            (SenderOutcome::ReceiverLeft | SenderOutcome::PeerWorkerLost, Some(wanted)) => {
                self.leave(cx.env, transport.io.stream, outcome);
                // The next entry names the next session.
                self.log_entry = None;
                self.begin_seeking(cx, wanted);
                NEXT
            }
            _ => self.end_waiting(cx, transport, outcome),
        }
    }

    /// Ends the wait of a client, and tells it why.
    fn end_waiting(
        &mut self,
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        outcome: SenderOutcome,
    ) -> Step {
        self.count(cx.env, outcome);
        self.leave(cx.env, transport.io.stream, outcome);
        let why = match outcome {
            SenderOutcome::Stopped => Why::Refused(STOPPED),
            SenderOutcome::Displaced => Why::Refused(TurnedAway::Full.why().into()),
            SenderOutcome::NobodyCame | SenderOutcome::Ended(End::Expired) => Why::Refused(NOBODY),
            SenderOutcome::BrokenDialect => Why::Impatient,
            SenderOutcome::Damaged(_) => Why::Refused(seeking::DAMAGED),
            SenderOutcome::Ended(End::Deleted) => Why::Refused(DELETED),
            SenderOutcome::Ended(_) => Why::Refused(seeking::OVER),
            _ => Why::Refused(PEER_LEFT),
        };
        self.refuse(cx, transport, &why)
    }

    /// A client that waits has nothing to say yet. `None`: it has said nothing.
    fn hear_client(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Option<Step> {
        let io = &mut transport.io;
        let mut room = [0; 1];
        let is_early = !io.inbox.is_empty()
            || match io.stream.recv(&mut room) {
                RecvOutcome::Bytes(_) => true,
                RecvOutcome::WouldBlock => false,
                RecvOutcome::Eof | RecvOutcome::Broken => {
                    self.begin_entry(cx.env, None);
                    self.count(cx.env, SenderOutcome::Left);
                    self.leave(cx.env, io.stream, SenderOutcome::Left);
                    return Some(CLOSE);
                }
            };
        if !is_early {
            return None;
        }
        Some(match self.stage {
            Stage::Party { .. } => self.end_waiting(cx, transport, SenderOutcome::BrokenDialect),
            _ => self.refuse(cx, transport, &Why::Impatient),
        })
    }

    /// A turn of a paired client.
    fn pass(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) -> Step {
        let Stage::Party { party, .. } = &mut self.stage else { return NEXT };
        let outcome = match party.turn(cx, &mut transport.io) {
            Turn::Wait => return ControlFlow::Break(Turn::Wait),
            Turn::Again => return ControlFlow::Break(Turn::Again),
            Turn::Over(outcome) => outcome,
        };
        self.count(cx.env, outcome);
        self.leave(cx.env, transport.io.stream, outcome);
        self.write_entry(cx.env, cx.now_ms);
        if matches!(outcome, SenderOutcome::Delivered(_)) {
            transport.io.stream.end_on_close();
        }
        CLOSE
    }

    /// Writes the last words, and ends the connection once its client has them.
    fn refuse(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>, why: &Why<'_>) -> Step {
        let out = transport.io.outbox.bytes();
        let before = out.len();
        dialect::write_refusal(self.dialect, out, why);
        let bytes = out.len().saturating_sub(before) as u64;
        self.note_refusal(cx, why.status(), bytes);
        self.stage =
            Stage::Farewell { deadline_ms: cx.after(cx.env.config.timeouts.linger_timeout) };
        NEXT
    }

    /// Counts and logs that the client is refused, with so many bytes.
    fn note_refusal(&mut self, cx: Cx<'_>, status: Status, bytes: u64) {
        cx.env.count(Tally::Answer(status));
        self.begin_entry(cx.env, None);
        if let Some(entry) = &mut self.log_entry {
            entry.answered(status.code(), bytes);
        }
        self.write_entry(cx.env, cx.now_ms);
    }

    /// Refuses a client that has too many connections, or when the relay has.
    pub(super) fn turn_away(
        &mut self,
        cx: Cx<'_>,
        transport: &mut Transport<'_>,
        why: (Status, &'static str),
    ) {
        let _ = self.refuse(cx, transport, &Why::Refused(why.into()));
    }

    /// Ends a client that waits, as it gives way to others.
    pub(super) fn displace(&mut self, cx: Cx<'_>, transport: &mut Transport<'_>) {
        let _ = match self.stage {
            Stage::Party { .. } => self.end_waiting(cx, transport, SenderOutcome::Displaced),
            _ => self.refuse(cx, transport, &Why::Refused(TurnedAway::Full.why().into())),
        };
    }

    /// Ends without a word.
    pub(super) fn close(&mut self, env: &Env, stream: &Stream) {
        if let Stage::Party { .. } = self.stage {
            self.count(env, SenderOutcome::Left);
            self.leave(env, stream, SenderOutcome::Left);
        }
        self.write_entry(env, clock::monotonic_ms());
    }

    /// Logs that the worker ends, and the connection with it.
    pub(super) fn log_cut_off(&mut self, env: &Env) {
        if let Stage::Party { .. } = self.stage {
            self.note_end(env, SenderOutcome::Stopped);
        }
        self.write_entry(env, clock::monotonic_ms());
    }

    /// Counts how a party ended, in both its directions.
    fn count(&mut self, env: &Env, outcome: SenderOutcome) {
        let Stage::Party { .. } = self.stage else { return };
        env.count(Tally::Sender(ApiName::Pair, outcome));
        env.count(Tally::Receiver(ApiName::Pair, receiver_outcome(outcome)));
        self.note_end(env, outcome);
    }

    fn note_end(&mut self, env: &Env, outcome: SenderOutcome) {
        let Stage::Party { party, .. } = &mut self.stage else { return };
        let (sent_bytes, taken_bytes) = (party.delivered_bytes(env), party.taken_bytes());
        if let Some(entry) = &mut self.log_entry {
            entry.ended(outcome.label(), Some(sent_bytes));
            if party.is_paired() {
                entry.answered(Status::Ok.code(), taken_bytes);
            }
        }
    }

    fn leave(&mut self, env: &Env, stream: &Stream, outcome: SenderOutcome) {
        let Stage::Party { party, .. } = std::mem::replace(&mut self.stage, Stage::Over) else {
            return;
        };
        if let Err(refusal) = party.leave(env, stream, outcome) {
            tracing::error!(%refusal, "cannot leave a pair: its session slot is damaged");
        }
    }

    /// Begins the entry of this connection, once.
    fn begin_entry(&mut self, env: &Env, session: Option<&Session>) {
        let Some(log) = env.access.as_ref().filter(|_| self.log_entry.is_none()) else { return };
        if let Some(session) = session {
            log.name_session(session);
        }
        let bytes = dialect::name(self.dialect).as_bytes();
        let head = Head { bytes, ..Head::default() };
        let mut entry = log.entry(head, Some(ApiName::Pair), self.began_ms);
        entry.asks_for_both();
        self.log_entry = Some(entry);
    }

    fn write_entry(&mut self, env: &Env, now_ms: u64) {
        let Some(mut entry) = self.log_entry.take() else { return };
        entry.client_left();
        if let Some(log) = &env.access {
            log.write(entry, self.client, now_ms);
        }
    }
}
