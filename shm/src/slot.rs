//! A session slot: the life of one session after another, and the digests that name the living one.
//!
//! The key names its slot, so a look-up needs no table and no scan. The life word goes `Free -> Filling -> Live ->
//! Ended -> Free`, one issue number later each time round.

use crate::account::Account;
use crate::ids::{Direction, Owner, WorkerId};
use crate::lane::Lane;
use crate::name::Name;
use crate::place::LaneWord;
use crate::refusal::Refusal;
use crate::sync::{AtomicU64, Ordering, fence, look};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering as PlainOrdering};

/// A digest of a session key or token. The text itself is never in shared memory.
pub type Digest = [u8; 32];

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The transfer is complete.
    Complete,
    /// The owner deleted the session.
    Deleted,
    /// The lifetime is over.
    Expired,
    /// Something in the slot was refused.
    Corrupt,
    /// No party was in the session, and another one needed its room (slots were short, and its network had the most) or,
    /// before it lived, its name.
    Displaced,
    /// A party of a pair has left, and the session with it.
    Left,
}

/// A slot's life word, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// No session is in the slot.
    Free,
    /// `Owner` is writing a new session into the slot, or has written it and it does not live yet.
    Filling(Owner),
    /// A session lives here.
    Live,
    /// The session is over. The slot is free once all places are left.
    Ended(End),
}

/// The terms that a session is issued with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The digest of the session's key.
    pub key: Digest,
    /// The digest of the session's token.
    pub token: Digest,
    /// The caller's word for what the session is for.
    pub kind: u64,
    /// The lifetime of the session, counted from its issue and anew from each renewal.
    pub lifetime_ms: u64,
    /// The account that the session counts against.
    pub account: Option<Account>,
}

/// What a slot is filled with.
#[derive(Debug)]
pub(crate) struct Filled<'t> {
    pub(crate) terms: &'t Terms,
    pub(crate) name: Option<Name>,
    pub(crate) expires_ms: u64,
}

/// A session slot in shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    life: AtomicU64,
    expires_ms: AtomicU64,
    lifetime_ms: AtomicU64,
    kind: AtomicU64,
    /// The guest who may use the session too, as the caller names it; 0: no guest was named. Processes change the
    /// word by swaps alone, as [`crate::lane::Waits`].
    pub(crate) guest: AtomicU64,
    account: PlainU64,
    /// 1: a party has had a place in the session.
    used: PlainU64,
    key: [AtomicU64; 4],
    token: [AtomicU64; 4],
    /// The part of the session's name that is not in the directory; 0: it has none.
    name: AtomicU64,
    /// The lanes, indexed by [`Direction`].
    pub(crate) lanes: [Lane; 2],
}

#[cfg(not(loom))]
crate::fields::fields!(Slot {
    life,
    expires_ms,
    lifetime_ms,
    kind,
    guest,
    account,
    used,
    key,
    token,
    name,
    lanes
});

const ISSUE_NUMBER_SHIFT: u32 = 32;

fn encode(life: Life, issue_number: u32) -> u64 {
    let bits = match life {
        Life::Free => 0,
        Life::Filling(owner) => 1 | owner.to_bits() << 8,
        Life::Live => 2,
        Life::Ended(End::Complete) => 3,
        Life::Ended(End::Deleted) => 4,
        Life::Ended(End::Expired) => 5,
        Life::Ended(End::Corrupt) => 6,
        Life::Ended(End::Displaced) => 7,
        Life::Ended(End::Left) => 8,
    };
    bits | u64::from(issue_number) << ISSUE_NUMBER_SHIFT
}

fn decode(word: u64) -> Result<(Life, u32), Refusal> {
    // Bits without a meaning must be zero, so that a random word is refused.
    let life = match word & 0xffff_ffff {
        0 => Life::Free,
        bits if bits & 0xff == 1 && bits >> 24 == 0 => Life::Filling(Owner::from_bits(bits >> 8)),
        2 => Life::Live,
        3 => Life::Ended(End::Complete),
        4 => Life::Ended(End::Deleted),
        5 => Life::Ended(End::Expired),
        6 => Life::Ended(End::Corrupt),
        7 => Life::Ended(End::Displaced),
        8 => Life::Ended(End::Left),
        _ => return Err(Refusal::BadWord(word)),
    };
    Ok((life, (word >> ISSUE_NUMBER_SHIFT) as u32))
}

impl Slot {
    /// A free slot, as zeroed memory is one.
    #[must_use]
    pub fn new() -> Self {
        let digest = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            life: AtomicU64::new(0),
            expires_ms: AtomicU64::new(0),
            lifetime_ms: AtomicU64::new(0),
            kind: AtomicU64::new(0),
            guest: AtomicU64::new(0),
            account: PlainU64::new(0),
            used: PlainU64::new(0),
            key: digest(),
            token: digest(),
            name: AtomicU64::new(0),
            lanes: [Lane::new(), Lane::new()],
        }
    }

    pub(crate) fn lane(&self, direction: Direction) -> &Lane {
        let [forth, back] = &self.lanes;
        match direction {
            Direction::Forth => forth,
            Direction::Back => back,
        }
    }

    /// The owners of the places that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = Owner> {
        self.lanes.iter().filter_map(|lane| lane.load().ok()).flat_map(LaneWord::held)
    }

    /// Whether `worker` is filling the slot.
    pub(crate) fn is_filled_by(&self, worker: WorkerId) -> bool {
        matches!(self.life(), Ok((Life::Filling(owner), _)) if owner.worker == worker)
    }

    /// Both lanes' state words.
    pub(crate) fn words(&self) -> Result<[LaneWord; 2], Refusal> {
        let [forth, back] = &self.lanes;
        Ok([forth.load()?, back.load()?])
    }

    pub(crate) fn life(&self) -> Result<(Life, u32), Refusal> {
        decode(look(&self.life))
    }

    /// Takes one step of the life word; `false` if the word was not what the caller believed.
    pub(crate) fn step(&self, from: (Life, u32), to: (Life, u32)) -> bool {
        let (from, to) = (encode(from.0, from.1), encode(to.0, to.1));
        self.life.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Writes what the session is to be. Only the process that is filling the slot calls this.
    pub(crate) fn fill(&self, filled: &Filled<'_>) {
        let terms = filled.terms;
        // Pairs with the fences in `find_session` and `judge`: a process that reads what we write here also sees that
        // the slot is filling.
        fence(Ordering::Release);
        store(&self.key, &terms.key);
        store(&self.token, &terms.token);
        self.name.store(Name::to_word(filled.name), Ordering::Relaxed);
        self.kind.store(terms.kind, Ordering::Relaxed);
        self.lifetime_ms.store(terms.lifetime_ms, Ordering::Relaxed);
        self.guest.swap(0, Ordering::Relaxed);
        self.account.store(Account::to_bits(terms.account), PlainOrdering::Relaxed);
        self.used.store(0, PlainOrdering::Relaxed);
        self.expires_ms.store(filled.expires_ms, Ordering::Relaxed);
    }

    /// Whether `name` may be the session's. The caller looks at the session's life afterwards.
    pub(crate) fn has_name(&self, name: Name) -> bool {
        self.name.load(Ordering::Relaxed) == Name::to_word(Some(name))
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            key: load(&self.key),
            token: load(&self.token),
            kind: self.kind.load(Ordering::Relaxed),
            lifetime_ms: self.lifetime_ms.load(Ordering::Relaxed),
            account: self.account(),
        }
    }

    /// The account that the session counts against.
    pub(crate) fn account(&self) -> Option<Account> {
        Account::from_bits(self.account.load(PlainOrdering::Relaxed))
    }

    /// Notes that a party takes a place.
    pub(crate) fn note_use(&self) {
        // Writes seldom, as many processes read the word.
        if !self.was_used() {
            self.used.store(1, PlainOrdering::Relaxed);
        }
    }

    pub(crate) fn was_used(&self) -> bool {
        self.used.load(PlainOrdering::Relaxed) != 0
    }

    /// Begins the session's lifetime anew. The caller holds a place, so the slot cannot serve another session
    /// meanwhile.
    pub(crate) fn renew(&self, now_ms: u64) {
        let lifetime_ms = self.lifetime_ms.load(Ordering::Relaxed);
        self.expires_ms.fetch_max(now_ms.saturating_add(lifetime_ms), Ordering::Relaxed);
    }

    pub(crate) fn expires_ms(&self) -> u64 {
        self.expires_ms.load(Ordering::Relaxed)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

fn store(words: &[AtomicU64; 4], digest: &Digest) {
    for (word, bytes) in words.iter().zip(digest.as_chunks::<8>().0) {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
}

fn load(words: &[AtomicU64; 4]) -> Digest {
    let mut digest = [0; 32];
    for (word, bytes) in words.iter().zip(digest.as_chunks_mut::<8>().0) {
        *bytes = word.load(Ordering::Relaxed).to_le_bytes();
    }
    digest
}
