//! Decides how many chunks and pipes a lane may hold, as a pure function of what the lane holds and of what is free.
//!
//! The sender's end asks before it takes one more from the pool, and before it keeps a buffer that AckRecv gave back.
//! No count is shared among lanes, so a crash leaves none wrong.
//!
//! Must always hold: a lane that holds none may take the last one, and a lane that holds one keeps it. Lanes
//! that hold some leave the reserve to lanes that hold none.

use crate::pool::Kind;

/// Pipes that one lane can hold at a time, at most: one is filled while the other is emptied.
pub const LANE_PIPES_MAX: usize = 2;

/// The buffers that a lane holds when it asks for one more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Chunks and pipes.
    pub(crate) all: usize,
    /// Buffers of the kind that it asks for.
    pub(crate) of_kind: usize,
}

/// How many of `kind` have to be free for the lane to take one more. `None`: the lane holds as many as a lane can.
/// `reserve` of them are left to lanes that hold none.
///
/// A lane that holds k takes a further one while more than k are free. So n busy lanes settle at 1/(n+1) of the pool
/// each.
pub(crate) fn free_to_take(
    kind: Kind,
    held: Held,
    lane_chunks: usize,
    reserve: usize,
) -> Option<usize> {
    let (share, of_kind_max) = match kind {
        Kind::Chunk => (held.all, lane_chunks),
        Kind::Pipe => (held.of_kind, LANE_PIPES_MAX),
    };
    if held.all >= lane_chunks || held.of_kind >= of_kind_max {
        return None;
    }
    Some(if share == 0 { 1 } else { share.max(reserve).saturating_add(1) })
}

/// Buffers of a kind that have to be free for a lane with `of_kind` of them to keep a buffer that came back.
pub(crate) fn free_to_keep(of_kind: usize) -> usize {
    of_kind.saturating_sub(1)
}

/// How many of a kind have to be free for a lane that holds `of_kind` and is idle to sleep without a word: with fewer,
/// other lanes wait for what it holds.
pub(crate) fn free_to_idle(of_kind: usize) -> usize {
    if of_kind == 0 { 0 } else { of_kind.saturating_add(1) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lanes that use chunks of one pool.
    struct Lanes {
        free: usize,
        reserve: usize,
        lane_chunks: usize,
        held: Vec<usize>,
    }

    impl Lanes {
        fn new(all: usize, lanes: usize, lane_chunks: usize) -> Self {
            Self { free: all, reserve: all / 4, lane_chunks, held: vec![0; lanes] }
        }

        /// Whether the lane gets one more.
        fn take(&mut self, lane: usize) -> bool {
            let held = Held { all: self.held[lane], of_kind: self.held[lane] };
            let needed = free_to_take(Kind::Chunk, held, self.lane_chunks, self.reserve);
            let takes = needed.is_some_and(|needed| self.free >= needed);
            if takes {
                self.free -= 1;
                self.held[lane] += 1;
            }
            takes
        }

        /// A chunk comes back to the lane, which keeps it or not.
        fn come_back(&mut self, lane: usize) {
            if self.held[lane] > 0 && self.free < free_to_keep(self.held[lane]) {
                self.free += 1;
                self.held[lane] -= 1;
            }
        }

        /// All lanes take turns until none gets more.
        fn settle(&mut self) {
            while (0..self.held.len()).map(|lane| usize::from(self.take(lane))).sum::<usize>() > 0 {
            }
        }
    }

    proptest! {
        #[test]
        fn busy_lanes_get_equal_shares(all in 8usize..4096, lanes in 1usize..40) {
            let mut pool = Lanes::new(all, lanes, usize::MAX);
            pool.settle();
            let expected = (all / (lanes + 1)).min((all - all / 4) / lanes);
            for held in &pool.held {
                prop_assert!(held.abs_diff(expected) <= 1, "{:?}, {expected}", pool.held);
            }
        }

        #[test]
        fn a_lane_that_holds_one_keeps_it_and_one_that_holds_none_takes_the_last(
            all in 1usize..200,
            lanes in 1usize..20,
            lane_chunks in 1usize..17,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400),
        ) {
            let mut pool = Lanes::new(all, lanes, lane_chunks);
            for (comes_back, lane) in steps {
                let (lane, free) = (lane.index(lanes), pool.free);
                let held = pool.held[lane];
                if comes_back {
                    pool.come_back(lane);
                    prop_assert!(held == 0 || pool.held[lane] > 0);
                } else if pool.take(lane) {
                    prop_assert!(held == 0 || pool.free >= pool.reserve);
                } else {
                    prop_assert!(held > 0 || free == 0);
                }
                prop_assert!(pool.held.iter().all(|held| *held <= lane_chunks));
                prop_assert_eq!(pool.free + pool.held.iter().sum::<usize>(), all);
            }
        }

        #[test]
        fn a_lane_that_takes_one_more_does_not_give_it_back_at_once(
            all in 0usize..1000, of_kind in 0usize..1000, reserve in 0usize..1000, free in 0usize..2000,
        ) {
            let held = Held { all: all.max(of_kind), of_kind };
            let needed = free_to_take(Kind::Chunk, held, usize::MAX, reserve);
            if needed.is_some_and(|needed| free >= needed) {
                prop_assert!(free > free_to_keep(of_kind + 1));
            }
        }
    }

    #[test]
    fn a_lane_holds_two_pipes_at_most_beside_its_chunks() {
        let needed = |all, of_kind| free_to_take(Kind::Pipe, Held { all, of_kind }, 8, 0);
        assert_eq!([needed(5, 0), needed(5, 1)], [Some(1), Some(2)]);
        assert_eq!([needed(5, 2), needed(8, 0)], [None, None]);
    }

    #[test]
    fn an_idle_lane_that_holds_nothing_keeps_nobody_waiting() {
        assert_eq!([0, 1, 4].map(free_to_idle), [0, 2, 5]);
    }
}
