//! What `-t` tries of a configuration that reads well: whether this machine, and the user that runs it, lets a relay start with
//! it. Called by `cli` alone.
//!
//! What must always hold: nothing is left behind, and nothing that runs notices. So what is held by somebody else, most
//! likely by the running relay whose next configuration this is, is no fault.

use crate::config::Config;
use crate::master::{self, MasterError};
use crate::sandbox;
use crate::sys::private::Address;
use crate::sys::process;
use crate::sys::sink::Sink;
use crate::sys::{listener, private};
use std::io;
use std::path::PathBuf;

/// What a relay would not get.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreflightError {
    #[error("cannot listen on {address}")]
    Address { address: Address, source: io::Error },
    #[error("cannot write to {} (log.access)", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("a worker could not give up its rights: {0}")]
    Sandbox(String),
    #[error("a worker could not be tried out")]
    NoTrial(#[source] io::Error),
    #[error("{needed} open files are needed, and this process may have {most} (ulimit -n)")]
    OpenFiles { needed: u64, most: u64 },
    #[error(transparent)]
    Segment(#[from] MasterError),
}

/// Tries all that can be tried without a start.
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
        judge(&Address::Tcp(listener.address), opened.map(drop))?;
    }
    let control = config.control_socket.clone().map(Address::Unix);
    control.iter().chain(&config.admin.listen).try_for_each(|address| match address {
        Address::Tcp(_) => judge(address, private::listen(address).map(drop)),
        // To try it would be to make it.
        Address::Unix(path) => private::probe(path)
            .map_err(|source| PreflightError::Address { address: address.clone(), source }),
    })
}

fn judge(address: &Address, opened: io::Result<()>) -> Result<(), PreflightError> {
    match opened {
        Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
            Err(PreflightError::Address { address: address.clone(), source })
        }
        _ => Ok(()),
    }
}

/// To open the log would be to make it.
fn check_log(config: &Config) -> Result<(), PreflightError> {
    let Some(path) = config.log.access.clone() else { return Ok(()) };
    Sink::probe(&path).map_err(|source| PreflightError::Log { path, source })
}

fn check_sandbox(config: &Config) -> Result<(), PreflightError> {
    let tried = sandbox::try_out(&config.user, config.sandbox);
    tried.map_err(PreflightError::NoTrial)?.map_err(PreflightError::Sandbox)
}
