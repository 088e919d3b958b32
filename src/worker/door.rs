//! Before a place: who asks for it, and what becomes of that.
//!
//! A place that is taken is refused, unless it will be free in a moment: its last attempt is not
//! cleaned up yet, or its holder is asked to give way and has not said no. A holder whose worker has died
//! says nothing, and its place is free once the master has swept it; so nobody is told that a dead one
//! holds the place. Who is told to wait knocks, so that the holder rings for it as it leaves.

use super::route::Errand;
use crate::relay::{Receiving, Reception, Relay, Sending, millis};
use shm::{LaneRef, Role, TakeError};

/// How soon a place that may come free is asked for again, at first.
const POLL_MS: u64 = 5;

/// How often a holder is asked: one that has just come may not have heard the first time.
const CONTESTS_MAX: u32 = 2;

/// What a receiver is called as a rival: a holder that waits has left, or gives way to nobody.
const ANY_RIVAL: u64 = 1;

/// Somebody who asks for a place.
#[derive(Debug)]
pub(super) struct Door {
    lane: LaneRef,
    errand: Errand,
    wait_ends_ms: u64,
    began_ms: u64,
    gives_up_ms: u64,
    /// How often the holder was asked to give way.
    contests: u32,
    /// It was told to wait.
    waits: bool,
    /// It had a place before, in which it waited.
    comes_back: bool,
}

/// What came of asking.
pub(super) enum Entered {
    Sending(Box<Sending>),
    Receiving(Box<Receiving>),
    /// The place may be free soon.
    NotYet(Box<Door>),
    No(TakeError),
}

impl Door {
    pub(super) fn new(
        relay: &Relay,
        lane: LaneRef,
        errand: Errand,
        wait_ends_ms: u64,
        now_ms: u64,
    ) -> Box<Self> {
        let gives_up_ms = now_ms.saturating_add(millis(relay.config.timeouts.place_wait));
        let (began_ms, contests, waits, comes_back) = (now_ms, 0, false, false);
        Box::new(Self {
            lane,
            errand,
            wait_ends_ms,
            began_ms,
            gives_up_ms,
            contests,
            waits,
            comes_back,
        })
    }

    /// A receiver whose sender left before a byte was sent, and that waits for another.
    pub(super) fn again(
        relay: &Relay,
        lane: LaneRef,
        reception: Reception,
        wait_ends_ms: u64,
        now_ms: u64,
    ) -> Box<Self> {
        let errand = Errand::Receive(Box::new(reception));
        let mut door = Self::new(relay, lane, errand, wait_ends_ms, now_ms);
        door.comes_back = true;
        door
    }

    /// Whether it has waited in a place before.
    pub(super) fn comes_back(&self) -> bool {
        self.comes_back
    }

    /// When it asks again though no bell rang, for of several that knock the last is rung for. The longer it has
    /// waited the later: a thousand may stand before one place.
    pub(super) fn next_look_ms(&self, now_ms: u64) -> u64 {
        let waited_ms = now_ms.saturating_sub(self.began_ms);
        let next_ms = now_ms.saturating_add((waited_ms / 4).max(POLL_MS));
        next_ms.min(self.gives_up_ms.max(now_ms.saturating_add(POLL_MS)))
    }

    pub(super) fn slot(&self) -> u32 {
        self.lane.session.slot
    }

    /// Whether it waits for a place or, as a receiver, for a sender.
    pub(super) fn waits(&self) -> bool {
        self.waits || self.role() == Role::Receiver
    }

    /// The connection ends with the answer to this.
    pub(super) fn close_after(&mut self) {
        if let Errand::Receive(reception) = &mut self.errand {
            reception.keep_alive = false;
        }
    }

    /// Asks for the place.
    pub(super) fn enter(self: Box<Self>, relay: &Relay, now_ms: u64) -> Entered {
        let (error, mut door) = match self.take(relay, now_ms) {
            Ok(entered) => return entered,
            Err(refused) => refused,
        };
        if now_ms < door.gives_up_ms
            && door.may_come_free(relay, error)
            && relay.shared().knock(door.lane, door.role(), relay.owner).is_ok()
        {
            // Who left before the knock rings for nobody.
            return match door.take(relay, now_ms) {
                Ok(entered) => entered,
                Err((_, mut door)) => {
                    door.waits = true;
                    Entered::NotYet(door)
                }
            };
        }
        door.leave(relay);
        Entered::No(error)
    }

    /// Asks no more.
    pub(super) fn leave(&self, relay: &Relay) {
        if self.contests > 0 {
            // A refusal means that nobody will be asked to give way.
            let _ = relay.shared().withdraw(self.lane, self.role(), self.rival(relay));
        }
    }

    fn role(&self) -> Role {
        self.errand.role()
    }

    /// The name under which it asks a holder to give way: whose it is, where that matters.
    fn rival(&self, relay: &Relay) -> u64 {
        match &self.errand {
            Errand::Send(cargo) => relay.addresses.exact(cargo.client),
            Errand::Receive(_) => ANY_RIVAL,
        }
    }

    /// Takes the place, or gives itself back.
    fn take(
        mut self: Box<Self>,
        relay: &Relay,
        now_ms: u64,
    ) -> Result<Entered, (TakeError, Box<Self>)> {
        let (lane, owner, wait_ends_ms) = (self.lane, relay.owner, self.wait_ends_ms);
        match self.errand {
            Errand::Send(cargo) => {
                match relay.shared().take_sender(lane, owner, cargo.body.length().is_none()) {
                    Ok(end) => {
                        // A place that cannot be looked at is found out at the first turn.
                        let _ = relay.ring_peer(&end);
                        let sending = Sending::new(relay, end, *cargo, wait_ends_ms, now_ms);
                        Ok(Entered::Sending(Box::new(sending)))
                    }
                    Err(error) => {
                        self.errand = Errand::Send(cargo);
                        Err((error, self))
                    }
                }
            }
            Errand::Receive(reception) => {
                match relay.shared().take_receiver(lane, owner, reception.needs_length) {
                    Ok(end) => {
                        let _ = relay.shared().admit(&end, reception.admitted_as);
                        let _ = relay.ring_peer(&end);
                        let receiving =
                            Receiving::new(relay, end, *reception, wait_ends_ms, now_ms);
                        Ok(Entered::Receiving(Box::new(receiving)))
                    }
                    Err(error) => {
                        self.errand = Errand::Receive(reception);
                        Err((error, self))
                    }
                }
            }
        }
    }

    fn may_come_free(&mut self, relay: &Relay, error: TakeError) -> bool {
        match error {
            TakeError::Leaving => true,
            TakeError::Taken => self.contest(relay) || self.is_being_left(relay),
            _ => false,
        }
    }

    /// Asks the holder to give way. Whether it has not said no.
    fn contest(&mut self, relay: &Relay) -> bool {
        let (role, rival, slot) = (self.role(), self.rival(relay), self.slot());
        let shared = relay.shared();
        // The holder's answer is 0. The name of another rival stands for a question that came after ours and is
        // not answered either.
        if self.contests > 0 && shared.rival(self.lane, role).is_ok_and(|found| found != 0) {
            return true;
        }
        if self.contests == CONTESTS_MAX {
            return false;
        }
        self.contests += 1;
        shared.contest(self.lane, role, rival, |holder| relay.ring(holder, slot)).unwrap_or(false)
    }

    /// Whether this may be a receiver that has all of the last transfer already, and asks for the next
    /// before the relay knows that it has.
    fn is_being_left(&self, relay: &Relay) -> bool {
        self.role() == Role::Receiver && relay.shared().is_ending(self.lane).unwrap_or(false)
    }
}
