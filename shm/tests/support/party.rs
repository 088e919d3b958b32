//! Honest senders and receivers in both lanes of several sessions and of several workers, stepped one step at a time
//! in any order. Each lane's payload is a mark of its own. An end that is refused gives up its place.

use crate::random::{Random, mix};
use shm::{
    AddressTag, Buffer, Direction, End, Finish, LaneEnd, LaneRef, Owner, Published, ReceiverEnd,
    Refusal, Reserved, Role, Segment, SenderEnd, SessionRef, Settled, Shared, TakeError, Terms,
    WorkerId,
};
use std::collections::VecDeque;
use std::ops::AddAssign;

const SESSIONS: usize = 4;
const WORKERS: usize = 3;

/// The counts of a run.
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

/// The ends that are in a lane.
#[derive(Default)]
struct Seat {
    sender: Option<(usize, SenderEnd, Option<Reserved>)>,
    receiver: Option<(usize, ReceiverEnd)>,
}

impl Seat {
    fn is_empty(&self) -> bool {
        self.sender.is_none() && self.receiver.is_none()
    }
}

/// A session and the ends in it.
#[derive(Default)]
struct Table {
    session: Option<SessionRef>,
    /// The seats, indexed by direction.
    seats: [Seat; 2],
}

/// All tables and the pipes.
pub(crate) struct Party<'s> {
    segment: &'s Segment,
    tables: [Table; SESSIONS],
    /// The words in each pipe.
    pipes: Vec<VecDeque<[u8; 8]>>,
    /// Whether bytes without the lane's mark fail the test.
    foreign_matters: bool,
    pub(crate) tally: Tally,
}

impl<'s> Party<'s> {
    pub(crate) fn new(segment: &'s Segment, foreign_matters: bool) -> Self {
        let tables = std::array::from_fn(|_| Table::default());
        let pipes = vec![VecDeque::new(); segment.geometry().pipes as usize];
        Self { segment, tables, pipes, foreign_matters, tally: Tally::default() }
    }

    fn shared(&self) -> &'s Shared<'s> {
        self.segment.shared()
    }

    fn owner(&self, worker: usize) -> Owner {
        let worker = WorkerId::new(worker).unwrap();
        Owner::new(worker, self.shared().record(worker).unwrap().epoch())
    }

    /// Makes one step, of a random worker in a random lane.
    pub(crate) fn step(&mut self, random: &mut Random) {
        let index = random.below(SESSIONS);
        let direction = Direction::ALL[random.below(2)];
        let worker = random.below(WORKERS);
        let step = random.below(100);
        if step == 0 {
            return self.die(worker);
        }
        let mut table = std::mem::take(&mut self.tables[index]);
        match step {
            1 => self.look_around(random),
            2 => {
                if let Some(session) = table.session.take() {
                    self.shared().end(session, End::Deleted, |owner| self.ring(session, owner));
                }
            }
            3 | 4 => self.claim(&table, direction, random),
            5..50 => self.send(worker, &mut table, direction, random),
            _ => self.receive(worker, &mut table, direction, random),
        }
        self.tables[index] = table;
    }

    /// Makes a step that needs no place: names a guest, names a rival, expires.
    fn claim(&mut self, table: &Table, direction: Direction, random: &mut Random) {
        let Some(session) = table.session else { return };
        let (shared, at) = (self.shared(), session.lane(direction));
        let role = [Role::Sender, Role::Receiver][random.below(2)];
        let refused = match random.below(4) {
            0 => {
                let ring = |owner| self.ring(session, owner);
                shared.set_guest(session, AddressTag::of(random.next()), ring).err()
            }
            1 => {
                let ring = |owner| self.ring(session, owner);
                shared.name_rival(at, role, AddressTag::of(1 + random.next() % 3), ring).err()
            }
            2 => shared.clear_rival(at, role, AddressTag::of(1 + random.next() % 3)).err(),
            _ => {
                shared.expire(session, 1 + random.next() % 2, |owner| self.ring(session, owner));
                None
            }
        };
        self.tally.refusals += u64::from(refused.is_some());
    }

    fn ring(&self, session: SessionRef, owner: Owner) {
        let _ = self.shared().bell(owner.worker).map(|bell| bell.ring(session.slot));
    }

    /// A worker dies and is swept.
    fn die(&mut self, worker: usize) {
        for seat in self.tables.iter_mut().flat_map(|table| &mut table.seats) {
            // The dead worker's ends are lost with its memory.
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

    /// Calls everything that only looks.
    fn look_around(&self, random: &mut Random) {
        let shared = self.shared();
        let census = shared.census();
        assert!(census.chunks_held <= shared.pool().len());
        assert!(census.pipes_held <= shared.pool().pipes());
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
            record.count_opened();
            record.add_bytes_in(1);
            record.count_closed();
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

    /// A session to work in: this table's, or a new one.
    fn session(&mut self, worker: usize, table: &mut Table) -> Option<SessionRef> {
        if table.session.is_none() && table.seats.iter().all(Seat::is_empty) {
            let owner = self.owner(worker);
            let terms =
                Terms { key: [1; 32], token: [2; 32], kind: 0, lifetime_ms: 1, account: None };
            table.session = self.shared().issue(owner, &terms, 1);
        }
        table.session
    }

    fn note<T>(&mut self, taken: Result<T, TakeError>, table: &mut Table) -> Option<T> {
        match taken {
            Ok(end) => return Some(end),
            Err(TakeError::Held | TakeError::Leaving) => {}
            Err(TakeError::Ended) => table.session = None,
            Err(TakeError::Refused(_)) => {
                self.tally.refusals += 1;
                table.session = None;
            }
        }
        None
    }

    fn send(
        &mut self,
        worker: usize,
        table: &mut Table,
        direction: Direction,
        random: &mut Random,
    ) {
        let seat = direction as usize;
        let Some((of, mut end, mut reserved)) = table.seats[seat].sender.take() else {
            let Some(session) = self.session(worker, table) else { return };
            let taken =
                self.shared().take_sender(session.lane(direction), self.owner(worker), true);
            table.seats[seat].sender = self.note(taken, table).map(|end| (worker, end, None));
            return;
        };
        match self.send_on(&mut end, &mut reserved, random) {
            Ok(true) => table.seats[seat].sender = Some((of, end, reserved)),
            over => {
                let left = self.shared().leave_sender(end, reserved);
                self.tally.refusals += u64::from(over.is_err()) + u64::from(left.is_err());
            }
        }
    }

    /// Returns `false` if the sender leaves.
    fn send_on(
        &mut self,
        end: &mut SenderEnd,
        reserved: &mut Option<Reserved>,
        random: &mut Random,
    ) -> Result<bool, Refusal> {
        let shared = self.shared();
        let word = shared.look(end)?;
        if !word.begun {
            // Before it begins, a holder with a rival gives way now and then.
            if shared.rival(end.lane(), Role::Sender)?.is_some() && random.below(4) == 0 {
                return Ok(false);
            }
            let begun = shared.begin(end, &random.next().to_ne_bytes())?;
            begun.into_iter().for_each(|owner| self.ring(end.lane().session, owner));
            return Ok(random.below(50) != 0);
        }
        match random.below(40) {
            0 => return Ok(false),
            1 => {
                let sender = end.attach(shared)?;
                sender.set_finish(Finish::Whole(sender.published_bytes()));
            }
            2 => end.attach(shared)?.shed()?,
            3 => {
                assert!(end.attach(shared)?.taken()? <= end.published_bytes());
                assert!(end.attach(shared)?.delivered()? <= end.published_bytes());
                let _ = end.attach(shared)?.settled();
            }
            4 => {
                let _ = end.attach(shared)?.wait_for_room()?;
            }
            5 => shared.renew(end, 1)?,
            _ => self.move_on(end, reserved, random)?,
        }
        assert!(end.held() <= shared.lane_chunks());
        Ok(true)
    }

    /// Publishes the chunk or pipe that is full, or fills one.
    fn move_on(
        &mut self,
        end: &mut SenderEnd,
        reserved: &mut Option<Reserved>,
        random: &mut Random,
    ) -> Result<(), Refusal> {
        let shared = self.shared();
        if let Some(full) = reserved.take() {
            let words = match full.buffer() {
                Buffer::Chunk(_) => 1 + random.below(512),
                Buffer::Pipe(index) => self.pipes[index].len(),
            };
            let _ = end.attach(shared)?.publish(full, 0..8 * words);
            return Ok(());
        }
        let by_pipe = random.below(2) == 0;
        *reserved = if by_pipe {
            end.attach(shared)?.reserve_pipe()?
        } else {
            end.attach(shared)?.reserve()?
        };
        let Some(reserved) = reserved else { return Ok(()) };
        let Buffer::Pipe(index) = reserved.buffer() else {
            self.segment.bytes_mut(reserved).as_chunks_mut().0.fill(mark(end.lane()));
            return Ok(());
        };
        // Scribbles may free a pipe that is not empty. The relay asks the kernel; the test empties the pipe.
        self.pipes[index].clear();
        let words = 1 + random.below(512);
        self.pipes[index].extend(std::iter::repeat_n(mark(end.lane()), words));
        Ok(())
    }

    fn receive(
        &mut self,
        worker: usize,
        table: &mut Table,
        direction: Direction,
        random: &mut Random,
    ) {
        let seat = direction as usize;
        let Some((of, mut end)) = table.seats[seat].receiver.take() else {
            let Some(session) = self.session(worker, table) else { return };
            let taken =
                self.shared().take_receiver(session.lane(direction), self.owner(worker), false);
            table.seats[seat].receiver = self.note(taken, table).map(|end| (worker, end));
            return;
        };
        match self.receive_on(&mut end, random) {
            Ok(true) => table.seats[seat].receiver = Some((of, end)),
            over => {
                let left = self.shared().leave_receiver(end);
                self.tally.refusals += u64::from(over.is_err()) + u64::from(left.is_err());
            }
        }
    }

    /// Returns `false` if the receiver leaves.
    fn receive_on(&mut self, end: &mut ReceiverEnd, random: &mut Random) -> Result<bool, Refusal> {
        let shared = self.shared();
        if !shared.look(end)?.begun {
            return Ok(random.below(50) != 0);
        }
        assert!(end.attach(shared)?.announcement()?.len() <= shm::ANNOUNCEMENT_BYTES_MAX);
        match random.below(40) {
            0 => return Ok(false),
            1 => end.attach(shared)?.settle(Settled::Acked),
            2 => {
                let _ = end.attach(shared)?.finish();
            }
            3 => {
                let _ = end.attach(shared)?.wait_for_chunk()?;
            }
            _ => self.take_piece(end, random)?,
        }
        Ok(true)
    }

    fn take_piece(&mut self, end: &mut ReceiverEnd, random: &mut Random) -> Result<(), Refusal> {
        let (shared, at) = (self.shared(), end.lane());
        let mut receiver = end.attach(shared)?;
        let Some(piece) = receiver.next_published()? else { return Ok(()) };
        if let Buffer::Pipe(index) = piece.buffer() {
            return self.take_from_pipe(index, piece, at);
        }
        let bytes = self.segment.bytes(&piece);
        assert_eq!(bytes.len(), piece.len(), "a piece beyond its chunk");
        // Reads every byte: bytes outside the mapping would end the process here.
        let ours = bytes.as_chunks().0.iter().filter(|word| **word == mark(at)).count();
        let same = ours * 8 == bytes.len();
        assert!(same || !self.foreign_matters, "{at:?} shows other bytes");
        self.tally.pieces += 1;
        if random.below(3) > 0 {
            let _ = piece.ack_recv();
        }
        end.attach(shared)?.count(0, 0);
        Ok(())
    }

    /// Takes all that the piece has in its pipe, or leaves some there and goes.
    fn take_from_pipe(
        &mut self,
        index: usize,
        piece: Published<'_>,
        at: LaneRef,
    ) -> Result<(), Refusal> {
        let (pipe, bytes) = (&mut self.pipes[index], piece.len());
        let words = (bytes / 8).min(pipe.len());
        let same = pipe.drain(..words).all(|word| word == mark(at));
        assert!(same || !self.foreign_matters, "{at:?} gets other bytes");
        if words * 8 < bytes {
            return Err(Refusal::EmptyPipe { missing: bytes - words * 8 });
        }
        self.tally.pieces += 1;
        let _ = piece.ack_recv();
        Ok(())
    }
}

/// The words that a lane's payload consists of.
fn mark(lane: LaneRef) -> [u8; 8] {
    let place = u64::from(lane.session.slot) << 1 | lane.direction as u64;
    mix(place << 32 | u64::from(lane.session.issue_number)).to_ne_bytes()
}
