//! On whose account chunks and pipes are held, and how many one account may have.
//!
//! Chunks come back only as fast as receivers read, so a share among lanes favours the client with the most lanes. What
//! a lane takes is therefore charged to the account of its sender's client, by a word beside the tag. Nothing is counted:
//! a lane that takes a chunk looks at what is held, so a crash leaves nothing wrong.

use crate::sync::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering as PlainOrdering};

/// Lines of the board, a power of two. Accounts that meet on a line overwrite each other and write again.
const LINES: usize = 64;
/// No account on a line, or beside a tag.
const NOBODY: u64 = 0;
/// Wishes that are counted, at most: a scribbled word ends after so many.
const WISHES_MAX: u64 = 1 << 16;
/// High bits of the pool's word: what the poorest of those that wish holds.
const POOREST_SHIFT: u32 = 32;
/// Nobody has said what it holds since the last wish was granted.
const UNSAID: u64 = u32::MAX as u64;

/// A client's network, and the wider one around it, as keyed digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account(u64);

impl Account {
    /// The account of a network within a wider one. Where there is no wider one, both digests are the same.
    #[must_use]
    pub fn new(wide: u32, narrow: u32) -> Self {
        // Nobody's word is no account.
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
    /// Twice as many as it leaves free: two thirds of all if it is alone, and equal shares among several, with one
    /// half of a share left for the next one to come.
    Fair,
    /// So many.
    AtMost(u32),
}

/// Who pays for what a lane holds, and how much it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payer {
    /// Who.
    pub account: Account,
    /// Its share of the chunks.
    pub chunks: Share,
    /// Its share of the pipes.
    pub pipes: Share,
    /// How many times as much the wider network may have.
    pub wide_factor: u32,
}

/// What was seen to be held, of some or all that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) seen: usize,
    pub(crate) free: usize,
    /// By the account itself.
    pub(crate) narrow: usize,
    /// By its wider network, the account included.
    pub(crate) wide: usize,
}

impl Weights {
    /// Counts a chunk or pipe that is held on the account of `holder`.
    pub(crate) fn count(&mut self, account: Option<Account>, holder: u64) {
        let Some(Account(bits)) = account else { return };
        self.narrow += usize::from(holder == bits);
        self.wide += usize::from(holder >> 32 == bits >> 32);
    }

    /// What counts as the account's: what its network holds, or its part of what the wider one does.
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
                // As many of those that were seen as of all.
                let part = |most: usize| most.saturating_mul(self.seen).div_ceil(all.max(1));
                (part(most as usize), part((most as usize).saturating_mul(factor)))
            }
        };
        self.narrow < narrow_max && self.wide < wide_max
    }
}

/// Who wishes for a chunk and may not, or cannot, have one.
///
/// Guesses, all of it: nobody is lost by a wrong word, as those that wish look and write again. One word counts the wishes
/// that found nothing free, and tells how little the poorest of them holds: so nobody gives up anything for one who has
/// as much. On the board stands who wishes for some of its own account back.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    counted: &'a AtomicU64,
    board: &'a [PlainU64],
}

/// The board's words in a segment.
#[cfg(not(loom))]
pub(crate) const BOARD_WORDS: usize = LINES;

impl<'a> Wishes<'a> {
    pub(crate) fn new(counted: &'a AtomicU64, board: &'a [PlainU64]) -> Self {
        Self { counted, board }
    }

    /// Somebody who holds nothing in its lane, and `held` on its account, has found nothing free. One whose wish is not
    /// new may have lost it to a lane that came later.
    pub(crate) fn make(&self, is_new: bool, held: usize) {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        let more = if is_new || count == 0 { count.min(WISHES_MAX - 1) + 1 } else { count };
        let held = (held as u64).min(UNSAID - 1);
        let poorest = if count == 0 { held } else { poorest.min(held) };
        self.change(word, encode(more, poorest));
    }

    /// Somebody may not have more on its own account.
    pub(crate) fn make_of_own(&self, account: Account) {
        if let Some(line) = self.line(account) {
            line.store(u64::from(account.wide()), PlainOrdering::Relaxed);
        }
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        decode(self.counted.load(Ordering::Relaxed)).0.min(WISHES_MAX)
    }

    /// Whether somebody may wish for what is held by `account`: seldom written, so that it costs little to ask.
    pub(crate) fn are_there(&self, account: Option<Account>) -> bool {
        self.count() > 0 || account.is_some_and(|account| self.is_on_board(account))
    }

    /// Grants a wish of one who holds less than `held`. True once for each time that somebody says so.
    pub(crate) fn grant(&self, held: usize) -> bool {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        let held = (held as u64).min(UNSAID);
        count > 0 && poorest < held && self.change(word, encode(count, UNSAID))
    }

    /// Somebody who has wished has a chunk by now, or wishes no more.
    pub(crate) fn take_back(&self) {
        let word = self.counted.load(Ordering::Relaxed);
        let (count, poorest) = decode(word);
        self.change(word, encode(count.min(WISHES_MAX).saturating_sub(1), poorest));
    }

    /// Forgets all that was counted, since some of it may be the dead's. The living say again what they wish for.
    pub(crate) fn forget(&self) {
        self.counted.store(0, Ordering::Relaxed);
    }

    /// Grants a wish of one of the same wider network. True once for each.
    pub(crate) fn grant_of_own(&self, account: Account) -> bool {
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

    /// What an account that takes as much as it may ends up with, beside others that hold so many.
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
    fn a_wish_is_granted_by_who_holds_more_and_once() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let wishes = Wishes::new(&counted, &board);
        assert!(!wishes.grant(9));
        wishes.make(true, 3);
        wishes.make(true, 5);
        wishes.make(false, 5);
        assert_eq!(wishes.count(), 2);
        assert!(!wishes.grant(3), "as poor");
        assert!(wishes.grant(4));
        assert!(!wishes.grant(usize::MAX), "nobody has said what it holds");
        wishes.make(false, 5);
        assert!(wishes.grant(6));
        assert!(!wishes.grant(100));
    }

    #[test]
    fn as_many_wish_as_have_neither_got_one_nor_left() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let wishes = Wishes::new(&counted, &board);
        for _ in 0..1000 {
            wishes.make(true, 0);
            wishes.make(true, 0);
            wishes.take_back();
            wishes.take_back();
        }
        wishes.make(true, 0);
        assert_eq!(wishes.count(), 1);
        wishes.forget();
        assert_eq!(wishes.count(), 0);
        wishes.take_back();
        wishes.make(false, 0);
        assert_eq!(wishes.count(), 1, "it says it again");
    }

    #[test]
    fn a_wish_of_the_own_account_is_granted_within_it_and_once() {
        let (counted, board) = (AtomicU64::new(0), [const { PlainU64::new(0) }; LINES]);
        let wishes = Wishes::new(&counted, &board);
        let (ours, neighbour) = (Account::new(7, 1), Account::new(7, 2));
        let same_line = Account::new(7 + u32::try_from(LINES).unwrap(), 1);
        wishes.make_of_own(ours);
        assert!(wishes.are_there(Some(neighbour)) && !wishes.are_there(Some(same_line)));
        assert!(!wishes.are_there(None));
        assert!(!wishes.grant_of_own(same_line));
        assert!(wishes.grant_of_own(neighbour));
        assert!(!wishes.grant_of_own(ours));
    }
}
