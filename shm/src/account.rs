//! On whose account chunks and pipes are held, and how many one account may have.
//!
//! Chunks come back only as fast as receivers read, so a share among lanes favours the client with the most lanes. A
//! lane therefore charges what it takes to the account of its sender's client, by a word beside the tag. The pool
//! keeps no count: a lane that takes a chunk looks at what is held, so a crash leaves nothing wrong.

use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering as PlainOrdering};

/// Lines of the board, a power of two. Accounts that meet on a line overwrite each other and write again.
const LINES: usize = 64;
/// No account on a line, or beside a tag.
const NOBODY: u64 = 0;
/// Chunk requests that are counted, at most: this bounds what a scribbled word can do.
const REQUESTS_MAX: u64 = 1 << 16;
/// High bits of the pool's word: how little the poorest requester holds.
const POOREST_SHIFT: u32 = 32;
/// No requester has said what it holds since the last chunk request was met.
const UNSAID: u64 = u32::MAX as u64;

/// A client's network, and the wider one around it, as keyed digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(u64);

impl Account {
    /// The account of a network within a wider one. Where there is no wider one, both digests are the same.
    #[must_use]
    pub fn new(wide: u32, narrow: u32) -> Self {
        // Zero means no account, so no account may be zero.
        Self((u64::from(wide) << 32 | u64::from(narrow)).max(1))
    }

    pub(crate) fn to_bits(account: Option<Self>) -> u64 {
        account.map_or(NOBODY, |account| account.0)
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != NOBODY).then_some(Self(bits))
    }

    /// The digest of the wider network.
    #[must_use]
    pub fn wide(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// How many of something an account may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Any number.
    All,
    /// Twice as many as it leaves free. An account that is alone gets two thirds of all. Several accounts get equal
    /// shares, and half a share stays free for the next account.
    Fair,
    /// A fixed number.
    AtMost(u32),
}

/// The account that pays for what a lane holds, and how much it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// The account.
    pub account: Account,
    /// The account's share of the chunks.
    pub chunks: Share,
    /// The account's share of the pipes.
    pub pipes: Share,
    /// How many times as much the wider network may have.
    pub wide_factor: u32,
}

/// The chunks or pipes that a look saw, some or all that there are, by their holders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) seen: usize,
    pub(crate) free: usize,
    /// Held by the account itself.
    pub(crate) narrow: usize,
    /// Held by its wider network, the account included.
    pub(crate) wide: usize,
}

impl Weights {
    /// Counts a chunk or pipe that is held on the account of `holder`.
    pub(crate) fn count(&mut self, account: Option<Account>, holder: u64) {
        let Some(Account(bits)) = account else { return };
        self.narrow += usize::from(holder == bits);
        self.wide += usize::from(holder >> 32 == bits >> 32);
    }

    /// How much counts as the account's: what its network holds, or its part of what the wider network holds,
    /// whichever is more.
    pub(crate) fn held(&self, wide_factor: u32) -> usize {
        self.narrow.max(self.wide.div_ceil((wide_factor as usize).max(1)))
    }

    /// Whether `share` allows one more, of `all` that there are.
    pub(crate) fn allow(&self, share: Share, wide_factor: u32, all: usize) -> bool {
        let factor = wide_factor as usize;
        let (narrow_max, wide_max) = match share {
            Share::All => return true,
            Share::Fair => {
                let free = self.free.saturating_mul(2);
                (free, free.saturating_mul(factor))
            }
            Share::AtMost(most) => {
                // A look may see only a part of all, so the limit shrinks by the same factor.
                let part = |most: usize| most.saturating_mul(self.seen).div_ceil(all.max(1));
                (part(most as usize), part((most as usize).saturating_mul(factor)))
            }
        };
        self.narrow < narrow_max && self.wide < wide_max
    }
}

/// The chunk requests of lanes that hold no chunk and may not, or cannot, have one.
///
/// All of this is a guess. A wrong word loses no lane, as lanes that still need a chunk look and register again. The
/// counted word says how many requests found no free chunk, and how little the poorest requester holds, so that no
/// lane yields a chunk to an account that holds as much. The board says which wider networks request some of their
/// own chunks back.
#[derive(Debug)]
pub(crate) struct ChunkRequests<'a> {
    counted: &'a AtomicU64,
    board: &'a [PlainU64],
}

/// The number of the board's words in a segment.
#[cfg(not(loom))]
pub(crate) const BOARD_WORDS: usize = LINES;

impl<'a> ChunkRequests<'a> {
    pub(crate) fn new(counted: &'a AtomicU64, board: &'a [PlainU64]) -> Self {
        Self { counted, board }
    }

    /// Registers a request of a lane that holds nothing, whose account holds `held`, and that found no chunk free. A
    /// lane that registered one before passes `is_new: false`: it registers again only when the count is 0, as
    /// another lane may have used its request up.
    pub(crate) fn register(&self, is_new: bool, held: usize) {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        let more = if is_new || count == 0 { count.min(REQUESTS_MAX - 1) + 1 } else { count };
        let held = (held as u64).min(UNSAID - 1);
        let poorest = if count == 0 { held } else { poorest.min(held) };
        self.change(word, encode(more, poorest));
    }

    /// Registers that a lane may not have more on its own account, so only a lane of the same wider network can help.
    pub(crate) fn register_of_own(&self, account: Account) {
        if let Some(line) = self.line(account) {
            line.store(u64::from(account.wide()), PlainOrdering::Relaxed);
        }
    }

    /// The number of requests that are counted.
    pub(crate) fn count(&self) -> u64 {
        decode(self.counted.load(Ordering::Relaxed)).0.min(REQUESTS_MAX)
    }

    /// Whether there may be a request for what `account` holds. Processes seldom write these words, so the question
    /// costs little.
    pub(crate) fn are_there(&self, account: Option<Account>) -> bool {
        self.count() > 0 || account.is_some_and(|account| self.is_on_board(account))
    }

    /// Whether a holder of `held` yields to a request: only to a requester that holds less. Returns true once for
    /// each time that a requester says what it holds.
    pub(crate) fn yields(&self, held: usize) -> bool {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        let held = (held as u64).min(UNSAID);
        count > 0 && poorest < held && self.change(word, encode(count, UNSAID))
    }

    /// Cancels one request: its lane has a chunk by now, or no longer needs one.
    pub(crate) fn cancel(&self) {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        self.change(word, encode(count.min(REQUESTS_MAX).saturating_sub(1), poorest));
    }

    /// Forgets all requests, as dead workers may have registered some. Living lanes register again.
    pub(crate) fn forget(&self) {
        self.counted.store(0, Ordering::Relaxed);
    }

    /// Whether a lane of `account` yields to a request of the same wider network. Returns true once for each request.
    pub(crate) fn yields_of_own(&self, account: Account) -> bool {
        let wide = u64::from(account.wide());
        self.is_on_board(account)
            && self.line(account).is_some_and(|line| {
                let relaxed = PlainOrdering::Relaxed;
                line.compare_exchange(wide, NOBODY, relaxed, relaxed).is_ok()
            })
    }

    fn is_on_board(&self, account: Account) -> bool {
        let wide = u64::from(account.wide());
        wide != NOBODY
            && self.line(account).is_some_and(|line| line.load(PlainOrdering::Relaxed) == wide)
    }

    fn line(&self, account: Account) -> Option<&'a PlainU64> {
        self.board.get(account.wide() as usize % LINES)
    }

    fn change(&self, from: u64, to: u64) -> bool {
        from == to
            || self.counted.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn encode(count: u64, poorest: u64) -> u64 {
    poorest << POOREST_SHIFT | count
}

fn decode(word: u64) -> (u64, u64) {
    (word & UNSAID, word >> POOREST_SHIFT)
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ACCOUNT: Option<Account> = Some(Account(7 << 32 | 1));

    /// How many an account holds in the end when it takes all it may, while others hold `others`.
    fn settles_at(all: usize, others: usize, share: Share) -> usize {
        let mut held = 0;
        let weights = |held| Weights {
            seen: all,
            free: all.saturating_sub(others + held),
            narrow: held,
            wide: held,
        };
        while weights(held).free > 0 && weights(held).allow(share, 2, all) {
            held += 1;
        }
        held
    }

    #[test]
    fn an_account_that_is_alone_gets_two_thirds() {
        assert_eq!(settles_at(187, 0, Share::Fair), 125);
        assert_eq!(settles_at(1, 0, Share::Fair), 1);
        assert_eq!(settles_at(187, 0, Share::AtMost(40)), 40);
        assert_eq!(settles_at(187, 0, Share::All), 187);
    }

    #[test]
    fn eight_that_take_all_they_may_leave_something() {
        let mut held = [0; 8];
        for _ in 0..100 {
            for each in 0..8 {
                let others = held.iter().sum::<usize>() - held[each];
                held[each] =
                    held[each].max(settles_at(187, others, Share::Fair).min(held[each] + 1));
            }
        }
        let left = 187 - held.iter().sum::<usize>();
        assert!((10..=12).contains(&left), "{held:?}");
        assert!(held.iter().all(|held| (20..=24).contains(held)), "{held:?}");
    }

    #[test]
    fn a_wider_network_has_so_many_times_as_much() {
        let weights = Weights { seen: 100, free: 10, narrow: 3, wide: 39 };
        assert!(weights.allow(Share::Fair, 2, 100));
        assert!(!Weights { wide: 40, ..weights }.allow(Share::Fair, 2, 100));
        assert!(!Weights { narrow: 20, ..weights }.allow(Share::Fair, 2, 100));
        assert!(!Weights { narrow: 20, ..weights }.allow(Share::AtMost(20), 2, 100));
        assert!(weights.allow(Share::AtMost(20), 2, 100));
    }

    #[test]
    fn of_a_part_that_was_seen_a_number_is_a_part_of_the_number() {
        let weights = Weights { seen: 1000, free: 500, narrow: 9, wide: 9 };
        assert!(weights.allow(Share::AtMost(100), 2, 10_000));
        assert!(!Weights { narrow: 10, ..weights }.allow(Share::AtMost(100), 2, 10_000));
    }

    #[test]
    fn holders_are_told_apart_by_both_networks() {
        let mut weights = Weights::default();
        let neighbour = Account::new(7, 2);
        let stranger = Account::new(8, 1);
        for holder in [ACCOUNT, Some(neighbour), Some(stranger), None] {
            weights.count(ACCOUNT, Account::to_bits(holder));
        }
        assert_eq!((weights.narrow, weights.wide), (1, 2));
        assert_ne!(Account::to_bits(Some(Account::new(0, 0))), NOBODY);
    }

    #[test]
    fn a_request_is_met_once_and_by_a_holder_of_more() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let requests = ChunkRequests::new(&counted, &board);
        assert!(!requests.yields(9));
        requests.register(true, 3);
        requests.register(true, 5);
        requests.register(false, 5);
        assert_eq!(requests.count(), 2);
        assert!(!requests.yields(3), "as poor");
        assert!(requests.yields(4));
        assert!(!requests.yields(usize::MAX), "nobody has said what it holds");
        requests.register(false, 5);
        assert!(requests.yields(6));
        assert!(!requests.yields(100));
    }

    #[test]
    fn requests_count_lanes_that_have_neither_got_a_chunk_nor_left() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let requests = ChunkRequests::new(&counted, &board);
        for _ in 0..1000 {
            requests.register(true, 0);
            requests.register(true, 0);
            requests.cancel();
            requests.cancel();
        }
        requests.register(true, 0);
        assert_eq!(requests.count(), 1);
        requests.forget();
        assert_eq!(requests.count(), 0);
        requests.cancel();
        requests.register(false, 0);
        assert_eq!(requests.count(), 1, "it says it again");
    }

    #[test]
    fn a_request_within_the_account_is_met_within_it_and_once() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let requests = ChunkRequests::new(&counted, &board);
        let (ours, neighbour) = (Account::new(7, 1), Account::new(7, 2));
        let same_line = Account::new(7 + u32::try_from(LINES).unwrap(), 1);
        requests.register_of_own(ours);
        assert!(requests.are_there(Some(neighbour)) && !requests.are_there(Some(same_line)));
        assert!(!requests.are_there(None));
        assert!(!requests.yields_of_own(same_line));
        assert!(requests.yields_of_own(neighbour));
        assert!(!requests.yields_of_own(ours));
    }
}
