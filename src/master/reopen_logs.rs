//! Opens the access logs again, after the operator has renamed them. Nothing else changes, so the decider is not asked.
//!
//! Called by `supervisor`. Invariant: all logs are opened before the first is used, so if one fails, none changes.

use super::decision::{Decider, GenerationId};
use super::workers::{Process, Workers};
use super::{MasterError, resources};
use crate::sys::sink::Sink;
use crate::worker::Resources;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

/// How many logs were reopened, and how many workers write to them from now on.
#[derive(Debug)]
pub(super) struct Reopened {
    pub(super) logs: usize,
    pub(super) workers: usize,
    /// Workers that could not be told and still write to the old logs; the log names them.
    pub(super) untold: usize,
}

/// Reopens the logs of all generations. A worker of a previous program, whose configuration is unknown here, gets the
/// log of the `current` generation. If that has none, the worker may write to any log, and counts as untold.
pub(super) fn reopen(
    generations: &BTreeMap<GenerationId, Rc<Resources>>,
    current: &Rc<Resources>,
    decider: &Decider,
    workers: &Workers,
) -> Result<Reopened, MasterError> {
    let others = generations.values().filter(|it| !Rc::ptr_eq(it, current));
    let opened = others.chain([current]).filter_map(open).collect::<Result<Vec<_>, _>>()?;
    for (log, new) in &opened {
        log.replace(new.as_fd()).map_err(MasterError::os("use the new access log"))?;
    }
    let tell = |process: &Process| {
        let known = decider.generation_of(process.record).and_then(|id| generations.get(&id));
        match (&known.unwrap_or(current).access, known) {
            (Some(log), _) => workers.reopen(process, log.as_fd()),
            (None, Some(_)) => None,
            (None, None) => {
                let worker = process.record.index();
                tracing::error!(
                    worker,
                    "cannot reopen a worker's access log: the previous program forked it, and its configuration is unknown"
                );
                Some(false)
            }
        }
    };
    let told = workers.processes().iter().filter_map(tell);
    let (told, untold): (Vec<bool>, _) = told.partition(|is_told| *is_told);
    Ok(Reopened { logs: opened.len(), workers: told.len(), untold: untold.len() })
}

/// The generation's log, and the same log reopened; `None` if it has none.
fn open(resources: &Rc<Resources>) -> Option<Result<(&Sink, Sink), MasterError>> {
    let log = resources.access.as_ref()?;
    let new = resources::open_access_log(&resources.config).transpose()?;
    Some(new.map(|new| (log, new)))
}
