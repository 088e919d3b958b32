//! The master: makes everything that workers share, forks them, and from then on only supervises.
//!
//! It has one thread for life. It never parses a stranger's bytes, never reads payload, and trusts
//! nothing that it reads in shared memory: its indices come from its own loops.

mod backoff;
mod decision;
mod diagnostics;
mod opening;
mod supervisor;

use crate::config::{Config, ConfigError, Source};
use crate::control;
use crate::sys::private::Address;
use crate::sys::{clock, private, process, signal, title};
use crate::tls::{CredentialsError, Rotation};
use crate::worker::{Generation, Inheritance};
use diagnostics::Diagnostics;
use nix::sys::eventfd::{EfdFlags, EventFd};
use shm::{CreateError, SECRET_BYTES, Segment, WORKER_RECORDS_MAX};
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use supervisor::{Outside, SIGNALS, Supervisor};

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
    /// The admin listener cannot be opened.
    #[error("cannot open the admin listener {address}")]
    Admin {
        /// Where.
        address: Address,
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
    let diagnostics = Diagnostics::begin(config.log_level);
    title::prepare();
    title::set("idontstore: master process");
    let files = process::raise_open_files();
    let files = files.map_err(MasterError::os("raise the limit of open files"))?;
    let most = config.limits.connections_max;
    if files <= most as u64 {
        tracing::warn!(
            open_files = files,
            connections_max = most,
            "one worker cannot hold them all"
        );
    }
    let signals = signal::listen(&SIGNALS).map_err(MasterError::os("listen for signals"))?;
    let segment = make_segment(&config)?;
    if let Err(error) = segment.lock() {
        tracing::debug!(%error, "the segment is not locked in memory");
    }
    let (lifeline, writer) = process::lifeline().map_err(MasterError::os("make a pipe"))?;
    // Workers keep what they inherit for life, and so does the master.
    let inheritance: &Inheritance =
        Box::leak(Box::new(Inheritance { segment, wakers: make_wakers()?, lifeline }));
    let rotation = Rotation::new(inheritance.segment.ticket_keys(), clock::monotonic_ms())
        .map_err(MasterError::os("draw random numbers"))?;
    let first = opening::first(config, &inheritance.segment)?;
    let control = open_control(&first.config)?;
    let text = introduction(&first);
    let outside = Outside { source, diagnostics, signals, control, rotation };
    let mut supervisor = Supervisor::new(inheritance, first, outside);
    supervisor.start().map_err(MasterError::os("fork a worker"))?;
    introduce(&text);
    let end = supervisor.supervise().map_err(MasterError::os("supervise the workers"));
    drop(writer);
    end
}

/// The segment, with a secret that lasts as long as it does.
fn make_segment(config: &Config) -> Result<Segment, MasterError> {
    let segment = Segment::create(&config.memory.geometry).map_err(MasterError::Segment)?;
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)
        .map_err(|error| MasterError::os("draw random numbers")(io::Error::other(error)))?;
    segment.keep_secret(&secret);
    Ok(segment)
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

/// Where we listen and what to try.
fn introduction(generation: &Generation) -> String {
    let admin = generation.admin.as_deref().and_then(private::local_address).map(Address::Tcp);
    let admin = admin.or_else(|| generation.config.admin.listen.clone());
    let urls: Vec<String> = generation.listened_on().map(|(_, url)| url).collect();
    let mut text: String = urls.iter().map(|url| format!("listening on {url}\n")).collect();
    if let Some(address) = admin {
        text += &format!("admin listener on {address}\n");
    }
    if let Some(url) = urls.first() {
        text += &format!(
            "\nTry it: in one shell\n\
             \n    url=$(curl -fsX POST {url}/); echo $url; curl -fOJ $url\n\n\
             and in another, with that URL,\n\
             \n    curl --fail-with-body -F file=@FILE URL\n\n"
        );
    }
    text
}

/// Tells who started us.
fn introduce(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody has to read it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
