//! The master: makes everything that workers share, forks them, and from then on only supervises.
//!
//! It has one thread for life. It never parses a stranger's bytes, never reads payload, and trusts
//! nothing that it reads in shared memory: its indices come from its own loops.

mod activation;
mod backoff;
mod decision;
mod greeting;
mod notify;
mod opening;
mod pipes;
mod program;
mod pulse;
mod reopening;
mod state;
mod supervisor;
mod workers;

use crate::config::{Config, ConfigError, Source};
use crate::control;
use crate::diagnostics::{self, Diagnostics};
use crate::sandbox::{self, SandboxError};
use crate::session::IssueTokensError;
use crate::sys::private::Address;
use crate::sys::{self, clock, process, signal, title};
use crate::tls::{CredentialsError, Rotation};
use crate::worker::{Generation, Inheritance};
use activation::ActivationError;
use decision::Decider;
use greeting::Greeting;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid, getppid};
use notify::Notifier;
use program::Program;
use shm::{CreateError, Geometry, SECRET_BYTES, Segment, WORKER_RECORDS_MAX, WorkerId};
use state::{Restored, State};
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;
use supervisor::{Outside, SIGNALS, Supervisor};
use workers::Workers;

/// Why the relay could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listeners that the service manager has opened are not to be had.
    #[error("cannot listen")]
    Activation(#[from] ActivationError),
    /// The admin listener cannot be opened.
    #[error("cannot open the admin listener {address}")]
    Admin {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot write to {} (log.access)", path.display())]
    Access {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration, read anew, is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what only a restart can change.
    #[error("not without a restart: {keys} (as worked out, where it is \"auto\")")]
    Fixed {
        /// Which keys, for people.
        keys: String,
    },
    /// There is no control socket.
    #[error("cannot listen on {} (control_socket)", path.display())]
    Control {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener's certificate or key is no good any more.
    #[error("cannot speak TLS")]
    Credentials(#[from] CredentialsError),
    /// The tokens with which sessions may be asked for are no good any more.
    #[error("cannot tell who may ask for sessions (auth.issue_tokens)")]
    IssueTokens(#[from] IssueTokensError),
    /// A listener's certificate and key do not make a server.
    #[error("cannot speak TLS on {address}")]
    Tls {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// There is not enough memory for the segment.
    #[error("cannot make the shared segment (memory.segment_bytes)")]
    Segment(#[source] CreateError),
    /// This process may not have so large a segment: to try it could end in a signal.
    #[error("a segment of {bytes} bytes (memory.segment_bytes) is above {what}: {most} bytes")]
    SegmentLimit {
        /// How large it was to be.
        bytes: u64,
        /// Which limit is lower.
        what: &'static str,
        /// That limit.
        most: u64,
    },
    /// The program before this one cannot be gone on from.
    #[error("cannot take over from the program before")]
    TakeOver(#[source] Box<dyn Error + Send + Sync>),
    /// The kernel refuses to be refused.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel refused something else.
    #[error("cannot {what}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl MasterError {
    fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}

/// An error and what caused it, in one line if they are.
#[must_use]
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    text
}

/// Runs the relay with `config`, which came from `source`, until it is told to stop.
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
    // There may be fewer pipes, but not fewer of these.
    let wakers = make_wakers()?;
    let pipes = pipes::make(&config, files);
    let segment = make_segment(&config, pipes.len())?;
    lock(&segment);
    // Workers keep what they inherit for life, and so does the master.
    let inheritance: &Inheritance = Box::leak(Box::new(Inheritance { segment, wakers, pipes }));
    let rotation = rotation(inheritance)?;
    let first = opening::first(config, &inheritance.segment, given)?;
    compare_open_files(files, inheritance, &first);
    let control = open_control(&first.config);
    let control = control.inspect_err(|_| opening::close_admin(&first))?;
    let greeting = Greeting::of(&first);
    count_in_book(inheritance);
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
    let mut supervisor = Supervisor::new(inheritance, first, outside);
    supervisor.start().map_err(MasterError::os("start the workers"))?;
    greeting.log("started");
    greeting.print();
    supervisor.supervise();
    Ok(())
}

/// A program that has left this process to us, or would.
#[derive(Debug)]
pub struct Predecessor {
    state: RawFd,
    /// Where to say whether we could go on from there, if that is all that is asked.
    asked_at: Option<RawFd>,
}

/// Who was the master's program until now, by the environment.
#[must_use]
pub fn predecessor() -> Option<Predecessor> {
    let fd = |name| std::env::var(name).ok()?.parse().ok();
    Some(Predecessor { state: fd(state::TAKE_OVER)?, asked_at: fd(state::TRY) })
}

/// Goes on where `predecessor` stopped; the configuration comes from `source`. If it is asked whether that
/// could be, it only says so.
pub fn take_over(predecessor: &Predecessor, source: Source) -> Result<(), MasterError> {
    match predecessor.asked_at {
        None => go_on(predecessor.state, source),
        Some(asked_at) => {
            let text = match could_go_on(predecessor.state, &source) {
                Ok(()) => program::YES.to_owned(),
                Err(error) => format!("{}{}", program::NO, explain(&error)),
            };
            let asked_at = sys::program::take(asked_at);
            let told = asked_at.and_then(|fd| File::from(fd).write_all(text.as_bytes()));
            told.map_err(MasterError::os("say whether it could take over"))
        }
    }
}

/// Does all that [`go_on`] does, short of anything that could be noticed.
fn could_go_on(state: RawFd, source: &Source) -> Result<(), MasterError> {
    let restored = restore(state, getppid())?;
    harden(&restored.current.config)?;
    Decider::after(&restored.past, supervisor::terms(&restored.current), 0)
        .map_err(|error| MasterError::TakeOver(error.into()))?;
    let Restored { inheritance, current, is_activated, .. } = &restored;
    opening::could_be_next(source, &inheritance.segment, current, *is_activated)
}

fn restore(state: RawFd, master: Pid) -> Result<Restored, MasterError> {
    State::restore(state, master).map_err(|error| MasterError::TakeOver(error.into()))
}

fn go_on(state: RawFd, source: Source) -> Result<(), MasterError> {
    let program = Program::this();
    let Restored { inheritance, current, lack, is_activated, processes, control, past } =
        restore(state, getpid())?;
    let diagnostics = Diagnostics::begin(&current.config.log);
    show_title();
    harden(&current.config)?;
    // Those that came meanwhile were blocked, and are told of now.
    let signals = listen_for_signals()?;
    lock(&inheritance.segment);
    Greeting::of(&current).log("a new program has taken over");
    count_in_book(inheritance);
    let rotation = rotation(inheritance)?;
    let decider = Decider::after(&past, supervisor::terms(&current), clock::monotonic_ms())
        .map_err(|error| MasterError::TakeOver(error.into()))?;
    let workers = Workers::new(inheritance, processes);
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
    let current = Rc::new(current);
    let mut supervisor =
        Supervisor::after(inheritance, outside, decider, past.serving(), current, lack, workers);
    supervisor.supervise();
    Ok(())
}

/// The master's own lines that find no room are counted where worker 0 counts.
fn count_in_book(inheritance: &'static Inheritance) {
    let book = WorkerId::new(0).and_then(|first| inheritance.segment.shared().record(first));
    book.inspect(|book| diagnostics::count_in(book));
}

/// A program that is executed, as for an upgrade, has to do it anew.
fn harden(config: &Config) -> Result<(), MasterError> {
    if config.sandbox { Ok(sandbox::harden()?) } else { Ok(()) }
}

fn listen_for_signals() -> Result<SignalFd, MasterError> {
    signal::hear_of_children();
    signal::listen(&SIGNALS).map_err(MasterError::os("listen for signals"))
}

/// Keeps it in memory, if this process may.
fn lock(segment: &Segment) {
    if let Err(error) = segment.lock() {
        tracing::debug!(%error, "the segment is not locked in memory");
    }
}

fn show_title() {
    title::prepare();
    title::set("idontstore: master process");
}

/// Says so if a worker may open fewer `files` than it would need if all clients came to it.
fn compare_open_files(files: u64, inheritance: &Inheritance, generation: &Generation) {
    let connections_max = generation.config.limits.connections_max;
    let others = inheritance.descriptors(generation);
    if files < (connections_max as u64).saturating_add(others as u64) {
        let open_files = files;
        tracing::warn!(
            open_files,
            connections_max,
            others,
            "one worker may open too few files to hold all connections"
        );
    }
}

/// Files that the master opens beside those that [`open_files_needed`] counts: standard streams, signals, the segment,
/// the control socket, the admin listener, the access log, a log that is opened anew, a configuration, and what a fork
/// takes for a moment.
const OTHER_FILES: u64 = 16;
/// A worker's process in the master: its end, and both descriptors of its tether.
const FILES_PER_WORKER: u64 = 3;

/// How many files a process has to be allowed to open for a start with `config`.
#[must_use]
pub fn open_files_needed(config: &Config) -> u64 {
    let (listeners, workers) = (config.listeners.len() as u64, config.workers.get() as u64);
    let shared = WORKER_RECORDS_MAX as u64 + listeners + OTHER_FILES;
    // Pipes take a share of what there is.
    let all = shared + FILES_PER_WORKER * workers;
    all + all / (pipes::PIPE_FILES_SHARE - 1)
}

/// Whether this process may have the segment.
pub fn check_limits(config: &Config) -> Result<(), MasterError> {
    let bytes = config.memory.segment_bytes;
    match process::limit_below(bytes) {
        Some((what, most)) => Err(MasterError::SegmentLimit { bytes, what, most }),
        None => Ok(()),
    }
}

/// The segment, with a secret that lasts as long as it does.
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

/// The keys of TLS tickets, in good time from here on.
fn rotation(inheritance: &'static Inheritance) -> Result<Rotation, MasterError> {
    let rotation = Rotation::new(inheritance.segment.ticket_keys(), clock::monotonic_ms());
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
