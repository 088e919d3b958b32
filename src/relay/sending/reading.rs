//! A sender whose receiver is there: its body is read, the attempt begins with the first payload, and the end is published.
//!
//! The policy is here: how much a turn reads, how slow a sender may be, and what happens if there is no room.
//! `upload` moves the bytes. The receiver may be another one at each turn until the attempt has begun.

use shm::{Finish, LaneWord, Refusal};

use super::{Phase, Progress, Reading, Sending};
use crate::api::{AnnouncedFile, Announcement};
use crate::http::CONTINUE;
use crate::outcome::{Report, SenderOutcome};
use crate::relay::pace::{Pace, Verdict};
use crate::relay::pairing::Pairing;
use crate::relay::starving::Starving;
use crate::relay::upload::overhead;
use crate::relay::{Cx, Env, Io, LOOK_ANYWAY_MS, Turn};
use crate::sys::RecvOutcome;
use crate::tally::Tally;

impl Sending {
    /// There is a receiver: begins to read, if the two fit.
    pub(super) fn pair_with_receiver(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        lane: LaneWord,
    ) -> Result<Turn<Report>, Refusal> {
        let Some(Pairing::Pass { .. }) = self.pairing(cx.env)? else {
            return self.turn_down(cx, io.stream);
        };
        if self.request.expects_continue && io.inbox.is_empty() && io.stream.unread() == 0 {
            io.outbox.bytes().extend_from_slice(CONTINUE);
        }
        // The client is asked once. A client that did not wait for it needs no `100`.
        self.request.expects_continue = false;
        self.phase = Phase::Body(Reading {
            progress: Progress::Paired,
            is_blocked: false,
            starving: Starving::default(),
        });
        self.end.attach(cx.env.shared())?.note_pairing(cx.now_ms);
        self.pace = Pace::new(cx.env, self.upload.read_bytes(), cx.now_ms);
        self.read_body(cx, io, lane)
    }

    pub(super) fn read_body(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        lane: LaneWord,
    ) -> Result<Turn<Report>, Refusal> {
        let can_begin = self.has_begun() || self.can_begin(cx.env, lane)?;
        let lacking = if can_begin { self.lacking(cx.env)? } else { None };
        let Some(lacking) = lacking else { return self.await_another(cx) };
        if lacking == 0 && !self.publish_again(cx.env)? {
            return self.await_another(cx);
        }
        if lacking > 0 {
            self.say_skipping(cx.env)?;
        }
        if let Some(turn) = self.judge_pace(cx, io)? {
            return Ok(turn);
        }
        self.read_some(cx, io, lacking)
    }

    /// Sends a sender away that is gone or too slow.
    fn judge_pace(&mut self, cx: Cx<'_>, io: &Io<'_>) -> Result<Option<Turn<Report>>, Refusal> {
        let read_bytes = self.upload.read_bytes();
        if let Phase::Body(reading) = &mut self.phase
            && std::mem::take(&mut reading.is_blocked)
        {
            self.pace = Pace::new(cx.env, read_bytes, cx.now_ms);
        }
        let outcome = match self.pace.judge(cx.env, io.stream, read_bytes, cx.now_ms) {
            Verdict::Stays => return Ok(None),
            Verdict::Lost => return Ok(Some(self.left(cx.env))),
            Verdict::Silent => SenderOutcome::Silent,
            Verdict::TooSlow => SenderOutcome::TooSlow,
        };
        // While chunks are on the way the receiver is slow, and its side sees to that.
        if self.end.attach(cx.env.shared())?.has_unreleased()? {
            return Ok(None);
        }
        self.fail(cx, outcome).map(Some)
    }

    /// Reads as much as a turn may: first `lacking` bytes that the receiver has, then those that it lacks.
    fn read_some(
        &mut self,
        cx: Cx<'_>,
        io: &mut Io<'_>,
        mut lacking: u64,
    ) -> Result<Turn<Report>, Refusal> {
        let mut moved = 0;
        while moved < cx.env.budget.turn_bytes() {
            if self.request.body.is_done() {
                return self.finish(cx);
            }
            if io.inbox.is_empty() && !io.stream.is_readable() && !io.stream.is_leaving() {
                return self.idle(cx);
            }
            let most = match self.upload.allowance(cx, &self.request.body) {
                Ok(bytes) => bytes,
                Err(next_ms) => return self.hold_back(cx, next_ms),
            };
            if lacking > 0 {
                let most = lacking.min(most as u64);
                match self.upload.skip(cx.env, &mut self.request.body, io, most) {
                    RecvOutcome::Bytes(bytes) => {
                        moved += bytes + overhead(&self.request.body, io);
                        lacking = lacking.saturating_sub(bytes as u64);
                    }
                    RecvOutcome::WouldBlock => {}
                    RecvOutcome::Eof | RecvOutcome::Broken => return Ok(self.left(cx.env)),
                }
                continue;
            }
            let by_pipe = self.receiver_takes_pipes(cx.env)?;
            let body = &mut self.request.body;
            if by_pipe && let Some(got) = self.upload.read_framing(body, io, most) {
                match got {
                    Ok(RecvOutcome::Bytes(bytes)) => moved += bytes + overhead(body, io),
                    Ok(RecvOutcome::WouldBlock) => {}
                    Ok(RecvOutcome::Eof | RecvOutcome::Broken) => return self.lost(cx),
                    Err(fault) => {
                        // The pipe has whole parts of the body. The receiver gets them, as it would by chunk.
                        self.publish(cx.env)?;
                        return self.fail(cx, SenderOutcome::Fault(fault));
                    }
                }
                continue;
            }
            if !self.upload.reserve(cx.env, &mut self.end, body, io, by_pipe)? {
                return self.no_room(cx);
            }
            if let Phase::Body(reading) = &mut self.phase {
                reading.starving.end();
            }
            match self.upload.fill(cx.env, body, io, most) {
                Ok(RecvOutcome::Bytes(bytes)) => moved += bytes + overhead(body, io),
                Ok(RecvOutcome::WouldBlock) => {}
                Ok(RecvOutcome::Eof | RecvOutcome::Broken) => return self.lost(cx),
                Err(fault) => return self.fail(cx, SenderOutcome::Fault(fault)),
            }
            let is_dry = io.inbox.is_empty() && !io.stream.is_readable();
            if (is_dry || self.upload.is_full(cx.env)) && !self.publish(cx.env)? {
                return Ok(Turn::Again);
            }
        }
        if self.request.body.is_done() {
            return self.finish(cx);
        }
        // Only chunks may wait for the next turn half filled: a receiver that comes by then may take no pipes.
        if self.upload.is_filling_pipe() {
            self.publish(cx.env)?;
        }
        Ok(Turn::Again)
    }

    /// Whether there are pipes, and a receiver that takes them. The first payload is for the receiver that is there by
    /// then, so it goes by chunk.
    fn receiver_takes_pipes(&mut self, env: &Env) -> Result<bool, Refusal> {
        Ok(self.has_begun()
            && !env.pipes.is_empty()
            && self.end.attach(env.shared())?.takes_pipes())
    }

    /// The sender is lost. The receiver gets what came before, once its answer has begun.
    fn lost(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        if self.has_begun() {
            self.publish(cx.env)?;
        }
        Ok(self.left(cx.env))
    }

    /// Begins anew with what was taken back. `false`: the receiver has left before that.
    fn publish_again(&mut self, env: &Env) -> Result<bool, Refusal> {
        if !self.upload.has_taken_back() {
            return Ok(true);
        }
        if !self.begin(env)? {
            return Ok(false);
        }
        self.upload.publish_again(env, &mut self.end)?;
        env.ring_peer(&self.end)?;
        Ok(true)
    }

    /// Hands the payload in the chunk to the receiver, and begins the attempt with the first.
    /// `false`: the receiver has left before it began; the payload is kept for the next one.
    fn publish(&mut self, env: &Env) -> Result<bool, Refusal> {
        let is_first = self.upload.has_payload() && !self.has_begun();
        if is_first && !self.begin(env)? {
            return Ok(false);
        }
        let is_awaited = self.upload.publish(env, &mut self.end, &mut self.request.body)?;
        // One bell announces both the last chunk and the end of the body.
        if (is_awaited || is_first) && !self.request.body.is_done() {
            env.ring_peer(&self.end)?;
        }
        Ok(true)
    }

    /// Begins the attempt if it has not begun. `false`: there is no receiver any more.
    fn begin(&mut self, env: &Env) -> Result<bool, Refusal> {
        if self.has_begun() {
            return Ok(true);
        }
        // The receiver may be another one by now.
        let Some(from) = self.begins_at(env)? else { return Ok(false) };
        let announcement = self.announcement(env, from);
        if env.shared().begin(&self.end, &announcement.encode())?.is_none() {
            return Ok(false);
        }
        if let Phase::Body(reading) = &mut self.phase {
            reading.progress = Progress::Begun;
        }
        env.count(Tally::Begun(self.api().name()));
        if from > 0 {
            env.count(Tally::Resumed);
        }
        Ok(true)
    }

    fn announcement(&self, env: &Env, from: u64) -> Announcement {
        let request = &self.request;
        if let Some(part) = request.body.file() {
            return Announcement {
                length: None,
                file: None,
                content_type: part.content_type.clone(),
                encoding: None,
                name: part.name.as_ref().or(request.name.as_ref()).cloned(),
                receipt: request.receipt,
            };
        }
        let skipped = self.upload.skipped_bytes();
        Announcement {
            length: self.length.map(|length| length.saturating_sub(skipped)),
            file: request.offer.file.map(|file| AnnouncedFile {
                from,
                tag: file.tag,
                sender: env.addresses.network(request.client),
            }),
            content_type: request.content_type.clone(),
            encoding: request.encoding.clone(),
            name: request.name.clone(),
            receipt: request.receipt,
        }
    }

    /// The whole body has been read: publishes the rest and says so.
    fn finish(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        if let Err(fault) = self.request.body.finish() {
            return self.fail(cx, SenderOutcome::Fault(fault));
        }
        if !self.publish(cx.env)? || !self.begin(cx.env)? {
            return Ok(Turn::Again);
        }
        let sender = self.end.attach(cx.env.shared())?;
        sender.set_finish(Finish::Whole(sender.published_bytes()));
        self.phase = Phase::Receipt;
        cx.env.ring_peer(&self.end)?;
        // The bell rings for news, and for an end that came in between. This turn is for a bell that a crash
        // swallowed.
        self.next_look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
        Ok(Turn::Wait)
    }

    fn idle(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        if !self.publish(cx.env)? {
            return Ok(Turn::Again);
        }
        let mut sender = self.end.attach(cx.env.shared())?;
        sender.shed()?;
        // Chunks that are still in flight come back without a bell, unless there are too few of them.
        let wait = sender.wait_if_short()?;
        self.next_look_ms = self.pace.next_look_ms(cx.env, cx.now_ms);
        Ok(if wait { Turn::Wait } else { Turn::Again })
    }

    /// Reads no more before `next_ms`, as the bandwidth is capped. The sender is not charged for that time.
    fn hold_back(&mut self, cx: Cx<'_>, next_ms: u64) -> Result<Turn<Report>, Refusal> {
        if !self.publish(cx.env)? {
            return Ok(Turn::Again);
        }
        self.end.attach(cx.env.shared())?.shed()?;
        self.note_blocked();
        self.next_look_ms = next_ms.min(cx.now_ms.saturating_add(LOOK_ANYWAY_MS));
        Ok(Turn::Wait)
    }

    fn note_blocked(&mut self) {
        if let Phase::Body(reading) = &mut self.phase {
            reading.is_blocked = true;
        }
    }

    fn no_room(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        self.note_blocked();
        if self.end.held() > 0 {
            self.next_look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
            let wait = self.end.attach(cx.env.shared())?.wait_for_room()?;
            return Ok(if wait { Turn::Wait } else { Turn::Again });
        }
        let has_begun = self.has_begun();
        let Phase::Body(reading) = &mut self.phase else { return Ok(Turn::Again) };
        match reading.starving.poll(cx, has_begun) {
            Some(look_ms) => self.next_look_ms = look_ms,
            None => return self.no_chunk(cx),
        }
        Ok(Turn::Wait)
    }

    /// Tells both that there was no chunk for them.
    fn no_chunk(&mut self, cx: Cx<'_>) -> Result<Turn<Report>, Refusal> {
        if self.has_begun() {
            return self.fail(cx, SenderOutcome::NoChunk);
        }
        self.begin_with_nothing(cx.env, Finish::NoChunk, SenderOutcome::NoChunk)
    }
}
