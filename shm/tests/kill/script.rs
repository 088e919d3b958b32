//! What a worker does in either role, step by step, and where it is to die.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::sched_yield;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use shm::{
    End, Finish, Geometry, LaneEnd, Life, Owner, ReceiverEnd, Segment, SenderEnd, SessionRef,
    Settled, Shared, State, TakeError, WorkerId,
};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A step after which, or before which, a worker can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Taking the place.
    Claim,
    /// Beginning the attempt.
    Begin,
    /// Taking a chunk.
    Reserve,
    /// Writing bytes into it.
    Fill,
    /// Handing it to the receiver.
    Publish,
    /// Handing a chunk's bytes on.
    Send,
    /// Setting AckRecv.
    Ack,
    /// Saying that all came.
    Finish,
    /// Vouching for all of it.
    Settle,
    /// Ending the session and leaving the place.
    Release,
    /// Setting the peer's bell.
    Ring,
    /// Waking the peer that was found asleep.
    Wake,
}

/// Before or after a step, the first or a later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) step: Step,
    pub(crate) after: bool,
    /// How often the step is survived.
    pub(crate) survives: usize,
}

/// How a role can come to its end, as an exit code.
pub(crate) const COMPLETE: i32 = 0;
pub(crate) const PEER_LEFT: i32 = 10;
pub(crate) const PEER_LOST: i32 = 11;
pub(crate) const SESSION_ENDED: i32 = 12;

/// What all processes share.
pub(crate) struct World {
    pub(crate) segment: Segment,
    wakers: Vec<EventFd>,
}

impl World {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let waker = || EventFd::from_value_and_flags(0, flags).unwrap();
        let wakers = (0..4).map(|_| waker()).collect();
        Self { segment: Segment::create(geometry).unwrap(), wakers }
    }

    pub(crate) fn shared(&self) -> &Shared<'_> {
        self.segment.shared()
    }

    /// The owner that `worker` is in its present life.
    pub(crate) fn owner(&self, worker: usize) -> Owner {
        let worker = WorkerId::new(worker).unwrap();
        Owner::new(worker, self.shared().record(worker).unwrap().epoch())
    }

    /// What the master does once a worker is reaped. It wakes all, not only those it rings for: the
    /// dead may have taken any sleeper's word that it sleeps, and not have come to wake it.
    pub(crate) fn bury(&self, worker: usize) {
        let worker = WorkerId::new(worker).unwrap();
        self.shared().record(worker).unwrap().bump_epoch();
        self.shared().sweep(worker, |slot, peer| {
            let _ = self.shared().bell(peer.worker).unwrap().ring(slot);
        });
        self.wakers.iter().for_each(|waker| assert_eq!(waker.write(1), Ok(8)));
    }

    fn wake(&self, owner: Owner) {
        self.wakers[owner.worker.index()].write(1).unwrap();
    }
}

/// One worker's part in a transfer.
pub(crate) struct Actor<'w> {
    world: &'w World,
    session: SessionRef,
    owner: Owner,
    death: Option<Death>,
    visits: Cell<usize>,
}

impl<'w> Actor<'w> {
    pub(crate) fn new(
        world: &'w World,
        session: SessionRef,
        worker: usize,
        death: Option<Death>,
    ) -> Self {
        Self { world, session, owner: world.owner(worker), death, visits: Cell::new(0) }
    }

    fn shared(&self) -> &'w Shared<'w> {
        self.world.segment.shared()
    }

    /// Makes a step, unless it is the last thing not done, or the last thing done.
    fn step<T>(&self, step: Step, action: impl FnOnce() -> T) -> T {
        let is_here = self.death.filter(|death| death.step == step);
        let due = is_here.filter(|death| self.visits.get() == death.survives);
        self.visits.set(self.visits.get() + usize::from(is_here.is_some()));
        if due.is_some_and(|death| !death.after) {
            die();
        }
        let done = action();
        if due.is_some() {
            die();
        }
        done
    }

    fn ring(&self, peer: Owner) {
        let bell = self.shared().bell(peer.worker).unwrap();
        let mut sleeps = self.step(Step::Ring, || bell.ring(self.session.slot));
        if self.death.is_some_and(|death| death.step == Step::Wake) {
            // To die between the sleeper's word and its waking, it must be caught asleep.
            let started = Instant::now();
            while !sleeps && started.elapsed() < Duration::from_millis(100) {
                sched_yield().unwrap();
                sleeps = bell.call();
            }
        }
        if sleeps {
            self.step(Step::Wake, || self.world.wake(peer));
        }
    }

    /// Sleeps until the bell is rung. Without a tick: a wake-up that is lost, is lost.
    fn sleep(&self) {
        let bell = self.shared().bell(self.owner.worker).unwrap();
        let waker = &self.world.wakers[self.owner.worker.index()];
        if bell.park() {
            let mut fds = [PollFd::new(waker.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::NONE).unwrap();
            bell.unpark();
        }
        let _ = waker.read();
        bell.take(|_| {});
    }

    fn take<E>(&self, take: impl Fn() -> Result<E, TakeError>) -> Option<E> {
        loop {
            match take() {
                Ok(end) => return Some(end),
                Err(TakeError::Ended) => return None,
                Err(TakeError::Leaving) => sched_yield().unwrap(),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// Whether the peer is away from an attempt that began, and how.
    fn loss<E: LaneEnd>(&self, end: &E) -> Option<i32> {
        match self.shared().look(end).unwrap().peer(E::ROLE).state {
            State::Gone => Some(PEER_LEFT),
            State::Lost => Some(PEER_LOST),
            State::Held | State::Empty | State::Closed => None,
        }
    }

    fn is_over(&self) -> bool {
        self.shared().life(self.session).unwrap() != Some(Life::Live)
    }

    /// Sends pieces of `pieces` bytes each, until the receiver vouches for them.
    pub(crate) fn send(&self, pieces: impl Iterator<Item = usize>) -> i32 {
        let take = || self.shared().take_sender(self.session, self.owner, false);
        let Some(mut end) = self.step(Step::Claim, || self.take(take)) else {
            return SESSION_ENDED;
        };
        let outcome = self.send_all(&mut end, pieces);
        let peer = self.step(Step::Release, || {
            if outcome == COMPLETE {
                self.shared().end(self.session, End::Complete, |peer| self.ring(peer));
            }
            self.shared().leave_sender(end, None).unwrap()
        });
        if let Some(peer) = peer {
            self.ring(peer);
        }
        outcome
    }

    fn send_all(&self, end: &mut SenderEnd, pieces: impl Iterator<Item = usize>) -> i32 {
        let shared = self.shared();
        let begin = || {
            while !self.is_over() {
                if let Some(peer) = shared.begin(end, b"announced").unwrap() {
                    return Some(peer);
                }
                self.sleep();
            }
            None
        };
        let Some(peer) = self.step(Step::Begin, begin) else { return SESSION_ENDED };
        self.ring(peer);
        let mut offset = 0;
        for bytes in pieces {
            let filling = self.step(Step::Reserve, || {
                loop {
                    if let Some(filling) = end.reserve(shared).unwrap() {
                        return Ok(filling);
                    }
                    if let Some(loss) = self.loss(end) {
                        return Err(loss);
                    }
                    if end.wait_for_room(shared).unwrap() {
                        self.sleep();
                    }
                }
            });
            let mut filling = match filling {
                Ok(filling) => filling,
                Err(loss) => return loss,
            };
            self.step(Step::Fill, || {
                write(&mut self.world.segment.bytes_mut(&mut filling)[..bytes], offset);
            });
            offset += bytes as u64;
            if self.step(Step::Publish, || end.publish(shared, filling, 0..bytes).unwrap()) {
                self.ring(peer);
            }
        }
        self.step(Step::Finish, || end.finish(shared, Finish::Whole(offset)).unwrap());
        self.ring(peer);
        loop {
            if end.settled(shared).unwrap() != Settled::No {
                return COMPLETE;
            }
            match self.loss(end) {
                // It may have vouched just before it left.
                Some(loss) if end.settled(shared).unwrap() == Settled::No => return loss,
                Some(_) => return COMPLETE,
                None => self.sleep(),
            }
        }
    }

    /// Receives until all came, checks every byte, and vouches for them.
    pub(crate) fn receive(&self) -> i32 {
        let take = || self.shared().take_receiver(self.session, self.owner, false);
        let Some(mut end) = self.step(Step::Claim, || self.take(take)) else {
            return SESSION_ENDED;
        };
        let outcome = self.receive_all(&mut end);
        if let Some(peer) = self.step(Step::Release, || self.shared().leave_receiver(end).unwrap())
        {
            self.ring(peer);
        }
        outcome
    }

    fn receive_all(&self, end: &mut ReceiverEnd) -> i32 {
        let shared = self.shared();
        let waiting = shared.look(end).unwrap().sender;
        if waiting.state == State::Held {
            self.ring(waiting.owner);
        }
        while !shared.look(end).unwrap().begun {
            if self.is_over() {
                return SESSION_ENDED;
            }
            self.sleep();
        }
        assert_eq!(end.announcement(shared).unwrap(), b"announced");
        let sender = shared.look(end).unwrap().sender.owner;
        let mut offset = 0;
        loop {
            let finish = end.finish(shared).unwrap();
            if let Some(piece) = end.next(shared).unwrap() {
                let bytes = self.world.segment.bytes(&piece);
                self.step(Step::Send, || check(bytes, offset));
                offset += bytes.len() as u64;
                if self.step(Step::Ack, || end.ack_recv(shared).unwrap()) {
                    self.ring(sender);
                }
            } else if let Finish::Whole(total) = finish {
                assert_eq!(offset, total);
                end.count(shared, total, total).unwrap();
                self.step(Step::Settle, || end.settle(shared, Settled::Acked).unwrap());
                self.ring(sender);
                return COMPLETE;
            } else if let Some(loss) = self.loss(end) {
                return loss;
            } else if end.wait_for_chunk(shared).unwrap() {
                self.sleep();
            }
        }
    }
}

fn die() -> ! {
    kill(getpid(), Signal::SIGKILL).unwrap();
    unreachable!("SIGKILL is not survived");
}

/// The word of the payload at `offset`, a multiple of 8.
fn word(offset: u64) -> [u8; 8] {
    (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

fn write(bytes: &mut [u8], offset: u64) {
    for (piece, index) in bytes.chunks_mut(8).zip(0..) {
        let word = word(offset + 8 * index);
        piece.copy_from_slice(&word[..piece.len()]);
    }
}

fn check(bytes: &[u8], offset: u64) {
    for (piece, index) in bytes.chunks(8).zip(0..) {
        let at = offset + 8 * index;
        assert_eq!(piece, &word(at)[..piece.len()], "wrong bytes at {at}");
    }
}
