//! How a session gets a slot: a free slot, or a slot whose session is over. Where all are in use, a session that nobody is in
//! gives way, of the network that has the most.
//!
//! Each attempt looks at so many slots and no more, and the next one goes on behind them: what it costs does not depend on
//! how many slots there are.

use crate::account::Account;
use crate::place::Owner;
use crate::shared::Shared;
use crate::slot::{End, Life, SessionRef, Terms};
use std::sync::atomic::Ordering as PrivateOrdering;

/// Slots that are looked at, at most, for each session that is asked for: what few of them are free is found in as many
/// attempts as there are such parts.
const LOOKED_AT_MAX: usize = 1024;
/// Slots of the largest account that are tried, at most: others may take a place in them meanwhile.
const TRIED_MAX: usize = 8;
/// A network has to have so many more of the slots that were looked at than the asker, to lose one to it.
const MORE_MIN: usize = 2;
/// A network that has more than one in so many loses sessions that were used, too: a stranger could use each for a moment.
const MANY_SHARE: usize = 32;

/// A slot that is in use, and on whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    /// First, so that those of one network stand together.
    wide: u32,
    /// A session that nobody has used goes first.
    was_used: bool,
    /// Then the session that is over soonest goes.
    expires_ms: u64,
    slot: u32,
    /// Nobody holds a place in it.
    is_vacant: bool,
}

impl Shared<'_> {
    /// Claims a slot for a new session. `None`: all that were looked at are in use. A session whose lifetime is over at
    /// `now_ms` and whose places are free is ended to make room; where there is none, so is a session that lives and whose
    /// places are free, if its network has more of them than the asker's.
    #[must_use]
    pub fn issue(&self, owner: Owner, terms: &Terms, now_ms: u64) -> Option<SessionRef> {
        let start = self.hint.load(PrivateOrdering::Relaxed) as usize;
        let count = self.slots.len();
        let window = (0..count.min(LOOKED_AT_MAX)).map(|i| (start + i) % count);
        let slots = window.filter_map(|index| u32::try_from(index).ok());
        for slot in slots.clone() {
            self.reclaim(slot, owner, now_ms);
            if let Some(session) = self.claim(slot, owner, terms, now_ms) {
                self.hint.store(slot.wrapping_add(1), PrivateOrdering::Relaxed);
                return Some(session);
            }
        }
        if let Some(last) = slots.clone().next_back() {
            self.hint.store(last.wrapping_add(1), PrivateOrdering::Relaxed);
        }
        let uses = slots.filter_map(|slot| self.see_use(slot)).collect();
        let mut yielding = of_largest(uses, terms.account).into_iter();
        yielding.find_map(|it| {
            self.displace(it.slot, owner);
            self.claim(it.slot, owner, terms, now_ms)
        })
    }

    /// Ends the session in `slot` if its lifetime is over and nobody holds a place in it, because `asks`
    /// needs the room: its record counts it.
    pub(crate) fn reclaim(&self, index: u32, asks: Owner, now_ms: u64) {
        let Ok(slot) = self.slot(index) else { return };
        // Looked at first, as it is seldom over and then looked at again, in this order, as in `expire`.
        if slot.expires_ms() > now_ms {
            return;
        }
        let Ok((Life::Live, generation)) = slot.life() else { return };
        let vacant = self.is_vacant(index);
        if slot.expires_ms() <= now_ms
            && vacant
            && self.end(SessionRef { slot: index, generation }, End::Expired, |_| {})
            && let Some(record) = self.record(asks.worker)
        {
            record.reclaimed();
        }
    }

    /// Ends the session in `slot` before its time, if nobody holds a place in it.
    fn displace(&self, index: u32, asks: Owner) {
        let Ok(slot) = self.slot(index) else { return };
        let Ok((Life::Live, generation)) = slot.life() else { return };
        // Who takes a place in this moment is told that the session is over.
        if self.is_vacant(index)
            && self.end(SessionRef { slot: index, generation }, End::Displaced, |_| {})
            && let Some(record) = self.record(asks.worker)
        {
            record.displaced();
        }
    }

    fn is_vacant(&self, index: u32) -> bool {
        let words = self.slot(index).and_then(|slot| slot.words());
        words.is_ok_and(|words| words.iter().all(|word| word.is_vacant()))
    }

    /// What is to be known of a slot whose session lives; `None` for any other.
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

/// Those that can give way, of the network that has the most among those that have such, in the order in which they are to
/// go; none, where it has hardly more than the asker.
fn of_largest(mut uses: Vec<Use>, asks: Option<Account>) -> Vec<Use> {
    uses.sort_unstable();
    let all = uses.len();
    let groups = || uses.chunk_by(|one, next| one.wide == next.wide);
    let yielding = |group: &[Use]| -> Vec<Use> {
        // Between two messages of a session nobody is in it, either.
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
