//! The tests of `-t` beyond the text: whether this machine, and the user that runs it, lets a relay start with the
//! configuration. Called by `cli` alone.
//!
//! Invariant: nothing is left behind, and no running program notices. So an address that another process holds, most
//! likely the running relay whose next configuration this is, is no error.

use crate::config::Config;
use crate::master::{self, MasterError};
use crate::sandbox;
use crate::sys::operator::ListenAddress;
use crate::sys::process;
use crate::sys::sink::Sink;
use crate::sys::{listener, operator};
use std::io;
use std::path::PathBuf;

/// A resource that a relay would not get.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreflightError {
    #[error("cannot listen on {address}")]
    Address { address: ListenAddress, source: io::Error },
    #[error("cannot write to {} (log.access)", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("a worker could not give up its privileges: {0}")]
    Sandbox(String),
    #[error("cannot try out a worker")]
    NoTrial(#[source] io::Error),
    #[error("the relay needs {needed} open files, and the limit is {most} (ulimit -n)")]
    OpenFiles { needed: u64, most: u64 },
    #[error(transparent)]
    Segment(#[from] MasterError),
}

/// Tries everything that can be tried without a start.
pub(crate) fn check(config: &Config) -> Result<(), PreflightError> {
    check_limits(config)?;
    check_addresses(config)?;
    check_log(config)?;
    check_sandbox(config)
}

fn check_limits(config: &Config) -> Result<(), PreflightError> {
    let (needed, most) = (master::open_files_needed(config), process::open_files_max());
    if needed > most {
        return Err(PreflightError::OpenFiles { needed, most });
    }
    Ok(master::check_limits(config)?)
}

fn check_addresses(config: &Config) -> Result<(), PreflightError> {
    for listener in &config.listeners {
        let opened = listener::open(listener.endpoint(), config.keep_alive());
        judge(&ListenAddress::Tcp(listener.address), opened.map(drop))?;
    }
    let control = config.control_socket.clone().map(ListenAddress::Unix);
    control.iter().chain(&config.admin.listen).try_for_each(|address| match address {
        ListenAddress::Tcp(_) => judge(address, operator::listen(address).map(drop)),
        // Binding would create the socket file, so only probe.
        ListenAddress::Unix(path) => operator::probe(path)
            .map_err(|source| PreflightError::Address { address: address.clone(), source }),
    })
}

fn judge(address: &ListenAddress, opened: io::Result<()>) -> Result<(), PreflightError> {
    match opened {
        Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
            Err(PreflightError::Address { address: address.clone(), source })
        }
        _ => Ok(()),
    }
}

/// Opening would create the log, so only probe.
fn check_log(config: &Config) -> Result<(), PreflightError> {
    let Some(path) = config.log.access.clone() else { return Ok(()) };
    Sink::probe(&path).map_err(|source| PreflightError::Log { path, source })
}

fn check_sandbox(config: &Config) -> Result<(), PreflightError> {
    let tried = sandbox::try_out(&config.user, config.sandbox);
    tried.map_err(PreflightError::NoTrial)?.map_err(PreflightError::Sandbox)
}
