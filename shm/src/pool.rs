//! Chunks and pipes: what payload is in between two sockets, and the tag that says whose each one is.
//!
//! A tag is `FREE`, or a pipe's `DIRTY`, or it names one attempt in one lane, or the worker that empties a pipe. A
//! process takes a tag by one CAS and gives it back by one CAS from that very tag. So nothing can be freed twice or
//! by another process, and a random word in a tag is neither free nor held.
//!
//! A chunk that comes back may be written again, whatever it holds. A pipe may not be filled again before it is empty,
//! or what one lane has left in it would come out in another. So a pipe comes back as `FREE` only from a sender that has
//! put nothing in, or whose receiver has taken out all of it. In any other case it comes back as `DIRTY`, and no lane
//! gets it before a worker has emptied it.

mod shelf;

pub(crate) use self::shelf::GOLDEN;

use self::shelf::{Shelf, WEIGHED_MAX};
use crate::account::{Account, ChunkRequests, Payer, Share, Weights};
use crate::ids::{Tag, WorkerId};
use crate::refusal::Refusal;
use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{
    AtomicBool as PrivateBool, AtomicU64 as PlainU64, Ordering as PrivateOrdering,
};

/// The tag of a chunk or pipe that no process holds. The pattern is arbitrary: a scribbled word must not look free.
const FREE: u64 = 0x5a1e_0f0e_c4e9_d0b1;

/// The tag of a pipe that no process holds, and that may not be empty. The pattern is arbitrary, too.
const DIRTY: u64 = 0x3c96_61b7_d18f_0a2d;

/// The buffer that payload is in, between the two sockets. The buffer exists if it was taken from a [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// So many chunks come before this one.
    Chunk(usize),
    /// So many pipes come before this one.
    Pipe(usize),
}

impl Buffer {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Chunk(_) => Kind::Chunk,
            Self::Pipe(_) => Kind::Pipe,
        }
    }
}

/// The kind of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk,
    Pipe,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Chunk, Self::Pipe];
}

/// The sizes that a segment was made with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Chunks a lane may hold.
    pub(crate) lane_chunks: usize,
    /// Bytes in a chunk.
    pub(crate) chunk_bytes: usize,
}

/// All tags, borrowed from the segment (or from the heap, in tests).
#[derive(Debug)]
pub struct Pool<'a> {
    pub(crate) sizes: Sizes,
    chunks: Shelf<'a>,
    pipes: Shelf<'a>,
    requests: ChunkRequests<'a>,
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
    /// The accounts that the chunks and, behind them, the pipes are charged to.
    pub accounts: &'a [PlainU64],
    /// Counts chunk requests.
    pub requests: &'a AtomicU64,
    /// Names the wider networks that request some of their own chunks back.
    pub board: &'a [PlainU64],
}

impl<'a> Pool<'a> {
    /// A pool over its words.
    #[must_use]
    pub fn new(words: PoolWords<'a>) -> Self {
        let PoolWords { chunks, pipes, accounts, requests, board } = words;
        let (of_chunks, of_pipes) = accounts.split_at(chunks.len().min(accounts.len()));
        Self {
            sizes: Sizes::default(),
            chunks: Shelf::new(chunks, of_chunks),
            pipes: Shelf::new(pipes, of_pipes),
            requests: ChunkRequests::new(requests, board),
            // A dead worker may have left some.
            may_be_dirty: PrivateBool::new(true),
        }
    }

    /// The pool of a segment that was made with `sizes`.
    pub(crate) fn sized(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    /// Makes everything free. The creator of a segment calls this before another process maps it.
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

    /// Chunks that are held, counted from the tags.
    #[must_use]
    pub fn held(&self) -> usize {
        self.chunks.count(|tag| tag != FREE)
    }

    /// Pipes in all.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.pipes.tags.len()
    }

    /// Pipes that are held, counted from the tags.
    #[must_use]
    pub fn pipes_held(&self) -> usize {
        self.pipes.count(|tag| tag != FREE && tag != DIRTY)
    }

    /// Dirty pipes, counted from the tags.
    #[must_use]
    pub fn pipes_dirty(&self) -> usize {
        self.pipes.count(|tag| tag == DIRTY)
    }

    /// The number that stands for `buffer` in a descriptor: pipes come behind chunks.
    pub(crate) fn number(&self, buffer: Buffer) -> u64 {
        let number = match buffer {
            Buffer::Chunk(index) => index,
            Buffer::Pipe(index) => self.len().saturating_add(index),
        };
        number as u64
    }

    /// The buffer that `number` stands for. [`Self::check`] tells whether it exists.
    pub(crate) fn buffer(&self, number: usize) -> Buffer {
        number.checked_sub(self.len()).map_or(Buffer::Chunk(number), Buffer::Pipe)
    }

    /// Whether more than `count` of a kind are free. In a large pool the sample decides: whether more than the same
    /// part of it is free. Reads no more tags than it must.
    fn has_more_than(&self, kind: Kind, count: usize) -> bool {
        let (shelf, all) = (self.shelf(kind), self.shelf(kind).tags.len());
        let is_free = |(_, tag): &(usize, &AtomicU64)| tag.load(Ordering::Relaxed) == FREE;
        if all <= WEIGHED_MAX {
            return shelf.round_from_hint().filter(is_free).nth(count).is_some();
        }
        // Rounds up, so that a close decision leaves a chunk to other lanes.
        let part = count.saturating_mul(WEIGHED_MAX).div_ceil(all);
        shelf.sample().filter(is_free).nth(part).is_some()
    }

    /// Whether `needed` of a kind are free, or of a large pool as large a part of the sample.
    pub(crate) fn has_free(&self, kind: Kind, needed: usize) -> bool {
        needed.checked_sub(1).is_none_or(|count| self.has_more_than(kind, count))
    }

    /// Cancels the request of a lane that has a chunk by now, or leaves.
    pub(crate) fn cancel_request(&self) {
        self.requests.cancel();
    }

    /// Forgets all chunk requests, as a dead worker may have registered some.
    pub(crate) fn forget_requests(&self) {
        self.requests.forget();
    }

    /// How much of a kind is held, and how much of that by `account`.
    pub(crate) fn weigh(&self, kind: Kind, account: Option<Account>) -> Weights {
        let mut weights = Weights::default();
        let shelf = self.shelf(kind);
        // Not by a loop: from within, the chain of iterators costs a third less.
        shelf.sample().for_each(|(index, tag)| {
            weights.seen += 1;
            match tag.load(Ordering::Relaxed) {
                FREE => weights.free += 1,
                DIRTY => {}
                _ => weights.count(account, shelf.account(index)),
            }
        });
        weights
    }

    /// How many have to be free for a lane that holds some to take one more: of chunks a quarter, so that a newcomer
    /// finds its first.
    pub(crate) fn kept_back(&self, kind: Kind) -> usize {
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

    /// Registers a chunk request of a lane that holds nothing and may not, or cannot, have a chunk. A lane that
    /// registered one before passes `is_new: false`: another lane may have used its request up.
    pub(crate) fn request_chunk(&self, payer: Option<Payer>, is_new: bool) {
        let Some(payer) = payer else { return self.requests.register(is_new, 0) };
        let weights = self.weigh(Kind::Chunk, Some(payer.account));
        let held = weights.held(payer.wide_factor);
        if weights.free == 0 {
            self.requests.register(is_new, held);
        }
        if held > 0 {
            self.requests.register_of_own(payer.account);
        }
    }

    /// Whether a lane of `account` yields a chunk: to a request of the same wider network or, while no chunk is free,
    /// to a request of an account that holds less. Returns true once for each request.
    pub(crate) fn yields_chunk(&self, account: Option<Account>, wide_factor: u32) -> bool {
        if !self.requests.are_there(account) {
            return false;
        }
        if account.is_some_and(|account| self.requests.yields_of_own(account)) {
            return true;
        }
        let weights = self.weigh(Kind::Chunk, account);
        let held = account.map_or(usize::MAX, |_| weights.held(wide_factor));
        weights.free == 0 && self.requests.yields(held)
    }

    /// Chunk requests for each chunk: a lane has to wait for so many turns.
    #[must_use]
    pub fn requests_per_chunk(&self) -> u64 {
        self.requests.count() / self.len().max(1) as u64
    }

    /// The account that `buffer` is charged to, if it is held.
    pub(crate) fn account(&self, buffer: Buffer) -> Option<Account> {
        let (Buffer::Chunk(index) | Buffer::Pipe(index)) = buffer;
        Account::from_bits(self.shelf(buffer.kind()).account(index))
    }

    /// Takes a free buffer of a kind for `tag`, charged to `account`, if there is one.
    pub(crate) fn take(&self, kind: Kind, tag: Tag, account: Option<Account>) -> Option<Buffer> {
        let shelf = self.shelf(kind);
        let index = shelf.take(FREE, tag);
        if let Some(word) = index.and_then(|index| shelf.accounts.get(index)) {
            word.store(Account::to_bits(account), PrivateOrdering::Relaxed);
        }
        if index.is_none() && kind == Kind::Pipe {
            // Dirty pipes may be all that is left, so a worker should empty some.
            self.may_be_dirty.store(true, PrivateOrdering::Relaxed);
        }
        index.map(match kind {
            Kind::Chunk => Buffer::Chunk,
            Kind::Pipe => Buffer::Pipe,
        })
    }

    /// Gives back a buffer that `tag` holds, a pipe as dirty. Refused if another tag holds it.
    pub(crate) fn give_back(&self, buffer: Buffer, tag: Tag) -> Result<(), Refusal> {
        self.set_free(buffer, tag, self.after_use(buffer.kind()))
    }

    /// Gives back a buffer that `tag` holds and that is empty: the receiver has taken all that was in it, or nothing
    /// was put in.
    pub(crate) fn give_back_empty(&self, buffer: Buffer, tag: Tag) -> Result<(), Refusal> {
        self.set_free(buffer, tag, FREE)
    }

    fn set_free(&self, buffer: Buffer, tag: Tag, free: u64) -> Result<(), Refusal> {
        let (shelf, index, word) = self.find(buffer)?;
        word.compare_exchange(tag.to_bits(), free, Ordering::Release, Ordering::Relaxed)
            .map_err(Refusal::Foreign)?;
        shelf.hint.store(index, PrivateOrdering::Relaxed);
        Ok(())
    }

    /// Gives back everything that `tag` holds, found by a scan, and pipes as dirty.
    pub(crate) fn give_back_all(&self, tag: Tag) {
        for kind in Kind::ALL {
            let tags = self.shelf(kind).tags.iter();
            for word in tags.filter(|word| word.load(Ordering::Relaxed) == tag.to_bits()) {
                let free = self.after_use(kind);
                // A failure means that another process freed the buffer meanwhile, which is the aim.
                let _ = word.compare_exchange(
                    tag.to_bits(),
                    free,
                    Ordering::Release,
                    Ordering::Relaxed,
                );
            }
        }
    }

    /// The tag of a buffer that is given back, whatever it holds.
    fn after_use(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Chunk => FREE,
            Kind::Pipe => {
                self.may_be_dirty.store(true, PrivateOrdering::Relaxed);
                DIRTY
            }
        }
    }

    /// Takes a dirty pipe for `worker` to empty. The search is skipped while this process knows of no dirty pipe.
    pub fn take_dirty(&self, worker: WorkerId) -> Option<usize> {
        if !self.may_be_dirty() {
            return None;
        }
        let pipe = self.pipes.take(DIRTY, Tag::emptied_by(worker));
        self.may_be_dirty.store(pipe.is_some(), PrivateOrdering::Relaxed);
        pipe
    }

    /// Whether there may be dirty pipes.
    #[must_use]
    pub fn may_be_dirty(&self) -> bool {
        self.may_be_dirty.load(PrivateOrdering::Relaxed)
    }

    /// Gives back a pipe that `worker` took to empty it, and that is empty now.
    pub fn give_back_emptied(&self, pipe: usize, worker: WorkerId) -> Result<(), Refusal> {
        self.set_free(Buffer::Pipe(pipe), Tag::emptied_by(worker), FREE)
    }

    /// Checks that `tag` holds it.
    pub(crate) fn check(&self, buffer: Buffer, tag: Tag) -> Result<(), Refusal> {
        match self.find(buffer)?.2.load(Ordering::Acquire) {
            found if found == tag.to_bits() => Ok(()),
            found => Err(Refusal::Foreign(found)),
        }
    }

    fn shelf(&self, kind: Kind) -> &Shelf<'a> {
        match kind {
            Kind::Chunk => &self.chunks,
            Kind::Pipe => &self.pipes,
        }
    }

    fn find(&self, buffer: Buffer) -> Result<(&Shelf<'a>, u32, &'a AtomicU64), Refusal> {
        let (Buffer::Chunk(index) | Buffer::Pipe(index)) = buffer;
        let shelf = self.shelf(buffer.kind());
        let hint = u32::try_from(index).unwrap_or(0);
        let word = shelf.tags.get(index).ok_or(Refusal::Descriptor(index as u64))?;
        Ok((shelf, hint, word))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::shelf::TAGS_PER_LINE;
    use super::*;

    const LARGE: usize = 10 * WEIGHED_MAX + 5;
    const HELD_TAG: u64 = !FREE;

    /// Runs `look` on a pool of `all` chunks, some of them free.
    fn look<T>(
        all: usize,
        is_free: impl Fn(usize) -> bool,
        look: impl FnOnce(&Pool<'_>) -> T,
    ) -> T {
        let tag = |index| AtomicU64::new(if is_free(index) { FREE } else { HELD_TAG });
        let chunks: Vec<_> = (0..all).map(tag).collect();
        let (requests, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; 64]);
        let words = PoolWords {
            chunks: &chunks,
            pipes: &[],
            accounts: &[],
            requests: &requests,
            board: &board,
        };
        look(&Pool::new(words))
    }

    fn has_more_than(all: usize, is_free: impl Fn(usize) -> bool, count: usize) -> bool {
        let ask = |pool: &Pool<'_>| pool.has_more_than(Kind::Chunk, count);
        // Wherever the sample begins.
        look(all, is_free, |pool| {
            let first = ask(pool);
            (0..100).for_each(|_| assert_eq!(ask(pool), first));
            first
        })
    }

    #[test]
    fn free_chunks_of_a_small_pool_are_counted() {
        for all in [1, 7, 8, 9, 190, WEIGHED_MAX] {
            for free in [0, 1, all / 2, all] {
                let has = |count| has_more_than(all, |index| index >= all - free, count);
                assert!(!has(free), "{free} of {all}");
                assert!(free == 0 || has(free - 1), "{free} of {all}");
            }
        }
    }

    #[test]
    fn free_chunks_of_a_large_pool_are_estimated_wherever_they_lie() {
        let quarter = LARGE / 4;
        for free in [LARGE / 5, LARGE * 3 / 10] {
            let first = |index| index < free;
            let last = |index| index >= LARGE - free;
            let scattered = |index: usize| index * 10 % LARGE < free;
            let is_more = free > quarter;
            assert_eq!(has_more_than(LARGE, first, quarter), is_more, "{free}");
            assert_eq!(has_more_than(LARGE, last, quarter), is_more, "{free}");
            assert_eq!(has_more_than(LARGE, scattered, quarter), is_more, "{free}");
        }
        for count in [0, 16, quarter] {
            assert!(has_more_than(LARGE, |_| true, count));
            assert!(!has_more_than(LARGE, |_| false, count));
        }
    }

    #[test]
    fn a_large_pool_costs_no_more_than_a_part_of_it() {
        for (all, seen_max) in
            [(0, 0), (100, 100), (WEIGHED_MAX, WEIGHED_MAX), (LARGE, WEIGHED_MAX)]
        {
            look(
                all,
                |_| true,
                |pool| {
                    for _ in 0..100 {
                        let mut seen: Vec<_> =
                            pool.chunks.sample().map(|(index, _)| index).collect();
                        assert!(
                            (seen_max.saturating_sub(TAGS_PER_LINE)..=seen_max)
                                .contains(&seen.len())
                        );
                        seen.sort_unstable();
                        assert!(
                            seen.windows(2).all(|pair| pair[0] != pair[1]),
                            "one is seen twice"
                        );
                        let weights = pool.weigh(Kind::Chunk, None);
                        assert_eq!(weights.free, weights.seen);
                    }
                },
            );
        }
    }
}
