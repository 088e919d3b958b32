//! The directory: of several workers that issue a session under one name, however they race and wherever one of them
//! dies, never do two have a session with it.

use super::*;
use shm::{Directory, Name, NameError, Named, Tentative};

/// Words of one set.
const WAYS: usize = 16;

fn name() -> Name {
    Name::of([0, 1])
}

fn named() -> Named<'static> {
    Named { name: name(), terms: &TERMS, first_ms: 4 }
}

/// A set beside a segment's words.
struct Set {
    world: Arc<World>,
    words: Vec<AtomicU64>,
}

impl Set {
    fn new(slots: usize) -> Arc<Self> {
        let words = (0..WAYS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { world: World::new(slots, 1, 1), words })
    }

    fn directory(&self) -> Directory<'_> {
        Directory::new(&self.words)
    }

    fn issue(&self, worker: usize) -> Result<SessionRef, NameError> {
        self.directory().issue(&self.world.shared(), owner(worker), &named(), 0)
    }

    fn enter(&self, worker: usize) -> Result<Tentative, NameError> {
        self.directory().enter(&self.world.shared(), owner(worker), &named(), 0)
    }

    fn confirm(&self, tentative: Tentative) -> Result<SessionRef, NameError> {
        self.directory().confirm(&self.world.shared(), tentative)
    }

    fn found(&self) -> Option<SessionRef> {
        self.directory().find(&self.world.shared(), name()).map(|found| found.session)
    }

    fn sweep(&self, worker: usize) {
        self.world.shared().sweep(owner(worker).worker, |_, _| {});
    }

    /// One worker got the session, the directory finds it, and nothing is left of the others' sessions.
    fn assert_one(&self, results: &[Result<SessionRef, NameError>]) {
        let issued: Vec<_> = results.iter().filter_map(|it| it.ok()).collect();
        assert_eq!(issued.len(), 1, "{results:?}");
        assert_eq!(self.found(), Some(issued[0]));
        for other in results.iter().filter_map(|it| it.err()) {
            let lost = [NameError::Contended, NameError::Taken(issued[0])];
            assert!(lost.contains(&other), "{other:?}");
        }
        self.world.assert_left(1);
        assert_eq!(self.issue(0), Err(NameError::Taken(issued[0])));
    }
}

fn spawn(set: &Arc<Set>, worker: usize) -> thread::JoinHandle<Result<SessionRef, NameError>> {
    let set = set.clone();
    thread::spawn(move || set.issue(worker))
}

#[test]
fn of_two_issuers_one_has_the_name() {
    check(Some(3), || {
        let set = Set::new(2);
        let other = spawn(&set, 1);
        let ours = set.issue(2);
        set.assert_one(&[ours, other.join().unwrap()]);
    });
}

/// All have entered their words before the first one looks.
#[test]
fn of_three_that_have_entered_one_has_the_name() {
    check(Some(3), || {
        let set = Set::new(3);
        let tentative = [1, 2, 3].map(|worker| set.enter(worker).unwrap());
        let threads = tentative.map(|it| {
            let set = set.clone();
            thread::spawn(move || set.confirm(it))
        });
        set.assert_one(&threads.map(|thread| thread.join().unwrap()));
    });
}

/// A worker dies with a tentative word in a lower or a higher place than the others', and is swept meanwhile.
#[test]
fn a_dead_issuer_keeps_the_name_from_nobody_for_long() {
    for dies_first in [true, false] {
        check(Some(3), move || {
            let set = Set::new(3);
            let mut lives = (!dies_first).then(|| set.enter(2).unwrap());
            let _dead = set.enter(1).unwrap();
            let sweeps = thread::spawn({
                let set = set.clone();
                move || set.sweep(1)
            });
            let lives = lives.take().map_or_else(|| set.enter(2), Ok);
            let early = lives.and_then(|it| set.confirm(it));
            sweeps.join().unwrap();
            assert!(dies_first || early.is_ok(), "the lower place gives up for nobody: {early:?}");
            let late = early.or_else(|_| set.issue(2));
            set.assert_one(&[late]);
        });
    }
}

/// A session ends while another worker wants its name: the worker is told that it is taken, or gets it.
#[test]
fn a_name_is_free_once_its_session_is_over() {
    check(Some(3), || {
        let set = Set::new(2);
        let old = set.issue(1).unwrap();
        let ends = thread::spawn({
            let set = set.clone();
            move || assert!(set.world.shared().end(old, End::Deleted, |_| {}))
        });
        let early = set.issue(2);
        ends.join().unwrap();
        assert!(early.is_ok() || early == Err(NameError::Taken(old)), "{early:?}");
        let late = early.or_else(|_| set.issue(3));
        set.assert_one(&[late]);
    });
}

/// Readers find the session of the name or none, never a session that has another name by now.
#[test]
fn a_reader_finds_no_other_names_session() {
    check(Some(3), || {
        let set = Set::new(1);
        let old = set.issue(1).unwrap();
        let reads = thread::spawn({
            let set = set.clone();
            move || set.found()
        });
        assert!(set.world.shared().end(old, End::Deleted, |_| {}));
        let other = Named { name: Name::of([0, 2]), ..named() };
        let new = set.directory().issue(&set.world.shared(), owner(2), &other, 0).unwrap();
        let found = reads.join().unwrap();
        assert!(found.is_none() || found == Some(old), "{found:?}, not {new:?}");
        assert_eq!(set.found(), None);
    });
}

/// A place below a tentative word falls vacant. The worker of that word has looked there already and goes to life, while
/// another takes the place and looks.
#[test]
fn a_lower_place_that_falls_vacant_makes_no_second_session() {
    check(Some(3), || {
        let set = Set::new(3);
        let other = Named { name: Name::of([0, 2]), ..named() };
        let old = set.directory().issue(&set.world.shared(), owner(3), &other, 0).unwrap();
        let above = set.enter(1).unwrap();
        assert!(set.world.shared().end(old, End::Deleted, |_| {}));
        let confirms = thread::spawn({
            let set = set.clone();
            move || set.confirm(above)
        });
        let below = set.issue(2);
        set.assert_one(&[below, confirms.join().unwrap()]);
    });
}
