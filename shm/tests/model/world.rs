//! The words, and the steps on sessions and places that are made on them and on the model alike.

use crate::counts::{LaneModel, Place, SlotModel, is_chunk, is_pipe};
use crate::{CHUNKS_MAX, LANE_CHUNKS, Lane, PIPES_MAX, SLOTS, Step, WORKERS};
use shm::{
    Census, Direction, End, LaneEnd, LaneRef, Life, Owner, Role, SessionRef, Shared, State,
    TakeError, Terms, Vessel, WorkerId,
};

/// The words, the model, and the bytes.
pub(crate) struct World<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) slots: Vec<SlotModel>,
    sessions: Vec<SessionRef>,
    epochs: [u32; WORKERS],
    pub(crate) now_ms: u64,
    hint: usize,
    /// What the sender that filled a chunk last wrote into it.
    pub(crate) bytes: [u64; CHUNKS_MAX],
    /// What is in each pipe.
    pub(crate) pipes: [Option<u64>; PIPES_MAX],
    /// How many lanes that held nothing have found no chunk.
    pub(crate) wishes: u64,
    /// Somebody has wished since the last one was granted.
    pub(crate) wish_is_said: bool,
    /// Which pipe each worker empties.
    emptied: [Option<usize>; WORKERS],
    pub(crate) token: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>) -> Self {
        let slots = (0..SLOTS).map(|_| SlotModel::new()).collect();
        Self {
            shared,
            slots,
            sessions: Vec::new(),
            epochs: [0; WORKERS],
            now_ms: 0,
            hint: 0,
            bytes: [0; CHUNKS_MAX],
            pipes: [None; PIPES_MAX],
            wishes: 0,
            wish_is_said: false,
            emptied: [None; WORKERS],
            token: 0,
        }
    }

    pub(crate) fn owner(&self, worker: usize) -> Owner {
        Owner::new(WorkerId::new(worker).unwrap(), self.epochs[worker])
    }

    /// The session that was issued `back` issues ago, living or not.
    fn session(&self, back: usize) -> Option<SessionRef> {
        self.sessions.len().checked_sub(back + 1).map(|index| self.sessions[index])
    }

    fn held(&self) -> impl Iterator<Item = Vessel> {
        self.slots.iter().flat_map(SlotModel::held)
    }

    pub(crate) fn free(&self, by_pipe: bool) -> usize {
        let pool = self.shared.pool();
        let emptied = self.emptied.iter().flatten().count();
        let all = if by_pipe { pool.pipes() - pool.pipes_dirty() - emptied } else { pool.len() };
        all - self.held().filter(|vessel| is_pipe(vessel) == by_pipe).count()
    }

    fn take_dirty(&mut self, worker: usize) {
        if self.emptied[worker].is_some() {
            return;
        }
        let is_there = self.shared.pool().pipes_dirty() > 0;
        let taken = self.shared.pool().take_dirty(WorkerId::new(worker).unwrap());
        assert_eq!(taken.is_some(), is_there);
        self.emptied[worker] = taken;
    }

    fn empty(&mut self, worker: usize) {
        let Some(index) = self.emptied[worker].take() else { return };
        self.pipes[index] = None;
        self.shared.pool().release_emptied(index, WorkerId::new(worker).unwrap()).unwrap();
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Issue { worker, lifetime_ms } => self.issue(worker, lifetime_ms),
            Step::Pass { ms } => self.now_ms += ms,
            Step::TakeSender { session, direction, worker, mark } => {
                self.take_sender(session, direction, worker, mark);
            }
            Step::TakeReceiver { session, direction, worker, mark } => {
                self.take_receiver(session, direction, worker, mark);
            }
            Step::Contest { session, direction, role, rival } => {
                self.contest(session, direction, role, rival);
            }
            Step::Withdraw { session, direction, role, rival } => {
                self.withdraw(session, direction, role, rival);
            }
            Step::Knock { session, direction, role, worker } => {
                self.knock(session, direction, role, worker);
            }
            Step::SetGuest { session, guest } => self.set_guest(session, guest),
            Step::Begin { lane } => self.begin(lane),
            Step::Reserve { lane, by_pipe } => self.reserve(lane, by_pipe),
            Step::PutBack { lane } => self.put_back(lane),
            Step::Publish { lane, start, bytes } => self.publish(lane, start..start + bytes),
            Step::WaitForRoom { lane } => self.wait_for_room(lane),
            Step::Shed { lane } => self.shed(lane),
            Step::Next { lane } => self.next(lane),
            Step::AckRecv { lane } => self.ack_recv(lane),
            Step::WaitForChunk { lane } => self.wait_for_chunk(lane),
            Step::Count { lane } => self.count(lane),
            Step::Finish { lane, whole } => self.finish(lane, whole),
            Step::Settle { lane } => self.settle(lane),
            Step::Renew { lane } => self.renew(lane),
            Step::LeaveSender { lane } => self.leave_sender(lane),
            Step::LeaveReceiver { lane } => self.leave_receiver(lane),
            Step::End { session } => self.end(session),
            Step::Expire { session } => self.expire(session),
            Step::Die { worker } => self.die(worker),
            Step::TakeDirty { worker } => self.take_dirty(worker),
            Step::Empty { worker } => self.empty(worker),
            Step::Meet { session, direction, sender, receiver } => {
                self.meet(session, direction, sender, receiver);
            }
            Step::Pair { sender, receiver } => {
                self.issue(sender, 100);
                self.meet(0, Direction::Forth, sender, receiver);
            }
            Step::Send { lane, by_pipe } => self.send(lane, by_pipe),
        }
    }

    fn issue(&mut self, worker: usize, lifetime_ms: u64) {
        let terms = terms(self.sessions.len(), lifetime_ms);
        let issued = self.shared.issue(self.owner(worker), &terms, self.now_ms);
        let mut expected = None;
        for slot in (0..SLOTS).map(|i| (self.hint + i) % SLOTS) {
            let model = &mut self.slots[slot];
            let over = model.life == Life::Live && model.expires_ms <= self.now_ms;
            if over && model.is_vacant() {
                model.life = Life::Ended(End::Expired);
                model.free_if_left();
            }
            if model.life == Life::Free {
                model.issue(terms, self.now_ms);
                let generation = model.generation;
                expected = Some(SessionRef { slot: u32::try_from(slot).unwrap(), generation });
                self.hint = slot + 1;
                break;
            }
        }
        assert_eq!(issued, expected);
        self.sessions.extend(issued);
    }

    fn lives(&self, session: SessionRef) -> bool {
        let model = &self.slots[session.slot as usize];
        (model.life, model.generation) == (Life::Live, session.generation)
    }

    /// Why a place cannot be taken, by the model.
    fn obstacle(&self, session: SessionRef, state: State) -> Option<TakeError> {
        match state {
            _ if !self.lives(session) => Some(TakeError::Ended),
            State::Held => Some(TakeError::Taken),
            State::Gone | State::Lost => Some(TakeError::Leaving),
            State::Empty | State::Closed => None,
        }
    }

    fn take_sender(&mut self, session: usize, direction: Direction, worker: usize, mark: bool) {
        let Some(session) = self.session(session) else { return };
        let taken = self.shared.take_sender(session.lane(direction), self.owner(worker), mark);
        let state = self.model(session.lane(direction)).sender.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                let model = self.model(session.lane(direction));
                model.sender = Place::Held { end, worker, mark };
                model.rivals[0] = 0;
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn take_receiver(&mut self, session: usize, direction: Direction, worker: usize, mark: bool) {
        let Some(session) = self.session(session) else { return };
        let taken = self.shared.take_receiver(session.lane(direction), self.owner(worker), mark);
        let state = self.model(session.lane(direction)).receiver.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                let model = self.model(session.lane(direction));
                model.receiver = Place::Held { end, worker, mark };
                model.rivals[1] = 0;
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn model(&mut self, at: LaneRef) -> &mut LaneModel {
        self.slots[at.session.slot as usize].lane(at.direction)
    }

    fn contest(&mut self, session: usize, direction: Direction, role: Role, rival: u64) {
        let Some(session) = self.session(session) else { return };
        let at = session.lane(direction);
        let heard = self.lives(session);
        let model = self.model(at);
        if heard {
            model.rivals[role as usize] = rival;
        }
        let holder = match role {
            Role::Sender => model.sender.holder(),
            Role::Receiver => model.receiver.holder(),
        };
        let holder = holder.filter(|_| heard);
        let expected = holder.map(|worker| self.owner(worker));
        let mut rung = None;
        assert_eq!(self.shared.contest(at, role, rival, |owner| rung = Some(owner)), Ok(heard));
        assert_eq!(rung, expected);
    }

    fn withdraw(&mut self, session: usize, direction: Direction, role: Role, rival: u64) {
        let Some(session) = self.session(session) else { return };
        let model = self.model(session.lane(direction));
        let wanted = &mut model.rivals[role as usize];
        *wanted = if *wanted == rival { 0 } else { *wanted };
        assert_eq!(self.shared.withdraw(session.lane(direction), role, rival), Ok(()));
    }

    fn knock(&mut self, session: usize, direction: Direction, role: Role, worker: usize) {
        let Some(session) = self.session(session) else { return };
        let owner = self.owner(worker);
        self.model(session.lane(direction)).knocks[role as usize] = Some(owner);
        assert_eq!(self.shared.knock(session.lane(direction), role, owner), Ok(()));
    }

    /// Whoever knocked is told by whoever has left.
    fn answer_knocks(&mut self, (slot, direction): Lane) {
        let expected = std::mem::take(&mut self.slots[slot].lane(direction).knocks);
        let session = SessionRef { slot: u32::try_from(slot).unwrap(), generation: 0 };
        let told: Vec<_> = self.shared.knocked(session.lane(direction)).collect();
        assert_eq!(told, expected.into_iter().flatten().collect::<Vec<_>>());
    }

    fn set_guest(&mut self, session: usize, guest: u64) {
        let Some(session) = self.session(session) else { return };
        let slot = session.slot as usize;
        let mut expected = Vec::new();
        if self.lives(session) {
            self.slots[slot].guest = guest;
            expected = self.holders(slot);
        }
        let mut rung = Vec::new();
        assert_eq!(self.shared.set_guest(session, guest, |owner| rung.push(owner)), Ok(()));
        assert_eq!(rung, expected);
    }

    fn leave_sender(&mut self, (slot, direction): Lane) {
        let peer = self.slots[slot].lane(direction).receiver.holder();
        let peer = peer.map(|worker| self.owner(worker));
        let model = self.slots[slot].lane(direction);
        let Some(end) = model.sender.vacate() else { return };
        if model.has_wished {
            self.wishes = self.wishes.saturating_sub(1);
        }
        let told = self.shared.leave_sender(end, model.filling.take()).unwrap();
        assert_eq!(told, peer.filter(|_| model.begun));
        let orphans = model.in_flight().collect();
        model.sender_left(State::Gone, orphans);
        self.slots[slot].free_if_left();
        self.answer_knocks((slot, direction));
    }

    fn leave_receiver(&mut self, (slot, direction): Lane) {
        let peer = self.slots[slot].lane(direction).sender.holder();
        let peer = peer.map(|worker| self.owner(worker));
        let model = self.slots[slot].lane(direction);
        let Some(end) = model.receiver.vacate() else { return };
        let told = self.shared.leave_receiver(end).unwrap();
        assert_eq!(told, peer.filter(|_| model.begun));
        model.receiver_left(State::Gone);
        self.slots[slot].free_if_left();
        self.answer_knocks((slot, direction));
    }

    /// Who holds a place in `slot`, as bells name them.
    fn holders(&self, slot: usize) -> Vec<Owner> {
        self.slots[slot].holders().into_iter().map(|worker| self.owner(worker)).collect()
    }

    fn end(&mut self, session: usize) {
        let Some(session) = self.session(session) else { return };
        let lives = self.lives(session);
        let mut rung = Vec::new();
        let ended = self.shared.end(session, End::Deleted, |owner| rung.push(owner));
        assert_eq!(ended, lives);
        self.ended(session, End::Deleted, lives, &rung);
    }

    /// A transfer in either lane keeps the session alive, however late it is.
    fn expire(&mut self, session: usize) {
        let Some(session) = self.session(session) else { return };
        let model = &self.slots[session.slot as usize];
        let over = model.expires_ms <= self.now_ms && !model.is_running();
        let ends = over && self.lives(session);
        let mut rung = Vec::new();
        self.shared.expire(session, self.now_ms, |owner| rung.push(owner));
        self.ended(session, End::Expired, ends, &rung);
    }

    /// If it ended, all that are in it were told, and nobody else was.
    fn ended(&mut self, session: SessionRef, end: End, ended: bool, rung: &[Owner]) {
        let slot = session.slot as usize;
        let expected = if ended { self.holders(slot) } else { Vec::new() };
        assert_eq!(rung, expected);
        if ended {
            self.slots[slot].life = Life::Ended(end);
            self.slots[slot].free_if_left();
        }
    }

    /// The worker is gone with all it knew; the master sweeps, and the survivors are told.
    fn die(&mut self, worker: usize) {
        let (mut expected, mut rung) = (Vec::new(), Vec::new());
        for slot in 0..SLOTS {
            let number = u32::try_from(slot).unwrap();
            if self.slots[slot].life == Life::Free {
                // Nobody is in it. Who knocked there looks again by itself, and finds that its session is over.
                continue;
            }
            let left = Direction::ALL.map(|direction| self.bury(worker, (slot, direction)));
            expected.extend(left.into_iter().flatten().map(|owner| (number, owner)));
            if let Life::Ended(_) = self.slots[slot].life {
                // The dead may have ended it, and told nobody.
                expected.extend(self.holders(slot).into_iter().map(|owner| (number, owner)));
                self.slots[slot].free_if_left();
            }
            for lane in &mut self.slots[slot].lanes {
                let knocked = std::mem::take(&mut lane.knocks);
                expected.extend(knocked.into_iter().flatten().map(|owner| (number, owner)));
            }
        }
        self.shared.sweep(WorkerId::new(worker).unwrap(), |slot, peer| rung.push((slot, peer)));
        assert!(expected.iter().all(|ring| rung.contains(ring)), "{rung:?}, not {expected:?}");
        for ring in rung.iter().filter(|ring| !expected.contains(ring)) {
            self.assert_may_be_told(*ring);
        }
        (self.wishes, self.wish_is_said) = (0, false);
        self.epochs[worker] += 1;
        self.emptied[worker] = None;
    }

    /// What the dead held in a lane is left. Returns whom it leaves behind in an attempt.
    fn bury(&mut self, worker: usize, (slot, direction): Lane) -> Vec<Owner> {
        let model = self.slots[slot].lane(direction);
        let holders = [model.sender.holder(), model.receiver.holder()];
        let mut left = Vec::new();
        if holders[0] == Some(worker) {
            let orphans = model.held().collect();
            model.sender.vacate();
            left.extend(holders[1].filter(|_| model.begun));
            model.sender_left(State::Lost, orphans);
        }
        if holders[1] == Some(worker) {
            let remains = model.begun && model.sender.holder().is_some();
            left.extend(holders[0].filter(|_| remains));
            model.receiver.vacate();
            model.receiver_left(State::Lost);
        }
        left.into_iter().map(|worker| self.owner(worker)).collect()
    }

    /// Whoever remains in an attempt may be told of it once more: the dead may have been about to.
    fn assert_may_be_told(&self, (slot, peer): (u32, Owner)) {
        let abandoned = self.slots[slot as usize].lanes.iter().any(|lane| {
            let holders = [lane.sender.holder(), lane.receiver.holder()];
            let holds = holders.into_iter().flatten().any(|worker| self.owner(worker) == peer);
            holds && lane.begun && holders.contains(&None)
        });
        assert!(abandoned, "{peer:?} was told in slot {slot} of nothing");
    }

    fn meet(&mut self, session: usize, direction: Direction, sender: usize, receiver: usize) {
        self.take_receiver(session, direction, receiver, false);
        self.take_sender(session, direction, sender, true);
        if let Some(session) = self.session(session) {
            self.begin((session.slot as usize, direction));
        }
    }

    pub(crate) fn check_invariants(&self) {
        let mut expected = Census::default();
        for model in &self.slots {
            expected.chunks_held += model.held().filter(is_chunk).count();
            expected.pipes_held += model.held().filter(is_pipe).count();
            let states = |lane: &LaneModel| [lane.sender.state(), lane.receiver.state()];
            let states = model.lanes.iter().flat_map(states);
            expected.places_held += states.filter(|state| *state != State::Empty).count();
            expected.sessions_live += usize::from(model.life == Life::Live);
            expected.slots_between += usize::from(matches!(model.life, Life::Ended(_)));
        }
        expected.pipes_held += self.emptied.iter().flatten().count();
        assert_eq!(self.shared.census(), expected);
        // What nobody holds and is not known to be dirty is empty.
        let is_held = |index| {
            self.emptied.contains(&Some(index))
                || self.held().any(|vessel| vessel == Vessel::Pipe(index))
        };
        let left = (0..PIPES_MAX).filter(|index| self.pipes[*index].is_some() && !is_held(*index));
        assert!(left.count() <= self.shared.pool().pipes_dirty());
        for (slot, model) in self.slots.iter().enumerate() {
            self.check_slot(u32::try_from(slot).unwrap(), model);
            model.lanes.iter().for_each(|lane| self.check_lane(lane));
        }
    }

    fn check_slot(&self, slot: u32, model: &SlotModel) {
        let session = SessionRef { slot, generation: model.generation };
        assert_eq!(self.shared.life(session), Ok(Some(model.life)));
        let found = self.shared.find(slot);
        let found = found.map(|found| (found.session, found.terms, found.guest, found.expires_ms));
        let expected = (session, model.terms, model.guest, model.expires_ms);
        assert_eq!(found, (model.life == Life::Live).then_some(expected));
    }

    fn check_lane(&self, model: &LaneModel) {
        let held = model.held().count();
        assert!(held <= LANE_CHUNKS, "{held} chunks and pipes in one lane");
        let abandoned = [model.sender.holder(), model.receiver.holder()] == [None, None];
        assert!(!abandoned || (held == 0 && !model.begun), "nobody cleans");
        if let Place::Held { end, .. } = &model.sender {
            self.check_end(end, model);
            assert_eq!(self.shared.rival(end.lane(), Role::Sender), Ok(model.rivals[0]));
            assert_eq!(end.settled(self.shared), Ok(model.settled));
            assert_eq!(end.taken(self.shared), Ok(model.counts.0));
            assert_eq!(end.delivered(self.shared), Ok(model.counts.1));
            assert_eq!(end.held(), model.flying.len() + model.back.len());
        }
        if let Place::Held { end, .. } = &model.receiver {
            self.check_end(end, model);
            assert_eq!(end.finish(self.shared), Ok(model.finish));
        }
    }

    /// Each end finds both places and the attempt as the model has them.
    fn check_end<E: LaneEnd>(&self, end: &E, model: &LaneModel) {
        let word = self.shared.look(end).unwrap();
        assert_eq!(word.begun, model.begun);
        assert_eq!(word.sender.state, model.sender.state());
        assert_eq!(word.receiver.state, model.receiver.state());
        if let Place::Held { worker, mark, .. } = model.sender {
            assert_eq!((word.sender.owner, word.sender.mark), (self.owner(worker), mark));
        }
        if let Place::Held { worker, mark, .. } = model.receiver {
            assert_eq!((word.receiver.owner, word.receiver.mark), (self.owner(worker), mark));
        }
    }

    /// Everybody leaves, and every session ends.
    pub(crate) fn close(&mut self) {
        for lane in (0..SLOTS).flat_map(|slot| Direction::ALL.map(|direction| (slot, direction))) {
            self.leave_sender(lane);
            self.leave_receiver(lane);
            self.check_invariants();
        }
        (0..self.sessions.len()).for_each(|session| self.end(session));
        (0..WORKERS).for_each(|worker| self.empty(worker));
        self.check_invariants();
        assert_eq!(self.shared.census(), Census::default());
    }
}

fn terms(session: usize, lifetime_ms: u64) -> Terms {
    let byte = u8::try_from(session % 256).unwrap();
    Terms { key: [byte; 32], token: [!byte; 32], kind: u64::from(byte), lifetime_ms, account: None }
}
