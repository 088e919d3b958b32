//! The model of one slot: counts and queues, no words.

use shm::{Filling, Finish, Life, ReceiverEnd, SenderEnd, Settled, State};
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

/// What the model knows of one slot: counts and queues, no words.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) life: Life,
    pub(crate) generation: u32,
    pub(crate) expires_ms: u64,
    pub(crate) sender: Place<SenderEnd>,
    pub(crate) receiver: Place<ReceiverEnd>,
    pub(crate) begun: bool,
    pub(crate) filling: Option<Filling>,
    /// Tokens that were published and not handed back, with their ranges.
    pub(crate) flying: VecDeque<(u64, usize)>,
    /// Chunks that AckRecv gave back and the sender did not look at yet.
    pub(crate) back: usize,
    /// Chunks of a sender that is gone.
    pub(crate) orphans: usize,
    pub(crate) published_bytes: u64,
    pub(crate) finish: Finish,
    pub(crate) settled: Settled,
    pub(crate) counts: (u64, u64),
    pub(crate) sender_waits: bool,
    pub(crate) receiver_waits: bool,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            life: Life::Free,
            generation: 0,
            expires_ms: 0,
            sender: Place::Free,
            receiver: Place::Free,
            begun: false,
            filling: None,
            flying: VecDeque::new(),
            back: 0,
            orphans: 0,
            published_bytes: 0,
            finish: Finish::Open,
            settled: Settled::No,
            counts: (0, 0),
            sender_waits: false,
            receiver_waits: false,
        }
    }

    /// The next session, or the next attempt, begins with nothing.
    pub(crate) fn next_attempt(&mut self) {
        let Model { life, generation, expires_ms, .. } = *self;
        *self = Model { life, generation, expires_ms, ..Model::new() };
    }

    pub(crate) fn is_vacant(&self) -> bool {
        matches!((&self.sender, &self.receiver), (Place::Free, Place::Free))
    }

    pub(crate) fn free_if_left(&mut self) {
        if matches!(self.life, Life::Ended(_)) && self.is_vacant() {
            self.life = Life::Free;
            self.generation += 1;
        }
    }

    /// After the sender left, or was swept with so many chunks of its attempt not given back.
    pub(crate) fn sender_left(&mut self, as_state: State, orphans: usize) {
        match self.receiver.state() {
            _ if !self.begun => self.sender = Place::Free,
            State::Held => {
                self.sender = Place::Left(as_state);
                self.orphans = orphans;
            }
            _ => self.next_attempt(),
        }
        (self.back, self.filling) = (0, None);
        self.free_if_left();
    }

    pub(crate) fn receiver_left(&mut self, as_state: State) {
        match self.sender.state() {
            _ if !self.begun => self.receiver = Place::Free,
            State::Held => self.receiver = Place::Left(as_state),
            _ => self.next_attempt(),
        }
        self.free_if_left();
    }

    pub(crate) fn chunks_held(&self) -> usize {
        self.flying_chunks() + self.back + self.orphans + usize::from(self.filling.is_some())
    }

    /// Chunks in flight belong to a sender while there is one; then they are orphans.
    pub(crate) fn flying_chunks(&self) -> usize {
        if self.sender.holder().is_some() { self.flying.len() } else { 0 }
    }
}
