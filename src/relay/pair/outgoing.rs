//! The direction that a party's client sends in: from its socket into the lane, until its FIN.

use shm::{Finish, Refusal, SenderEnd, Settled};
use std::net::IpAddr;

use super::{Step, leave_sender};
use crate::outcome::SenderOutcome;
use crate::relay::bandwidth::Bandwidth;
use crate::relay::starving::Starving;
use crate::relay::upload::{Upload, overhead};
use crate::relay::{Body, Cx, Env, Io, LOOK_ANYWAY_MS};
use crate::sys::RecvOutcome;

/// A party's bytes on their way into its lane.
#[derive(Debug)]
pub(super) struct Outgoing {
    end: SenderEnd,
    body: Body,
    upload: Upload,
    /// There was no room.
    is_blocked: bool,
    /// The client's FIN has come, and the lane says so.
    is_ended: bool,
    starving: Starving,
}

impl Outgoing {
    pub(super) fn new(env: &Env, mut end: SenderEnd, client: IpAddr) -> Self {
        end.charge(env.payer(client));
        Self {
            end,
            body: Body::endless(),
            upload: Upload::new(Bandwidth::of(env, client)),
            is_blocked: false,
            is_ended: false,
            starving: Starving::default(),
        }
    }

    pub(super) fn end(&self) -> &SenderEnd {
        &self.end
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub(super) fn delivered_bytes(&mut self, env: &Env) -> u64 {
        self.end.attach(env.shared()).and_then(|sender| sender.delivered()).unwrap_or(0)
    }

    /// Grows with each byte that is read, that the peer's socket takes, and that the peer's TCP acknowledges.
    pub(super) fn position(&mut self, env: &Env) -> Result<u64, Refusal> {
        let sender = self.end.attach(env.shared())?;
        let passed = sender.taken()?.saturating_add(sender.delivered()?);
        Ok(self.upload.read_bytes().saturating_add(passed))
    }

    /// How much the peer's side vouches for.
    pub(super) fn settled(&mut self, env: &Env) -> Result<Settled, Refusal> {
        Ok(self.end.attach(env.shared())?.settled())
    }

    /// The two are paired.
    pub(super) fn begin(&mut self, cx: Cx<'_>) -> Result<(), Refusal> {
        self.end.attach(cx.env.shared())?.note_pairing(cx.now_ms);
        Ok(())
    }

    /// Reads as much as a turn may.
    pub(super) fn turn(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Step, Refusal> {
        self.is_blocked = false;
        if self.is_ended {
            self.end.attach(cx.env.shared())?.shed()?;
            return Ok(Step::Wait { look_ms: u64::MAX });
        }
        let mut moved = 0;
        while moved < cx.env.budget.turn_bytes() {
            if io.stream.is_broken() {
                return Ok(Step::Cut(SenderOutcome::Left));
            }
            if let Some(step) = self.find_end(cx, io)? {
                return Ok(step);
            }
            if io.inbox.is_empty() && !io.stream.is_readable() && !io.stream.is_leaving() {
                return self.idle(cx);
            }
            let most = match self.upload.allowance(cx, &self.body) {
                Ok(bytes) => bytes,
                Err(next_ms) => return self.hold_back(cx, next_ms),
            };
            let by_pipe =
                !cx.env.pipes.is_empty() && self.end.attach(cx.env.shared())?.takes_pipes();
            if !self.upload.reserve(cx.env, &mut self.end, &mut self.body, io, by_pipe)? {
                return self.no_room(cx);
            }
            self.starving.end();
            match self.upload.fill(cx.env, &mut self.body, io, most) {
                Ok(RecvOutcome::Bytes(bytes)) => moved += bytes + overhead(&self.body, io),
                Ok(RecvOutcome::WouldBlock) => {}
                Ok(RecvOutcome::Eof) => return self.finish(cx),
                Ok(RecvOutcome::Broken) | Err(_) => return Ok(Step::Cut(SenderOutcome::Left)),
            }
            let is_dry = io.inbox.is_empty() && !io.stream.is_readable();
            if is_dry || self.upload.is_full(cx.env) {
                self.publish(cx.env)?;
            }
        }
        if self.upload.is_filling_pipe() {
            self.publish(cx.env)?;
        }
        Ok(Step::Again)
    }

    /// Finds an end behind which nothing is unread: it takes no chunk to see it, and there may be none.
    fn find_end(&mut self, cx: Cx<'_>, io: &mut Io<'_>) -> Result<Option<Step>, Refusal> {
        if !io.stream.is_leaving() || !io.inbox.is_empty() || io.stream.unread() > 0 {
            return Ok(None);
        }
        let mut room = [0];
        match io.stream.recv(&mut room) {
            RecvOutcome::Eof => self.finish(cx).map(Some),
            RecvOutcome::Broken => Ok(Some(Step::Cut(SenderOutcome::Left))),
            RecvOutcome::Bytes(_) => {
                io.inbox.extend_from_slice(&room);
                Ok(None)
            }
            RecvOutcome::WouldBlock => Ok(None),
        }
    }

    fn publish(&mut self, env: &Env) -> Result<(), Refusal> {
        if self.upload.publish(env, &mut self.end, &mut self.body)? {
            env.ring_peer(&self.end)?;
        }
        Ok(())
    }

    /// The client has sent its FIN: publishes the rest, and says so.
    fn finish(&mut self, cx: Cx<'_>) -> Result<Step, Refusal> {
        self.upload.publish(cx.env, &mut self.end, &mut self.body)?;
        let sender = self.end.attach(cx.env.shared())?;
        sender.set_finish(Finish::Whole(sender.published_bytes()));
        self.is_ended = true;
        cx.env.ring_peer(&self.end)?;
        Ok(Step::Wait { look_ms: u64::MAX })
    }

    fn idle(&mut self, cx: Cx<'_>) -> Result<Step, Refusal> {
        self.publish(cx.env)?;
        let mut sender = self.end.attach(cx.env.shared())?;
        sender.shed()?;
        // Chunks that are still in flight come back without a bell, unless there are too few of them.
        let wait = sender.wait_if_short()?;
        Ok(if wait { Step::Wait { look_ms: u64::MAX } } else { Step::Again })
    }

    /// Reads no more before `next_ms`, as the bandwidth is capped.
    fn hold_back(&mut self, cx: Cx<'_>, next_ms: u64) -> Result<Step, Refusal> {
        self.publish(cx.env)?;
        self.end.attach(cx.env.shared())?.shed()?;
        self.is_blocked = true;
        Ok(Step::Wait { look_ms: next_ms })
    }

    fn no_room(&mut self, cx: Cx<'_>) -> Result<Step, Refusal> {
        self.is_blocked = true;
        if self.end.held() > 0 {
            let wait = self.end.attach(cx.env.shared())?.wait_for_room()?;
            let look_ms = cx.now_ms.saturating_add(LOOK_ANYWAY_MS);
            return Ok(if wait { Step::Wait { look_ms } } else { Step::Again });
        }
        Ok(match self.starving.poll(cx, true) {
            Some(look_ms) => Step::Wait { look_ms },
            None => Step::Cut(SenderOutcome::NoChunk),
        })
    }

    /// Leaves the place, and gives back everything held with it.
    pub(super) fn leave(mut self, env: &Env) -> Result<(), Refusal> {
        if !self.is_ended {
            // The place is left even if the word is refused.
            let _ = self.end.attach(env.shared()).map(|sender| sender.set_finish(Finish::Aborted));
        }
        let filling = self.upload.leave(env, &mut self.end);
        leave_sender(env, self.end, filling)
    }
}
