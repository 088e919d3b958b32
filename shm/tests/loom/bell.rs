//! The bell: no worker sleeps while a bit is set and no wake is on its way.

use super::*;

/// The words of one worker's bell.
struct Bell {
    summary: Vec<AtomicU64>,
    sessions: Vec<AtomicU64>,
    parked: AtomicU32,
    waker: Waker,
}

impl Bell {
    fn new(sessions: usize) -> Arc<Self> {
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            summary: words(1),
            sessions: words(sessions / 64),
            parked: AtomicU32::new(0),
            waker: Waker::new(),
        })
    }

    fn bell(&self) -> Doorbell<'_> {
        Doorbell::new(&self.summary, &self.sessions, &self.parked)
    }

    fn ring(&self, session: u32) {
        if self.bell().ring(session) {
            self.waker.write();
        }
    }

    /// Sleeps until each of `awaited` was rung for.
    fn hear(&self, mut awaited: Vec<u32>) {
        loop {
            self.bell().take(|session| awaited.retain(|other| *other != session));
            if awaited.is_empty() {
                return;
            }
            if self.bell().park() {
                self.waker.poll();
                self.bell().unpark();
            }
        }
    }
}

#[test]
fn a_bell_wakes_its_sleeper() {
    check(None, || {
        let bell = Bell::new(64);
        let thread = thread::spawn({
            let bell = bell.clone();
            move || bell.ring(5)
        });
        bell.hear(vec![5]);
        thread.join().unwrap();
    });
}

#[test]
fn a_bell_rung_by_two_is_heard_twice() {
    check(Some(5), || {
        let bell = Bell::new(128);
        let threads = [3, 70].map(|session| {
            let bell = bell.clone();
            thread::spawn(move || bell.ring(session))
        });
        bell.hear(vec![3, 70]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
