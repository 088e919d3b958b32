//! A client that sends: from its socket into the lane, until the receiver's side vouches for it.
//!
//! Nothing of the body is read before a receiver is there. The attempt begins with the first payload
//! (or with the end of an empty body): what goes wrong before that is the sender's alone, and the
//! receiver goes on waiting.

use super::bandwidth::Bandwidth;
use super::body::Window;
use super::pace::{Pace, Verdict};
use super::pipes::suits_pipe;
use super::{
    Announcement, Cargo, LOOK_ANYWAY_MS, Manner, Outbox, Relay, Report, Sent, Turn, millis,
};
use crate::config::Receipt;
use crate::http::{CONTINUE, Fault};
use crate::stream::Stream;
use crate::sys::Got;
use crate::tally::{Limit, Tally};
use shm::{
    End, Filling, Finish, LaneEnd, LaneRef, LaneWord, Life, Refusal, SenderEnd, Settled, State,
    TakenBack, Vessel,
};

/// How often a lane that starves for a first chunk asks again: nobody rings for a freed chunk.
const STARVED_POLL_MS: u64 = 10;

/// What a byte of framing costs, in bytes of payload: each is looked at, and the payload between is moved.
const FRAMING_COST: usize = 128;

/// A sender in its place.
#[derive(Debug)]
pub struct Sending {
    end: SenderEnd,
    cargo: Cargo,
    /// Payload bytes to come, where that was known beforehand: what the body tells shrinks as it is read.
    length: Option<u64>,
    wait_ends_ms: u64,
    phase: Phase,
    /// A turn has found it without a receiver.
    waited: bool,
    /// The rival that the turn before found.
    doubted_by: u64,
    begun: bool,
    filling: Option<(Filling, Window)>,
    /// What a receiver that was lost had not taken, for the next one.
    taken_back: Vec<TakenBack>,
    /// It waits once more, though some of its body was read.
    waits_again: bool,
    pace: Pace,
    /// How fast it is read from, if that is capped.
    bandwidth: Option<Box<Bandwidth>>,
    /// Bytes of the body that were read.
    read_bytes: u64,
    /// There was no room: that time is not the sender's.
    blocked: bool,
    /// Since when there is no chunk at all for us.
    starved_since_ms: Option<u64>,
    /// Since when a chunk is filled for a receiver that has left before it began.
    filled_since_ms: Option<u64>,
    next_look_ms: u64,
}

/// What the sender waits for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Receiver,
    Body,
    Receipt,
    /// The receiver's last count, after which the sender is told this.
    LastCount(Sent),
}

impl Sending {
    /// A sender that has just taken its place.
    #[must_use]
    pub fn new(
        relay: &Relay,
        mut end: SenderEnd,
        cargo: Cargo,
        wait_ends_ms: u64,
        now_ms: u64,
    ) -> Self {
        end.charge(relay.payer(cargo.client));
        Self {
            end,
            length: cargo.body.length(),
            bandwidth: Bandwidth::of(relay, cargo.client),
            cargo,
            wait_ends_ms,
            phase: Phase::Receiver,
            waited: false,
            doubted_by: 0,
            begun: false,
            filling: None,
            taken_back: Vec::new(),
            waits_again: false,
            pace: Pace::new(relay, 0, now_ms),
            read_bytes: 0,
            blocked: false,
            starved_since_ms: None,
            filled_since_ms: None,
            next_look_ms: wait_ends_ms,
        }
    }

    /// Its lane.
    #[must_use]
    pub fn lane(&self) -> LaneRef {
        self.end.lane()
    }

    fn slot(&self) -> u32 {
        self.lane().session.slot
    }

    /// When it wants a turn though nothing has happened.
    #[must_use]
    pub fn next_look_ms(&self) -> u64 {
        self.next_look_ms
    }

    /// Which API it is sent by.
    #[must_use]
    pub fn manner(&self) -> &Manner {
        &self.cargo.manner
    }

    /// Whether nothing has begun yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.begun
    }

    /// Whether there is no room for what its client sends.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked && matches!(self.phase, Phase::Body)
    }

    /// Whether the whole request body has been read.
    #[must_use]
    pub fn has_read_all(&self) -> bool {
        self.cargo.body.is_done()
    }

    /// Does what can be done now. Bytes that the client sent behind its head, or behind its body,
    /// are in `inbox`.
    pub fn turn(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        inbox: &mut Vec<u8>,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Turn<Report> {
        let doubted_before = self.doubted_by;
        let turn = self.try_turn(relay, stream, inbox, outbox, now_ms);
        match turn.unwrap_or_else(|refusal| self.over(relay, Sent::Refused(refusal))) {
            // A rival was found in this turn, and the next one answers it.
            Turn::Wait if self.doubted_by != 0 && self.doubted_by != doubted_before => Turn::Again,
            turn => turn,
        }
    }

    fn try_turn(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        inbox: &mut Vec<u8>,
        outbox: &mut Outbox,
        now_ms: u64,
    ) -> Result<Turn<Report>, Refusal> {
        let lane = relay.shared().look(&self.end)?;
        if let Some(turn) = self.ended(relay, lane, now_ms)? {
            return Ok(turn);
        }
        if stream.is_broken() && !matches!(self.phase, Phase::Receipt) {
            return Ok(self.left(relay));
        }
        if !self.begun && relay.is_barred(&self.end, self.cargo.admitted_as)? {
            return Ok(self.over(relay, Sent::Barred));
        }
        if self.waited && matches!(self.phase, Phase::Receiver) {
            stream.look();
        }
        // Who only came now may have said all it will say; who was seen to wait, and left, is gone.
        if self.waited && matches!(self.phase, Phase::Receiver) && self.has_left(stream) {
            return Ok(self.left(relay));
        }
        if let Some(turn) = self.answer_rival(relay, stream, inbox)? {
            return Ok(turn);
        }
        match self.phase {
            // A receiver that speaks HTTP/1.0 (its mark) has to know the length: one that is not known
            // (our mark) does not suit it, and it turns away.
            Phase::Receiver if self.can_begin(relay, lane)? => {
                if self.cargo.expects_continue && inbox.is_empty() && stream.unread() == 0 {
                    outbox.bytes().extend_from_slice(CONTINUE);
                }
                // Asked once; a client that did not wait for it needs none.
                self.cargo.expects_continue = false;
                self.phase = Phase::Body;
                self.end.note_meeting(relay.shared(), now_ms)?;
                (self.starved_since_ms, self.filled_since_ms) = (None, None);
                self.pace = Pace::new(relay, self.read_bytes, now_ms);
                self.read_body(relay, lane, stream, inbox, now_ms)
            }
            Phase::Receiver => self.await_receiver(relay, stream, now_ms),
            Phase::Body => self.read_body(relay, lane, stream, inbox, now_ms),
            Phase::Receipt | Phase::LastCount(_) => {
                // Nothing more will be put into what came back.
                self.end.shed(relay.shared())?;
                // The bell tells; this is for a bell that a crash swallowed.
                self.next_look_ms = now_ms.saturating_add(LOOK_ANYWAY_MS);
                Ok(Turn::Wait)
            }
        }
    }

    /// Whether the other side or the session has put an end to it.
    fn ended(
        &mut self,
        relay: &Relay,
        lane: LaneWord,
        now_ms: u64,
    ) -> Result<Option<Turn<Report>>, Refusal> {
        let shared = relay.shared();
        if let Phase::Receipt = self.phase
            && self.is_settled(self.end.settled(shared)?)
        {
            self.complete(relay, now_ms)?;
            return Ok(Some(self.over(relay, Sent::Delivered(self.cargo.receipt))));
        }
        let life = shared.life(self.lane().session)?;
        let cause = match life {
            Some(Life::Live) => None,
            Some(Life::Ended(end)) => Some(Sent::Ended(end)),
            _ => Some(Sent::Ended(End::Expired)),
        };
        if lane.begun
            && let State::Gone | State::Lost = lane.receiver.state
        {
            let is_lost = lane.receiver.state == State::Lost;
            if is_lost && cause.is_none() && self.wait_again(relay, now_ms)? {
                return Ok(Some(Turn::Again));
            }
            let sent = match (self.phase, cause, lane.receiver.state) {
                (Phase::LastCount(sent), _, _) | (_, Some(sent), _) => sent,
                (_, _, State::Lost) => Sent::PeerWorkerLost,
                _ => Sent::ReceiverLeft,
            };
            return Ok(Some(self.over(relay, sent)));
        }
        cause.map(|sent| self.fail(relay, sent, now_ms)).transpose()
    }

    /// Everything is delivered. Only a complete file ends its session; a message renews it.
    fn complete(&self, relay: &Relay, now_ms: u64) -> Result<(), Refusal> {
        if !self.cargo.manner.ends_session() {
            return relay.shared().renew(&self.end, now_ms);
        }
        let (session, slot) = (self.lane().session, self.slot());
        if relay.shared().end(session, End::Complete, |owner| relay.ring(owner, slot)) {
            relay.count(Tally::Ended(End::Complete));
        }
        Ok(())
    }

    fn is_settled(&self, settled: Settled) -> bool {
        match self.cargo.receipt {
            Receipt::Acked => settled == Settled::Acked,
            Receipt::Sent => settled != Settled::No,
        }
    }

    fn await_receiver(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        now_ms: u64,
    ) -> Result<Turn<Report>, Refusal> {
        stream.look();
        if self.has_left(stream) {
            return Ok(self.left(relay));
        }
        let Some(next_look_ms) = relay.wait(&self.end, self.wait_ends_ms, now_ms)? else {
            return Ok(self.over(relay, Sent::Ended(End::Expired)));
        };
        if now_ms >= self.wait_ends_ms {
            return Ok(self.over(relay, Sent::NobodyCame));
        }
        self.next_look_ms = next_look_ms;
        if !self.taken_back.is_empty() || self.filling.is_some() {
            let since = *self.filled_since_ms.get_or_insert(now_ms);
            let patience = millis(relay.config.timeouts.stall_timeout);
            if now_ms >= since.saturating_add(patience)
                && self.end.grants_wish_waiting(relay.shared())
            {
                relay.count(Tally::Limit(Limit::Stalled));
                return Ok(self.over(relay, Sent::NoChunk));
            }
            self.next_look_ms = next_look_ms.min(now_ms.saturating_add(LOOK_ANYWAY_MS));
        }
        self.waited = true;
        Ok(Turn::Wait)
    }

    /// Whether the client of a sender that waits has left. One whose whole body was read for a receiver that was lost
    /// may have said all it will say.
    fn has_left(&self, stream: &Stream) -> bool {
        stream.is_leaving() && !(self.waits_again && self.has_read_all())
    }

    /// Waits for another receiver, if the lost one has taken nothing. `false`: it may have taken something.
    fn wait_again(&mut self, relay: &Relay, now_ms: u64) -> Result<bool, Refusal> {
        let is_failing = matches!(self.phase, Phase::LastCount(_));
        if is_failing || now_ms >= self.wait_ends_ms {
            return Ok(false);
        }
        let Some(taken_back) = self.end.rewind(relay.shared())? else { return Ok(false) };
        self.taken_back = taken_back;
        self.taken_back.reverse();
        (self.begun, self.waited, self.waits_again) = (false, false, true);
        self.phase = Phase::Receiver;
        relay.ring_knockers(self.lane());
        Ok(true)
    }

    /// Begins anew with what was taken back. `false`: the receiver has left before that.
    fn publish_again(&mut self, relay: &Relay) -> Result<bool, Refusal> {
        if self.taken_back.is_empty() {
            return Ok(true);
        }
        if !self.begin(relay)? {
            return Ok(false);
        }
        // The first is at the end. What an error leaves here is given up with the place.
        while let Some((chunk, payload)) = self.taken_back.pop() {
            self.end.publish(relay.shared(), chunk, payload)?;
        }
        relay.ring_peer(&self.end)?;
        Ok(true)
    }

    /// Whether there is a receiver, and one that suits.
    fn can_begin(&self, relay: &Relay, lane: LaneWord) -> Result<bool, Refusal> {
        if !lane.can_begin() {
            return Ok(false);
        }
        Ok(!self.cargo.for_guest || relay.shared().receiver_is_guest(&self.end)?)
    }

    /// Leaves the place to a rival from the same address if need be; any other rival is sent away, at the next turn,
    /// before which the kernel is asked. What has begun goes on meanwhile.
    fn answer_rival(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        inbox: &[u8],
    ) -> Result<Option<Turn<Report>>, Refusal> {
        let rival = relay.rival(&self.end)?;
        if rival == 0 {
            self.doubted_by = 0;
            return Ok(None);
        }
        let waits = matches!(self.phase, Phase::Receiver);
        let is_ours = || rival == relay.addresses.exact(self.cargo.client);
        if waits && self.may_be_dead(stream, inbox) && is_ours() {
            return Ok(Some(self.over(relay, Sent::Superseded)));
        }
        let answered = relay.refuse_rival(&self.end, rival, &mut self.doubted_by)?;
        Ok((!answered && waits).then_some(Turn::Again))
    }

    /// Whether the client may be gone without our knowing: its FIN would stand behind bytes that find no
    /// room, as nothing is read before a receiver comes.
    fn may_be_dead(&self, stream: &Stream, inbox: &[u8]) -> bool {
        let here = stream.unread().saturating_add(inbox.len() as u64);
        stream.is_backed_up() && self.cargo.body.unread().is_none_or(|left| here < left)
    }

    fn read_body(
        &mut self,
        relay: &Relay,
        lane: LaneWord,
        stream: &mut Stream,
        inbox: &mut Vec<u8>,
        now_ms: u64,
    ) -> Result<Turn<Report>, Refusal> {
        let can_begin = self.begun || self.can_begin(relay, lane)?;
        if !can_begin || !self.publish_again(relay)? {
            self.phase = Phase::Receiver;
            self.next_look_ms = now_ms;
            return Ok(Turn::Again);
        }
        if std::mem::take(&mut self.blocked) {
            self.pace = Pace::new(relay, self.read_bytes, now_ms);
        }
        let too_slow = match self.pace.judge(relay, stream, self.read_bytes, now_ms) {
            Verdict::Stays => None,
            Verdict::Lost => return Ok(self.left(relay)),
            Verdict::Silent => Some(Sent::Silent),
            Verdict::TooSlow => Some(Sent::TooSlow),
        };
        // With chunks on the way it is the receiver that is slow, and its side sees to that.
        if let Some(sent) = too_slow
            && !self.end.is_unacked(relay.shared())?
        {
            return self.fail(relay, sent, now_ms);
        }
        let mut moved = 0;
        while moved < relay.round.turn_bytes() {
            if self.cargo.body.is_done() {
                return self.finish(relay, now_ms);
            }
            if inbox.is_empty() && !stream.is_readable() && !stream.is_leaving() {
                return self.idle(relay, now_ms);
            }
            let most = match &mut self.bandwidth {
                None => usize::MAX,
                Some(bandwidth) => {
                    let left = self.cargo.body.unread().unwrap_or(u64::MAX);
                    match bandwidth.allowance(relay, left, now_ms) {
                        Ok(bytes) => bytes,
                        Err(next_ms) => return self.hold_back(relay, next_ms, now_ms),
                    }
                }
            };
            if !self.take_vessel(relay, stream, inbox)? {
                return self.no_room(relay, now_ms);
            }
            self.starved_since_ms = None;
            match self.fill(relay, stream, inbox, most) {
                Ok(Got::Bytes(bytes)) => moved += bytes + self.overhead(stream),
                Ok(Got::Dry) => {}
                Ok(Got::End | Got::Broken) => return Ok(self.left(relay)),
                Err(fault) => return self.fail(relay, Sent::Fault(fault), now_ms),
            }
            let dry = inbox.is_empty() && !stream.is_readable();
            if (dry || self.is_full(relay)) && !self.publish(relay)? {
                return Ok(Turn::Again);
            }
        }
        if self.cargo.body.is_done() {
            return self.finish(relay, now_ms);
        }
        Ok(Turn::Again)
    }

    /// What the framing of what was received last has cost, of chunks and of TLS, in bytes of payload.
    fn overhead(&self, stream: &Stream) -> usize {
        let bytes = self.cargo.body.framing_bytes().saturating_add(stream.overhead_bytes());
        bytes.saturating_mul(FRAMING_COST)
    }

    /// Sees to it that there is a chunk or pipe to fill.
    fn take_vessel(
        &mut self,
        relay: &Relay,
        stream: &Stream,
        inbox: &[u8],
    ) -> Result<bool, Refusal> {
        if self.filling.is_some() {
            return Ok(true);
        }
        let suits_pipe = self.suits_pipe(relay, stream, inbox)?;
        let reserved = relay.reserve(&mut self.end, suits_pipe)?;
        let Some(mut filling) = reserved else { return Ok(false) };
        let window = self.cargo.body.begin(relay.segment.bytes_mut(&mut filling));
        self.filling = Some((filling, window));
        Ok(true)
    }

    /// Whether what comes next may go through a pipe. The first payload is for whoever receives once it is there, so
    /// it goes by chunk.
    fn suits_pipe(&self, relay: &Relay, stream: &Stream, inbox: &[u8]) -> Result<bool, Refusal> {
        let suits = self.begun && suits_pipe(&self.cargo.body, stream, inbox);
        Ok(suits && self.end.takes_pipes(relay.shared())?)
    }

    fn is_full(&self, relay: &Relay) -> bool {
        self.filling.as_ref().is_some_and(|(filling, window)| match filling.vessel() {
            Vessel::Chunk(_) => window.filled >= relay.shared().chunk_bytes(),
            // Only of an empty one it is known that there is room; and what gave nothing may have to be read.
            Vessel::Pipe(_) => true,
        })
    }

    /// Moves bytes into the chunk and decodes them there, or into the pipe: `most` of them.
    fn fill(
        &mut self,
        relay: &Relay,
        stream: &mut Stream,
        inbox: &mut Vec<u8>,
        most: usize,
    ) -> Result<Got, Fault> {
        let Some((filling, window)) = &mut self.filling else { return Ok(Got::Dry) };
        if let Some(pipe) = relay.pipe(filling.vessel()) {
            let (got, bytes) = relay.fill_pipe(pipe, stream, &mut self.cargo.body, window, most);
            self.note_read(bytes);
            return Ok(got);
        }
        let chunk = relay.segment.bytes_mut(filling);
        let room = self.cargo.body.room(chunk, window);
        if room.is_empty() {
            // It was filled for a receiver that left before it began.
            return Ok(Got::Bytes(0));
        }
        let bytes = room.len().min(most);
        let room = room.get_mut(..bytes).unwrap_or_default();
        let got = if inbox.is_empty() { stream.recv(room) } else { unload(inbox, room) };
        let Got::Bytes(bytes) = got else { return Ok(got) };
        let beyond = self.cargo.body.absorb(chunk, window, bytes)?;
        if let Some(rest) = chunk.get(beyond)
            && !rest.is_empty()
        {
            inbox.splice(..0, rest.iter().copied());
        }
        self.note_read(bytes as u64);
        Ok(got)
    }

    fn note_read(&mut self, bytes: u64) {
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.spend(bytes);
        }
    }

    /// Hands the payload in the chunk to the receiver, and begins the attempt with the first.
    /// `false`: the receiver has left before it began; the payload is kept for the next one.
    fn publish(&mut self, relay: &Relay) -> Result<bool, Refusal> {
        let Some((mut filling, window)) = self.filling.take() else { return Ok(true) };
        if window.payload.is_empty() {
            self.cargo.body.end(relay.segment.bytes_mut(&mut filling), &window);
            self.end.put_back(relay.shared(), filling)?;
            return Ok(true);
        }
        let first = !self.begun;
        if !self.begin(relay)? {
            self.filling = Some((filling, window));
            return Ok(false);
        }
        self.cargo.body.end(relay.segment.bytes_mut(&mut filling), &window);
        relay.record.received(window.payload.len());
        let awaited = self.end.publish(relay.shared(), filling, window.payload)?;
        // At the end of the body one bell tells of the last chunk and of the end.
        if (awaited || first) && !self.cargo.body.is_done() {
            relay.ring_peer(&self.end)?;
        }
        Ok(true)
    }

    /// Begins the attempt if it has not begun. `false`: there is no receiver any more.
    fn begin(&mut self, relay: &Relay) -> Result<bool, Refusal> {
        if self.begun {
            return Ok(true);
        }
        let announcement = match self.cargo.body.file() {
            Some(part) => Announcement {
                length: None,
                content_type: part.content_type.clone(),
                encoding: None,
                name: part.name.as_ref().or(self.cargo.name.as_ref()).cloned(),
                receipt: self.cargo.receipt,
            },
            None => Announcement {
                length: self.length,
                content_type: self.cargo.content_type.clone(),
                encoding: self.cargo.encoding.clone(),
                name: self.cargo.name.clone(),
                receipt: self.cargo.receipt,
            },
        };
        self.begun = relay.shared().begin(&self.end, &announcement.encode())?.is_some();
        if self.begun {
            relay.count(Tally::Begun(self.manner().api()));
        }
        Ok(self.begun)
    }

    /// The whole body has been read: publishes the rest and says so.
    fn finish(&mut self, relay: &Relay, now_ms: u64) -> Result<Turn<Report>, Refusal> {
        if let Err(fault) = self.cargo.body.finish() {
            return self.fail(relay, Sent::Fault(fault), now_ms);
        }
        if !self.publish(relay)? || !self.begin(relay)? {
            return Ok(Turn::Again);
        }
        self.end.finish(relay.shared(), Finish::Whole(self.end.published_bytes()))?;
        self.phase = Phase::Receipt;
        relay.ring_peer(&self.end)?;
        // The bell tells, also of an end that came in between; this is for a bell that a crash swallowed.
        self.next_look_ms = now_ms.saturating_add(LOOK_ANYWAY_MS);
        Ok(Turn::Wait)
    }

    fn idle(&mut self, relay: &Relay, now_ms: u64) -> Result<Turn<Report>, Refusal> {
        if !self.publish(relay)? {
            return Ok(Turn::Again);
        }
        self.end.shed(relay.shared())?;
        // Chunks that are still in flight come back without a bell, unless there are too few of them.
        self.next_look_ms = self.pace.next_look_ms(relay, now_ms);
        let wait = self.end.wait_if_short(relay.shared())?;
        Ok(if wait { Turn::Wait } else { Turn::Again })
    }

    /// No more of it is read before `next_ms`, as its bandwidth is capped: that time is not the sender's.
    fn hold_back(
        &mut self,
        relay: &Relay,
        next_ms: u64,
        now_ms: u64,
    ) -> Result<Turn<Report>, Refusal> {
        if !self.publish(relay)? {
            return Ok(Turn::Again);
        }
        self.end.shed(relay.shared())?;
        self.blocked = true;
        self.next_look_ms = next_ms.min(now_ms.saturating_add(LOOK_ANYWAY_MS));
        Ok(Turn::Wait)
    }

    fn no_room(&mut self, relay: &Relay, now_ms: u64) -> Result<Turn<Report>, Refusal> {
        self.blocked = true;
        if self.end.held() > 0 {
            self.next_look_ms = now_ms.saturating_add(LOOK_ANYWAY_MS);
            let wait = self.end.wait_for_room(relay.shared())?;
            return Ok(if wait { Turn::Wait } else { Turn::Again });
        }
        // The pool is empty, and nobody rings when that changes. The more wait, the longer until it is our turn: those at
        // the door are turned away before anything that has begun is cut.
        let turns = 1 + relay.shared().pool().wishes_per_chunk();
        let since = *self.starved_since_ms.get_or_insert(now_ms);
        let patience = millis(relay.config.timeouts.chunk_wait);
        let patience = if self.begun { patience.saturating_mul(turns) } else { patience };
        if now_ms >= since.saturating_add(patience) {
            return self.give_up(relay, now_ms);
        }
        self.next_look_ms = now_ms.saturating_add((STARVED_POLL_MS * turns).min(LOOK_ANYWAY_MS));
        Ok(Turn::Wait)
    }

    /// Tells both that there was no chunk for them.
    fn give_up(&mut self, relay: &Relay, now_ms: u64) -> Result<Turn<Report>, Refusal> {
        if self.begun {
            return self.fail(relay, Sent::NoChunk, now_ms);
        }
        if self.begin(relay)? {
            self.end.finish(relay.shared(), Finish::NoChunk)?;
        }
        Ok(Turn::Over(Report { sent: Sent::NoChunk, delivered: None }))
    }

    /// The transfer has failed and the receiver does not know yet. Before it has begun that is all;
    /// afterwards the receiver is told, and the sender hears its last count.
    fn fail(&mut self, relay: &Relay, sent: Sent, now_ms: u64) -> Result<Turn<Report>, Refusal> {
        if !self.begun {
            return Ok(self.over(relay, sent));
        }
        self.next_look_ms = now_ms.saturating_add(LOOK_ANYWAY_MS);
        if !matches!(self.phase, Phase::LastCount(_)) {
            self.phase = Phase::LastCount(sent);
            self.end.finish(relay.shared(), Finish::Aborted)?;
            relay.ring_peer(&self.end)?;
        }
        Ok(Turn::Wait)
    }

    /// The client has left.
    fn left(&mut self, relay: &Relay) -> Turn<Report> {
        if self.begun {
            // A refusal changes nothing: the place is left all the same.
            let _ = self.end.finish(relay.shared(), Finish::Aborted);
        }
        self.over(relay, Sent::Left)
    }

    fn over(&self, relay: &Relay, sent: Sent) -> Turn<Report> {
        let shared = relay.shared();
        // Only a success counts at the level that was asked for; a failure counts what is certain.
        let count = match sent {
            Sent::Delivered(Receipt::Sent) => self.end.taken(shared),
            _ => self.end.delivered(shared),
        };
        let delivered = self.begun.then(|| count.unwrap_or(0));
        Turn::Over(Report { sent, delivered })
    }

    /// Gives up the place and everything held with it.
    pub fn leave(self, relay: &Relay) -> Result<(), Refusal> {
        let lane = self.lane();
        let filling = self.filling.map(|(filling, _)| filling);
        for (chunk, _) in self.taken_back {
            // A chunk that is refused here is not ours any more. The place must be left anyway.
            let _ = self.end.give_up(relay.shared(), chunk);
        }
        if let Some(receiver) = relay.shared().leave_sender(self.end, filling)? {
            relay.ring(receiver, lane.session.slot);
        }
        relay.ring_knockers(lane);
        Ok(())
    }
}

/// Moves bytes that were read with the head into `room`.
fn unload(inbox: &mut Vec<u8>, room: &mut [u8]) -> Got {
    let bytes = inbox.len().min(room.len());
    if let (Some(to), Some(from)) = (room.get_mut(..bytes), inbox.get(..bytes)) {
        to.copy_from_slice(from);
    }
    inbox.drain(..bytes);
    // An idle connection holds no buffer.
    inbox.shrink_to_fit();
    Got::Bytes(bytes)
}
