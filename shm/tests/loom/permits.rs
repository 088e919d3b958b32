//! Permits: only one of several takers gets the last permit, whatever its former holder is doing.

use super::*;
use shm::{Permit, Permits, Quota};

const ONE: Quota = Quota { digest: 5, most: 1 };
const TWO: Quota = Quota { digest: 5, most: 2 };

/// A table of seats beside a segment's words.
struct Table {
    world: Arc<World>,
    seats: Vec<AtomicU64>,
}

impl Table {
    fn new(seats: usize) -> Arc<Self> {
        let seats = (0..seats).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { world: World::new(1, 1, 1), seats })
    }

    fn permits(&self) -> Permits<'_> {
        Permits::new(&self.seats)
    }

    fn take(&self, quota: Quota, worker: usize) -> Option<Permit> {
        self.permits().take(&self.world.shared(), quota, owner(worker), 0)
    }
}

#[test]
fn two_takers_never_have_more_than_the_quota() {
    for (quota, most) in [(ONE, 1), (TWO, 2)] {
        check(None, move || {
            let table = Table::new(2);
            let thread = thread::spawn({
                let table = table.clone();
                move || [table.take(quota, 1), table.take(quota, 1)]
            });
            let ours = [table.take(quota, 2), table.take(quota, 2)];
            let theirs = thread.join().unwrap();
            let taken = ours.into_iter().chain(theirs).flatten().count();
            assert_eq!(taken, most);
        });
    }
}

#[test]
fn a_permit_given_back_is_one_takers() {
    check(None, || {
        let table = Table::new(1);
        let permit = table.take(ONE, 1).unwrap();
        let gives = thread::spawn({
            let table = table.clone();
            move || table.permits().give_back(permit).unwrap()
        });
        let takes = thread::spawn({
            let table = table.clone();
            move || table.take(ONE, 2)
        });
        let taken = [table.take(ONE, 3), takes.join().unwrap()];
        gives.join().unwrap();
        let taken = taken.into_iter().flatten().count();
        assert!(taken <= 1);
        assert_eq!(table.take(ONE, 2).iter().count(), 1 - taken);
    });
}

#[test]
fn a_sweep_frees_the_dead_ones_seats_alone() {
    check(None, || {
        let table = Table::new(2);
        let _dead = [table.take(TWO, 1).unwrap(), table.take(TWO, 1).unwrap()];
        let sweeps = thread::spawn({
            let table = table.clone();
            move || table.permits().sweep(owner(1).worker)
        });
        let mut held: Vec<_> = (0..3).filter_map(|_| table.take(TWO, 2)).collect();
        sweeps.join().unwrap();
        held.extend(table.take(TWO, 2));
        held.extend(table.take(TWO, 2));
        assert_eq!(held.len(), 2);
        assert!(held.into_iter().all(|permit| table.permits().give_back(permit).is_ok()));
    });
}

/// The session's permit is taken by another only once the session is over, and by one other only.
#[test]
fn a_session_that_ends_leaves_its_permit_to_one() {
    check(Some(4), || {
        let table = Table::new(1);
        let permit = table.take(ONE, 1).unwrap();
        let host = thread::spawn({
            let table = table.clone();
            move || {
                let session = table.world.issue(1);
                table.permits().give_to(permit, session).unwrap();
                let taken_early = table.take(ONE, 1).is_some();
                assert!(table.world.shared().end(session, End::Deleted, |_| {}));
                taken_early
            }
        });
        let takes = thread::spawn({
            let table = table.clone();
            move || table.take(ONE, 2)
        });
        assert!(!host.join().unwrap(), "the session lived");
        let taken = takes.join().unwrap().into_iter().chain(table.take(ONE, 3)).count();
        assert_eq!(taken, 1);
    });
}

/// A worker that sees the session's word sees its slot no older than that. A slot that seems to serve the session
/// before would make the permit look void.
#[test]
fn a_permit_just_handed_over_is_not_void() {
    check(None, || {
        let table = Table::new(1);
        let permit = table.take(ONE, 1).unwrap();
        let host = thread::spawn({
            let table = table.clone();
            move || {
                let first = table.world.issue(1);
                assert!(table.world.shared().end(first, End::Complete, |_| {}));
                let session = table.world.issue(1);
                table.permits().give_to(permit, session).unwrap();
            }
        });
        assert!(table.take(ONE, 2).is_none());
        host.join().unwrap();
        assert!(table.take(ONE, 2).is_none());
    });
}
