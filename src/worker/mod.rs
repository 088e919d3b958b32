//! A worker: one thread around one `mio::Poll`, made after the fork.
//!
//! The master calls [`run`] in the forked process. `event_loop` drives `connections`, each `connection` reads requests,
//! `route` finds what a request asks for, and a `transaction` carries that out. Invariant: a worker gives up its rights
//! before it reads the first byte of a client.

mod action;
mod admission;
pub mod channel;
mod claim;
mod connection;
mod connections;
mod crowding;
mod event_loop;
mod exchange;
mod incoming;
mod inherited;
mod issuing;
mod listeners;
mod messages;
mod origin;
mod pair;
mod part;
mod party;
mod past;
mod preview;
mod report_watch;
mod request;
mod route;
mod safe_conduct;
mod sessions;
mod subscriptions;
mod target;
mod transaction;
mod turns;
mod usage;
mod waiting;
mod wheel;

use std::io;

use shm::WorkerId;

use crate::config::Config;
use crate::sandbox;
use crate::sys::process;
use channel::WorkerEnd;
use event_loop::Worker;
pub use inherited::{Inherited, Resources};

/// The title of a worker in `ps`.
#[must_use]
pub fn title(id: WorkerId) -> String {
    format!("idontstore: worker process {}", id.index())
}

/// Runs worker `id` with `resources` until its end of the worker channel tells it to stop. The process must just have
/// been forked.
pub fn run(
    id: WorkerId,
    epoch: u32,
    channel: WorkerEnd,
    inherited: &'static Inherited,
    resources: &'static Resources,
) -> io::Result<()> {
    let mut keep = inherited.keep(resources);
    keep.extend(channel.fds());
    let shared = resources.shared(channel.fds());
    process::close_all_but(&keep)?;
    process::leave_stdin()?;
    let mut worker = Worker::new(id, epoch, channel, inherited, resources)?;
    if let Err(error) = process::raise_oom_score() {
        tracing::debug!(
            %error,
            "cannot set the OOM score: out of memory, the kernel may kill the master before its workers"
        );
    }
    let Config { user, sandbox, .. } = &resources.config;
    sandbox::enter(user, sandbox.then_some(&shared)).map_err(io::Error::other)?;
    worker.work()
}
