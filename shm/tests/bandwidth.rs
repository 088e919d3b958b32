//! Bandwidth: what is given out is never more than the rate, in whatever order it is asked for, and no word stops anybody.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use shm::{Bandwidth, Rate};
use std::num::NonZeroU64;
use std::sync::atomic::AtomicU64;
use std::thread;

const SECOND_NS: u64 = 1_000_000_000;
/// Any time but the first, before which nothing was spoken for.
const NOW_NS: u64 = 1000 * SECOND_NS;

fn rate(bytes_per_second: u64) -> Rate {
    Rate::new(NonZeroU64::new(bytes_per_second).unwrap())
}

#[test]
fn portions_follow_each_other_at_the_rate() {
    let words = [AtomicU64::new(0)];
    let (bandwidth, rate) = (Bandwidth::new(&words), rate(200 << 10));
    assert_eq!(rate.portion_bytes(), 10 << 10);
    let starts: Vec<_> = (0..40).map(|_| bandwidth.reserve(7, rate, u64::MAX, NOW_NS)).collect();
    // The first makes up for a while that nobody wanted; then one each 50 ms.
    assert_eq!(starts[0], NOW_NS - 50_000_000);
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 50_000_000), "{starts:?}");
}

#[test]
fn what_is_short_takes_its_own_time_alone() {
    let words = [AtomicU64::new(0)];
    let (bandwidth, rate) = (Bandwidth::new(&words), rate(200 << 10));
    // 2,048 messages of 10 bytes are a tenth of a second.
    let _ = (0..2048).map(|_| bandwidth.reserve(7, rate, 10, NOW_NS)).max();
    let next = bandwidth.reserve(7, rate, 10, NOW_NS);
    assert!((NOW_NS + 45_000_000..=NOW_NS + 50_000_000).contains(&next), "{}", next - NOW_NS);
}

#[test]
fn addresses_do_not_wait_for_each_other() {
    let words = [0; 2].map(AtomicU64::new);
    let (bandwidth, rate) = (Bandwidth::new(&words), rate(1 << 20));
    let _ = (0..100).map(|_| bandwidth.reserve(0, rate, u64::MAX, NOW_NS)).max();
    assert!(bandwidth.reserve(0, rate, u64::MAX, NOW_NS) > NOW_NS + SECOND_NS);
    assert!(bandwidth.reserve(1, rate, u64::MAX, NOW_NS) <= NOW_NS);
}

#[test]
fn what_nobody_wanted_is_made_up_for_by_one_portion_alone() {
    let words = [AtomicU64::new(0)];
    let (bandwidth, rate) = (Bandwidth::new(&words), rate(1 << 20));
    let later = NOW_NS + 3600 * SECOND_NS;
    let _ = bandwidth.reserve(0, rate, u64::MAX, NOW_NS);
    let at_once = (0..100).filter(|_| bandwidth.reserve(0, rate, u64::MAX, later) <= later).count();
    assert_eq!(at_once, 2);
}

#[test]
fn those_that_ask_at_the_same_time_have_one_bandwidth() {
    let words = [AtomicU64::new(0)];
    let (bandwidth, rate) = (Bandwidth::new(&words), rate(20 << 20));
    let ask = || (0..500).map(|_| bandwidth.reserve(3, rate, u64::MAX, NOW_NS)).collect::<Vec<_>>();
    let mut starts = thread::scope(|scope| {
        let askers: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), 2000, "two have the same turn");
}

proptest! {
    /// The rate is kept from now on, whatever stands in a word and however long no transfer asked. No transfer waits
    /// for longer than all that could be reserved before.
    #[test]
    fn any_word_comes_right(word: u64, bytes_per_second in 1..=1_u64 << 40, now_ns: u64) {
        let words = [AtomicU64::new(word)];
        let (bandwidth, rate) = (Bandwidth::new(&words), rate(bytes_per_second));
        let starts: Vec<_> = (0..10).map(|_| bandwidth.reserve(9, rate, u64::MAX, now_ns)).collect();
        let portion_ns = u128::from(rate.portion_bytes()) * u128::from(SECOND_NS) / u128::from(bytes_per_second);
        for start in &starts {
            prop_assert!(u128::from(*start) <= u128::from(now_ns) + 4097 * (portion_ns + 1) );
        }
        for pair in starts.windows(2) {
            let saturates = pair[1] == u64::MAX;
            // A word with so much reserved that it counts as noise begins anew.
            let begins_anew = pair[1] == now_ns && pair[0] > now_ns;
            prop_assert!(saturates || begins_anew || u128::from(pair[1] - pair[0]) >= portion_ns);
        }
    }

    #[test]
    fn every_rate_has_portions(bytes_per_second in 1..=u64::MAX) {
        let portion = rate(bytes_per_second).portion_bytes();
        prop_assert!((1 << 10..=1 << 20).contains(&portion));
    }
}
