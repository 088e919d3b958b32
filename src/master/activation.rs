//! Socket activation: listeners that a service manager has opened and keeps (sd_listen_fds(3)).
//!
//! Called once at the start, and asked before each reload. Invariant: the configuration asks for exactly these
//! listeners, and nobody calls shutdown(2) on one: the manager's copy would refuse connections too.

use crate::config::{self, Config};
use crate::quoted::Quoted;
use crate::sys::listener::Endpoint;
use crate::sys::{listener, program};
use std::env;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::RawFd;
use std::process;
use std::rc::Rc;

/// The first descriptor that the service manager passes.
const FIRST: RawFd = 3;

/// Listeners that the service manager passed, each with what it is bound to.
pub(super) type Given = Vec<(Endpoint, Rc<TcpListener>)>;

/// Why the listeners that the service manager passed are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The environment does not say how many there are.
    #[error("LISTEN_FDS is not a number: {}", Quoted(.0))]
    Count(String),
    /// A descriptor is not open.
    #[error("cannot take descriptor {fd}, which LISTEN_FDS counts")]
    Descriptor {
        /// The descriptor.
        fd: RawFd,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A descriptor is of another kind: a Unix socket, datagrams, or a socket that does not listen.
    #[error("descriptor {fd}, which LISTEN_FDS counts, is not a listening TCP socket")]
    Kind {
        /// The descriptor.
        fd: RawFd,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The configuration asks for others.
    #[error(
        "the service manager's listeners differ from the configured ones: configured {}, given {}",
        List(configured),
        List(given)
    )]
    Mismatch {
        /// The configuration's.
        configured: Vec<Endpoint>,
        /// The service manager's.
        given: Vec<Endpoint>,
    },
}

struct List<'a>(&'a [Endpoint]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.0.iter().map(Endpoint::to_string).collect();
        f.write_str(if addresses.is_empty() { "none" } else { "" })?;
        f.write_str(&addresses.join(", "))
    }
}

/// Takes the listeners that the service manager passed to this process, if any. Call it once, before anything is opened.
pub(super) fn given() -> Result<Option<Given>, ActivationError> {
    let variable = |name| env::var(name).ok();
    let is_ours = variable("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(process::id()));
    let Some(count) = variable("LISTEN_FDS").filter(|_| is_ours) else { return Ok(None) };
    let fds = match count.parse::<u16>() {
        Ok(count) => FIRST..FIRST.saturating_add(count.into()),
        Err(_) => return Err(ActivationError::Count(count)),
    };
    let given = fds.map(take).collect::<Result<Given, _>>()?;
    Ok(if given.is_empty() { None } else { Some(given) })
}

fn take(fd: RawFd) -> Result<(Endpoint, Rc<TcpListener>), ActivationError> {
    let taken = program::take(fd).map_err(|source| ActivationError::Descriptor { fd, source })?;
    let adopted = listener::adopt(taken).and_then(|it| Ok((Endpoint::of(&it)?, Rc::new(it))));
    adopted.map_err(|source| ActivationError::Kind { fd, source })
}

/// Whether `config` asks for the listeners at `given`, and for no others.
pub(super) fn check(
    config: &Config,
    given: impl Iterator<Item = Endpoint>,
) -> Result<(), ActivationError> {
    let configured: Vec<_> = config.listeners.iter().map(config::Listener::endpoint).collect();
    let given: Vec<_> = given.collect();
    let sorted = |addresses: &[Endpoint]| {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        sorted
    };
    if sorted(&configured) == sorted(&given) {
        Ok(())
    } else {
        Err(ActivationError::Mismatch { configured, given })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config;

    #[test]
    fn given_and_configured_have_to_be_the_same_in_any_order() {
        let text = "[[listener]]\naddress = '0.0.0.0:80'\n[[listener]]\naddress = '[::]:80'\nipv6_only = true\n";
        let config = config::parse(text, "test").unwrap();
        let endpoint = |text: &&str| match text.strip_suffix(" (ipv6_only)") {
            Some(address) => Endpoint::new(address.parse().unwrap(), true),
            None => Endpoint::new(text.parse().unwrap(), false),
        };
        let check = |given: &[&str]| {
            check(&config, given.iter().map(endpoint)).map_err(|it| it.to_string())
        };
        check(&["0.0.0.0:80", "[::]:80 (ipv6_only)"]).unwrap();
        check(&["[::]:80 (ipv6_only)", "0.0.0.0:80"]).unwrap();
        for given in [
            &["0.0.0.0:80"][..],
            &["0.0.0.0:80", "[::]:80"],
            &["0.0.0.0:80", "[::]:81 (ipv6_only)"],
            &["0.0.0.0:80", "0.0.0.0:80"],
            &["0.0.0.0:80", "[::]:80 (ipv6_only)", "127.0.0.1:9"],
        ] {
            let why = check(given).unwrap_err();
            let end =
                format!("configured 0.0.0.0:80, [::]:80 (ipv6_only), given {}", given.join(", "));
            assert!(why.ends_with(&end), "{why}");
        }
    }
}
