//! Finds a slot for a session: a free slot, or a slot whose session is over. If all slots are in use, the network
//! that has the most loses a session that no party is in.
//!
//! Each attempt looks at a bounded number of slots, and the next attempt goes on behind them, so the cost does not
//! depend on how many slots there are.

use crate::account::Account;
use crate::ids::{Owner, SessionRef};
use crate::sessions::Filling;
use crate::shared::Shared;
use crate::slot::{End, Filled, Life, Terms};
use std::sync::atomic::Ordering as PrivateOrdering;

/// Slots that one attempt looks at, at most. In a larger segment, a few free slots are found within as many attempts
/// as there are such parts.
const LOOKED_AT_MAX: usize = 1024;
/// The slots of an attempt lie in this number of stretches, spread evenly over all slots. Another worker fills slots
/// in a row, so one long stretch behind its hint may have no free slot, however few are in use.
const STRETCHES: usize = 64;
const STRETCH_SLOTS: usize = LOOKED_AT_MAX / STRETCHES;
/// Slots of the largest account that are tried, at most: a client may take a place in one of them meanwhile.
const TRIED_MAX: usize = 8;
/// A network loses a session only to a network that has so many fewer of the slots that were looked at.
const MORE_MIN: usize = 2;
/// A network that has more than one in so many slots loses used sessions too: otherwise a stranger could use each for
/// a moment to keep it.
const MANY_SHARE: usize = 32;

/// A slot that is in use, with the account it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    /// The first field, so that the slots of one network stand together in the order.
    wide: u32,
    /// A network loses a session that was never used first.
    was_used: bool,
    /// A network then loses the session that is over soonest.
    expires_ms: u64,
    slot: u32,
    /// Both lanes are vacant: no party holds a place in the session.
    is_vacant: bool,
}

impl Shared<'_> {
    /// Issues a session. `None`: all slots that were looked at are in use. Makes room by ending a session whose lifetime
    /// is over at `now_ms` and whose places are free. If there is none, ends a living session whose places are free, if
    /// its network has more sessions than the asker's.
    #[must_use]
    pub fn issue(&self, owner: Owner, terms: &Terms, now_ms: u64) -> Option<SessionRef> {
        let expires_ms = now_ms.saturating_add(terms.lifetime_ms);
        let filled = Filled { terms, name: None, expires_ms };
        self.open(self.find_room(owner, &filled, now_ms)?)
    }

    /// Fills a slot as [`Self::issue`] does. The caller brings the session to life.
    pub(crate) fn find_room(
        &self,
        owner: Owner,
        filled: &Filled<'_>,
        now_ms: u64,
    ) -> Option<Filling> {
        let start = self.hint.load(PrivateOrdering::Relaxed) as usize;
        let slots =
            looked_at(start, self.slots.len()).filter_map(|index| u32::try_from(index).ok());
        for slot in slots.clone() {
            self.reclaim(slot, owner, now_ms);
            if let Some(filling) = self.claim(slot, owner, filled) {
                self.hint.store(slot.wrapping_add(1), PrivateOrdering::Relaxed);
                return Some(filling);
            }
        }
        if let Some(last) = slots.clone().take(STRETCH_SLOTS).last() {
            self.hint.store(last.wrapping_add(1), PrivateOrdering::Relaxed);
        }
        let uses = slots.filter_map(|slot| self.see_use(slot)).collect();
        let mut yielding = of_largest(uses, filled.terms.account).into_iter();
        yielding.find_map(|it| {
            self.displace(it.slot, owner);
            self.claim(it.slot, owner, filled)
        })
    }

    /// Ends the session in `slot` if its lifetime is over and no party holds a place in it. The owner `asks` needs
    /// the room, and its record counts the session.
    pub(crate) fn reclaim(&self, index: u32, asks: Owner, now_ms: u64) {
        let Ok(slot) = self.slot(index) else { return };
        // The first look at the lifetime saves the others, as it is seldom over. The later looks come in this order
        // for the same reason as in `expire`.
        if slot.expires_ms() > now_ms {
            return;
        }
        let Ok((Life::Live, issue_number)) = slot.life() else { return };
        let vacant = self.is_vacant(index);
        if slot.expires_ms() <= now_ms
            && vacant
            && self.end(SessionRef { slot: index, issue_number }, End::Expired, |_| {})
            && let Some(record) = self.record(asks.worker)
        {
            record.count_reclaimed();
        }
    }

    /// Ends the session in `slot` before its time, if no party holds a place in it.
    fn displace(&self, index: u32, asks: Owner) {
        let Ok(slot) = self.slot(index) else { return };
        let Ok((Life::Live, issue_number)) = slot.life() else { return };
        // A party that takes a place at this moment is told that the session is over.
        if self.is_vacant(index)
            && self.end(SessionRef { slot: index, issue_number }, End::Displaced, |_| {})
            && let Some(record) = self.record(asks.worker)
        {
            record.count_displaced();
        }
    }

    fn is_vacant(&self, index: u32) -> bool {
        let words = self.slot(index).and_then(|slot| slot.words());
        words.is_ok_and(|words| words.iter().all(|word| word.is_vacant()))
    }

    /// Reads how a slot is used; `None` if no session lives in it.
    fn see_use(&self, index: u32) -> Option<Use> {
        let slot = self.slot(index).ok()?;
        let Ok((Life::Live, _)) = slot.life() else { return None };
        Some(Use {
            wide: slot.account().map_or(0, Account::wide),
            was_used: slot.was_used(),
            expires_ms: slot.expires_ms(),
            slot: index,
            is_vacant: self.is_vacant(index),
        })
    }
}

/// The slots that an attempt looks at, of `count`, if the first is `start`. The next attempt begins behind the first
/// stretch.
fn looked_at(start: usize, count: usize) -> impl Iterator<Item = usize> + Clone {
    let apart = if count > LOOKED_AT_MAX { count / STRETCHES } else { STRETCH_SLOTS };
    (0..count.min(LOOKED_AT_MAX))
        .map(move |i| (start + i / STRETCH_SLOTS * apart + i % STRETCH_SLOTS) % count)
}

/// The sessions that can give way, in the order in which they go: those of the largest network that has any. Returns
/// none if that network has hardly more sessions than the asker's.
fn of_largest(mut uses: Vec<Use>, asks: Option<Account>) -> Vec<Use> {
    uses.sort_unstable();
    let all = uses.len();
    let groups = || uses.chunk_by(|one, next| one.wide == next.wide);
    let yielding = |group: &[Use]| -> Vec<Use> {
        // A used session may only be between two messages, so it stays unless its network has many.
        let has_many = group.len().saturating_mul(MANY_SHARE) > all;
        let can = group.iter().filter(|it| it.is_vacant && (!it.was_used || has_many));
        can.copied().take(TRIED_MAX).collect()
    };
    let groups_that_can = groups().filter(|group| !yielding(group).is_empty());
    let largest = groups_that_can.max_by_key(|group| group.len()).unwrap_or_default();
    let wide = asks.map_or(0, Account::wide);
    let own = groups().find(|group| group.first().is_some_and(|it| it.wide == wide));
    let own = own.map_or(0, <[Use]>::len);
    if largest.len() < own + MORE_MIN { Vec::new() } else { yielding(largest) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn uses(of: &[(u32, bool, u64)]) -> Vec<Use> {
        let numbered = (0..).zip(of);
        numbered
            .map(|(slot, (wide, was_used, expires_ms))| Use {
                wide: *wide,
                was_used: *was_used,
                expires_ms: *expires_ms,
                slot,
                is_vacant: true,
            })
            .collect()
    }

    fn order(of: &[(u32, bool, u64)], asks: u32) -> Vec<u32> {
        let largest = of_largest(uses(of), Some(Account::new(asks, 1)));
        largest.into_iter().map(|it| it.slot).collect()
    }

    #[test]
    fn each_slot_is_looked_at_once_and_all_are_in_the_end() {
        for count in [1, 17, LOOKED_AT_MAX, LOOKED_AT_MAX + 1, 5000, 1 << 18] {
            let (mut start, mut seen) = (count - 1, std::collections::BTreeSet::new());
            for _ in 0..count.div_ceil(LOOKED_AT_MAX) + 1 {
                let mut slots: Vec<_> = looked_at(start, count).collect();
                start += STRETCH_SLOTS;
                seen.extend(slots.iter().copied());
                slots.sort_unstable();
                slots.dedup();
                assert_eq!(slots.len(), count.min(LOOKED_AT_MAX), "of {count}");
            }
            assert_eq!(seen.len(), count);
        }
    }

    #[test]
    fn the_largest_loses_what_nobody_has_used_and_is_over_soonest() {
        let of = [(7, true, 1), (9, false, 1), (7, false, 3), (7, false, 2), (8, false, 1)];
        assert_eq!(order(&of, 5), [3, 2, 0]);
        assert_eq!(order(&of, 8), [3, 2, 0]);
    }

    #[test]
    fn a_session_between_two_messages_goes_only_where_its_network_has_many() {
        let others = (10..200).map(|wide| (wide, false, 1));
        let few: Vec<_> = others.clone().chain([(7, true, 1), (7, true, 2)]).collect();
        assert_eq!(order(&few, 5), []);
        let many: Vec<_> = others.chain((0..20).map(|n| (7, true, n))).collect();
        assert_eq!(order(&many, 5).len(), TRIED_MAX);
    }

    #[test]
    fn who_is_in_all_its_sessions_keeps_nobody_elses() {
        let mut of =
            uses(&[(7, true, 1), (7, true, 1), (7, true, 1), (8, false, 1), (8, false, 2)]);
        of.iter_mut().take(3).for_each(|it| it.is_vacant = false);
        let largest = of_largest(of, Some(Account::new(5, 1)));
        assert_eq!(largest.into_iter().map(|it| it.slot).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn who_has_as_much_gets_nothing_of_it() {
        let of = [(7, false, 1), (7, false, 1), (7, false, 1), (8, false, 1), (8, false, 1)];
        assert_eq!(order(&of, 8), []);
        assert_eq!(order(&of, 7), []);
        assert_eq!(order(&[(7, false, 1), (8, false, 1)], 5), []);
        assert_eq!(order(&[], 5), []);
    }
}
