//! All deadlines of a worker in one hierarchical timer wheel: at most one a key. A key is the index of a connection in
//! the worker's slab. The worker's loop asks how long it may sleep, and which keys are due.
//!
//! Invariant: an armed key lies in exactly one list, and in a level's list its deadline differs from `elapsed` in that
//! level's digit and agrees with it in every higher one. So the lists of a level are never behind `elapsed`, never wrap
//! around, and the lowest level that has any holds the earliest deadline.
//!
//! No library fits: a deadline that is re-armed at every read and write must not allocate, and must be found by a key
//! that the caller already has. The wheels of libraries hand out keys of their own, own the payload, or come with a
//! runtime.

/// Bits of a deadline that one level sorts by.
const DIGIT_BITS: usize = 6;
/// Lists of a level.
const DIGITS: usize = 1 << DIGIT_BITS;
/// Levels enough for every `u64`, so that no deadline is too far away and none wraps around.
const LEVELS: usize = (u64::BITS as usize).div_ceil(DIGIT_BITS);
/// The list of deadlines that have come already.
const DUE: usize = LEVELS * DIGITS;
/// No list, no node.
const NONE: usize = usize::MAX;

/// Timers in ticks of one millisecond on a clock of the caller's.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// The time up to which, inclusive, all deadlines have fired.
    elapsed: u64,
    /// A bit for every list of a level that is not empty.
    occupied: [u64; LEVELS],
    /// The first node of every list: level by level, then [`DUE`].
    heads: [usize; DUE + 1],
    /// The nodes by key; they grow on demand and never shrink.
    nodes: Vec<Node>,
}

/// The timer of one key.
#[derive(Debug, Clone, Copy)]
struct Node {
    deadline: u64,
    /// The list that holds it; [`NONE`] if it is not armed.
    list: usize,
    previous: usize,
    next: usize,
}

const UNARMED: Node = Node { deadline: 0, list: NONE, previous: NONE, next: NONE };

impl Wheel {
    /// An empty wheel whose time begins at `now_ms`.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { elapsed: now_ms, occupied: [0; LEVELS], heads: [NONE; DUE + 1], nodes: Vec::new() }
    }

    /// Lets `key` fire at `deadline_ms`, and no longer at the deadline before. A deadline in the past fires at the next
    /// [`advance`](Self::advance).
    pub(crate) fn arm(&mut self, key: usize, deadline_ms: u64) {
        self.cancel(key);
        if key >= self.nodes.len() {
            self.nodes.resize(key + 1, UNARMED);
        }
        self.link(key, deadline_ms);
    }

    /// Disarms `key`, if it is armed.
    pub(crate) fn cancel(&mut self, key: usize) {
        if self.nodes.get(key).is_some_and(|node| node.list != NONE) {
            self.unlink(key);
        }
    }

    /// Moves time on to `now_ms` and adds to `fired` every key whose deadline is not after it, each
    /// disarmed, earlier ones first but for those armed with a deadline already past.
    /// A clock that runs backwards stands still here.
    pub(crate) fn advance(&mut self, now_ms: u64, fired: &mut Vec<usize>) {
        self.drain(DUE, fired);
        while let Some((list, start)) = self.next_list().filter(|(_, start)| *start <= now_ms) {
            self.elapsed = start;
            self.drain(list, fired);
        }
        self.elapsed = self.elapsed.max(now_ms);
    }

    /// The time at which to call [`advance`](Self::advance) next. It is never later than the next deadline, and exact
    /// once time has come into the same 64 ms. An early call fires nothing and brings the next answer closer, ten times
    /// at most.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.heads[DUE] != NONE {
            return Some(self.elapsed);
        }
        self.next_list().map(|(_, start)| start)
    }

    /// The list with the earliest deadlines, and the first moment that belongs to it.
    fn next_list(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|lists| *lists != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let shift = DIGIT_BITS * level;
        let above = if level + 1 < LEVELS { self.elapsed >> (shift + DIGIT_BITS) } else { 0 };
        let start = ((above << DIGIT_BITS) | digit as u64) << shift;
        Some((level * DIGITS + digit, start))
    }

    /// Empties a list: due keys fire, all others come closer by at least one level.
    fn drain(&mut self, list: usize, fired: &mut Vec<usize>) {
        let mut key = self.heads[list];
        while key != NONE {
            let Node { deadline, next, .. } = self.nodes[key];
            self.unlink(key);
            if deadline <= self.elapsed {
                fired.push(key);
            } else {
                self.link(key, deadline);
            }
            key = next;
        }
    }

    /// The list that a deadline belongs to, seen from `elapsed`.
    fn list_of(&self, deadline: u64) -> usize {
        if deadline <= self.elapsed {
            return DUE;
        }
        let level = (deadline ^ self.elapsed).ilog2() as usize / DIGIT_BITS;
        let digit = (deadline >> (level * DIGIT_BITS)) % DIGITS as u64;
        // The difference is less than DIGITS, so it always fits.
        level * DIGITS + usize::try_from(digit).unwrap_or(0)
    }

    fn link(&mut self, key: usize, deadline: u64) {
        let list = self.list_of(deadline);
        let next = std::mem::replace(&mut self.heads[list], key);
        self.nodes[key] = Node { deadline, list, previous: NONE, next };
        if next != NONE {
            self.nodes[next].previous = key;
        }
        self.mark(list);
    }

    fn unlink(&mut self, key: usize) {
        let Node { list, previous, next, .. } = std::mem::replace(&mut self.nodes[key], UNARMED);
        match previous {
            NONE => self.heads[list] = next,
            _ => self.nodes[previous].next = next,
        }
        if next != NONE {
            self.nodes[next].previous = previous;
        }
        self.mark(list);
    }

    /// Brings a list's bit up to date.
    fn mark(&mut self, list: usize) {
        if let Some(lists) = self.occupied.get_mut(list / DIGITS) {
            let bit = 1 << (list % DIGITS);
            if self.heads[list] == NONE { *lists &= !bit } else { *lists |= bit }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn advanced(wheel: &mut Wheel, now_ms: u64) -> Vec<usize> {
        let mut fired = Vec::new();
        wheel.advance(now_ms, &mut fired);
        fired
    }

    #[test]
    fn fires_at_its_millisecond_and_once() {
        let mut wheel = Wheel::new(1_000);
        wheel.arm(7, 1_250);
        assert!(advanced(&mut wheel, 1_249).is_empty());
        assert_eq!(advanced(&mut wheel, 1_250), [7]);
        assert!(advanced(&mut wheel, u64::MAX).is_empty());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_key_has_the_deadline_it_was_given_last() {
        let mut wheel = Wheel::new(0);
        wheel.arm(0, 10);
        wheel.arm(0, 5_000);
        assert!(advanced(&mut wheel, 4_999).is_empty());
        wheel.arm(0, 5_001);
        wheel.cancel(0);
        wheel.cancel(0);
        wheel.cancel(99);
        assert!(advanced(&mut wheel, 10_000).is_empty());
    }

    #[test]
    fn what_is_past_fires_at_the_next_call() {
        let mut wheel = Wheel::new(500);
        wheel.arm(1, 3);
        wheel.arm(2, 500);
        assert_eq!(wheel.next_deadline(), Some(500));
        let mut fired = advanced(&mut wheel, 500);
        fired.sort_unstable();
        assert_eq!(fired, [1, 2]);
    }

    #[test]
    fn a_clock_that_runs_backwards_stands_still() {
        let mut wheel = Wheel::new(500);
        wheel.arm(1, 600);
        assert!(advanced(&mut wheel, 400).is_empty());
        assert!((501..=600).contains(&wheel.next_deadline().unwrap()));
        assert_eq!(advanced(&mut wheel, 600), [1]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arm(usize, u64),
        Cancel(usize),
        Advance(u64),
        Sleep,
    }

    /// Spans of every magnitude, with those about the borders of a level among them.
    fn span() -> impl Strategy<Value = u64> {
        (0_u32..64, any::<u64>(), any::<bool>()).prop_map(|(shift, random, border)| {
            if border { (1 << shift) - 1 + random % 3 } else { random >> shift }
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0_usize..24, span()).prop_map(|(key, span)| Step::Arm(key, span)),
            2 => (0_usize..24).prop_map(Step::Cancel),
            2 => (0_u32..40, any::<u64>()).prop_map(|(bits, random)| Step::Advance(random & ((1 << bits) - 1))),
            3 => Just(Step::Sleep),
        ]
    }

    /// The wheel beside a sorted map that does the same.
    struct Both {
        wheel: Wheel,
        model: BTreeMap<usize, u64>,
        now: u64,
    }

    impl Both {
        fn advance(&mut self, now: u64) -> Result<(), TestCaseError> {
            self.now = now;
            let mut fired = advanced(&mut self.wheel, now);
            fired.sort_unstable();
            let due: Vec<usize> = self
                .model
                .iter()
                .filter(|(_, deadline)| **deadline <= now)
                .map(|(key, _)| *key)
                .collect();
            self.model.retain(|_, deadline| *deadline > now);
            prop_assert_eq!(fired, due);
            Ok(())
        }

        /// Sleeps as a worker does, until something fires: on time, and in few steps.
        fn sleep(&mut self) -> Result<(), TestCaseError> {
            let Some(first) = self.model.values().min().copied() else { return Ok(()) };
            let armed = self.model.len();
            for _ in 0..LEVELS {
                let wake = self.wheel.next_deadline().unwrap();
                prop_assert!(wake <= first.max(self.now), "slept past {first}, until {wake}");
                self.advance(wake.max(self.now))?;
                if self.model.len() < armed {
                    return Ok(());
                }
            }
            prop_assert!(false, "woken {LEVELS} times before {first}");
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_map_does(start in span(), steps in prop::collection::vec(step(), 1..200)) {
            let mut both = Both { wheel: Wheel::new(start), model: BTreeMap::new(), now: start };
            for step in steps {
                match step {
                    Step::Arm(key, span) => {
                        // Now and then in the past, mostly ahead.
                        let deadline = if span % 16 == 0 { both.now / 2 } else { both.now.saturating_add(span) };
                        both.wheel.arm(key, deadline);
                        both.model.insert(key, deadline);
                    }
                    Step::Cancel(key) => {
                        both.wheel.cancel(key);
                        both.model.remove(&key);
                    }
                    Step::Advance(span) => both.advance(both.now.saturating_add(span))?,
                    Step::Sleep => both.sleep()?,
                }
                prop_assert_eq!(both.wheel.next_deadline().is_none(), both.model.is_empty());
            }
            both.advance(u64::MAX)?;
            prop_assert!(both.model.is_empty());
        }
    }
}
