//! A client that receives: from the lane to its socket, and the delivery report that comes of it.
//!
//! Nothing is written to the client before a sender has begun. From then on the answer can only be
//! completed or visibly cut: never ended as if it were whole.

use super::pace::{Pace, Verdict};
use super::stall::Stall;
use super::{
    Announcement, LOOK_ANYWAY_MS, Manner, MessageRole, Outbox, Received, Relay, Turn, millis,
};
use crate::config::Receipt;
use crate::http::{Attachment, Cors, ResponseHead, Status, chunk_line};
use crate::stream::Stream;
use crate::sys::Put;
use crate::sys::pipe::Pipe;
use crate::tally::{Limit, Tally};
use shm::{End, Finish, LaneEnd, LaneRef, LaneWord, Life, ReceiverEnd, Refusal, Settled, State};
use std::io::IoSlice;
use std::time::SystemTime;

/// How often the kernel is asked what is acknowledged: the interval doubles from the first to the
/// last, but stays at the second while an acknowledgement may only be delayed, which Linux does by
/// 40 ms: looks at 1, 3, 7, 15, 31 and 63 ms answered 20 ms late (measured).
const ACK_POLL_MS: [u64; 3] = [1, 8, 50];
/// How long the interval stays short.
const ACK_DELAYED_MS: u64 = 60;

/// What is read out of a pipe at a time where it cannot be moved to the socket.
const COPY_BYTES: usize = 64 << 10;
/// How often what is acknowledged is stored while there is more to write, in time and in payload: should this worker
/// die, the sender is told what was stored last.
const COUNT_EACH_MS: u64 = 100;
const COUNT_EACH_BYTES: u64 = 1 << 20;

/// A receiver in its place.
#[derive(Debug)]
pub struct Receiving {
    end: ReceiverEnd,
    reception: Reception,
    wait_ends_ms: u64,
    phase: Phase,
    chunked: bool,
    /// What it gets may be in pipes.
    takes_pipes: bool,
    /// What was read out of a pipe and is still to be written, once splice(2) has failed.
    copied: Option<Outbox>,
    /// The last chunk of a chunked body is written, or on its way.
    end_written: bool,
    /// The sender is gone, and the answer is to say so at its end.
    truncated: bool,
    length: Option<u64>,
    receipt: Receipt,
    /// Bytes that the socket took of the piece that is being written, if one is.
    piece_taken: Option<usize>,
    taken: u64,
    progress: Progress,
    pace: Pace,
    stall: Stall,
    /// There was nothing to write.
    idle: bool,
    ack: AckPoll,
    next_look_ms: u64,
    /// The rival that the turn before found.
    doubted_by: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Sender,
    Body,
    /// Everything was written; the client's TCP has not acknowledged it all.
    Ack,
}

/// When what is acknowledged is stored next, and what was taken when it was stored last.
#[derive(Debug, Default)]
struct Progress {
    due_ms: u64,
    taken: u64,
}

/// When the kernel is asked again, and until when.
#[derive(Debug, Default)]
struct AckPoll {
    interval_ms: u64,
    short_until_ms: u64,
    unacknowledged: u64,
    ends_ms: u64,
}

/// What a receiver asks for.
#[derive(Debug)]
pub struct Reception {
    /// Whether its connection goes on after the answer.
    pub keep_alive: bool,
    /// It speaks HTTP/1.0 and has to know the length.
    pub needs_length: bool,
    /// Which API it asked.
    pub manner: Manner,
    /// See [`Cargo::admitted_as`](super::Cargo::admitted_as).
    pub admitted_as: u64,
    /// Whether a page in a browser may read the answer.
    pub cors: Cors<'static>,
}

impl Receiving {
    /// A receiver that has just taken its place.
    #[must_use]
    pub fn new(
        relay: &Relay,
        end: ReceiverEnd,
        reception: Reception,
        wait_ends_ms: u64,
        now_ms: u64,
    ) -> Self {
        Self {
            end,
            reception,
            wait_ends_ms,
            phase: Phase::Sender,
            chunked: false,
            takes_pipes: false,
            copied: None,
            end_written: false,
            truncated: false,
            length: None,
            receipt: Receipt::Acked,
            piece_taken: None,
            taken: 0,
            progress: Progress::default(),
            pace: Pace::new(relay, 0, now_ms),
            stall: Stall::new(0, now_ms),
            idle: false,
            ack: AckPoll::default(),
            next_look_ms: wait_ends_ms,
            doubted_by: 0,
        }
    }

    /// Its lane.
    #[must_use]
    pub fn lane(&self) -> LaneRef {
        self.end.lane()
    }

    /// Which API it asked.
    #[must_use]
    pub fn manner(&self) -> &Manner {
        &self.reception.manner
    }

    /// When it wants a turn though nothing has happened.
    #[must_use]
    pub fn next_look_ms(&self) -> u64 {
        self.next_look_ms
    }

    /// Until when it waits for a sender.
    #[must_use]
    pub fn wait_ends_ms(&self) -> u64 {
        self.wait_ends_ms
    }

    /// Whether it still waits for a sender.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Sender
    }

    /// Payload bytes that the client's socket took.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.taken
    }

    /// Its connection ends after the answer. To be said while it [waits](Self::is_waiting).
    pub fn close_after(&mut self) {
        self.reception.keep_alive = false;
    }

    /// Does what can be done now.
    pub fn turn(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Turn<Received> {
        let doubted_before = self.doubted_by;
        let turn = self.try_turn(relay, stream, outbox, now_ms);
        let turn = turn.unwrap_or_else(|refusal| match self.phase {
            Phase::Sender => Turn::Over(Received::Refused(refusal)),
            _ => Turn::Over(self.cut()),
        });
        match turn {
            // A rival was found in this turn, and the next one answers it.
            Turn::Wait if self.doubted_by != 0 && self.doubted_by != doubted_before => Turn::Again,
            turn => turn,
        }
    }

    fn try_turn(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<Turn<Received>, Refusal> {
        let lane = relay.shared().look(&self.end)?;
        if self.phase == Phase::Sender {
            stream.look();
            if stream.is_leaving() {
                return Ok(Turn::Over(Received::Left));
            }
        }
        if !self.answer_rival(relay)? && self.phase == Phase::Sender {
            return Ok(Turn::Again);
        }
        if self.phase == Phase::Sender && relay.is_barred(&self.end, self.reception.admitted_as)? {
            return Ok(Turn::Over(Received::Barred));
        }
        if let Some(received) = self.ended(relay, lane)? {
            self.count(relay, stream)?;
            return Ok(Turn::Over(received));
        }
        if self.phase == Phase::Sender {
            if !lane.begun {
                return self.await_sender(relay, lane, now_ms);
            }
            self.begin(relay, stream, outbox, now_ms)?;
        }
        match self.phase {
            Phase::Ack => self.await_ack(relay, stream, now_ms),
            _ => {
                let turn = self.write_body(relay, stream, outbox, now_ms);
                self.note_progress(relay, stream, now_ms)?;
                turn
            }
        }
    }

    /// Sends a rival away at the second turn that finds it: a receiver that has left is found by then, and no other
    /// gives way. `false`: it has to be answered yet.
    fn answer_rival(&mut self, relay: &Relay) -> Result<bool, Refusal> {
        let rival = relay.rival(&self.end)?;
        if rival == 0 {
            self.doubted_by = 0;
            return Ok(true);
        }
        relay.refuse_rival(&self.end, rival, &mut self.doubted_by)
    }

    /// Whether the other side or the session has put an end to it.
    fn ended(&mut self, relay: &Relay, lane: LaneWord) -> Result<Option<Received>, Refusal> {
        let silent = self.phase == Phase::Sender;
        let finish = self.end.finish(relay.shared())?;
        if lane.begun && silent && finish == Finish::NoChunk {
            return Ok(Some(Received::NoChunk));
        }
        match relay.shared().life(self.lane().session)? {
            Some(Life::Live) => {}
            Some(Life::Ended(end)) if silent => return Ok(Some(Received::Ended(end))),
            _ if silent => return Ok(Some(Received::Ended(End::Expired))),
            _ => return Ok(Some(self.cut())),
        }
        let sender_left = lane.begun && matches!(lane.sender.state, State::Gone | State::Lost);
        if !sender_left && matches!(finish, Finish::Open | Finish::Whole(_)) {
            return Ok(None);
        }
        if silent {
            return Ok(Some(Received::Again));
        }
        if self.reception.manner.marks_truncation() && self.chunked && self.phase == Phase::Body {
            // What was published before is still ours to write.
            self.truncated = !matches!(finish, Finish::Whole(_));
            return Ok(None);
        }
        Ok(Some(self.cut()))
    }

    /// How to cut an answer that has begun, so that the client sees it: one that is all written must
    /// not be completed by what the kernel still holds.
    fn cut(&self) -> Received {
        if self.phase == Phase::Ack || self.length == Some(self.taken) {
            return Received::GivenUp;
        }
        Received::Truncated
    }

    fn await_sender(
        &mut self,
        relay: &Relay,
        lane: LaneWord,
        now_ms: u64,
    ) -> Result<Turn<Received>, Refusal> {
        let sender = lane.sender;
        if self.reception.needs_length && sender.state == State::Held && sender.mark {
            return Ok(Turn::Over(Received::NeedsLength));
        }
        let Some(next_look_ms) = relay.wait(&self.end, self.wait_ends_ms, now_ms)? else {
            return Ok(Turn::Over(Received::Ended(End::Expired)));
        };
        if now_ms >= self.wait_ends_ms {
            return Ok(Turn::Over(Received::NobodyCame));
        }
        self.next_look_ms = next_look_ms;
        Ok(Turn::Wait)
    }

    /// The sender has begun: writes the head of the answer.
    fn begin(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let bytes = self.end.announcement(relay.shared())?;
        let announced = Announcement::decode(&bytes).ok_or(Refusal::Announcement(bytes.len()))?;
        self.chunked = announced.length.is_none();
        self.length = announced.length;
        self.receipt = announced.receipt;
        self.takes_pipes = !self.chunked && !stream.is_encrypted();
        if self.takes_pipes {
            self.end.take_pipes(relay.shared())?;
        }
        let Reception { keep_alive, needs_length, manner, cors, .. } = &self.reception;
        let mut head = write_head(outbox.bytes(), &announced, manner);
        cors.write(&mut head);
        match (keep_alive, needs_length) {
            (false, _) => head.close(),
            (true, true) => head.keep_alive(),
            (true, false) => &mut head,
        }
        .end();
        relay.count(Tally::Answer(Status::Ok));
        self.phase = Phase::Body;
        self.progress.due_ms = now_ms.saturating_add(COUNT_EACH_MS);
        self.pace = Pace::new(relay, 0, now_ms);
        self.stall = Stall::new(0, now_ms);
        Ok(())
    }

    fn write_body(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<Turn<Received>, Refusal> {
        if stream.is_broken() {
            return self.left(relay, stream);
        }
        let mut moved = 0;
        while moved < relay.round.turn_bytes() {
            let finish = self.end.finish(relay.shared())?;
            if self.piece_taken.is_none() && !self.next_piece(relay, stream, outbox, now_ms)? {
                // Read before the look at what is published: whoever sees the end sees all before it.
                if let Finish::Whole(total) = finish {
                    if total == self.taken {
                        return self.finish(relay, stream, outbox, now_ms);
                    }
                    return Err(Refusal::Total { found: total, taken: self.taken });
                }
                if self.truncated {
                    return self.finish(relay, stream, outbox, now_ms);
                }
                match outbox.flush(stream) {
                    Put::Bytes(_) => {}
                    Put::Full => return Ok(self.full(relay, stream, now_ms)),
                    Put::Broken => return self.left(relay, stream),
                }
                // Without a word from its sender it need not take anything, but what was sent it has to acknowledge.
                let position = self.position(stream);
                if self.pace.is_lost(relay, stream, position, now_ms) {
                    return Ok(self.give_up(relay, stream));
                }
                self.next_look_ms = now_ms.saturating_add(LOOK_ANYWAY_MS);
                self.idle = true;
                let wait = self.end.wait_for_chunk(relay.shared())?;
                return Ok(if wait { Turn::Wait } else { Turn::Again });
            }
            match self.write_piece(relay, stream, outbox)? {
                Put::Bytes(bytes) => moved += bytes,
                Put::Full => return Ok(self.full(relay, stream, now_ms)),
                Put::Broken => return self.left(relay, stream),
            }
        }
        Ok(Turn::Again)
    }

    /// Turns to the next published piece, if there is one.
    fn next_piece(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<bool, Refusal> {
        let Some(piece) = self.end.next(relay.shared())? else { return Ok(false) };
        let bytes = piece.len() as u64;
        self.resume(relay, stream, now_ms);
        let found = self.taken.saturating_add(bytes);
        if let Some(high) = self.length.filter(|length| found > *length) {
            return Err(Refusal::Count { found, high });
        }
        if self.chunked {
            outbox.bytes().extend_from_slice(chunk_line(bytes).as_bytes());
        }
        self.piece_taken = Some(0);
        Ok(true)
    }

    /// There is something to write again: the time without is not the receiver's.
    fn resume(&mut self, relay: &Relay, stream: &Stream, now_ms: u64) {
        if std::mem::take(&mut self.idle) {
            let position = self.position(stream);
            self.pace = Pace::new(relay, position, now_ms);
            self.stall = Stall::new(position, now_ms);
        }
    }

    /// Writes what stands before the piece, the piece straight from its chunk or pipe, and what ends it.
    fn write_piece(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        outbox: &mut Outbox,
    ) -> Result<Put, Refusal> {
        // Asked for anew each time, so that it is known to be ours still.
        let Some(piece) = self.end.next(relay.shared())? else { return Ok(Put::Bytes(0)) };
        let taken = self.piece_taken.unwrap_or(0);
        let left = piece.len().saturating_sub(taken);
        let tail: &[u8] = if self.chunked { b"\r\n" } else { b"" };
        let mut failed = false;
        let put = match relay.pipe(piece.vessel()) {
            // Nothing of a pipe would be encrypted, or framed.
            Some(_) if !self.takes_pipes => return Err(Refusal::UnwantedPipe),
            Some(pipe) => {
                let poured = pour(&mut self.copied, stream, outbox, pipe, left)?;
                failed = poured.1;
                poured.0
            }
            None => {
                let payload = relay.segment.bytes(&piece).get(taken..).unwrap_or_default();
                let parts = [outbox.rest(), payload, tail].map(IoSlice::new);
                stream.send(&parts)
            }
        };
        if failed {
            piece.refuse_pipes(relay.shared())?;
        }
        let Put::Bytes(written) = put else { return Ok(put) };
        let of_ours = outbox.advance(written);
        let of_payload = of_ours.min(left);
        self.piece_taken = Some(taken + of_payload);
        self.taken += of_payload as u64;
        relay.record.sent(of_payload);
        if of_payload == left {
            let of_tail = of_ours - of_payload;
            outbox.bytes().extend_from_slice(tail.get(of_tail..).unwrap_or_default());
            self.piece_taken = None;
            if piece.ack_recv(relay.shared())? {
                relay.ring_peer(&self.end)?;
            }
        }
        Ok(Put::Bytes(written))
    }

    /// Everything was written but the end: writes that, and waits for what the sender asked for.
    fn finish(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<Turn<Received>, Refusal> {
        self.resume(relay, stream, now_ms);
        if self.chunked && !std::mem::replace(&mut self.end_written, true) {
            let end = if self.truncated { TRUNCATED_END } else { b"0\r\n\r\n" };
            outbox.bytes().extend_from_slice(end);
        }
        match outbox.flush(stream) {
            Put::Bytes(_) => {}
            Put::Full => return Ok(self.full(relay, stream, now_ms)),
            Put::Broken => return self.left(relay, stream),
        }
        if self.truncated {
            self.count(relay, stream)?;
            return Ok(Turn::Over(Received::Complete));
        }
        if self.receipt == Receipt::Sent {
            self.end.count_taken(relay.shared(), self.taken)?;
            self.end.settle(relay.shared(), Settled::Sent)?;
            return Ok(Turn::Over(Received::Complete));
        }
        self.phase = Phase::Ack;
        let short_until_ms = now_ms.saturating_add(ACK_DELAYED_MS);
        let interval_ms = ACK_POLL_MS[0];
        // A count that is not known at first is no progress.
        let ends_ms = now_ms.saturating_add(millis(relay.config.timeouts.ack_timeout));
        self.ack = AckPoll { interval_ms, short_until_ms, unacknowledged: u64::MAX, ends_ms };
        self.await_ack(relay, stream, now_ms)
    }

    /// Asks the kernel whether the client's TCP has acknowledged everything. The time-out runs from
    /// the last progress: what a slow line still has in its buffers may take long.
    fn await_ack(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        now_ms: u64,
    ) -> Result<Turn<Received>, Refusal> {
        let unacknowledged = self.count(relay, stream)?;
        if unacknowledged == 0 {
            self.end.settle(relay.shared(), Settled::Acked)?;
            return Ok(Turn::Over(Received::Complete));
        }
        if stream.is_broken() {
            return Ok(Turn::Over(Received::Left));
        }
        let progress = unacknowledged < self.ack.unacknowledged;
        self.ack.unacknowledged = unacknowledged;
        // What was sent must be acknowledged in time. What was not, as the client does not read and
        // has closed its window, is a question of patience.
        if progress || !stream.is_in_flight() {
            let timeout = millis(relay.config.timeouts.ack_timeout);
            self.ack.ends_ms = now_ms.saturating_add(timeout);
        }
        if now_ms >= self.ack.ends_ms || self.is_too_slow(relay, stream, now_ms) {
            return Ok(Turn::Over(Received::GivenUp));
        }
        self.next_look_ms = now_ms.saturating_add(self.ack.interval_ms);
        let longest = ACK_POLL_MS[if now_ms < self.ack.short_until_ms { 1 } else { 2 }];
        self.ack.interval_ms = (self.ack.interval_ms * 2).min(longest);
        Ok(Turn::Wait)
    }

    /// The socket takes no more for now; a client that takes nothing for too long is cut off.
    fn full(&mut self, relay: &Relay, stream: &Stream, now_ms: u64) -> Turn<Received> {
        let position = self.position(stream);
        let too_slow = self.is_too_slow(relay, stream, now_ms);
        let stalled = !too_slow && self.stall.gives_up(relay, &self.end, position, now_ms);
        if stalled {
            relay.count(Tally::Limit(Limit::Stalled));
        }
        if too_slow || stalled {
            return self.give_up(relay, stream);
        }
        self.next_look_ms = self.pace.next_look_ms(relay, now_ms);
        Turn::Wait
    }

    fn give_up(&self, relay: &Relay, stream: &Stream) -> Turn<Received> {
        // A count that cannot be stored is no reason to go on.
        let _ = self.count(relay, stream);
        Turn::Over(Received::GivenUp)
    }

    /// The rate is that of what the client acknowledges: its socket's buffer takes nothing for a long
    /// time, and then much, from a client that reads slowly and steadily.
    fn is_too_slow(&mut self, relay: &Relay, stream: &Stream, now_ms: u64) -> bool {
        let position = self.position(stream);
        self.pace.judge(relay, stream, position, now_ms) != Verdict::Stays
    }

    /// Payload bytes that the client's TCP has acknowledged, at least: what is unacknowledged is taken
    /// to be payload, so the count is never too high, and exact once the queue is empty.
    fn position(&self, stream: &Stream) -> u64 {
        self.taken.saturating_sub(stream.unacknowledged())
    }

    /// Stores what the socket took and, now and then, what is acknowledged: once more after the last that it took, too.
    fn note_progress(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let moved = self.taken.saturating_sub(self.progress.taken);
        if now_ms < self.progress.due_ms && moved < COUNT_EACH_BYTES {
            self.end.count_taken(relay.shared(), self.taken)?;
        } else {
            self.count(relay, stream)?;
            let due_ms = now_ms.saturating_add(COUNT_EACH_MS);
            self.progress = Progress { due_ms, taken: self.taken };
        }
        if moved > 0 && self.phase == Phase::Body {
            self.next_look_ms = self.next_look_ms.min(self.progress.due_ms);
        }
        Ok(())
    }

    fn left(&self, relay: &Relay, stream: &Stream) -> Result<Turn<Received>, Refusal> {
        self.count(relay, stream)?;
        Ok(Turn::Over(Received::Left))
    }

    /// Stores both counters; returns what is not acknowledged, framing included.
    fn count(&self, relay: &Relay, stream: &Stream) -> Result<u64, Refusal> {
        let unacknowledged = stream.unacknowledged();
        let acknowledged = self.taken.saturating_sub(unacknowledged);
        self.end.count(relay.shared(), self.taken, acknowledged)?;
        Ok(unacknowledged)
    }

    /// Gives up the place. What was asked for is given back, for another try.
    pub fn leave(self, relay: &Relay) -> (Reception, Result<(), Refusal>) {
        let lane = self.lane();
        let left = relay.shared().leave_receiver(self.end);
        if let Ok(Some(sender)) = left {
            relay.ring(sender, lane.session.slot);
        }
        relay.ring_knockers(lane);
        (self.reception, left.map(drop))
    }
}

/// Writes what stands before a piece of `left` bytes, or else the piece, from its pipe. Where splice(2) fails in
/// mid-transfer, what is in the pipe is read and written instead, by way of `copied`. Also tells whether it has failed.
fn pour(
    copied: &mut Option<Outbox>,
    stream: &mut Stream,
    outbox: &Outbox,
    pipe: &Pipe,
    left: usize,
) -> Result<(Put, bool), Refusal> {
    if !outbox.is_empty() {
        return Ok((stream.send(&[IoSlice::new(outbox.rest())]), false));
    }
    let mut failure = None;
    if copied.is_none() {
        match stream.send_from(pipe, left) {
            Ok(put) if !matches!(put, Put::Bytes(1..)) && pipe.is_empty() => {
                return Err(Refusal::EmptyPipe { missing: left });
            }
            Ok(put) => return Ok((put, false)),
            Err(error) => failure = Some(error),
        }
    }
    let copied = copied.get_or_insert_default();
    if copied.is_empty() {
        let room = copied.bytes();
        room.resize(left.min(COPY_BYTES), 0);
        let taken = pipe.take(room).unwrap_or(0);
        room.truncate(taken);
        if taken == 0 {
            return Err(Refusal::EmptyPipe { missing: left });
        }
    }
    let put = stream.send(&[IoSlice::new(copied.rest())]);
    if let Put::Bytes(written) = put {
        copied.advance(written);
    }
    // Of a connection that is broken the write has told.
    let failure = failure.filter(|_| put != Put::Broken);
    if let Some(error) = &failure {
        tracing::warn!(%error, "splice(2) has failed: a transfer goes on by copying");
    }
    Ok((put, failure.is_some()))
}

/// What every relayed answer says beside the payload's own fields: that a browser is to keep it in a
/// box, and nobody is to keep it at all.
pub const RELAYED_FIELDS: [(&str, &str); 5] = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("X-Robots-Tag", "none"),
];

/// The end of a chunked message whose sender was lost.
const TRUNCATED_END: &[u8] = b"0\r\nX-Transfer-Status: truncated\r\n\r\n";

/// Writes the head up to what is said of the connection.
fn write_head<'o>(
    out: &'o mut Vec<u8>,
    announced: &Announcement,
    manner: &Manner,
) -> ResponseHead<'o> {
    let mut head = ResponseHead::start(out, Status::Ok, SystemTime::now());
    for (name, value) in RELAYED_FIELDS {
        head.field(name, value);
    }
    let content_type = announced.content_type.as_deref();
    head.field_bytes("Content-Type", content_type.unwrap_or(b"application/octet-stream"));
    if let Some(encoding) = &announced.encoding {
        head.field_bytes("Content-Encoding", encoding);
    }
    match manner {
        Manner::File => {
            head.field("Content-Disposition", Attachment(announced.name.as_ref()));
        }
        Manner::Message { renewal } => {
            let role = match renewal {
                Some(_) => MessageRole::Host,
                None => MessageRole::Guest,
            };
            head.field(MessageRole::FIELD, role.as_str());
            if let Some(renewal) = renewal {
                head.field("Set-Cookie", renewal.cookie());
            }
            if announced.length.is_none() {
                head.field("Trailer", "X-Transfer-Status");
            }
        }
    }
    match announced.length {
        Some(length) => head.content_length(length),
        None => head.chunked(),
    };
    head
}
