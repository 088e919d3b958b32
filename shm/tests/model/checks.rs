//! Checks that the words of the segment say what the model says. The model's test calls this after each step.

use crate::counts::{LaneModel, Place, SlotModel, is_chunk, is_pipe};
use crate::world::World;
use crate::{LANE_CHUNKS, PIPES_MAX};
use shm::{Buffer, Census, LaneEnd, Life, Role, SessionRef, State};

impl World<'_> {
    pub(crate) fn check_invariants(&mut self) {
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
        // A pipe that is neither held nor known to be dirty is empty.
        let is_held = |index| {
            self.emptied.contains(&Some(index))
                || self.held().any(|buffer| buffer == Buffer::Pipe(index))
        };
        let left = (0..PIPES_MAX).filter(|index| self.pipes[*index].is_some() && !is_held(*index));
        assert!(left.count() <= self.shared.pool().pipes_dirty());
        for (slot, model) in self.slots.iter().enumerate() {
            self.check_slot(u32::try_from(slot).unwrap(), model);
        }
        // Attached ends are borrowed for a turn, so the model lends its slots.
        let mut slots = std::mem::take(&mut self.slots);
        slots.iter_mut().flat_map(|slot| &mut slot.lanes).for_each(|lane| self.check_lane(lane));
        self.slots = slots;
    }

    fn check_slot(&self, slot: u32, model: &SlotModel) {
        let session = SessionRef { slot, issue_number: model.issue_number };
        assert_eq!(self.shared.life(session), Ok(Some(model.life)));
        let found = self.shared.find(slot);
        let found = found.map(|found| (found.session, found.terms, found.guest, found.expires_ms));
        let expected = (session, model.terms, model.guest, model.expires_ms);
        assert_eq!(found, (model.life == Life::Live).then_some(expected));
    }

    fn check_lane(&self, model: &mut LaneModel) {
        let held = model.held().count();
        assert!(held <= LANE_CHUNKS, "{held} chunks and pipes in one lane");
        let is_empty = [model.sender.holder(), model.receiver.holder()] == [None, None];
        assert!(!is_empty || (held == 0 && !model.begun), "nobody cleans");
        if let Place::Held { end, .. } = &model.sender {
            self.check_end(end, model);
            assert_eq!(self.shared.rival(end.lane(), Role::Sender), Ok(model.rivals[0]));
            assert_eq!(end.held(), model.flying.len() + model.back.len());
        }
        if let Some(sender) = model.sender.end() {
            let sender = sender.attach(self.shared).unwrap();
            assert_eq!(sender.settled(), model.settled);
            assert_eq!(sender.taken(), Ok(model.counts.0));
            assert_eq!(sender.delivered(), Ok(model.counts.1));
        }
        if let Place::Held { end, .. } = &model.receiver {
            self.check_end(end, model);
        }
        if let Some(receiver) = model.receiver.end() {
            assert_eq!(receiver.attach(self.shared).unwrap().finish(), model.finish);
        }
    }

    /// Each end finds both places and the attempt as the model has them.
    fn check_end<E: LaneEnd>(&self, end: &E, model: &LaneModel) {
        let word = self.shared.look(end).unwrap();
        assert_eq!(word.begun, model.begun);
        assert_eq!(word.sender.state, model.sender.state());
        assert_eq!(word.receiver.state, model.receiver.state());
        if let Place::Held { worker, incompatible, .. } = model.sender {
            assert_eq!(
                (word.sender.owner, word.sender.incompatible),
                (self.owner(worker), incompatible)
            );
        }
        if let Place::Held { worker, incompatible, .. } = model.receiver {
            assert_eq!(
                (word.receiver.owner, word.receiver.incompatible),
                (self.owner(worker), incompatible)
            );
        }
    }
}
