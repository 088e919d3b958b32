//! Takes over from the previous program, which ran in this process, or tries whether that is possible.

use super::decision::Decider;
use super::greeting::Greeting;
use super::handover::{self, HandoverState, Restored};
use super::notify::Notifier;
use super::program::{self, Program};
use super::start::{count_diagnostics, harden, listen_for_signals, lock, rotation, show_title};
use super::supervisor::{self, Outside, Running, Supervisor};
use super::workers::Workers;
use super::{MasterError, explain, resources};
use crate::config::Source;
use crate::diagnostics::Diagnostics;
use crate::sys::{self, clock};
use nix::unistd::{Pid, getpid, getppid};
use std::fs::File;
use std::io::Write;
use std::os::fd::RawFd;
use std::rc::Rc;

/// The previous program of this process, or, in a trial, of the parent.
#[derive(Debug)]
pub struct PreviousProgram {
    state: RawFd,
    /// Where to write the verdict of a trial; `None`: this is no trial.
    asked_at: Option<RawFd>,
}

/// Reads the previous program from the environment.
#[must_use]
pub fn previous_program() -> Option<PreviousProgram> {
    let fd = |name| std::env::var(name).ok()?.parse().ok();
    Some(PreviousProgram { state: fd(handover::TAKE_OVER)?, asked_at: fd(handover::TRY) })
}

/// Takes over where `previous_program` stopped; the configuration comes from `source`. A trial only writes its
/// verdict.
pub fn take_over(previous_program: &PreviousProgram, source: Source) -> Result<(), MasterError> {
    match previous_program.asked_at {
        None => go_on(previous_program.state, source),
        Some(asked_at) => {
            let text = match could_go_on(previous_program.state, &source) {
                Ok(()) => program::YES.to_owned(),
                Err(error) => format!("{}{}", program::NO, explain(&error)),
            };
            let asked_at = sys::program::take(asked_at);
            let told = asked_at.and_then(|fd| File::from(fd).write_all(text.as_bytes()));
            told.map_err(MasterError::os("say whether it could take over"))
        }
    }
}

/// Does everything that [`go_on`] does, without any effect that could be noticed.
fn could_go_on(state: RawFd, source: &Source) -> Result<(), MasterError> {
    let restored = restore(state, getppid())?;
    harden(&restored.current.config)?;
    Decider::after(&restored.decider, supervisor::terms(&restored.current), 0)
        .map_err(|error| MasterError::TakeOver(error.into()))?;
    let Restored { inherited, current, is_activated, .. } = &restored;
    resources::could_be_next(source, &inherited.segment, current, *is_activated)
}

fn restore(state: RawFd, master: Pid) -> Result<Restored, MasterError> {
    HandoverState::restore(state, master).map_err(|error| MasterError::TakeOver(error.into()))
}

fn go_on(state: RawFd, source: Source) -> Result<(), MasterError> {
    let program = Program::this();
    let Restored {
        inherited,
        current,
        cannot_fork,
        is_activated,
        processes,
        control,
        decider: before,
    } = restore(state, getpid())?;
    let diagnostics = Diagnostics::begin(&current.config.log);
    show_title();
    harden(&current.config)?;
    // Signals of the meantime were blocked, and arrive now.
    let signals = listen_for_signals()?;
    lock(&inherited.segment);
    Greeting::of(&current).log("a new program has taken over");
    count_diagnostics(inherited);
    let rotation = rotation(inherited)?;
    let decider = Decider::after(&before, supervisor::terms(&current), clock::monotonic_ms())
        .map_err(|error| MasterError::TakeOver(error.into()))?;
    let workers = Workers::new(inherited, processes);
    let notifier = Notifier::from_environment(true);
    let outside = Outside {
        program,
        source,
        diagnostics,
        signals,
        control,
        rotation,
        notifier,
        is_activated,
    };
    let (serving, current) = (before.serving(), Rc::new(current));
    let running = Running { decider, serving, current, workers };
    let mut supervisor = Supervisor::after(inherited, outside, running, cannot_fork);
    supervisor.supervise();
    Ok(())
}
