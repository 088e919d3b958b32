//! The model of a slot and of its two lanes: counts and queues, no words.

use shm::{
    AddressTag, Buffer, Direction, Finish, Life, Owner, ReceiverEnd, Reserved, SenderEnd, Settled,
    State, Terms,
};
use std::collections::VecDeque;

/// A place as the model knows it, with the real end where somebody holds it.
#[derive(Debug)]
pub(crate) enum Place<E> {
    Free,
    Held { end: E, worker: usize, incompatible: bool },
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

    pub(crate) fn is_incompatible(&self) -> bool {
        matches!(self, Place::Held { incompatible: true, .. })
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

/// The state of a slot as the model knows it.
#[derive(Debug)]
pub(crate) struct SlotModel {
    pub(crate) life: Life,
    pub(crate) issue_number: u32,
    pub(crate) terms: Terms,
    pub(crate) guest: Option<AddressTag>,
    pub(crate) expires_ms: u64,
    /// The lanes, indexed by direction.
    pub(crate) lanes: [LaneModel; 2],
}

impl SlotModel {
    pub(crate) fn new() -> Self {
        Self {
            life: Life::Free,
            issue_number: 0,
            terms: Terms { key: [0; 32], token: [0; 32], kind: 0, lifetime_ms: 0, account: None },
            guest: None,
            expires_ms: 0,
            lanes: [LaneModel::new(), LaneModel::new()],
        }
    }

    pub(crate) fn issue(&mut self, terms: Terms, now_ms: u64) {
        let Self { issue_number, .. } = *self;
        let expires_ms = now_ms + terms.lifetime_ms;
        for lane in &mut self.lanes {
            lane.next_attempt();
        }
        let lanes = std::mem::replace(&mut self.lanes, [LaneModel::new(), LaneModel::new()]);
        *self = Self { life: Life::Live, issue_number, terms, guest: None, expires_ms, lanes };
    }

    pub(crate) fn lane(&mut self, direction: Direction) -> &mut LaneModel {
        &mut self.lanes[direction as usize]
    }

    /// The workers that hold a place, lane by lane, senders first.
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
            self.issue_number += 1;
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Buffer> {
        self.lanes.iter().flat_map(LaneModel::held)
    }
}

/// The state of a lane as the model knows it.
#[derive(Debug)]
pub(crate) struct LaneModel {
    pub(crate) sender: Place<SenderEnd>,
    pub(crate) receiver: Place<ReceiverEnd>,
    /// The rivals for the sender's place and for the receiver's.
    pub(crate) rivals: [Option<AddressTag>; 2],
    /// The latest waiter at the sender's place and at the receiver's.
    pub(crate) waiters: [Option<Owner>; 2],
    pub(crate) begun: bool,
    pub(crate) reserved: Option<Reserved>,
    /// Tokens that were published and not handed back, with the lengths of their ranges.
    pub(crate) flying: VecDeque<(u64, usize, Buffer)>,
    /// Buffers that AckRecv gave back and the sender did not look at yet.
    pub(crate) back: VecDeque<Buffer>,
    /// Buffers of a sender that is gone.
    pub(crate) orphans: Vec<Buffer>,
    pub(crate) published_bytes: u64,
    pub(crate) finish: Finish,
    pub(crate) settled: Settled,
    pub(crate) counts: (u64, u64),
    pub(crate) sender_waits: bool,
    pub(crate) receiver_waits: bool,
    /// The sender has requested a chunk, and has had none since.
    pub(crate) has_requested: bool,
}

impl LaneModel {
    fn new() -> Self {
        Self {
            sender: Place::Free,
            receiver: Place::Free,
            rivals: [None; 2],
            waiters: [None; 2],
            begun: false,
            reserved: None,
            flying: VecDeque::new(),
            back: VecDeque::new(),
            orphans: Vec::new(),
            published_bytes: 0,
            finish: Finish::Open,
            settled: Settled::No,
            counts: (0, 0),
            sender_waits: false,
            receiver_waits: false,
            has_requested: false,
        }
    }

    /// Begins the next session, or the next attempt, which inherits only the rivals and waiters.
    fn next_attempt(&mut self) {
        *self = Self { rivals: self.rivals, waiters: self.waiters, ..Self::new() };
    }

    pub(crate) fn is_vacant(&self) -> bool {
        matches!((&self.sender, &self.receiver), (Place::Free, Place::Free))
    }

    /// The sender left, or was swept with these buffers of its attempt not given back.
    pub(crate) fn sender_left(&mut self, as_state: State, orphans: Vec<Buffer>) {
        match self.receiver.state() {
            _ if !self.begun => self.sender = Place::Free,
            State::Held => {
                self.sender = Place::Left(as_state);
                self.orphans = orphans;
            }
            _ => self.next_attempt(),
        }
        (self.back, self.reserved, self.has_requested) = (VecDeque::new(), None, false);
    }

    pub(crate) fn receiver_left(&mut self, as_state: State) {
        match self.sender.state() {
            _ if !self.begun => self.receiver = Place::Free,
            State::Held => self.receiver = Place::Left(as_state),
            _ => self.next_attempt(),
        }
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Buffer> {
        // Buffers in flight belong to the sender while there is one. Then they are orphans.
        let flying = self.in_flight().filter(|_| self.sender.holder().is_some());
        let reserved = self.reserved.iter().map(Reserved::buffer);
        flying.chain(self.back.iter().copied()).chain(self.orphans.iter().copied()).chain(reserved)
    }

    /// Buffers that were published and not handed back.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = Buffer> {
        self.flying.iter().map(|(_, _, buffer)| *buffer)
    }
}

pub(crate) fn is_pipe(buffer: &Buffer) -> bool {
    matches!(buffer, Buffer::Pipe(_))
}

pub(crate) fn is_chunk(buffer: &Buffer) -> bool {
    !is_pipe(buffer)
}
