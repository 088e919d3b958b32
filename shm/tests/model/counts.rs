//! The model of a slot and of its two lanes: counts and queues, no words.

use shm::{
    Direction, Filling, Finish, Life, Owner, ReceiverEnd, SenderEnd, Settled, State, Terms, Vessel,
};
use std::collections::VecDeque;

/// A place as the model knows it, with the real end where somebody holds it.
#[derive(Debug)]
pub(crate) enum Place<E> {
    Free,
    Held { end: E, worker: usize, mark: bool },
    Left(State),
}

impl<E> Place<E> {
    pub(crate) fn state(&self) -> State {
        match self {
            Place::Free => State::Empty,
            Place::Held { .. } => State::Held,
            Place::Left(state) => *state,
        }
    }

    pub(crate) fn holder(&self) -> Option<usize> {
        if let Place::Held { worker, .. } = self { Some(*worker) } else { None }
    }

    pub(crate) fn is_marked(&self) -> bool {
        matches!(self, Place::Held { mark: true, .. })
    }

    pub(crate) fn end(&mut self) -> Option<&mut E> {
        if let Place::Held { end, .. } = self { Some(end) } else { None }
    }

    pub(crate) fn vacate(&mut self) -> Option<E> {
        self.holder()?;
        let Place::Held { end, .. } = std::mem::replace(self, Place::Free) else { return None };
        Some(end)
    }
}

/// What the model knows of one slot.
#[derive(Debug)]
pub(crate) struct SlotModel {
    pub(crate) life: Life,
    pub(crate) generation: u32,
    pub(crate) terms: Terms,
    pub(crate) guest: u64,
    pub(crate) expires_ms: u64,
    /// By direction.
    pub(crate) lanes: [LaneModel; 2],
}

impl SlotModel {
    pub(crate) fn new() -> Self {
        Self {
            life: Life::Free,
            generation: 0,
            terms: Terms { key: [0; 32], token: [0; 32], kind: 0, lifetime_ms: 0, account: None },
            guest: 0,
            expires_ms: 0,
            lanes: [LaneModel::new(), LaneModel::new()],
        }
    }

    pub(crate) fn issue(&mut self, terms: Terms, now_ms: u64) {
        let Self { generation, .. } = *self;
        let expires_ms = now_ms + terms.lifetime_ms;
        for lane in &mut self.lanes {
            lane.next_attempt();
        }
        let lanes = std::mem::replace(&mut self.lanes, [LaneModel::new(), LaneModel::new()]);
        *self = Self { life: Life::Live, generation, terms, guest: 0, expires_ms, lanes };
    }

    pub(crate) fn lane(&mut self, direction: Direction) -> &mut LaneModel {
        &mut self.lanes[direction as usize]
    }

    /// Who holds a place, lane by lane, senders first.
    pub(crate) fn holders(&self) -> Vec<usize> {
        let places = |lane: &LaneModel| [lane.sender.holder(), lane.receiver.holder()];
        self.lanes.iter().flat_map(places).flatten().collect()
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.lanes.iter().all(LaneModel::is_vacant)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lanes.iter().any(|lane| lane.begun)
    }

    pub(crate) fn free_if_left(&mut self) {
        if matches!(self.life, Life::Ended(_)) && self.is_vacant() {
            self.life = Life::Free;
            self.generation += 1;
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Vessel> {
        self.lanes.iter().flat_map(LaneModel::held)
    }
}

/// What the model knows of one lane.
#[derive(Debug)]
pub(crate) struct LaneModel {
    pub(crate) sender: Place<SenderEnd>,
    pub(crate) receiver: Place<ReceiverEnd>,
    /// Who wants the sender's place, and the receiver's.
    pub(crate) rivals: [u64; 2],
    /// Who knocked last, at the sender's place and at the receiver's.
    pub(crate) knocks: [Option<Owner>; 2],
    pub(crate) begun: bool,
    pub(crate) filling: Option<Filling>,
    /// Tokens that were published and not handed back, with the lengths of their ranges.
    pub(crate) flying: VecDeque<(u64, usize, Vessel)>,
    /// What AckRecv gave back and the sender did not look at yet.
    pub(crate) back: VecDeque<Vessel>,
    /// What a sender that is gone had.
    pub(crate) orphans: Vec<Vessel>,
    pub(crate) published_bytes: u64,
    pub(crate) finish: Finish,
    pub(crate) settled: Settled,
    pub(crate) counts: (u64, u64),
    pub(crate) sender_waits: bool,
    pub(crate) receiver_waits: bool,
    /// The sender has wished for a chunk, and has had none since.
    pub(crate) has_wished: bool,
}

impl LaneModel {
    fn new() -> Self {
        Self {
            sender: Place::Free,
            receiver: Place::Free,
            rivals: [0; 2],
            knocks: [None; 2],
            begun: false,
            filling: None,
            flying: VecDeque::new(),
            back: VecDeque::new(),
            orphans: Vec::new(),
            published_bytes: 0,
            finish: Finish::Open,
            settled: Settled::No,
            counts: (0, 0),
            sender_waits: false,
            receiver_waits: false,
            has_wished: false,
        }
    }

    /// The next session, or the next attempt, begins with nothing but what others want of it.
    fn next_attempt(&mut self) {
        *self = Self { rivals: self.rivals, knocks: self.knocks, ..Self::new() };
    }

    pub(crate) fn is_vacant(&self) -> bool {
        matches!((&self.sender, &self.receiver), (Place::Free, Place::Free))
    }

    /// After the sender left, or was swept with these of its attempt not given back.
    pub(crate) fn sender_left(&mut self, as_state: State, orphans: Vec<Vessel>) {
        match self.receiver.state() {
            _ if !self.begun => self.sender = Place::Free,
            State::Held => {
                self.sender = Place::Left(as_state);
                self.orphans = orphans;
            }
            _ => self.next_attempt(),
        }
        (self.back, self.filling, self.has_wished) = (VecDeque::new(), None, false);
    }

    pub(crate) fn receiver_left(&mut self, as_state: State) {
        match self.sender.state() {
            _ if !self.begun => self.receiver = Place::Free,
            State::Held => self.receiver = Place::Left(as_state),
            _ => self.next_attempt(),
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Vessel> {
        // What is in flight belongs to a sender while there is one; then it is orphans.
        let flying = self.in_flight().filter(|_| self.sender.holder().is_some());
        let filling = self.filling.iter().map(Filling::vessel);
        flying.chain(self.back.iter().copied()).chain(self.orphans.iter().copied()).chain(filling)
    }

    /// What was published and not handed back.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = Vessel> {
        self.flying.iter().map(|(_, _, vessel)| *vessel)
    }
}

pub(crate) fn is_pipe(vessel: &Vessel) -> bool {
    matches!(vessel, Vessel::Pipe(_))
}

pub(crate) fn is_chunk(vessel: &Vessel) -> bool {
    !is_pipe(vessel)
}
