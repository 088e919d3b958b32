//! Starts the relay: makes everything that workers share, forks the first of them, and hands over to the supervisor.

use super::greeting::Greeting;
use super::limits::{check_limits, compare_open_files};
use super::notify::Notifier;
use super::program::Program;
use super::supervisor::{Outside, SIGNALS, Supervisor};
use super::{MasterError, activation, pipes, resources};
use crate::config::{Config, Source};
use crate::control;
use crate::diagnostics::{self, Diagnostics};
use crate::sandbox;
use crate::sys::{clock, process, signal, title};
use crate::tls::Rotation;
use crate::worker::Inherited;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signalfd::SignalFd;
use shm::{Geometry, SECRET_BYTES, Segment, WORKER_RECORDS_MAX, WorkerId};
use std::io;
use std::path::PathBuf;

/// Runs the relay with `config`, which came from `source`, until it stops.
pub fn run(config: Config, source: Source) -> Result<(), MasterError> {
    let program = Program::this();
    let given = activation::given()?;
    let is_activated = given.is_some();
    let diagnostics = Diagnostics::begin(&config.log);
    show_title();
    harden(&config)?;
    let files = process::raise_open_files();
    let files = files.map_err(MasterError::os("raise the limit of open files"))?;
    let signals = listen_for_signals()?;
    // Make these before the pipes: the relay can do with fewer pipes, but needs all of these.
    let wakers = make_wakers()?;
    let pipes = pipes::make(&config, files);
    let segment = make_segment(&config, pipes.len())?;
    lock(&segment);
    // Workers keep what they inherit for life, and so does the master.
    let inherited: &Inherited = Box::leak(Box::new(Inherited { segment, wakers, pipes }));
    let rotation = rotation(inherited)?;
    let first = resources::first(config, &inherited.segment, given)?;
    compare_open_files(files, inherited, &first);
    let control = open_control(&first.config);
    let control = control.inspect_err(|_| resources::close_admin(&first))?;
    let greeting = Greeting::of(&first);
    count_diagnostics(inherited);
    let notifier = Notifier::from_environment(false);
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
    let mut supervisor = Supervisor::new(inherited, first, outside);
    supervisor.start().map_err(MasterError::os("start the workers"))?;
    greeting.log("started");
    greeting.print();
    supervisor.supervise();
    Ok(())
}

/// Counts the master's own dropped lines where worker 0 counts.
pub(super) fn count_diagnostics(inherited: &'static Inherited) {
    let counters = WorkerId::new(0).and_then(|first| inherited.segment.shared().record(first));
    counters.inspect(|counters| diagnostics::count_with(counters));
}

/// An execve(2), as in an upgrade, resets this, so the new program does it again.
pub(super) fn harden(config: &Config) -> Result<(), MasterError> {
    if config.sandbox { Ok(sandbox::harden()?) } else { Ok(()) }
}

pub(super) fn listen_for_signals() -> Result<SignalFd, MasterError> {
    signal::hear_of_children();
    signal::listen(&SIGNALS).map_err(MasterError::os("listen for signals"))
}

/// Locks the segment in memory, if this process may.
pub(super) fn lock(segment: &Segment) {
    if let Err(error) = segment.lock() {
        tracing::debug!(%error, "cannot lock the segment in memory");
    }
}

pub(super) fn show_title() {
    title::prepare();
    title::set("idontstore: master process");
}

/// Makes the segment, with a secret that lasts as long as it does.
fn make_segment(config: &Config, pipes: usize) -> Result<Segment, MasterError> {
    check_limits(config)?;
    let pipes = u32::try_from(pipes).unwrap_or(0);
    let geometry = Geometry { pipes, ..config.memory.geometry };
    let segment = Segment::create(&geometry).map_err(MasterError::Segment)?;
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)
        .map_err(|error| MasterError::os("draw random numbers")(io::Error::other(error)))?;
    segment.keep_secret(&secret);
    Ok(segment)
}

/// Keeps the keys of TLS tickets fresh from here on.
pub(super) fn rotation(inherited: &'static Inherited) -> Result<Rotation, MasterError> {
    let rotation = Rotation::new(inherited.segment.ticket_keys(), clock::monotonic_ms());
    rotation.map_err(MasterError::os("draw random numbers"))
}

fn open_control(config: &Config) -> Result<Option<control::Server>, MasterError> {
    let open = |path: &PathBuf| {
        let opened = control::Server::open(path);
        opened.map_err(|source| MasterError::Control { path: path.clone(), source })
    };
    config.control_socket.as_ref().map(open).transpose()
}

fn make_wakers() -> Result<Vec<EventFd>, MasterError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let make = |_| EventFd::from_value_and_flags(0, flags);
    let made: Result<_, _> = (0..WORKER_RECORDS_MAX).map(make).collect();
    made.map_err(|errno| MasterError::os("make an eventfd")(errno.into()))
}
