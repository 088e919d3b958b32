//! The access logs, opened anew: what an operator asks for once they were renamed. It needs no decision, as it
//! changes nothing else.
//!
//! Called by `supervisor`. All are opened before the first is used: if one cannot be, all stay as they were.

use super::decision::{Decider, GenerationId};
use super::workers::{Process, Workers};
use super::{MasterError, opening};
use crate::sys::sink::Sink;
use crate::worker::Generation;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;

/// How many logs were opened anew, and how many workers write to them from now on.
#[derive(Debug)]
pub(super) struct Reopened {
    pub(super) logs: usize,
    pub(super) workers: usize,
    /// Workers that could not be told, and write to the old ones: the log says which.
    pub(super) untold: usize,
}

/// Opens the logs of all generations anew. A worker that is left from another program, with a configuration that is
/// not known here, goes on in the log of the `current` one; without that, it may write to any, and counts as untold.
pub(super) fn reopen(
    generations: &BTreeMap<GenerationId, Rc<Generation>>,
    current: &Rc<Generation>,
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
                tracing::error!(worker, "another program's worker: its access log is not known");
                Some(false)
            }
        }
    };
    let told = workers.processes().iter().filter_map(tell);
    let (told, untold): (Vec<bool>, _) = told.partition(|is_told| *is_told);
    Ok(Reopened { logs: opened.len(), workers: told.len(), untold: untold.len() })
}

/// The generation's log, and the same opened anew; `None` if it has none.
fn open(generation: &Rc<Generation>) -> Option<Result<(&Sink, Sink), MasterError>> {
    let log = generation.access.as_ref()?;
    let new = opening::open_access_log(&generation.config).transpose()?;
    Some(new.map(|new| (log, new)))
}
