//! The words, and the steps that are made on them and on the model alike.

use crate::counts::{Model, Place};
use crate::{CHUNKS_MAX, LANE_CHUNKS, SLOTS, Step, WORKERS};
use shm::{
    Census, Direction, End, Finish, LaneEnd, Life, Owner, SessionRef, Settled, Shared, State,
    TakeError, Terms, WorkerId,
};

/// The words, the model, and the bytes.
pub(crate) struct World<'a> {
    shared: &'a Shared<'a>,
    models: Vec<Model>,
    sessions: Vec<SessionRef>,
    epochs: [u32; WORKERS],
    now_ms: u64,
    hint: usize,
    /// What the sender that filled a chunk last wrote into it.
    bytes: [u64; CHUNKS_MAX],
    token: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>) -> Self {
        let models = (0..SLOTS).map(|_| Model::new()).collect();
        let (sessions, epochs) = (Vec::new(), [0; WORKERS]);
        Self {
            shared,
            models,
            sessions,
            epochs,
            now_ms: 0,
            hint: 0,
            bytes: [0; CHUNKS_MAX],
            token: 0,
        }
    }

    fn owner(&self, worker: usize) -> Owner {
        Owner::new(WorkerId::new(worker).unwrap(), self.epochs[worker])
    }

    /// The session that was issued `back` issues ago, living or not.
    fn session(&self, back: usize) -> Option<SessionRef> {
        self.sessions.len().checked_sub(back + 1).map(|index| self.sessions[index])
    }

    fn free_chunks(&self) -> usize {
        self.shared.pool().len() - self.models.iter().map(Model::chunks_held).sum::<usize>()
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Issue { worker, lifetime_ms } => self.issue(worker, lifetime_ms),
            Step::Pass { ms } => self.now_ms += ms,
            Step::TakeSender { session, worker, mark } => self.take_sender(session, worker, mark),
            Step::TakeReceiver { session, worker, mark } => {
                self.take_receiver(session, worker, mark);
            }
            Step::Begin { slot } => self.begin(slot),
            Step::Reserve { slot } => self.reserve(slot),
            Step::PutBack { slot } => self.put_back(slot),
            Step::Publish { slot, start, bytes } => self.publish(slot, start..start + bytes),
            Step::WaitForRoom { slot } => self.wait_for_room(slot),
            Step::Shed { slot } => self.shed(slot),
            Step::Next { slot } => self.next(slot),
            Step::AckRecv { slot } => self.ack_recv(slot),
            Step::WaitForChunk { slot } => self.wait_for_chunk(slot),
            Step::Count { slot } => self.count(slot),
            Step::Finish { slot, whole } => self.finish(slot, whole),
            Step::Settle { slot } => self.settle(slot),
            Step::LeaveSender { slot } => self.leave_sender(slot),
            Step::LeaveReceiver { slot } => self.leave_receiver(slot),
            Step::End { session } => self.end(session),
            Step::Die { worker } => self.die(worker),
            Step::Pair { sender, receiver } => self.pair(sender, receiver),
            Step::Send { slot } => self.send(slot),
        }
    }

    fn issue(&mut self, worker: usize, lifetime_ms: u64) {
        let expires_ms = self.now_ms + lifetime_ms;
        let terms = terms(self.sessions.len(), lifetime_ms);
        let issued = self.shared.issue(self.owner(worker), &terms, self.now_ms);
        let mut expected = None;
        for slot in (0..SLOTS).map(|i| (self.hint + i) % SLOTS) {
            let model = &mut self.models[slot];
            let over = model.life == Life::Live && model.expires_ms <= self.now_ms;
            if over && model.is_vacant() {
                model.life = Life::Ended(End::Expired);
                model.free_if_left();
            }
            if model.life == Life::Free {
                model.life = Life::Live;
                model.expires_ms = expires_ms;
                model.next_attempt();
                let generation = model.generation;
                expected = Some(SessionRef { slot: u32::try_from(slot).unwrap(), generation });
                self.hint = slot + 1;
                break;
            }
        }
        assert_eq!(issued, expected);
        self.sessions.extend(issued);
        let Some(session) = issued else { return };
        let found = self.shared.find(session.slot).unwrap();
        let found = (found.session, found.terms, found.peer, found.expires_ms);
        assert_eq!(found, (session, terms, 0, expires_ms));
    }

    /// Why a place cannot be taken, by the model.
    fn obstacle(&self, session: SessionRef, state: State) -> Option<TakeError> {
        let model = &self.models[session.slot as usize];
        match state {
            _ if model.life != Life::Live => Some(TakeError::Ended),
            _ if model.generation != session.generation => Some(TakeError::Ended),
            State::Held => Some(TakeError::Taken),
            State::Gone | State::Lost => Some(TakeError::Leaving),
            State::Empty | State::Closed => None,
        }
    }

    fn take_sender(&mut self, session: usize, worker: usize, mark: bool) {
        let Some(session) = self.session(session) else { return };
        let taken =
            self.shared.take_sender(session.lane(Direction::Forth), self.owner(worker), mark);
        let state = self.models[session.slot as usize].sender.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                self.models[session.slot as usize].sender = Place::Held { end, worker, mark };
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn take_receiver(&mut self, session: usize, worker: usize, mark: bool) {
        let Some(session) = self.session(session) else { return };
        let taken =
            self.shared.take_receiver(session.lane(Direction::Forth), self.owner(worker), mark);
        let state = self.models[session.slot as usize].receiver.state();
        match (taken, self.obstacle(session, state)) {
            (Ok(end), None) => {
                self.models[session.slot as usize].receiver = Place::Held { end, worker, mark };
            }
            (taken, obstacle) => assert_eq!(taken.err(), obstacle),
        }
    }

    fn begin(&mut self, slot: usize) {
        let receiver = self.models[slot].receiver.holder();
        // Two that are both marked do not suit each other.
        let suit =
            !(self.models[slot].sender.is_marked() && self.models[slot].receiver.is_marked());
        let expected = receiver.filter(|_| suit).map(|worker| self.owner(worker));
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end().filter(|_| !model.begun) else { return };
        let announced = slot.to_le_bytes();
        assert_eq!(self.shared.begin(sender, &announced), Ok(expected));
        model.begun = expected.is_some();
        if let Some(receiver) = model.receiver.end() {
            assert_eq!(receiver.announcement(self.shared).as_deref(), Ok(&announced[..]));
        }
    }

    /// The fair share: a lane that holds k chunks takes one more while more than k are free, and
    /// gives one back while fewer than k - 1 are; it always may have one.
    fn reserve(&mut self, slot: usize) {
        let mut free = self.free_chunks();
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end().filter(|_| model.filling.is_none()) else { return };
        let mut held = model.flying.len() + model.back;
        let mut reserved = false;
        while model.back > 0 && !reserved {
            model.back -= 1;
            reserved = held == 1 || free + 1 >= held;
            free += usize::from(!reserved);
            held -= 1;
        }
        let grows = free > held && held < LANE_CHUNKS;
        let filling = sender.reserve(self.shared).unwrap();
        assert_eq!(filling.is_some(), reserved || grows, "{held} held, {free} free");
        model.filling = filling;
    }

    fn put_back(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end() else { return };
        let Some(filling) = model.filling.take() else { return };
        sender.put_back(self.shared, filling).unwrap();
    }

    fn publish(&mut self, slot: usize, range: std::ops::Range<usize>) {
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end().filter(|_| model.begun) else { return };
        let Some(filling) = model.filling.take() else { return };
        self.token += 1;
        self.bytes[filling.chunk_index()] = self.token;
        model.flying.push_back((self.token, range.len()));
        model.published_bytes += range.len() as u64;
        let rings = sender.publish(self.shared, filling, range).unwrap();
        assert_eq!(rings, std::mem::take(&mut model.receiver_waits));
        assert_eq!(sender.published_bytes(), model.published_bytes);
    }

    fn wait_for_room(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end() else { return };
        model.sender_waits = model.back == 0;
        assert_eq!(sender.wait_for_room(self.shared), Ok(model.sender_waits));
    }

    fn shed(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end() else { return };
        sender.shed(self.shared).unwrap();
        model.back = 0;
    }

    /// What is received is what was published, in order, and nobody has touched it since.
    fn next(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(receiver) = model.receiver.end() else { return };
        let piece = receiver.next(self.shared).unwrap();
        let received = piece.map(|piece| (self.bytes[piece.chunk_index()], piece.len()));
        assert_eq!(received, model.flying.front().copied());
    }

    fn ack_recv(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(receiver) = model.receiver.end().filter(|_| !model.flying.is_empty()) else {
            return;
        };
        receiver.next(self.shared).unwrap();
        let rings = receiver.ack_recv(self.shared).unwrap();
        assert_eq!(rings, std::mem::take(&mut model.sender_waits));
        model.flying.pop_front();
        model.back += usize::from(model.sender.holder().is_some());
    }

    fn wait_for_chunk(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(receiver) = model.receiver.end() else { return };
        model.receiver_waits = model.flying.is_empty() && model.finish == Finish::Open;
        assert_eq!(receiver.wait_for_chunk(self.shared), Ok(model.receiver_waits));
    }

    fn count(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(receiver) = model.receiver.end().filter(|_| model.begun) else { return };
        model.counts = (model.published_bytes, model.published_bytes / 2);
        receiver.count(self.shared, model.counts.0, model.counts.1).unwrap();
    }

    fn finish(&mut self, slot: usize, whole: bool) {
        let model = &mut self.models[slot];
        let Some(sender) = model.sender.end().filter(|_| model.begun) else { return };
        model.finish = if whole { Finish::Whole(model.published_bytes) } else { Finish::Aborted };
        sender.finish(self.shared, model.finish).unwrap();
    }

    fn settle(&mut self, slot: usize) {
        let model = &mut self.models[slot];
        let Some(receiver) = model.receiver.end().filter(|_| model.begun) else { return };
        model.settled = if model.counts.1 == 0 { Settled::Sent } else { Settled::Acked };
        receiver.settle(self.shared, model.settled).unwrap();
    }

    fn leave_sender(&mut self, slot: usize) {
        let peer = self.models[slot].receiver.holder().map(|worker| self.owner(worker));
        let model = &mut self.models[slot];
        let Some(end) = model.sender.vacate() else { return };
        let told = self.shared.leave_sender(end, model.filling.take()).unwrap();
        assert_eq!(told, peer.filter(|_| model.begun));
        let orphans = model.flying.len();
        model.sender_left(State::Gone, orphans);
    }

    fn leave_receiver(&mut self, slot: usize) {
        let peer = self.models[slot].sender.holder().map(|worker| self.owner(worker));
        let model = &mut self.models[slot];
        let Some(end) = model.receiver.vacate() else { return };
        let told = self.shared.leave_receiver(end).unwrap();
        assert_eq!(told, peer.filter(|_| model.begun));
        model.receiver_left(State::Gone);
    }

    fn end(&mut self, session: usize) {
        let Some(session) = self.session(session) else { return };
        let model = &self.models[session.slot as usize];
        let lives = model.life == Life::Live && model.generation == session.generation;
        let holders = [model.sender.holder(), model.receiver.holder()].into_iter().flatten();
        let expected: Vec<Owner> = holders.filter(|_| lives).map(|w| self.owner(w)).collect();
        let mut rung = Vec::new();
        let ended = self.shared.end(session, End::Deleted, |owner| rung.push(owner));
        assert_eq!((ended, rung), (lives, expected));
        if lives {
            self.models[session.slot as usize].life = Life::Ended(End::Deleted);
            self.models[session.slot as usize].free_if_left();
        }
    }

    /// The worker is gone with all it knew; the master sweeps, and the survivors are told.
    fn die(&mut self, worker: usize) {
        let (mut expected, mut rung) = (Vec::new(), Vec::new());
        for slot in 0..SLOTS {
            let number = u32::try_from(slot).unwrap();
            let peers = [self.models[slot].sender.holder(), self.models[slot].receiver.holder()];
            let [sender, receiver] = peers.map(|peer| peer.map(|worker| self.owner(worker)));
            let model = &mut self.models[slot];
            if peers[0] == Some(worker) {
                let orphans = model.chunks_held();
                model.sender.vacate();
                expected.extend(receiver.filter(|_| model.begun).map(|owner| (number, owner)));
                model.sender_left(State::Lost, orphans);
            }
            if peers[1] == Some(worker) {
                let remains = model.begun && model.sender.holder().is_some();
                expected.extend(sender.filter(|_| remains).map(|owner| (number, owner)));
                model.receiver.vacate();
                model.receiver_left(State::Lost);
            }
        }
        self.shared.sweep(WorkerId::new(worker).unwrap(), |slot, peer| rung.push((slot, peer)));
        assert!(expected.iter().all(|ring| rung.contains(ring)), "{rung:?}, not {expected:?}");
        for ring in rung.iter().filter(|ring| !expected.contains(ring)) {
            self.assert_may_be_told(*ring);
        }
        self.epochs[worker] += 1;
    }

    /// Whoever remains in an attempt or a session that is over may be told of it once more: the dead
    /// may have been about to.
    fn assert_may_be_told(&self, (slot, peer): (u32, Owner)) {
        let model = &self.models[slot as usize];
        let holders = [model.sender.holder(), model.receiver.holder()];
        let holds = holders.into_iter().flatten().any(|worker| self.owner(worker) == peer);
        let over = model.begun && holders.contains(&None) || matches!(model.life, Life::Ended(_));
        assert!(holds && over, "{peer:?} was told in slot {slot} of nothing");
    }

    fn pair(&mut self, sender: usize, receiver: usize) {
        self.issue(sender, 100);
        self.take_receiver(0, receiver, false);
        self.take_sender(0, sender, true);
        if let Some(session) = self.session(0) {
            self.begin(session.slot as usize);
        }
    }

    fn send(&mut self, slot: usize) {
        self.reserve(slot);
        self.publish(slot, 1..17);
    }

    pub(crate) fn check_invariants(&self) {
        let mut expected = Census::default();
        for model in &self.models {
            expected.chunks_held += model.chunks_held();
            let taken = [model.sender.state(), model.receiver.state()].into_iter();
            expected.places_held += taken.filter(|state| *state != State::Empty).count();
            expected.sessions_live += usize::from(model.life == Life::Live);
            expected.slots_between += usize::from(matches!(model.life, Life::Ended(_)));
        }
        assert_eq!(self.shared.census(), expected);
        self.models.iter().enumerate().for_each(|(slot, model)| self.check_slot(slot, model));
    }

    fn check_slot(&self, slot: usize, model: &Model) {
        assert!(model.chunks_held() <= LANE_CHUNKS, "{} chunks in one lane", model.chunks_held());
        let holders = [model.sender.holder(), model.receiver.holder()];
        let abandoned = holders.iter().all(Option::is_none);
        assert!(!abandoned || (model.chunks_held() == 0 && !model.begun), "nobody cleans {slot}");
        let session =
            SessionRef { slot: u32::try_from(slot).unwrap(), generation: model.generation };
        assert_eq!(self.shared.life(session), Ok(Some(model.life)));
        if let Place::Held { end, .. } = &model.sender {
            self.check_end(end, model);
            assert_eq!(end.settled(self.shared), Ok(model.settled));
            assert_eq!(end.taken(self.shared), Ok(model.counts.0));
            assert_eq!(end.delivered(self.shared), Ok(model.counts.1));
            assert_eq!(end.held(), model.flying.len() + model.back);
        }
        if let Place::Held { end, .. } = &model.receiver {
            self.check_end(end, model);
            assert_eq!(end.finish(self.shared), Ok(model.finish));
        }
    }

    /// Each end finds both places and the attempt as the model has them.
    fn check_end<E: LaneEnd>(&self, end: &E, model: &Model) {
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
        for slot in 0..SLOTS {
            self.leave_sender(slot);
            self.leave_receiver(slot);
            self.check_invariants();
        }
        (0..self.sessions.len()).for_each(|session| self.end(session));
        self.check_invariants();
        assert_eq!(self.shared.census(), Census::default());
    }
}

fn terms(session: usize, lifetime_ms: u64) -> Terms {
    let byte = u8::try_from(session % 256).unwrap();
    Terms { key: [byte; 32], token: [!byte; 32], kind: u64::from(byte), lifetime_ms }
}
