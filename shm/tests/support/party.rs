//! Honest senders and receivers of several sessions and workers, stepped one step at a time in any
//! order. Each session's payload is a mark of its own. Whoever is refused gives up what it was at.

use crate::random::{Random, mix};
use shm::{
    Direction, End, Filling, Finish, LaneEnd, Owner, ReceiverEnd, Refusal, Segment, SenderEnd,
    SessionRef, Settled, Shared, TakeError, Terms, WorkerId,
};
use std::ops::AddAssign;

const SESSIONS: usize = 4;
const WORKERS: usize = 3;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Pieces that a receiver was handed.
    pub(crate) pieces: u64,
    /// Steps that were refused.
    pub(crate) refusals: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.pieces += other.pieces;
        self.refusals += other.refusals;
    }
}

/// A session and whoever is in it.
#[derive(Default)]
struct Seat {
    session: Option<SessionRef>,
    sender: Option<(usize, SenderEnd, Option<Filling>)>,
    receiver: Option<(usize, ReceiverEnd)>,
}

/// All of them.
pub(crate) struct Party<'s> {
    segment: &'s Segment,
    seats: [Seat; SESSIONS],
    /// Whether bytes without the session's mark fail the test.
    foreign_matters: bool,
    pub(crate) tally: Tally,
}

impl<'s> Party<'s> {
    pub(crate) fn new(segment: &'s Segment, foreign_matters: bool) -> Self {
        let seats = std::array::from_fn(|_| Seat::default());
        Self { segment, seats, foreign_matters, tally: Tally::default() }
    }

    fn shared(&self) -> &'s Shared<'s> {
        self.segment.shared()
    }

    fn owner(&self, worker: usize) -> Owner {
        let worker = WorkerId::new(worker).unwrap();
        Owner::new(worker, self.shared().record(worker).unwrap().epoch())
    }

    /// One step of somebody.
    pub(crate) fn step(&mut self, random: &mut Random) {
        let index = random.below(SESSIONS);
        let worker = random.below(WORKERS);
        let step = random.below(100);
        if step == 0 {
            return self.die(worker);
        }
        let mut seat = std::mem::take(&mut self.seats[index]);
        match step {
            1 => self.look_around(random),
            2 => {
                if let Some(session) = seat.session.take() {
                    self.shared().end(session, End::Deleted, |owner| self.ring(session, owner));
                }
            }
            3..50 => self.send(worker, &mut seat, random),
            _ => self.receive(worker, &mut seat, random),
        }
        self.seats[index] = seat;
    }

    fn ring(&self, session: SessionRef, owner: Owner) {
        let _ = self.shared().bell(owner.worker).map(|bell| bell.ring(session.slot));
    }

    /// A worker dies and is swept.
    fn die(&mut self, worker: usize) {
        for seat in &mut self.seats {
            // What it held in its own memory is gone with it.
            seat.sender.take_if(|(of, ..)| *of == worker);
            seat.receiver.take_if(|(of, _)| *of == worker);
        }
        let shared = self.shared();
        let dead = WorkerId::new(worker).unwrap();
        shared.record(dead).unwrap().bump_epoch();
        shared.sweep(dead, |slot, owner| {
            assert!((slot as usize) < shared.sessions());
            let _ = shared.bell(owner.worker).map(|bell| bell.ring(slot));
        });
    }

    /// Looks at everything that can be looked at.
    fn look_around(&self, random: &mut Random) {
        let shared = self.shared();
        let census = shared.census();
        assert!(census.chunks_held <= shared.pool().len());
        assert!(census.places_held <= 4 * shared.sessions());
        assert!(census.sessions_live + census.slots_between <= shared.sessions());
        for slot in [0, 1, 2, 3, 4, u32::MAX] {
            if let Some(found) = shared.find(slot) {
                assert_eq!(found.session.slot, slot);
                let _ = shared.life(found.session);
            }
        }
        for worker in (0..64).filter_map(WorkerId::new) {
            let record = shared.record(worker).unwrap();
            record.opened();
            record.received(1);
            record.closed();
            let _ = record.counters();
            let bell = shared.bell(worker).unwrap();
            if random.below(2) == 0 && !bell.park() {
                let mut heard = 0;
                bell.take(|_| heard += 1);
                assert!(heard <= 64, "{heard} bits of one word");
            }
            bell.unpark();
        }
    }

    /// A session to work in: this seat's, or a new one.
    fn session(&mut self, worker: usize, seat: &mut Seat) -> Option<SessionRef> {
        if seat.session.is_none() && seat.sender.is_none() && seat.receiver.is_none() {
            let owner = self.owner(worker);
            let terms = Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1 };
            seat.session = self.shared().issue(owner, &terms, 1);
        }
        seat.session
    }

    fn note<T>(&mut self, taken: Result<T, TakeError>, seat: &mut Seat) -> Option<T> {
        match taken {
            Ok(end) => return Some(end),
            Err(TakeError::Taken | TakeError::Leaving) => {}
            Err(TakeError::Ended) => seat.session = None,
            Err(TakeError::Refused(_)) => {
                self.tally.refusals += 1;
                seat.session = None;
            }
        }
        None
    }

    fn send(&mut self, worker: usize, seat: &mut Seat, random: &mut Random) {
        let Some((of, mut end, mut filling)) = seat.sender.take() else {
            let Some(session) = self.session(worker, seat) else { return };
            let taken =
                self.shared().take_sender(session.lane(Direction::Forth), self.owner(worker), true);
            seat.sender = self.note(taken, seat).map(|end| (worker, end, None));
            return;
        };
        match self.send_on(&mut end, &mut filling, random) {
            Ok(true) => seat.sender = Some((of, end, filling)),
            over => {
                let left = self.shared().leave_sender(end, filling);
                self.tally.refusals += u64::from(over.is_err()) + u64::from(left.is_err());
            }
        }
    }

    /// `false`: it leaves.
    fn send_on(
        &self,
        end: &mut SenderEnd,
        filling: &mut Option<Filling>,
        random: &mut Random,
    ) -> Result<bool, Refusal> {
        let shared = self.shared();
        let word = shared.look(end)?;
        if !word.begun {
            let begun = shared.begin(end, &random.next().to_ne_bytes())?;
            begun.into_iter().for_each(|owner| self.ring(end.lane().session, owner));
            return Ok(random.below(50) != 0);
        }
        match random.below(40) {
            0 => return Ok(false),
            1 => end.finish(shared, Finish::Whole(end.published_bytes()))?,
            2 => end.shed(shared)?,
            3 => {
                assert!(end.taken(shared)? <= end.published_bytes());
                assert!(end.delivered(shared)? <= end.published_bytes());
                end.settled(shared)?;
            }
            4 => {
                let _ = end.wait_for_room(shared)?;
            }
            _ => self.move_on(end, filling, random)?,
        }
        assert!(end.held() <= shared.lane_chunks());
        Ok(true)
    }

    /// Publishes the chunk that is full, or fills one.
    fn move_on(
        &self,
        end: &mut SenderEnd,
        filling: &mut Option<Filling>,
        random: &mut Random,
    ) -> Result<(), Refusal> {
        let shared = self.shared();
        if let Some(full) = filling.take() {
            let _ = end.publish(shared, full, 0..8 * (1 + random.below(512)))?;
            return Ok(());
        }
        *filling = end.reserve(shared)?;
        if let Some(filling) = filling {
            self.segment.bytes_mut(filling).as_chunks_mut().0.fill(mark(end.lane().session));
        }
        Ok(())
    }

    fn receive(&mut self, worker: usize, seat: &mut Seat, random: &mut Random) {
        let Some((of, mut end)) = seat.receiver.take() else {
            let Some(session) = self.session(worker, seat) else { return };
            let taken = self.shared().take_receiver(
                session.lane(Direction::Forth),
                self.owner(worker),
                false,
            );
            seat.receiver = self.note(taken, seat).map(|end| (worker, end));
            return;
        };
        match self.receive_on(&mut end, random) {
            Ok(true) => seat.receiver = Some((of, end)),
            over => {
                let left = self.shared().leave_receiver(end);
                self.tally.refusals += u64::from(over.is_err()) + u64::from(left.is_err());
            }
        }
    }

    /// `false`: it leaves.
    fn receive_on(&mut self, end: &mut ReceiverEnd, random: &mut Random) -> Result<bool, Refusal> {
        let shared = self.shared();
        if !shared.look(end)?.begun {
            return Ok(random.below(50) != 0);
        }
        assert!(end.announcement(shared)?.len() <= shm::ANNOUNCEMENT_BYTES_MAX);
        match random.below(40) {
            0 => return Ok(false),
            1 => end.settle(shared, Settled::Acked)?,
            2 => {
                end.finish(shared)?;
            }
            3 => {
                let _ = end.wait_for_chunk(shared)?;
            }
            _ => self.take_piece(end, random)?,
        }
        Ok(true)
    }

    fn take_piece(&mut self, end: &mut ReceiverEnd, random: &mut Random) -> Result<(), Refusal> {
        let shared = self.shared();
        let Some(piece) = end.next(shared)? else { return Ok(()) };
        assert!(piece.chunk_index() < shared.pool().len());
        let bytes = self.segment.bytes(&piece);
        assert_eq!(bytes.len(), piece.len(), "a piece beyond its chunk");
        // Reads every byte: what lies outside the mapping would end the process here.
        let ours =
            bytes.as_chunks().0.iter().filter(|word| **word == mark(end.lane().session)).count();
        let same = ours * 8 == bytes.len();
        assert!(same || !self.foreign_matters, "{:?} shows other bytes", end.lane().session);
        self.tally.pieces += 1;
        end.count(shared, 0, 0)?;
        if random.below(3) > 0 {
            let _ = end.ack_recv(shared)?;
        }
        Ok(())
    }
}

/// What a session's payload consists of.
fn mark(session: SessionRef) -> [u8; 8] {
    mix(u64::from(session.slot) << 32 | u64::from(session.generation)).to_ne_bytes()
}
