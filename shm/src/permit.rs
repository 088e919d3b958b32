//! Permits: at most so many connections, or sessions, of one address at once, over all workers.
//!
//! Permits are not counted, so no count can be wrong. An address with the limit L has L seats in a table of words
//! that all addresses share: an arithmetic progression that its keyed digest decides, so that a stranger cannot aim
//! at another's seats. A holder has a permit while its word is in a seat, where it put it by one compare-and-swap
//! from a free seat. So the limit is exact whatever happens. Foreign words that sit in the progression only make it
//! smaller: by an eighth where the segment is in full use.
//!
//! The word says who holds the permit: a worker, for as long as it lives, or a session. A session's permit is void,
//! and free to take, once the slot serves another session, so no process gives it back. A worker gives its permit
//! back, or hands it over to a session, or the master [sweeps](Permits::sweep) it after the worker's death. A word
//! that decodes to no holder is void.

use crate::ids::{Owner, SessionRef, WorkerId};
use crate::pool::GOLDEN;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicU32 as PrivateU32, Ordering as PrivateOrdering};

/// The word of a free seat. Zeroed memory is a table of free seats.
const FREE: u64 = 0;

/// High bits of a worker's word; the owner is in the low ones.
const WORKER: u64 = 0x1a5d;
/// High bits of a session's word; slot and issue number are in the low ones.
const SESSION: u64 = 0x2c96;
const KIND_SHIFT: u32 = 50;
const OWNER_BITS: u32 = 16;
const SLOT_SHIFT: u32 = 32;
const SLOT_MASK: u64 = (1 << (KIND_SHIFT - SLOT_SHIFT)) - 1;

/// The holder of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Worker(Owner),
    Session(SessionRef),
}

impl Holder {
    fn encode(self) -> u64 {
        match self {
            Self::Worker(owner) => WORKER << KIND_SHIFT | owner.to_bits(),
            Self::Session(SessionRef { slot, issue_number }) => {
                let slot = u64::from(slot) & SLOT_MASK;
                SESSION << KIND_SHIFT | slot << SLOT_SHIFT | u64::from(issue_number)
            }
        }
    }

    /// `None`: the word names no holder.
    fn decode(word: u64) -> Option<Self> {
        let low = word & ((1 << KIND_SHIFT) - 1);
        match word >> KIND_SHIFT {
            WORKER if low >> OWNER_BITS == 0 => Some(Self::Worker(Owner::from_bits(low))),
            SESSION => {
                let slot = (low >> SLOT_SHIFT & SLOT_MASK) as u32;
                let issue_number = (low & 0xffff_ffff) as u32;
                Some(Self::Session(SessionRef { slot, issue_number }))
            }
            _ => None,
        }
    }
}

/// The seats of an address, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// A keyed digest of the address, and of what is limited.
    pub digest: u64,
    /// Permits that the address may have at once.
    pub most: u32,
}

/// Seats that one search looks at, at most. An address with more seats finds a free one within as many searches as
/// there are such parts, as each search begins elsewhere.
const LOOKED_AT_MAX: u32 = 1024;

/// A seat that the caller holds. The caller gives it back, or hands it over to a session.
#[derive(Debug)]
#[must_use = "a permit is given back by hand"]
pub struct Permit {
    seat: u32,
    owner: Owner,
}

/// The limits of a holder: the quota of its network, and that of the wider one. `None`: no limit.
pub type Quotas = [Option<Quota>; 2];

/// The permits of a holder, one for each of its quotas.
#[derive(Debug, Default)]
#[must_use = "permits are given back by hand"]
pub struct HeldPermits([Option<Permit>; 2]);

/// The table, borrowed from the segment (or from the heap, in tests).
#[derive(Debug)]
pub struct Permits<'a> {
    seats: &'a [AtomicU64],
    /// Counts this process's permits, so that each begins its search elsewhere.
    turn: PrivateU32,
}

impl<'a> Permits<'a> {
    /// A table over `seats`. It uses the largest power of two of them.
    #[must_use]
    pub fn new(seats: &'a [AtomicU64]) -> Self {
        let used = seats.len().checked_ilog2().map_or(0, |bits| 1 << bits.min(31));
        Self { seats: seats.get(..used).unwrap_or_default(), turn: PrivateU32::new(0) }
    }

    /// Takes a permit for `owner`. `None`: the address has as many permits as it may, or others hold the rest of its
    /// seats. The search looks at no more than `quota.most` words, and 1024. A search makes room by ending a session
    /// that holds one of the seats, whose lifetime is over at `now_ms`, and that no party is in.
    pub fn take(
        &self,
        shared: &Shared<'_>,
        quota: Quota,
        owner: Owner,
        now_ms: u64,
    ) -> Option<Permit> {
        let ours = Holder::Worker(owner).encode();
        // Acquire pairs with the Release in `give_to`. A worker that reads a session's word sees its slot at least
        // as far as it was then, and does not take the session for a future one.
        let take = |seat: &AtomicU64| {
            let found = seat.load(Ordering::Acquire);
            (found == FREE || is_void(shared, found, owner, now_ms))
                && seat.compare_exchange(found, ours, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let mut seats = self.round(quota, owner).take(LOOKED_AT_MAX as usize);
        let (seat, _) = seats.find(|(_, seat)| take(seat))?;
        Some(Permit { seat, owner })
    }

    /// Takes a permit of each quota, or of none.
    pub fn take_each(
        &self,
        shared: &Shared<'_>,
        quotas: Quotas,
        owner: Owner,
        now_ms: u64,
    ) -> Option<HeldPermits> {
        let mut held = HeldPermits::default();
        for (quota, place) in quotas.into_iter().zip(&mut held.0) {
            let Some(quota) = quota else { continue };
            *place = self.take(shared, quota, owner, now_ms);
            if place.is_none() {
                // A refusal means that a process scribbled over a seat: the seat is not ours any more.
                let _ = self.give_back_each(held);
                return None;
            }
        }
        Some(held)
    }

    /// Gives all permits back. Refused if another holder has one of the seats.
    pub fn give_back_each(&self, held: HeldPermits) -> Result<(), Refusal> {
        held.0.into_iter().flatten().map(|permit| self.give_back(permit)).fold(Ok(()), Result::and)
    }

    /// Gives all permits to `session`. Refused if another holder has one of the seats.
    pub fn give_each_to(&self, held: HeldPermits, session: SessionRef) -> Result<(), Refusal> {
        let permits = held.0.into_iter().flatten();
        permits.map(|permit| self.give_to(permit, session)).fold(Ok(()), Result::and)
    }

    /// Gives a permit back. Refused if another holder has its seat.
    pub fn give_back(&self, permit: Permit) -> Result<(), Refusal> {
        self.pass_on(permit, FREE)
    }

    /// Gives a permit to `session`, which holds it as long as it lives. Refused if another holder has its seat.
    pub fn give_to(&self, permit: Permit, session: SessionRef) -> Result<(), Refusal> {
        self.pass_on(permit, Holder::Session(session).encode())
    }

    fn pass_on(&self, permit: Permit, to: u64) -> Result<(), Refusal> {
        let Permit { seat, owner } = permit;
        let seat = self.seats.get(seat as usize).ok_or(Refusal::Descriptor(u64::from(seat)))?;
        let ours = Holder::Worker(owner).encode();
        // Release pairs with the Acquire in `take`.
        seat.compare_exchange(ours, to, Ordering::Release, Ordering::Relaxed)
            .map_err(Refusal::NotOurs)?;
        Ok(())
    }

    /// Frees every seat of a dead worker, whichever life it was taken in. The master calls this once it has reaped
    /// the worker's process, and before it forks the successor.
    pub fn sweep(&self, dead: WorkerId) {
        for seat in self.seats {
            let found = seat.load(Ordering::Relaxed);
            if let Some(Holder::Worker(owner)) = Holder::decode(found)
                && owner.worker == dead
            {
                // A failure means that a process scribbled over the seat: the dead worker does not hold it any more.
                let _ = seat.compare_exchange(found, FREE, Ordering::Release, Ordering::Relaxed);
            }
        }
    }

    /// Every seat of the address with its index: from the seat that `begin` picks, once round.
    fn round(&self, quota: Quota, owner: Owner) -> impl Iterator<Item = (u32, &'a AtomicU64)> {
        let seats = self.seats;
        // The table is a power of two, so an odd stride reaches every seat before it reaches one twice.
        let mask = u32::try_from(seats.len()).unwrap_or(0).wrapping_sub(1);
        let first = (quota.digest & 0xffff_ffff) as u32;
        let stride = (quota.digest >> 32) as u32 | 1;
        let most = quota.most.min(mask.wrapping_add(1));
        let begin = self.begin(owner, most);
        (begin..most).chain(0..begin).filter_map(move |step| {
            let index = first.wrapping_add(step.wrapping_mul(stride)) & mask;
            Some((index, seats.get(index as usize)?))
        })
    }

    /// The seat to begin the search at, below `most` unless that is 0. Successive searches begin at every seat in
    /// turn, in an order that leaves as much room as possible behind each, and no two workers begin at the same seat.
    fn begin(&self, owner: Owner, most: u32) -> u32 {
        let turn = self.turn.fetch_add(1, PrivateOrdering::Relaxed);
        let worker = u32::try_from(owner.worker.index()).unwrap_or(0);
        let spread = turn.wrapping_mul(GOLDEN).wrapping_add(worker << 26);
        ((u64::from(spread) * u64::from(most)) >> 32) as u32
    }
}

/// Whether the holder that `word` names holds the seat no more, so that the seat is free to take.
fn is_void(shared: &Shared<'_>, word: u64, asks: Owner, now_ms: u64) -> bool {
    match Holder::decode(word) {
        None => true,
        Some(Holder::Worker(_)) => false,
        Some(Holder::Session(session)) => {
            shared.reclaim(session.slot, asks, now_ms);
            !matches!(shared.life(session), Ok(Some(_)))
        }
    }
}
