//! A transfer as two workers make it, in steps that a test can stop at. The payload is a pattern
//! that the receiver knows, so that every byte which is not this attempt's own shows.

use crate::process::{DEADLINE, wait_readable};
use crate::random::mix;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{pipe2, read, write};
use shm::{
    Buffer, Finish, Geometry, LaneEnd, LaneRef, Owner, ReceiverEnd, Refusal, Role, Segment,
    SenderEnd, SessionRef, Settled, State, TakeError, Terms, WorkerId,
};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Workers that a test can have.
pub(crate) const WORKERS: usize = 5;

/// A step of a transfer, as its role makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Claim,
    Begin,
    /// Empties a dirty pipe.
    Drain,
    Fill,
    Publish,
    Send,
    /// Takes the second half out of a pipe.
    Pour,
    Ack,
    /// Sets the other's bell.
    Ring,
    /// Wakes the other if the bell said so.
    Wake,
    Release,
}

/// Where a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Complete,
    Lost,
}

/// The segment, the wakers and the pipes that all processes inherit.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) segment: Segment,
    wakers: [EventFd; WORKERS],
    pub(crate) pipes: Vec<Pipe>,
}

/// A pipe: the end where bytes come out, and the end where they go in.
#[derive(Debug)]
pub(crate) struct Pipe(OwnedFd, OwnedFd);

impl Pipe {
    fn new() -> Self {
        let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        Self(out, into)
    }

    /// Takes out `bytes` at most.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut taken = vec![0; bytes];
        match read(&self.0, &mut taken) {
            Err(Errno::EAGAIN) => taken.clear(),
            count => taken.truncate(count.unwrap()),
        }
        taken
    }

    fn fill(&self, bytes: &[u8]) {
        assert_eq!(write(&self.1, bytes), Ok(bytes.len()));
    }
}

impl World {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let waker = |_| EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let wakers = std::array::from_fn(|index| waker(index).unwrap());
        let pipes = (0..geometry.pipes).map(|_| Pipe::new()).collect();
        Self { segment: Segment::create(geometry).unwrap(), wakers, pipes }
    }

    /// The owner that names a worker in its present life.
    pub(crate) fn owner(&self, worker: usize) -> Owner {
        let worker = WorkerId::new(worker).unwrap();
        Owner::new(worker, self.segment.shared().record(worker).unwrap().epoch())
    }

    pub(crate) fn issue(&self, owner: Owner) -> SessionRef {
        let terms =
            Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: u64::MAX, account: None };
        self.segment.shared().issue(owner, &terms, 0).unwrap()
    }

    /// Leaves something in every pipe, as a sender does that leaves before its receiver has taken it.
    pub(crate) fn soil_pipes(&self, at: LaneRef, owner: Owner) {
        let shared = self.segment.shared();
        for _ in &self.pipes {
            let mut sender = shared.take_sender(at, owner, false).unwrap();
            let reserved = sender.attach(shared).unwrap().reserve_pipe().unwrap().unwrap();
            let Buffer::Pipe(index) = reserved.buffer() else { panic!("no pipe is free") };
            self.pipes[index].fill(&[0xee; 1000]);
            shared.leave_sender(sender, Some(reserved)).unwrap();
        }
        assert_eq!(shared.pool().pipes_dirty(), self.pipes.len());
    }

    pub(crate) fn wake(&self, worker: WorkerId) {
        self.wakers[worker.index()].write(1).unwrap();
    }

    /// Does what the master does once `worker` is reaped. Returns the owners that were told of a loss.
    pub(crate) fn clean_up_after(&self, worker: usize) -> Vec<Owner> {
        let shared = self.segment.shared();
        let dead = WorkerId::new(worker).unwrap();
        shared.record(dead).unwrap().bump_epoch();
        let mut told = Vec::new();
        shared.sweep(dead, |slot, survivor| {
            let _ = shared.bell(survivor.worker).unwrap().ring(slot);
            told.push(survivor);
        });
        // Wakes every worker, and not only those that were told. The dead worker may have been the ringer that had to
        // wake another worker for another session, and a bell asks only one ringer to do so.
        (0..WORKERS).for_each(|worker| self.wake(WorkerId::new(worker).unwrap()));
        told
    }
}

/// A worker that makes one transfer at a time.
pub(crate) struct Worker<'w> {
    pub(crate) world: &'w World,
    pub(crate) me: Owner,
    /// Called at both moments of every step.
    pub(crate) at: &'w dyn Fn(Step, Moment),
}

impl Worker<'_> {
    fn step<T>(&self, step: Step, action: impl FnOnce() -> T) -> T {
        (self.at)(step, Moment::Before);
        let done = action();
        (self.at)(step, Moment::After);
        done
    }

    fn sleep(&self) {
        let bell = self.world.segment.shared().bell(self.me.worker).unwrap();
        let waker = &self.world.wakers[self.me.worker.index()];
        if bell.park() {
            assert!(wait_readable(waker), "nobody woke {:?}", self.me);
        }
        bell.unpark();
        // The eventfd is empty if no process wrote to it.
        let _ = waker.read();
        bell.take(|_| {});
    }

    /// Tells the other end of news, in the two steps that it takes.
    fn ring(&self, at: LaneRef, peer: Owner) {
        let bell = self.world.segment.shared().bell(peer.worker).unwrap();
        let sleeps = self.step(Step::Ring, || bell.ring(at.session.slot));
        self.step(Step::Wake, || {
            if sleeps {
                self.world.wake(peer.worker);
            }
        });
    }

    /// As `ring`, where no test stops.
    fn tell(&self, at: LaneRef, peer: Owner) {
        if self.world.segment.shared().bell(peer.worker).unwrap().ring(at.session.slot) {
            self.world.wake(peer.worker);
        }
    }

    /// Tells the other end, if it is there.
    fn tell_peer<E: LaneEnd>(&self, end: &E) {
        let peer = self.world.segment.shared().look(end).unwrap().peer(E::ROLE);
        if peer.state == State::Held {
            self.tell(end.lane(), peer.owner);
        }
    }

    fn peer_remains<E: LaneEnd>(&self, end: &E) -> bool {
        let word = self.world.segment.shared().look(end).unwrap();
        word.peer(E::ROLE).state == State::Held
    }

    /// Takes a place, once the last attempt's ends have left it.
    fn claim<E: LaneEnd>(&self, take: impl Fn() -> Result<E, TakeError>) -> E {
        let since = Instant::now();
        let end = self.step(Step::Claim, || {
            loop {
                match take() {
                    Ok(end) => return end,
                    Err(TakeError::Leaving) if since.elapsed() < DEADLINE => {
                        std::thread::sleep(Duration::from_micros(20));
                    }
                    Err(error) => panic!("{:?} cannot enter: {error:?}", E::ROLE),
                }
            }
        });
        self.tell_peer(&end);
        end
    }

    /// Sends `pieces` pieces.
    pub(crate) fn send(&self, at: LaneRef, seed: u64, pieces: u64) -> Outcome {
        let shared = self.world.segment.shared();
        let mut end = self.claim(|| shared.take_sender(at, self.me, false));
        loop {
            while !self.peer_remains(&end) {
                self.sleep();
            }
            let announcement = [seed.to_le_bytes(), pieces.to_le_bytes()].concat();
            // The receiver may have gone meanwhile.
            if let Some(receiver) =
                self.step(Step::Begin, || shared.begin(&end, &announcement).unwrap())
            {
                self.tell(at, receiver);
                break;
            }
        }
        let outcome = self.send_all(&mut end, seed, pieces).unwrap();
        let left = self.step(Step::Release, || shared.leave_sender(end, None).unwrap());
        left.into_iter().for_each(|receiver| self.tell(at, receiver));
        outcome
    }

    fn send_all(&self, end: &mut SenderEnd, seed: u64, pieces: u64) -> Result<Outcome, Refusal> {
        let shared = self.world.segment.shared();
        while let Some(index) = shared.pool().take_dirty(self.me.worker) {
            let pipe = &self.world.pipes[index];
            self.step(Step::Drain, || while !pipe.take(1 << 16).is_empty() {});
            shared.pool().give_back_emptied(index, self.me.worker)?;
        }
        for number in 0..pieces {
            let mut reserved = loop {
                if !self.peer_remains(end) {
                    return Ok(Outcome::Lost);
                }
                // Both kinds by turns.
                let by_pipe = number % 2 == 0 && end.attach(shared)?.takes_pipes();
                let mut sender = end.attach(shared)?;
                let reserved = if by_pipe { sender.reserve_pipe() } else { sender.reserve() };
                if let Some(reserved) = reserved? {
                    break reserved;
                }
                if end.attach(shared)?.wait_for_room()? {
                    self.sleep();
                }
            };
            let range = self.step(Step::Fill, || {
                if let Buffer::Pipe(index) = reserved.buffer() {
                    let pipe = &self.world.pipes[index];
                    let length = range_of(seed, number, shared.chunk_bytes()).len();
                    pipe.fill(&words(seed, number, length).flatten().collect::<Vec<_>>());
                    return 0..length;
                }
                let bytes = self.world.segment.bytes_mut(&mut reserved);
                let range = range_of(seed, number, bytes.len());
                words(seed, number, range.len())
                    .zip(bytes[range.clone()].as_chunks_mut().0)
                    .for_each(|(word, bytes)| *bytes = word);
                range
            });
            let mut sender = end.attach(shared)?;
            let _ = self.step(Step::Publish, || sender.publish(reserved, range));
            let receiver = shared.look(end)?.receiver.owner;
            self.ring(end.lane(), receiver);
        }
        let sender = end.attach(shared)?;
        sender.set_finish(Finish::Whole(sender.published_bytes()));
        self.tell_peer(end);
        loop {
            // The order matters: an end that has left has settled before.
            let remains = self.peer_remains(end);
            if end.attach(shared)?.settled() == Settled::Acked {
                assert_eq!(end.attach(shared)?.delivered()?, end.published_bytes());
                return Ok(Outcome::Complete);
            }
            if !remains {
                return Ok(Outcome::Lost);
            }
            self.sleep();
        }
    }

    /// Receives and checks all that is sent.
    pub(crate) fn receive(&self, at: LaneRef) -> Outcome {
        let shared = self.world.segment.shared();
        let mut end = self.claim(|| shared.take_receiver(at, self.me, false));
        while !shared.look(&end).unwrap().begun {
            self.sleep();
        }
        let outcome = self.receive_all(&mut end).unwrap();
        let left = self.step(Step::Release, || shared.leave_receiver(end).unwrap());
        left.into_iter().for_each(|sender| self.tell(at, sender));
        outcome
    }

    fn receive_all(&self, end: &mut ReceiverEnd) -> Result<Outcome, Refusal> {
        let shared = self.world.segment.shared();
        end.attach(shared)?.take_pipes();
        let announcement = end.attach(shared)?.announcement()?;
        let [seed, pieces] = announcement.as_chunks().0 else { panic!("{announcement:?}") };
        let (seed, pieces) = (u64::from_le_bytes(*seed), u64::from_le_bytes(*pieces));
        let (mut number, mut taken) = (0, 0);
        loop {
            // The order matters: a piece that was published before the end or the loss is received before it.
            let remains = self.peer_remains(end);
            let finish = end.attach(shared)?.finish();
            if let Some(piece) = end.attach(shared)?.next_published()? {
                self.step(Step::Send, || {
                    let mut poured;
                    let bytes = match piece.buffer() {
                        Buffer::Chunk(_) => self.world.segment.bytes(&piece),
                        Buffer::Pipe(index) => {
                            let (pipe, half) = (&self.world.pipes[index], piece.len() / 2);
                            poured = pipe.take(half);
                            let rest = piece.len() - half;
                            self.step(Step::Pour, || poured.extend(pipe.take(rest)));
                            &poured
                        }
                    };
                    let expected = range_of(seed, number, shared.chunk_bytes()).len();
                    assert_eq!(bytes.len(), expected, "length of piece {number}");
                    let same =
                        words(seed, number, bytes.len()).eq(bytes.as_chunks().0.iter().copied());
                    assert!(same, "piece {number} is not what was sent");
                });
                (number, taken) = (number + 1, taken + piece.len() as u64);
                let _ = self.step(Step::Ack, || piece.ack_recv());
                end.attach(shared)?.count(taken, taken);
                let sender = shared.look(end)?.sender.owner;
                self.ring(end.lane(), sender);
                continue;
            }
            match finish {
                Finish::Whole(total) => {
                    assert_eq!((number, taken), (pieces, total), "pieces and bytes");
                    end.attach(shared)?.settle(Settled::Acked);
                    self.tell_peer(end);
                    return Ok(Outcome::Complete);
                }
                Finish::Open if !remains => return Ok(Outcome::Lost),
                Finish::Open => {}
                other => panic!("{other:?}"),
            }
            if end.attach(shared)?.wait_for_chunk()? {
                self.sleep();
            }
        }
    }

    /// Makes one transfer in `role`.
    pub(crate) fn transfer(&self, role: Role, at: LaneRef, seed: u64, pieces: u64) -> Outcome {
        match role {
            Role::Sender => self.send(at, seed, pieces),
            Role::Receiver => self.receive(at),
        }
    }
}

/// The part of its chunk that a piece takes: any whole words.
fn range_of(seed: u64, number: u64, chunk_bytes: usize) -> std::ops::Range<usize> {
    let random = mix(seed ^ mix(number));
    let start = usize::try_from(random % 4).unwrap() * 8;
    let short = usize::try_from(random >> 8 & 7).unwrap() * 8;
    start..chunk_bytes - short
}

/// The words of a piece.
fn words(seed: u64, number: u64, bytes: usize) -> impl Iterator<Item = [u8; 8]> {
    let first = mix(seed) ^ number << 32;
    (0..bytes as u64 / 8).map(move |word| (first + word).to_ne_bytes())
}
