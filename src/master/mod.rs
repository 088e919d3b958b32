//! The master: makes everything that workers share, forks them, and from then on only supervises.
//!
//! It has one thread for life. It never parses a stranger's bytes, never reads payload, and trusts
//! nothing that it reads in shared memory: its indices come from its own loops.

mod backoff;
mod supervisor;

use crate::config::{self, Config, Tls};
use crate::sys::private::Address;
use crate::sys::{listener, private, process, signal, title};
use crate::tls::{Acceptor, Credentials, CredentialsError};
use crate::worker::Inheritance;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use shm::{CreateError, SECRET_BYTES, Segment, WORKER_RECORDS_MAX};
use socket2::Socket;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use supervisor::Supervisor;
use tracing_subscriber::fmt::time::SystemTime;

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

/// Runs the relay until it is told to stop.
pub fn run(config: Config) -> Result<(), MasterError> {
    diagnose(config.log_level);
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
    let signals = signal::listen(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT])
        .map_err(MasterError::os("listen for signals"))?;
    let listeners = open_listeners(&config)?;
    let admin = open_admin(&config)?;
    let segment = make_segment(&config)?;
    if let Err(error) = segment.lock() {
        tracing::debug!(%error, "the segment is not locked in memory");
    }
    let (lifeline, writer) = process::lifeline().map_err(MasterError::os("make a pipe"))?;
    let admin_address = admin.as_ref().and_then(private::local_address).map(Address::Tcp);
    let admin_address = admin_address.or_else(|| config.admin.listen.clone());
    let acceptors = make_acceptors(&config, &segment)?;
    let text = introduction(&listeners, &acceptors, admin_address.as_ref());
    let wakers = make_wakers()?;
    let inheritance =
        Inheritance { config, segment, wakers, listeners, acceptors, admin, lifeline };
    // Workers keep what they inherit for life, and so does the master.
    let mut supervisor = Supervisor::new(Box::leak(Box::new(inheritance)), signals);
    supervisor.start().map_err(MasterError::os("fork a worker"))?;
    introduce(&text);
    let end = supervisor.supervise().map_err(MasterError::os("supervise the workers"));
    drop(writer);
    end
}

/// Diagnostics go to standard error, one write a line, from every process; no thread, no buffer.
fn diagnose(level: tracing::Level) {
    let made = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_timer(SystemTime)
        .with_target(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .try_init();
    // It fails only if somebody has done it before, which is as good.
    drop(made);
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

fn open_listeners(config: &Config) -> Result<Vec<TcpListener>, MasterError> {
    let open = |address| {
        let opened = listener::open(address, config.keep_alive());
        opened.map_err(|source| MasterError::Listen { address, source })
    };
    config.listeners.iter().map(|listener| open(listener.address)).collect()
}

fn open_admin(config: &Config) -> Result<Option<Socket>, MasterError> {
    let open = |address: &Address| {
        let opened = private::listen(address);
        opened.map_err(|source| MasterError::Admin { address: address.clone(), source })
    };
    config.admin.listen.as_ref().map(open).transpose()
}

/// How each listener answers TLS. What the tickets' keys come from lasts as long as the segment does, and whoever maps
/// it works out the same keys.
fn make_acceptors(
    config: &Config,
    segment: &Segment,
) -> Result<Vec<Option<Acceptor>>, MasterError> {
    let make = |listener: &config::Listener| {
        let Some(Tls { certificate, key }) = &listener.tls else { return Ok(None) };
        let credentials = Credentials::load(certificate, key)?;
        let made = Acceptor::new(&credentials, &segment.secret());
        let address = listener.address;
        made.map(Some).map_err(|source| MasterError::Tls { address, source })
    };
    config.listeners.iter().map(make).collect()
}

fn make_wakers() -> Result<Vec<EventFd>, MasterError> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let make = |_| EventFd::from_value_and_flags(0, flags);
    let made: Result<_, _> = (0..WORKER_RECORDS_MAX).map(make).collect();
    made.map_err(|errno| MasterError::os("make an eventfd")(errno.into()))
}

/// Where we listen and what to try.
fn introduction(
    listeners: &[TcpListener],
    acceptors: &[Option<Acceptor>],
    admin: Option<&Address>,
) -> String {
    let url = |(listener, acceptor): (&TcpListener, &Option<Acceptor>)| {
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{}", listener.local_addr().ok()?))
    };
    let urls: Vec<String> = listeners.iter().zip(acceptors).filter_map(url).collect();
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
