//! A claim of a place in a lane, until it succeeds or fails.
//!
//! A claim of a held place fails, unless the place will be free in a moment: its last attempt is not cleaned up yet, or
//! its holder is asked to give way and has not declined. A holder whose worker has died does not answer, and the
//! master's sweep frees its place; so no client is told that a dead holder has the place. A claim that waits registers
//! as a waiter, so that the holder rings its bell when it leaves.

mod retry;

use super::action::PlaceRequest;
use crate::relay::{Cx, Env, ReceiveRequest, Receiving, Sending};
pub(super) use retry::Retry;
use shm::{AddressTag, LaneRef, Role, TakeError};

/// The number of times that a holder is asked: a holder that has just come may have missed the first request.
const REQUESTS_MAX: u32 = 2;

/// The rival's name that every receiver uses: a holder that waits has left, or gives way to nobody.
const ANY_RIVAL: AddressTag = AddressTag::of(1);

/// A claim of a place.
#[derive(Debug)]
pub(super) struct Claim {
    lane: LaneRef,
    place_request: PlaceRequest,
    wait_ends_ms: u64,
    retry: Retry,
    /// The number of times that the holder was asked to give way.
    requests: u32,
    /// One try at least has failed, so the client waits.
    waits: bool,
    /// The client held a place before, and waited in it.
    comes_back: bool,
}

/// The result of one try.
pub(super) enum Claimed {
    Sending(Box<Sending>),
    Receiving(Box<Receiving>),
    /// The place may be free soon.
    NotYet(Box<Claim>),
    No(TakeError),
}

impl Claim {
    pub(super) fn new(
        cx: Cx<'_>,
        lane: LaneRef,
        place_request: PlaceRequest,
        wait_ends_ms: u64,
    ) -> Box<Self> {
        Box::new(Self {
            lane,
            place_request,
            wait_ends_ms,
            retry: Retry::new(cx.now_ms, cx.after(cx.env.config.timeouts.place_wait)),
            requests: 0,
            waits: false,
            comes_back: false,
        })
    }

    /// A receiver's claim, after its sender left before the first byte: the receiver waits for another sender.
    pub(super) fn again(
        cx: Cx<'_>,
        lane: LaneRef,
        receive_request: ReceiveRequest,
        wait_ends_ms: u64,
    ) -> Box<Self> {
        let place_request = PlaceRequest::Receive(Box::new(receive_request));
        let mut claim = Self::new(cx, lane, place_request, wait_ends_ms);
        claim.comes_back = true;
        claim
    }

    /// Whether the client has waited in a place before.
    pub(super) fn comes_back(&self) -> bool {
        self.comes_back
    }

    /// The time of the next try if no bell rings.
    pub(super) fn next_look_ms(&self) -> u64 {
        self.retry.next_ms()
    }

    pub(super) fn slot(&self) -> u32 {
        self.lane.session.slot
    }

    /// Whether the client waits for a place or, as a receiver, for a sender.
    pub(super) fn waits(&self) -> bool {
        self.waits || self.role() == Role::Receiver
    }

    /// Tries to take the place.
    pub(super) fn ask(self: Box<Self>, cx: Cx<'_>) -> Claimed {
        let (env, now_ms) = (cx.env, cx.now_ms);
        let (error, mut claim) = match self.take(cx) {
            Ok(entered) => return entered,
            Err(refused) => refused,
        };
        if claim.retry.may_wait(now_ms)
            && claim.may_come_free(env, error)
            && env.shared().register_waiter(claim.lane, claim.role(), env.owner).is_ok()
        {
            // A holder that left before we registered rings for nobody, so try once more.
            return match claim.take(cx) {
                Ok(entered) => entered,
                Err((_, mut claim)) => {
                    claim.waits = true;
                    claim.retry.put_off(now_ms);
                    Claimed::NotYet(claim)
                }
            };
        }
        claim.leave(env);
        Claimed::No(error)
    }

    /// Ends the claim.
    pub(super) fn leave(&self, env: &Env) {
        if self.requests > 0 {
            // A refusal means that no holder will be asked to give way.
            let _ = env.shared().clear_rival(self.lane, self.role(), self.rival(env));
        }
    }

    fn role(&self) -> Role {
        self.place_request.role()
    }

    /// The rival's name under which it asks a holder to give way. A sender's name is its address.
    fn rival(&self, env: &Env) -> AddressTag {
        match &self.place_request {
            PlaceRequest::Send(send_request) => env.addresses.exact(send_request.client),
            PlaceRequest::Receive(_) => ANY_RIVAL,
        }
    }

    /// Takes the place, or returns the claim.
    fn take(mut self: Box<Self>, cx: Cx<'_>) -> Result<Claimed, (TakeError, Box<Self>)> {
        let (env, now_ms) = (cx.env, cx.now_ms);
        let (lane, owner, wait_ends_ms) = (self.lane, env.owner, self.wait_ends_ms);
        match self.place_request {
            PlaceRequest::Send(send_request) => {
                match env.shared().take_sender(
                    lane,
                    owner,
                    send_request.body.remaining_payload().is_none(),
                ) {
                    Ok(end) => {
                        // If the place cannot be read, the first turn finds out.
                        let _ = env.ring_peer(&end);
                        let sending =
                            Sending::new(Cx { env, now_ms }, end, *send_request, wait_ends_ms);
                        Ok(Claimed::Sending(Box::new(sending)))
                    }
                    Err(error) => {
                        self.place_request = PlaceRequest::Send(send_request);
                        Err((error, self))
                    }
                }
            }
            PlaceRequest::Receive(receive_request) => {
                match env.shared().take_receiver(lane, owner, receive_request.needs_length) {
                    Ok(mut end) => {
                        if let Ok(receiver) = end.attach(env.shared()) {
                            receiver.record_guest(receive_request.guest);
                            receiver.want(receive_request.want);
                        }
                        let _ = env.ring_peer(&end);
                        let receiving = Receiving::new(end, *receive_request, wait_ends_ms);
                        Ok(Claimed::Receiving(Box::new(receiving)))
                    }
                    Err(error) => {
                        self.place_request = PlaceRequest::Receive(receive_request);
                        Err((error, self))
                    }
                }
            }
        }
    }

    fn may_come_free(&mut self, env: &Env, error: TakeError) -> bool {
        match error {
            TakeError::Leaving => true,
            TakeError::Held => self.ask_holder(env) || self.is_being_left(env),
            _ => false,
        }
    }

    /// Asks the holder to give way. Returns whether the holder has not declined.
    fn ask_holder(&mut self, env: &Env) -> bool {
        let (role, rival, slot) = (self.role(), self.rival(env), self.slot());
        let shared = env.shared();
        // A holder declines by writing 0. The name of another rival means that a later request stands unanswered too.
        if self.requests > 0 && shared.rival(self.lane, role).is_ok_and(|found| found.is_some()) {
            return true;
        }
        if self.requests == REQUESTS_MAX {
            return false;
        }
        self.requests += 1;
        shared.name_rival(self.lane, role, rival, |holder| env.ring(holder, slot)).unwrap_or(false)
    }

    /// Whether the client may be a receiver that already has all of the last transfer, and claims the place again
    /// before the relay knows that it has.
    fn is_being_left(&self, env: &Env) -> bool {
        self.role() == Role::Receiver && env.shared().is_ending(self.lane).unwrap_or(false)
    }
}
