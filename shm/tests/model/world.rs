//! The words, and the steps on sessions and places that are made on them and on the model alike.

use crate::counts::{LaneModel, Place, SlotModel, is_pipe};
use crate::{CHUNKS_MAX, Lane, PIPES_MAX, SLOTS, Step, WORKERS};
use shm::{
    AddressTag, Buffer, Census, Direction, End, LaneRef, Life, Owner, Role, SessionRef, Shared,
    State, TakeError, Terms, WorkerId,
};

/// The words, the model, and the bytes.
pub(crate) struct World<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) slots: Vec<SlotModel>,
    sessions: Vec<SessionRef>,
    epochs: [u32; WORKERS],
    pub(crate) now_ms: u64,
    hint: usize,
    /// The token that the last sender wrote into each chunk.
    pub(crate) bytes: [u64; CHUNKS_MAX],
    /// The token in each pipe.
    pub(crate) pipes: [Option<u64>; PIPES_MAX],
    /// How many lanes that held nothing have found no chunk.
    pub(crate) requests: u64,
    /// Some lane has requested a chunk since the last request was met.
    pub(crate) request_is_open: bool,
    /// The pipe that each worker empties.
    pub(crate) emptied: [Option<usize>; WORKERS],
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
            requests: 0,
            request_is_open: false,
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

    pub(crate) fn held(&self) -> impl Iterator<Item = Buffer> {
        self.slots.iter().flat_map(SlotModel::held)
    }

    pub(crate) fn free(&self, by_pipe: bool) -> usize {
        let pool = self.shared.pool();
        let emptied = self.emptied.iter().flatten().count();
        let all = if by_pipe { pool.pipes() - pool.pipes_dirty() - emptied } else { pool.len() };
        all - self.held().filter(|buffer| is_pipe(buffer) == by_pipe).count()
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
        self.shared.pool().give_back_emptied(index, WorkerId::new(worker).unwrap()).unwrap();
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Issue { worker, lifetime_ms } => self.issue(worker, lifetime_ms),
            Step::Pass { ms } => self.now_ms += ms,
            Step::TakeSender { session, direction, worker, incompatible } => {
                self.take_sender(session, direction, worker, incompatible);
            }
            Step::TakeReceiver { session, direction, worker, incompatible } => {
                self.take_receiver(session, direction, worker, incompatible);
            }
            Step::RequestTakeover { session, direction, role, rival } => {
                self.name_rival(session, direction, role, rival);
            }
            Step::CancelTakeover { session, direction, role, rival } => {
                self.clear_rival(session, direction, role, rival);
            }
            Step::Wait { session, direction, role, worker } => {
                self.wait_for_place(session, direction, role, worker);
            }
            Step::SetGuest { session, guest } => self.set_guest(session, guest),
            Step::Begin { lane } => self.begin(lane),
            Step::Reserve { lane, by_pipe } => self.reserve(lane, by_pipe),
            Step::PutBack { lane } => self.give_back_empty(lane),
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
                let issue_number = model.issue_number;
                expected = Some(SessionRef { slot: u32::try_from(slot).unwrap(), issue_number });
                self.hint = slot + 1;
                break;
            }
        }
        assert_eq!(issued, expected);
        self.sessions.extend(issued);
    }

    fn lives(&self, session: SessionRef) -> bool {
        let model = &self.slots[session.slot as usize];
        (model.life, model.issue_number) == (Life::Live, session.issue_number)
    }

    /// The reason why a place cannot be taken, by the model.
    fn obstacle(&self, session: SessionRef, state: State) -> Option<TakeError> {
        match state {
            _ if !self.lives(session) => Some(TakeError::Ended),
            State::Held => Some(TakeError::Held),
            State::Gone | State::Lost => Some(TakeError::Leaving),
            State::Empty | State::Closed => None,
        }
    }

    fn take_sender(
        &mut self,
        session: usize,
        direction: Direction,
        worker: usize,
        incompatible: bool,
    ) {
        let Some(session) = self.session(session) else { return };
        let taken =
            self.shared.take_sender(session.lane(direction), self.owner(worker), incompatible);
        let state = self.model(session.lane(direction)).sender.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                let model = self.model(session.lane(direction));
                model.sender = Place::Held { end, worker, incompatible };
                model.rivals[0] = None;
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn take_receiver(
        &mut self,
        session: usize,
        direction: Direction,
        worker: usize,
        incompatible: bool,
    ) {
        let Some(session) = self.session(session) else { return };
        let taken =
            self.shared.take_receiver(session.lane(direction), self.owner(worker), incompatible);
        let state = self.model(session.lane(direction)).receiver.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                let model = self.model(session.lane(direction));
                model.receiver = Place::Held { end, worker, incompatible };
                model.rivals[1] = None;
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn model(&mut self, at: LaneRef) -> &mut LaneModel {
        self.slots[at.session.slot as usize].lane(at.direction)
    }

    fn name_rival(&mut self, session: usize, direction: Direction, role: Role, rival: AddressTag) {
        let Some(session) = self.session(session) else { return };
        let at = session.lane(direction);
        let heard = self.lives(session);
        let model = self.model(at);
        if heard {
            model.rivals[role as usize] = Some(rival);
        }
        let holder = match role {
            Role::Sender => model.sender.holder(),
            Role::Receiver => model.receiver.holder(),
        };
        let holder = holder.filter(|_| heard);
        let expected = holder.map(|worker| self.owner(worker));
        let mut rung = None;
        assert_eq!(self.shared.name_rival(at, role, rival, |owner| rung = Some(owner)), Ok(heard));
        assert_eq!(rung, expected);
    }

    fn clear_rival(&mut self, session: usize, direction: Direction, role: Role, rival: AddressTag) {
        let Some(session) = self.session(session) else { return };
        let model = self.model(session.lane(direction));
        let wanted = &mut model.rivals[role as usize];
        *wanted = if *wanted == Some(rival) { None } else { *wanted };
        assert_eq!(self.shared.clear_rival(session.lane(direction), role, rival), Ok(()));
    }

    fn wait_for_place(&mut self, session: usize, direction: Direction, role: Role, worker: usize) {
        let Some(session) = self.session(session) else { return };
        let owner = self.owner(worker);
        self.model(session.lane(direction)).waiters[role as usize] = Some(owner);
        assert_eq!(self.shared.register_waiter(session.lane(direction), role, owner), Ok(()));
    }

    /// Tells the waiters, as an end that leaves does.
    fn tell_waiters(&mut self, (slot, direction): Lane) {
        let expected = std::mem::take(&mut self.slots[slot].lane(direction).waiters);
        let session = SessionRef { slot: u32::try_from(slot).unwrap(), issue_number: 0 };
        let told: Vec<_> = self.shared.take_waiters(session.lane(direction)).collect();
        assert_eq!(told, expected.into_iter().flatten().collect::<Vec<_>>());
    }

    fn set_guest(&mut self, session: usize, guest: AddressTag) {
        let Some(session) = self.session(session) else { return };
        let slot = session.slot as usize;
        let mut expected = Vec::new();
        if self.lives(session) {
            self.slots[slot].guest = Some(guest);
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
        if model.has_requested {
            self.requests = self.requests.saturating_sub(1);
        }
        let told = self.shared.leave_sender(end, model.reserved.take()).unwrap();
        assert_eq!(told, peer.filter(|_| model.begun));
        let orphans = model.in_flight().collect();
        model.sender_left(State::Gone, orphans);
        self.slots[slot].free_if_left();
        self.tell_waiters((slot, direction));
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
        self.tell_waiters((slot, direction));
    }

    /// The owners that hold a place in `slot`, as bells name them.
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

    /// If the session ended, exactly the owners in it were told.
    fn ended(&mut self, session: SessionRef, end: End, ended: bool, rung: &[Owner]) {
        let slot = session.slot as usize;
        let expected = if ended { self.holders(slot) } else { Vec::new() };
        assert_eq!(rung, expected);
        if ended {
            self.slots[slot].life = Life::Ended(end);
            self.slots[slot].free_if_left();
        }
    }

    /// The worker dies with all it knew. The master sweeps, and the survivors are told.
    fn die(&mut self, worker: usize) {
        let (mut expected, mut rung) = (Vec::new(), Vec::new());
        for slot in 0..SLOTS {
            let number = u32::try_from(slot).unwrap();
            if self.slots[slot].life == Life::Free {
                // No worker is in the slot. A waiter there looks again by itself, and finds that its session is over.
                continue;
            }
            let left = Direction::ALL.map(|direction| self.reap(worker, (slot, direction)));
            expected.extend(left.into_iter().flatten().map(|owner| (number, owner)));
            if let Life::Ended(_) = self.slots[slot].life {
                // The dead worker may have ended the session, and told no other.
                expected.extend(self.holders(slot).into_iter().map(|owner| (number, owner)));
                self.slots[slot].free_if_left();
            }
            for lane in &mut self.slots[slot].lanes {
                let waiters = std::mem::take(&mut lane.waiters);
                expected.extend(waiters.into_iter().flatten().map(|owner| (number, owner)));
            }
        }
        self.shared.sweep(WorkerId::new(worker).unwrap(), |slot, peer| rung.push((slot, peer)));
        assert!(expected.iter().all(|ring| rung.contains(ring)), "{rung:?}, not {expected:?}");
        for ring in rung.iter().filter(|ring| !expected.contains(ring)) {
            self.assert_may_be_told(*ring);
        }
        (self.requests, self.request_is_open) = (0, false);
        self.epochs[worker] += 1;
        self.emptied[worker] = None;
    }

    /// Leaves the dead worker's places in a lane. Returns the owners that remain in an attempt.
    fn reap(&mut self, worker: usize, (slot, direction): Lane) -> Vec<Owner> {
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

    /// A worker that remains in an attempt may be told of it once more: the dead worker may have been about to.
    fn assert_may_be_told(&self, (slot, peer): (u32, Owner)) {
        let has_left = self.slots[slot as usize].lanes.iter().any(|lane| {
            let holders = [lane.sender.holder(), lane.receiver.holder()];
            let holds = holders.into_iter().flatten().any(|worker| self.owner(worker) == peer);
            holds && lane.begun && holders.contains(&None)
        });
        assert!(has_left, "{peer:?} was told in slot {slot} of nothing");
    }

    fn meet(&mut self, session: usize, direction: Direction, sender: usize, receiver: usize) {
        self.take_receiver(session, direction, receiver, false);
        self.take_sender(session, direction, sender, true);
        if let Some(session) = self.session(session) {
            self.begin((session.slot as usize, direction));
        }
    }

    /// Makes all workers leave, and ends every session.
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
