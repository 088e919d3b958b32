//! Chunks and pipes: what payload is in between two sockets, and the tag that says whose each one is.
//!
//! A tag is `FREE`, or a pipe's `DIRTY`, or it names one attempt in one lane, or the worker that empties a pipe. It is
//! taken by one CAS and given back by one CAS from that very tag, so nothing can be freed twice or by somebody else,
//! and a random word in a tag is neither free nor anybody's.
//!
//! A chunk that comes back may be written again, whatever it holds. A pipe may not be filled again before it is empty,
//! or what one lane has left in it would come out in another. So a pipe comes back as `FREE` only from a sender that has
//! put nothing in, or whose receiver has taken out all of it. In any other case it comes back as `DIRTY`, and no lane
//! gets it before a worker has emptied it.

use crate::account::{Account, Payer, Share, Weights, Wishes};
use crate::permit::GOLDEN;
use crate::place::WorkerId;
use crate::refusal::Refusal;
use crate::slot::LaneRef;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{
    AtomicBool as PrivateBool, AtomicU32 as PrivateU32, AtomicU64 as PlainU64,
    Ordering as PrivateOrdering,
};

/// The tag of a chunk or pipe that nobody holds. An arbitrary pattern: a scribbled word must not look
/// free.
const FREE: u64 = 0x5a1e_0f0e_c4e9_d0b1;

/// The tag of a pipe that nobody holds, and that may not be empty. As arbitrary.
const DIRTY: u64 = 0x3c96_61b7_d18f_0a2d;

/// High bits of a tag in use, so that neither zero nor small numbers are ever valid.
const HELD: u64 = 0xa5d << 52;

/// The same of a pipe that a worker empties.
const EMPTIED: u64 = 0x6e2 << 52;

/// Tags that are looked at to weigh what accounts hold, at most: more than there are chunks in 2 GiB. Of a larger pool so
/// many stand for all.
const WEIGHED_MAX: usize = 4096;

/// What payload is in, between the two sockets. It names one that is there when it was taken from a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vessel {
    /// So many chunks come before this one.
    Chunk(usize),
    /// So many pipes come before this one.
    Pipe(usize),
}

impl Vessel {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Chunk(_) => Kind::Chunk,
            Self::Pipe(_) => Kind::Pipe,
        }
    }
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk,
    Pipe,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Chunk, Self::Pipe];
}

/// Whose a chunk or pipe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    /// The tag of `attempt` (below 2^23) in a lane of a slot below 2^28.
    pub(crate) fn new(lane: LaneRef, attempt: u32) -> Self {
        let lane = u64::from(lane.session.slot) << 1 | lane.direction as u64;
        Self(HELD | lane << 23 | u64::from(attempt))
    }

    /// The tag of what `worker` empties.
    pub(crate) fn emptied_by(worker: WorkerId) -> Self {
        Self(EMPTIED | worker.index() as u64)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }
}

/// All tags, borrowed from the segment (or from the heap, in tests).
#[derive(Debug)]
pub struct Pool<'a> {
    chunks: Shelf<'a>,
    pipes: Shelf<'a>,
    wishes: Wishes<'a>,
    /// Whether some pipes may be dirty; private, a guess.
    may_be_dirty: PrivateBool,
}

/// The words that a [`Pool`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct PoolWords<'a> {
    /// Tags, one a chunk.
    pub chunks: &'a [AtomicU64],
    /// Tags, one a pipe.
    pub pipes: &'a [AtomicU64],
    /// On whose account each chunk, and behind them each pipe, is held.
    pub accounts: &'a [PlainU64],
    /// Counts wishes.
    pub wishes: &'a AtomicU64,
    /// Where wishes of accounts stand.
    pub board: &'a [PlainU64],
}

/// The tags of one kind.
#[derive(Debug)]
struct Shelf<'a> {
    tags: &'a [AtomicU64],
    /// One word a tag. It says something only while the tag is held.
    accounts: &'a [PlainU64],
    /// Where this process looks first; private, a guess.
    hint: PrivateU32,
    /// Counts this process's samples.
    turn: PrivateU32,
}

impl<'a> Pool<'a> {
    /// A pool over its words.
    #[must_use]
    pub fn new(words: PoolWords<'a>) -> Self {
        let PoolWords { chunks, pipes, accounts, wishes, board } = words;
        let (of_chunks, of_pipes) = accounts.split_at(chunks.len().min(accounts.len()));
        Self {
            chunks: Shelf::new(chunks, of_chunks),
            pipes: Shelf::new(pipes, of_pipes),
            wishes: Wishes::new(wishes, board),
            // A dead worker may have left some.
            may_be_dirty: PrivateBool::new(true),
        }
    }

    /// Makes everything free. For the creator of a segment, before anybody else maps it.
    pub fn clear(&self) {
        let tags = self.chunks.tags.iter().chain(self.pipes.tags);
        tags.for_each(|tag| tag.store(FREE, Ordering::Release));
    }

    /// Chunks in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.tags.len()
    }

    /// Whether there are no chunks at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.tags.is_empty()
    }

    /// Chunks that somebody holds, counted from the tags.
    #[must_use]
    pub fn held(&self) -> usize {
        self.chunks.count(|tag| tag != FREE)
    }

    /// Pipes in all.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.pipes.tags.len()
    }

    /// Pipes that somebody holds, counted from the tags.
    #[must_use]
    pub fn pipes_held(&self) -> usize {
        self.pipes.count(|tag| tag != FREE && tag != DIRTY)
    }

    /// Pipes that nobody holds and that may not be empty, counted from the tags.
    #[must_use]
    pub fn pipes_dirty(&self) -> usize {
        self.pipes.count(|tag| tag == DIRTY)
    }

    /// The number that stands for `vessel` in a descriptor: pipes come behind chunks.
    pub(crate) fn number(&self, vessel: Vessel) -> u64 {
        let number = match vessel {
            Vessel::Chunk(index) => index,
            Vessel::Pipe(index) => self.len().saturating_add(index),
        };
        number as u64
    }

    /// What `number` stands for. Whether there is such a one, [`Self::check`] tells.
    pub(crate) fn vessel(&self, number: usize) -> Vessel {
        number.checked_sub(self.len()).map_or(Vessel::Chunk(number), Vessel::Pipe)
    }

    /// Whether more than `count` of a kind are free. Looks at no more tags than it must.
    pub(crate) fn has_more_than(&self, kind: Kind, count: usize) -> bool {
        let is_free = |word: &AtomicU64| word.load(Ordering::Relaxed) == FREE;
        self.shelf(kind).round_from_hint().filter(|(_, tag)| is_free(tag)).nth(count).is_some()
    }

    /// A lane that has wished has a chunk by now, or leaves.
    pub(crate) fn wish_no_more(&self) {
        self.wishes.take_back();
    }

    /// Forgets wishes, for some may be the dead's.
    pub(crate) fn forget_wishes(&self) {
        self.wishes.forget();
    }

    /// What is held of a kind, and how much of it by `account`.
    pub(crate) fn weigh(&self, kind: Kind, account: Option<Account>) -> Weights {
        let mut weights = Weights::default();
        let shelf = self.shelf(kind);
        for (index, tag) in shelf.sample() {
            weights.seen += 1;
            match tag.load(Ordering::Relaxed) {
                FREE => weights.free += 1,
                DIRTY => {}
                _ => weights.count(account, shelf.account(index)),
            }
        }
        weights
    }

    /// How many have to be free for a lane that holds some to take one more: of chunks a quarter, so that a newcomer
    /// finds its first.
    pub(crate) fn reserve(&self, kind: Kind) -> usize {
        match kind {
            Kind::Chunk => self.len() / 4,
            Kind::Pipe => 0,
        }
    }

    /// Whether `payer` may have one more of a kind.
    pub(crate) fn may_take(&self, kind: Kind, payer: Option<Payer>) -> bool {
        payer.is_none_or(|payer| {
            let (share, all) = match kind {
                Kind::Chunk => (payer.chunks, self.len()),
                Kind::Pipe => (payer.pipes, self.pipes()),
            };
            let weights = || self.weigh(kind, Some(payer.account));
            share == Share::All || weights().allow(share, payer.wide_factor, all)
        })
    }

    /// A lane that holds nothing wishes for a chunk, as it may, or can, have none. One whose wish is not new may have
    /// lost it to a lane that came later.
    pub(crate) fn wish(&self, payer: Option<Payer>, is_new: bool) {
        let Some(payer) = payer else { return self.wishes.make(is_new, 0) };
        let weights = self.weigh(Kind::Chunk, Some(payer.account));
        let held = weights.held(payer.wide_factor);
        if weights.free == 0 {
            self.wishes.make(is_new, held);
        }
        if held > 0 {
            self.wishes.make_of_own(payer.account);
        }
    }

    /// Whether a chunk that is held by `account` is to be given up, since somebody wishes for it: of the same network,
    /// or, while none is free, somebody who holds less. True once for each wish.
    pub(crate) fn grants_wish(&self, account: Option<Account>, wide_factor: u32) -> bool {
        if !self.wishes.are_there(account) {
            return false;
        }
        if account.is_some_and(|account| self.wishes.grant_of_own(account)) {
            return true;
        }
        let weights = self.weigh(Kind::Chunk, account);
        let held = account.map_or(usize::MAX, |_| weights.held(wide_factor));
        weights.free == 0 && self.wishes.grant(held)
    }

    /// How many lanes wish for each chunk: so many turns they have to wait.
    #[must_use]
    pub fn wishes_per_chunk(&self) -> u64 {
        self.wishes.count() / self.len().max(1) as u64
    }

    /// On whose account it is held, if it is.
    pub(crate) fn account(&self, vessel: Vessel) -> Option<Account> {
        let (Vessel::Chunk(index) | Vessel::Pipe(index)) = vessel;
        Account::from_bits(self.shelf(vessel.kind()).account(index))
    }

    /// Takes a free one of a kind for `tag`, on `account`, if there is one.
    pub(crate) fn take(&self, kind: Kind, tag: Tag, account: Option<Account>) -> Option<Vessel> {
        let shelf = self.shelf(kind);
        let index = shelf.take(FREE, tag);
        if let Some(word) = index.and_then(|index| shelf.accounts.get(index)) {
            word.store(Account::to_bits(account), PrivateOrdering::Relaxed);
        }
        if index.is_none() && kind == Kind::Pipe {
            // To be emptied, they may be all there are.
            self.may_be_dirty.store(true, PrivateOrdering::Relaxed);
        }
        index.map(match kind {
            Kind::Chunk => Vessel::Chunk,
            Kind::Pipe => Vessel::Pipe,
        })
    }

    /// Gives back what `tag` holds; a pipe as one that may not be empty. Refused where the tag says
    /// otherwise.
    pub(crate) fn release(&self, vessel: Vessel, tag: Tag) -> Result<(), Refusal> {
        self.give_back(vessel, tag, self.given_up(vessel.kind()))
    }

    /// Gives back what `tag` holds and nobody needs to empty: the receiver has taken all that was in it, or nothing was.
    pub(crate) fn release_empty(&self, vessel: Vessel, tag: Tag) -> Result<(), Refusal> {
        self.give_back(vessel, tag, FREE)
    }

    fn give_back(&self, vessel: Vessel, tag: Tag, free: u64) -> Result<(), Refusal> {
        let (shelf, index, word) = self.find(vessel)?;
        word.compare_exchange(tag.0, free, Ordering::Release, Ordering::Relaxed)
            .map_err(Refusal::Foreign)?;
        shelf.hint.store(index, PrivateOrdering::Relaxed);
        Ok(())
    }

    /// Gives back everything that `tag` holds, found by a scan; pipes as ones that may not be empty.
    pub(crate) fn release_all(&self, tag: Tag) {
        for kind in Kind::ALL {
            let tags = self.shelf(kind).tags.iter();
            for word in tags.filter(|word| word.load(Ordering::Relaxed) == tag.0) {
                let free = self.given_up(kind);
                // A failure means that it was freed in between: that is what was wanted.
                let _ = word.compare_exchange(tag.0, free, Ordering::Release, Ordering::Relaxed);
            }
        }
    }

    /// What the tag of one becomes that is given back, whatever it holds.
    fn given_up(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Chunk => FREE,
            Kind::Pipe => {
                self.may_be_dirty.store(true, PrivateOrdering::Relaxed);
                DIRTY
            }
        }
    }

    /// Takes a pipe that nobody holds and that may not be empty, for `worker` to empty. It is not looked for where
    /// this process knows of none.
    pub fn take_dirty(&self, worker: WorkerId) -> Option<usize> {
        if !self.may_be_dirty() {
            return None;
        }
        let pipe = self.pipes.take(DIRTY, Tag::emptied_by(worker));
        self.may_be_dirty.store(pipe.is_some(), PrivateOrdering::Relaxed);
        pipe
    }

    /// Whether there may be such pipes.
    #[must_use]
    pub fn may_be_dirty(&self) -> bool {
        self.may_be_dirty.load(PrivateOrdering::Relaxed)
    }

    /// Gives back a pipe that `worker` took to empty it, and that is empty now.
    pub fn release_emptied(&self, pipe: usize, worker: WorkerId) -> Result<(), Refusal> {
        self.give_back(Vessel::Pipe(pipe), Tag::emptied_by(worker), FREE)
    }

    /// Checks that `tag` holds it.
    pub(crate) fn check(&self, vessel: Vessel, tag: Tag) -> Result<(), Refusal> {
        match self.find(vessel)?.2.load(Ordering::Acquire) {
            found if found == tag.0 => Ok(()),
            found => Err(Refusal::Foreign(found)),
        }
    }

    fn shelf(&self, kind: Kind) -> &Shelf<'a> {
        match kind {
            Kind::Chunk => &self.chunks,
            Kind::Pipe => &self.pipes,
        }
    }

    fn find(&self, vessel: Vessel) -> Result<(&Shelf<'a>, u32, &'a AtomicU64), Refusal> {
        let (Vessel::Chunk(index) | Vessel::Pipe(index)) = vessel;
        let shelf = self.shelf(vessel.kind());
        let hint = u32::try_from(index).unwrap_or(0);
        let word = shelf.tags.get(index).ok_or(Refusal::Descriptor(index as u64))?;
        Ok((shelf, hint, word))
    }
}

impl<'a> Shelf<'a> {
    fn new(tags: &'a [AtomicU64], accounts: &'a [PlainU64]) -> Self {
        Self { tags, accounts, hint: PrivateU32::new(0), turn: PrivateU32::new(0) }
    }

    fn account(&self, index: usize) -> u64 {
        self.accounts.get(index).map_or(0, |word| word.load(PrivateOrdering::Relaxed))
    }

    fn count(&self, is_counted: impl Fn(u64) -> bool) -> usize {
        self.tags.iter().filter(|tag| is_counted(tag.load(Ordering::Relaxed))).count()
    }

    /// Takes one whose tag is `free`.
    fn take(&self, free: u64, tag: Tag) -> Option<usize> {
        // Acquire pairs with the Release in `give_back`: what the last holder did is over.
        let takes = |word: &AtomicU64| {
            word.load(Ordering::Relaxed) == free
                && word.compare_exchange(free, tag.0, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let (index, _) = self.round_from_hint().find(|(_, word)| takes(word))?;
        self.hint.store(u32::try_from(index).ok()?, PrivateOrdering::Relaxed);
        Some(index)
    }

    /// All tags with their indices, or as many as stand for all, each time beginning elsewhere.
    fn sample(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        let (tags, all) = (self.tags, self.tags.len().max(1));
        let turn = self.turn.fetch_add(1, PrivateOrdering::Relaxed);
        let start = if all <= WEIGHED_MAX { 0 } else { turn.wrapping_mul(GOLDEN) as usize % all };
        let indices = (0..all.min(WEIGHED_MAX)).map(move |step| (start + step) % all);
        indices.filter_map(move |index| Some((index, tags.get(index)?)))
    }

    /// Every tag with its index, beginning at the hint and going round once.
    fn round_from_hint(&self) -> impl Iterator<Item = (usize, &'a AtomicU64)> {
        let start = (self.hint.load(PrivateOrdering::Relaxed) as usize).min(self.tags.len());
        let (before, after) = self.tags.split_at(start);
        let tail = after.iter().enumerate().map(move |(i, tag)| (start + i, tag));
        tail.chain(before.iter().enumerate())
    }
}
