//! Opens the resources of a generation of workers: its configuration, and the listeners that it asks for.
//!
//! Called at the start and for each reload. A socket whose address stays is kept, so that no connection in its queue
//! is lost. The serving generation is not touched before the new one takes over.

use super::activation::{self, Given};
use super::{MasterError, explain};
use crate::config::{self, Config, Source, Tls};
use crate::session::IssueTokens;
use crate::sys::listener::Endpoint;
use crate::sys::operator::{Access, ListenAddress};
use crate::sys::sink::Sink;
use crate::sys::{listener, operator};
use crate::tls::{Acceptor, Credentials};
use crate::worker::Resources;
use shm::Segment;
use socket2::Socket;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

/// Opens what `config` asks for, or takes the listeners that are `given`.
pub(super) fn first(
    config: Config,
    segment: &'static Segment,
    given: Option<Given>,
) -> Result<Resources, MasterError> {
    let Some(given) = given else { return open(config, segment, Vec::new(), None) };
    activation::check(&config, given.iter().map(|(endpoint, _)| *endpoint))?;
    let given: Vec<_> = given.into_iter().map(|(it, listener)| (it.address, listener)).collect();
    for (address, listener) in &given {
        let set = config.keep_alive().apply(listener);
        set.map_err(|source| MasterError::Listen { address: *address, source })?;
    }
    open(config, segment, given, None)
}

/// Reads the configuration again and opens what `current` has not.
pub(super) fn next(
    source: &Source,
    segment: &'static Segment,
    current: &Resources,
    is_activated: bool,
) -> Result<Resources, MasterError> {
    let config = load(source, current, is_activated)?;
    let addresses = current.config.listeners.iter().map(|listener| listener.address);
    let opened = addresses.zip(current.listeners.iter().cloned()).collect();
    let is_same = current.config.admin.listen == config.admin.listen;
    let same_admin = current.admin.clone().filter(|_| is_same);
    open(config, segment, opened, same_admin)
}

/// Rebuilds the previous program's generation from the descriptors that it left open. If its certificates or tokens
/// cannot be loaded any more, also returns why no worker of it can be forked.
pub(super) fn again(
    mut config: Config,
    segment: &'static Segment,
    listeners: Vec<OwnedFd>,
    admin: Option<OwnedFd>,
    access: Option<Sink>,
) -> (Resources, Option<String>) {
    let secrets = make_acceptors(&config, segment)
        .and_then(|acceptors| Ok((acceptors, load_issue_tokens(&config)?)));
    let ((acceptors, issue_tokens), cannot_fork) = match secrets {
        Ok(secrets) => (secrets, None),
        Err(error) => (Default::default(), Some(explain(&error))),
    };
    let listeners: Vec<Rc<TcpListener>> =
        listeners.into_iter().map(|fd| Rc::new(fd.into())).collect();
    for listener in &listeners {
        // The previous program may not have set it.
        if let Err(error) = listener::refuse_fast_open(listener) {
            tracing::warn!(%error, "cannot switch off TCP Fast Open for a listener");
        }
    }
    for (settings, listener) in config.listeners.iter_mut().zip(&listeners) {
        // The previous program may not have known the option, and the socket stays as it is.
        if let Ok(endpoint) = Endpoint::of(listener)
            && endpoint != settings.endpoint()
        {
            settings.ipv6_only = endpoint.ipv6_only;
        }
    }
    let admin = admin.map(|fd| Rc::new(fd.into()));
    (Resources { config, listeners, acceptors, issue_tokens, admin, access }, cannot_fork)
}

/// Whether the configuration could follow `current`, as far as that can be tested without any effect.
pub(super) fn could_be_next(
    source: &Source,
    segment: &'static Segment,
    current: &Resources,
    is_activated: bool,
) -> Result<(), MasterError> {
    let config = load(source, current, is_activated)?;
    if let Some(path) = &config.log.access {
        Sink::probe(path).map_err(|source| MasterError::Access { path: path.clone(), source })?;
    }
    let is_open = |it: &&config::Listener| {
        current.config.listeners.iter().any(|other| other.address == it.address)
    };
    for listener in config.listeners.iter().filter(|it| !is_open(it)) {
        let address = listener.address;
        let probed = listener::probe(listener.endpoint());
        probed.map_err(|source| MasterError::Listen { address, source })?;
    }
    load_issue_tokens(&config)?;
    make_acceptors(&config, segment).map(drop)
}

fn load(source: &Source, current: &Resources, is_activated: bool) -> Result<Config, MasterError> {
    let config = source.load_again(&current.config)?;
    let keys = current.config.keys_fixed_until_restart(&config);
    if !keys.is_empty() {
        return Err(MasterError::Fixed { keys: keys.join(", ") });
    }
    if is_activated {
        activation::check(
            &config,
            current.config.listeners.iter().map(config::Listener::endpoint),
        )?;
    }
    Ok(config)
}

/// Opens the resources of `config`, except listeners in `opened`, which are found by the typed address.
fn open(
    config: Config,
    segment: &'static Segment,
    mut opened: Vec<(SocketAddr, Rc<TcpListener>)>,
    admin: Option<Rc<Socket>>,
) -> Result<Resources, MasterError> {
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let acceptors = make_acceptors(&config, segment)?;
    let issue_tokens = load_issue_tokens(&config)?;
    let mut open = |listener: &config::Listener| {
        let address = listener.address;
        if let Some(index) = opened.iter().position(|(other, _)| *other == address) {
            return Ok(opened.remove(index).1);
        }
        let opened = listener::open(listener.endpoint(), config.keep_alive());
        opened.map(Rc::new).map_err(|source| MasterError::Listen { address, source })
    };
    let listeners = config.listeners.iter().map(&mut open);
    let listeners = listeners.collect::<Result<_, _>>()?;
    let access = open_access_log(&config)?;
    // Open this last: if it failed later, it would leave a file.
    let admin = match (&config.admin.listen, admin) {
        (Some(address), None) => Some(Rc::new(open_admin(address, &config.admin.access)?)),
        (_, admin) => admin,
    };
    Ok(Resources { config, listeners, acceptors, issue_tokens, admin, access })
}

/// Opens the access log of a generation.
pub(super) fn open_access_log(config: &Config) -> Result<Option<Sink>, MasterError> {
    let open = |path: &PathBuf| {
        Sink::open(path).map_err(|source| MasterError::Access { path: path.clone(), source })
    };
    config.log.access.as_ref().map(open).transpose()
}

fn open_admin(address: &ListenAddress, access: &Access) -> Result<Socket, MasterError> {
    let opened = operator::listen_for(address, access);
    opened.map_err(|source| MasterError::Admin { address: address.clone(), source })
}

/// Makes the TLS side of each listener. The tickets' keys are the segment's, so all workers have the same.
fn make_acceptors(
    config: &Config,
    segment: &'static Segment,
) -> Result<Vec<Option<Acceptor>>, MasterError> {
    let make = |listener: &config::Listener| {
        let Some(Tls { certificate, key }) = &listener.tls else { return Ok(None) };
        let credentials = Credentials::load(certificate, key)?;
        let made = Acceptor::new(&credentials, segment.ticket_keys());
        let address = listener.address;
        made.map(Some).map_err(|source| MasterError::Tls { address, source })
    };
    config.listeners.iter().map(make).collect()
}

/// The tokens that a request for a session may have to bring.
fn load_issue_tokens(config: &Config) -> Result<IssueTokens, MasterError> {
    let path = config.auth.issue_tokens.as_deref();
    Ok(path.map(IssueTokens::load).transpose()?.unwrap_or_default())
}

/// Switches the listeners from `current` to `next`. The other listeners of `current` stay open until nobody accepts
/// from them.
pub(super) fn take_over(current: &Resources, next: &Resources) {
    for listener in &next.listeners {
        if let Err(error) = next.config.keep_alive().apply(listener) {
            tracing::warn!(%error, "cannot change the TCP keep-alive of a listener");
        }
    }
    grant_admin(current, next);
    for (_, url) in next.listened_on().filter(|(listener, _)| !has(current, listener)) {
        tracing::info!("listening on {url}");
    }
}

/// Gives a socket that stays the rights of the next configuration.
fn grant_admin(current: &Resources, next: &Resources) {
    let (before, after) = (&current.config.admin, &next.config.admin);
    if let Some(ListenAddress::Unix(path)) =
        after.listen.as_ref().filter(|it| before.listen.as_ref() == Some(it))
        && before.access != after.access
        && let Err(error) = after.access.grant(path)
    {
        tracing::warn!(%error, "cannot set admin.group and admin.mode on the admin socket");
    }
}

/// Closes, in every process, the listeners of `resources` that `kept` has not.
pub(super) fn close_all_but(resources: &Resources, kept: &Resources) {
    resources.listeners.iter().filter(|it| !has(kept, it)).for_each(|it| listener::close(it));
    if let Some(admin) = &resources.admin
        && !kept.admin.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, admin))
    {
        operator::close(admin);
    }
}

/// Closes the admin listener.
pub(super) fn close_admin(resources: &Resources) {
    resources.admin.iter().for_each(|it| operator::close(it));
}

fn has(resources: &Resources, listener: &Rc<TcpListener>) -> bool {
    resources.listeners.iter().any(|it| Rc::ptr_eq(it, listener))
}
