//! The supervisor's part in an upgrade: the handover state, the trial, and the replacement.

use super::super::decision::{Event, GenerationId};
use super::super::handover::{Handed, HandoverState};
use super::Supervisor;

/// The workers that still belong to the previous program.
pub(super) struct OldWorkers {
    pub(super) serving: Option<GenerationId>,
    pub(super) cannot_fork: Option<String>,
}

impl Supervisor {
    /// Everything that another program needs to take over.
    pub(super) fn state(&self) -> HandoverState {
        let handed = Handed {
            inherited: self.inherited,
            current: &self.current,
            is_activated: self.outside.is_activated,
            workers: &self.workers,
            control: self.outside.control.as_ref(),
        };
        HandoverState::new(handed, self.decider.state())
    }

    pub(super) fn try_program(&mut self) -> Option<Event> {
        match self.outside.program.try_out(&self.state()) {
            Ok(trial) => {
                self.trial = Some(trial);
                None
            }
            Err(error) => Some(Event::Tried(Err(format!("cannot try the new program: {error}")))),
        }
    }

    /// Becomes the program that is installed now. Returns only if that fails.
    pub(super) fn replace(&mut self) -> Event {
        tracing::info!("the new program takes over");
        self.outside.notifier.alive();
        let error = self.outside.program.become_next(&self.state());
        Event::NotReplaced(format!("cannot start the new program: {error}"))
    }
}
