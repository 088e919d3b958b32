//! The transfer: from a sender's body into a lane, and from the lane into a receiver's answer.
//!
//! The worker drives a [`Sending`] for each client that sends and a [`Receiving`] for each that receives, a turn at a
//! time, whenever its socket, its bell or its deadline gives a reason. A turn looks at everything itself, so a turn
//! too many does no harm. A turn takes what it needs as arguments ([`Cx`], [`Io`]), and returns the outcome as a
//! value.

mod answering;
mod bandwidth;
mod body;
mod delivery;
mod download;
mod outbox;
mod pace;
mod pair;
mod pairing;
mod pipes;
mod pressure;
mod receiving;
mod refused;
mod sending;
mod stall;
mod starving;
mod turn;
mod upload;
mod waiting;

pub use body::Body;
pub use outbox::Outbox;
pub use pair::{Half, HalfPlaces, Met, PairEnd, Peer, receiver_outcome};
pub use pairing::{Offer, has_all, was_delivered};
pub use pressure::Pressure;
pub use receiving::{ReceiveRequest, Receiving};
pub use refused::Refused;
pub use sending::{SendRequest, Sending};
pub use turn::{Budget, Cx, Io, Received, Turn};

use crate::access::AccessLog;
use crate::api::ApiName;
use crate::config::Config;
use crate::session::{Addresses, IssueError, IssueTokens};
use crate::sys::pipe::Pipe;
use crate::sys::waker::wake;
use crate::tally::Tally;
use nix::sys::eventfd::EventFd;
use shm::{
    End, LaneEnd, LaneRef, Owner, Payer, Refusal, Segment, Shared, State, Told, WorkerRecord,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;

/// The time after which a transfer that waits for its peer has a turn though no bell rang: a bell may die with its
/// ringer.
const LOOK_ANYWAY_MS: u64 = 1000;

/// The environment of a worker's transfers. `pipes`, `pressure` and `waiting` add the calls of their own subjects.
#[derive(Debug)]
pub struct Env {
    /// The shared memory.
    pub segment: &'static Segment,
    /// This worker, as the owner of places.
    pub owner: Owner,
    /// This worker's record.
    pub record: &'static WorkerRecord,
    /// Makes digests of clients' addresses.
    pub addresses: Addresses,
    /// The access log, if there is one.
    pub access: Option<AccessLog>,
    /// The tokens that a request for a session may have to bring.
    pub issue_tokens: &'static IssueTokens,
    /// The settings.
    pub config: &'static Config,
    /// The eventfd of each worker record, which wakes its worker.
    pub wakers: &'static [EventFd],
    /// The pipes that payload passes through without being copied, by the number that the segment knows them by.
    pub pipes: &'static [Pipe],
    /// The bytes that each turn may move.
    pub budget: Budget,
    /// The bell within this worker.
    pub local_bell: LocalBell,
    /// The addresses that were refused a session a moment ago.
    pub refused: Refused<IssueError>,
    /// Whether others need what a transfer holds.
    pub pressure: Pressure,
}

impl Env {
    /// The segment's words.
    #[must_use]
    pub fn shared(&self) -> &'static Shared<'static> {
        self.segment.shared()
    }

    /// The payer for what `client` sends.
    #[must_use]
    pub fn payer(&self, client: IpAddr) -> Payer {
        let limits = &self.config.limits;
        Payer {
            account: self.addresses.account(client),
            chunks: limits.chunks_per_address_max,
            pipes: limits.pipes_per_address_max,
            wide_factor: limits.wide_network_factor,
        }
    }

    /// Counts one `tally`.
    pub fn count(&self, tally: Tally) {
        tally.count(self.record);
    }

    /// Rings for the peer, if its place in the lane is held.
    pub fn ring_peer<E: LaneEnd>(&self, end: &E) -> Result<(), Refusal> {
        let peer = self.shared().look(end)?.peer(E::ROLE);
        if peer.state == State::Held {
            self.ring(peer.owner, end.lane().session.slot);
        }
        Ok(())
    }

    /// Ends a session whose file is delivered, or renews one whose message is. The sender knows as much as `told`
    /// says.
    fn complete<E: LaneEnd>(
        &self,
        end: &E,
        api: ApiName,
        told: Told,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if !api.ends_session() {
            return self.shared().renew(end, now_ms);
        }
        let session = end.lane().session;
        self.shared().begin_telling(session, told, self.owner)?;
        if self.shared().end(session, End::Complete, |owner| self.ring(owner, session.slot)) {
            self.count(Tally::Ended(End::Complete));
        }
        Ok(())
    }

    /// Rings for the workers whose clients want a place in the lane, as one may be free.
    fn ring_waiters(&self, at: LaneRef) {
        self.shared().take_waiters(at).for_each(|owner| self.ring(owner, at.session.slot));
    }

    /// Tells `owner` that session `slot` has news.
    pub fn ring(&self, owner: Owner, slot: u32) {
        if owner == self.owner {
            return self.local_bell.ring(slot);
        }
        let sleeps = self.shared().bell(owner.worker).is_some_and(|bell| bell.ring(slot));
        if sleeps && let Some(waker) = self.wakers.get(owner.worker.index()) {
            wake(waker);
        }
    }
}

/// The bell within a worker. If both parties of a session are connected to the same worker, news need no doorbell in
/// shared memory, and no process is woken. Transfers ring it deep in the worker's calls, and the worker's loop hears it
/// between two turns.
#[derive(Debug, Default)]
pub struct LocalBell {
    slots: RefCell<VecDeque<u32>>,
}

impl LocalBell {
    /// Session `slot` has news.
    fn ring(&self, slot: u32) {
        let mut slots = self.slots.borrow_mut();
        if slots.back() != Some(&slot) {
            slots.push_back(slot);
        }
    }

    /// The session that was rung for first and is not heard yet.
    pub fn hear(&self) -> Option<u32> {
        self.slots.borrow_mut().pop_front()
    }
}
