//! From a body to a lane and from a lane to a body.
//!
//! The worker drives a [`Sending`] for each client that sends and a [`Receiving`] for each that
//! receives, a turn at a time, whenever its socket, its bell or its deadline gives a reason. A turn
//! looks at everything itself, so a turn too many does no harm. What a turn needs comes in as
//! arguments; what became of the transfer goes out as a value.

mod announcement;
mod bandwidth;
mod body;
mod cargo;
mod manner;
mod outbox;
mod outcome;
mod pace;
mod pipes;
mod pressure;
mod receiving;
mod refused;
mod round;
mod sending;
mod stall;

pub use announcement::Announcement;
pub use body::Body;
pub use cargo::Cargo;
pub use manner::{Manner, MessageRole, Renewal};
pub use outbox::Outbox;
pub use outcome::{Received, Report, Sent};
pub use pressure::Pressure;
pub use receiving::{RELAYED_FIELDS, Receiving, Reception};
pub use refused::Refused;
pub use round::Round;
pub use sending::Sending;

use crate::access::AccessLog;
use crate::config::Config;
use crate::session::{Addresses, IssueError, IssueTokens};
use crate::sys::pipe::Pipe;
use crate::sys::waker::wake;
use crate::tally::Tally;
use nix::sys::eventfd::EventFd;
use shm::{
    End, LaneEnd, LaneRef, Life, Owner, Payer, Refusal, Segment, Shared, State, WorkerRecord,
};
use std::net::IpAddr;
use std::time::Duration;

/// How soon a transfer that waits for the other end is looked at though no bell rang: a bell may die
/// with its ringer.
const LOOK_ANYWAY_MS: u64 = 1000;

/// What a worker relays with.
#[derive(Debug)]
pub struct Relay {
    /// The shared memory.
    pub segment: &'static Segment,
    /// Who we are in it.
    pub owner: Owner,
    /// Our record there.
    pub record: &'static WorkerRecord,
    /// Makes digests of clients' addresses.
    pub addresses: Addresses,
    /// Where requests are written down, if they are.
    pub access: Option<AccessLog>,
    /// What a request for a session may have to bring.
    pub issue_tokens: &'static IssueTokens,
    /// The settings.
    pub config: &'static Config,
    /// One a worker record: what wakes it.
    pub wakers: &'static [EventFd],
    /// What payload passes through without being copied, by the number that the segment knows them by.
    pub pipes: &'static [Pipe],
    /// What its turns share.
    pub round: Round,
    /// Who was refused a session a moment ago.
    pub refused: Refused<IssueError>,
    /// Whether others need what is held.
    pub pressure: Pressure,
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turn<T> {
    /// Nothing more can be done until something happens.
    Wait,
    /// There is more to do, but others are to have their turn.
    Again,
    /// It is over.
    Over(T),
}

impl Relay {
    /// The segment's words.
    #[must_use]
    pub fn shared(&self) -> &'static Shared<'static> {
        self.segment.shared()
    }

    /// Who pays for what `client` sends.
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

    /// Counts one of what `tally` names.
    pub fn count(&self, tally: Tally) {
        tally.count(self.record);
    }

    /// Tells the other end of the lane, if somebody holds its place, that there is news.
    pub fn ring_peer<E: LaneEnd>(&self, end: &E) -> Result<(), Refusal> {
        let peer = self.shared().look(end)?.peer(E::ROLE);
        if peer.state == State::Held {
            self.ring(peer.owner, end.lane().session.slot);
        }
        Ok(())
    }

    /// Whether one that was let in as `admitted_as` may not use `end`'s session any more.
    fn is_barred<E: LaneEnd>(&self, end: &E, admitted_as: u64) -> Result<bool, Refusal> {
        Ok(admitted_as != 0 && self.shared().guest(end)? != admitted_as)
    }

    /// Who wants `end`'s place from its holder; 0: nobody.
    fn rival<E: LaneEnd>(&self, end: &E) -> Result<u64, Refusal> {
        self.shared().rival(end.lane(), E::ROLE)
    }

    /// Tells `rival` that `end` keeps its place; `false`: not before the next turn, for the end's client
    /// may have left after the kernel was asked last, and before the rival came. `doubted_by` is whom the
    /// turn before has found.
    fn refuse_rival<E: LaneEnd>(
        &self,
        end: &E,
        rival: u64,
        doubted_by: &mut u64,
    ) -> Result<bool, Refusal> {
        if std::mem::replace(doubted_by, rival) != rival {
            return Ok(false);
        }
        *doubted_by = 0;
        self.shared().withdraw(end.lane(), E::ROLE, rival)?;
        self.ring_knockers(end.lane());
        Ok(true)
    }

    /// Tells those who want a place in the lane that one may be free.
    fn ring_knockers(&self, at: LaneRef) {
        self.shared().knocked(at).for_each(|owner| self.ring(owner, at.session.slot));
    }

    /// When somebody who waits in `end`'s session until `wait_ends_ms` is to look again. `None`: the
    /// session's lifetime is over, and with it the session. While something is transferred in it, it is
    /// not: what is running is not cut, and a message renews it.
    fn wait<E: LaneEnd>(
        &self,
        end: &E,
        wait_ends_ms: u64,
        now_ms: u64,
    ) -> Result<Option<u64>, Refusal> {
        let (session, expires_ms) = (end.lane().session, self.shared().expires_ms(end)?);
        if now_ms < expires_ms {
            return Ok(Some(wait_ends_ms.min(expires_ms)));
        }
        let ring = |owner| self.ring(owner, session.slot);
        if self.shared().expire(session, now_ms, ring) {
            self.count(Tally::Ended(End::Expired));
        }
        let lives = self.shared().life(session)? == Some(Life::Live);
        Ok(lives.then(|| wait_ends_ms.min(now_ms.saturating_add(LOOK_ANYWAY_MS))))
    }

    /// Tells `owner` that session `slot` has news.
    pub fn ring(&self, owner: Owner, slot: u32) {
        if owner == self.owner {
            return self.round.ring(slot);
        }
        let sleeps = self.shared().bell(owner.worker).is_some_and(|bell| bell.ring(slot));
        if sleeps && let Some(waker) = self.wakers.get(owner.worker.index()) {
            wake(waker);
        }
    }
}

/// A duration in whole milliseconds, as deadlines are counted.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
