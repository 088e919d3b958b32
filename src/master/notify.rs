//! Notifies a service manager, if one asked for it (sd_notify(3)): the relay serves, reloads or stops, its status,
//! and that the master is alive. Called by `supervisor`.
//!
//! Invariant: the master never waits for the manager. A notice that finds no room is sent later, in order.

use super::decision::Status;
use crate::sys::clock;
use std::collections::VecDeque;
use std::env::{self, VarError};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

/// Notices that wait for room. The oldest is dropped when there are more.
const UNSENT_MAX: usize = 64;
/// Time until the next attempt to send.
const RETRY_MS: u64 = 50;
/// Margin of a stop beyond its expected time.
const STOP_MARGIN_MS: u64 = 5000;

/// Sends the notices.
#[derive(Debug)]
pub(super) struct Notifier(Option<Teller>);

#[derive(Debug)]
struct Teller {
    socket: UnixDatagram,
    manager: SocketAddr,
    /// The interval of the watchdog, and when the next notice is due.
    watchdog: Option<(u64, u64)>,
    phase: Phase,
    status: String,
    stops_ms: Option<u64>,
    unsent: VecDeque<String>,
    retry_ms: Option<u64>,
    /// The last notice could not be sent, and that was logged.
    fails: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Reloading,
}

impl Notifier {
    /// Notifies the manager that the environment names. `after_upgrade`: the previous program has done so until now.
    pub(super) fn from_environment(after_upgrade: bool) -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        match Teller::new(&name, watchdog_ms(env::var), after_upgrade) {
            Ok(teller) => Self(Some(teller)),
            Err(error) => {
                tracing::warn!(%error, "cannot notify the service manager");
                Self(None)
            }
        }
    }

    /// A reload or an upgrade begins.
    pub(super) fn reloading(&mut self) {
        self.0.iter_mut().for_each(Teller::reloading);
        self.alive();
    }

    /// Tells the manager that the master is alive, before a step that may take a while.
    pub(super) fn alive(&mut self) {
        self.0.iter_mut().for_each(|it| it.alive(clock::monotonic_ms()));
    }

    /// Sends the relay's status. Call it whenever the status may have changed, and when it is due.
    pub(super) fn tell(&mut self, status: &Status, now_ms: u64) {
        self.0.iter_mut().for_each(|it| it.tell(status, now_ms));
    }

    /// When a notice is due though nothing has happened.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let teller = self.0.as_ref()?;
        teller.watchdog.map(|(_, due_ms)| due_ms).into_iter().chain(teller.retry_ms).min()
    }
}

/// The interval of the watchdog's notices: half of the time after which the manager would end the relay.
fn watchdog_ms(variable: impl Fn(&'static str) -> Result<String, VarError>) -> Option<u64> {
    let number = |name| variable(name).ok()?.parse::<u64>().ok();
    let is_ours = match variable("WATCHDOG_PID") {
        Ok(pid) => pid.parse() == Ok(process::id()),
        Err(_) => true,
    };
    let limit_us = number("WATCHDOG_USEC").filter(|us| is_ours && *us > 0)?;
    Some((limit_us / 2000).max(1))
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::other("NOTIFY_SOCKET is neither a path nor a name after \"@\"")),
    }
}

impl Teller {
    fn new(name: &OsStr, watchdog_ms: Option<u64>, after_upgrade: bool) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            manager: address(name)?,
            // The first notice is due at once: the previous program may have used up half of the time.
            watchdog: watchdog_ms.map(|every_ms| (every_ms, 0)),
            phase: if after_upgrade { Phase::Reloading } else { Phase::Starting },
            status: String::new(),
            stops_ms: None,
            unsent: VecDeque::new(),
            retry_ms: None,
            fails: false,
        })
    }

    fn reloading(&mut self) {
        if self.phase == Phase::Ready && self.stops_ms.is_none() {
            self.phase = Phase::Reloading;
            // The time tells this reload from notices that were sent before it was asked for.
            self.say(format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()));
        }
    }

    fn tell(&mut self, status: &Status, now_ms: u64) {
        let is_up = match self.phase {
            Phase::Starting => status.serving.is_some(),
            Phase::Reloading => !status.is_in_transition,
            Phase::Ready => false,
        };
        if let Some(ends_ms) = status.stops_ms {
            self.stopping(ends_ms, now_ms);
        } else if is_up {
            self.phase = Phase::Ready;
            // An upgrade keeps the pid. Naming the pid confirms that it is meant.
            self.say(format!("READY=1\nMAINPID={}", process::id()));
        }
        let status = status.to_string();
        if status != self.status {
            self.say(format!("STATUS={status}"));
            self.status = status;
        }
        if self.watchdog.is_some_and(|(_, due_ms)| now_ms >= due_ms) {
            self.alive(now_ms);
        }
        self.send(now_ms);
    }

    fn alive(&mut self, now_ms: u64) {
        if let Some((every_ms, due_ms)) = &mut self.watchdog {
            *due_ms = now_ms.saturating_add(*every_ms);
            self.say("WATCHDOG=1".to_owned());
        }
    }

    /// The relay ends by `ends_ms`, or soon after.
    fn stopping(&mut self, ends_ms: u64, now_ms: u64) {
        if self.stops_ms == Some(ends_ms) {
            return;
        }
        let left_ms = ends_ms.saturating_sub(now_ms).saturating_add(STOP_MARGIN_MS);
        let extended = format!("EXTEND_TIMEOUT_USEC={}", left_ms.saturating_mul(1000));
        let is_new = self.stops_ms.replace(ends_ms).is_none();
        self.say(if is_new { format!("STOPPING=1\n{extended}") } else { extended });
    }

    fn say(&mut self, message: String) {
        if self.unsent.len() == UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.send(clock::monotonic_ms());
    }

    fn send(&mut self, now_ms: u64) {
        self.retry_ms = None;
        while let Some(message) = self.unsent.front() {
            match self.socket.send_to_addr(message.as_bytes(), &self.manager) {
                Ok(_) => self.fails = false,
                // The manager has no room at the moment, or the kernel no memory.
                Err(error) if is_passing(&error) => {
                    self.retry_ms = Some(now_ms.saturating_add(RETRY_MS));
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.fails, true) {
                        tracing::warn!(%error, "cannot send a message to the service manager");
                    }
                }
            }
            self.unsent.pop_front();
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock
        || [libc::ENOBUFS, libc::ENOMEM].map(Some).contains(&raw)
}

/// Writes the status as one line for people.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.serving, self.stops_ms) {
            (_, Some(_)) => f.write_str("stopping")?,
            (Some((generation, workers)), None) => {
                write!(f, "generation {generation}, workers: {workers}")?;
            }
            (None, None) => f.write_str("not serving")?,
        }
        if self.draining > 0 {
            write!(f, ", draining: {}", self.draining)?;
        }
        write!(f, ", version {}", env!("CARGO_PKG_VERSION"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SERVING: Status =
        Status { serving: Some((0, 2)), draining: 0, is_in_transition: false, stops_ms: None };
    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// A manager, and who tells it.
    fn pair(watchdog_ms: Option<u64>) -> (UnixDatagram, Teller, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let teller = Teller::new(path.as_os_str(), watchdog_ms, false).unwrap();
        (manager, teller, directory)
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut room = [0; 4096];
        let next = || manager.recv(&mut room).ok().map(|bytes| room[..bytes].to_vec());
        std::iter::from_fn(next).map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    fn ready() -> String {
        format!("READY=1\nMAINPID={}", process::id())
    }

    #[test]
    fn each_change_is_told_once() {
        let (manager, mut teller, _directory) = pair(None);
        let starting = Status { serving: None, ..SERVING };
        teller.tell(&starting, 0);
        teller.reloading();
        assert_eq!(heard(&manager), [format!("STATUS=not serving, version {VERSION}")]);
        teller.tell(&SERVING, 1);
        teller.tell(&SERVING, 2);
        let status = format!("STATUS=generation 0, workers: 2, version {VERSION}");
        assert_eq!(heard(&manager), [ready(), status]);

        let before_us = clock::monotonic_us();
        teller.reloading();
        teller.tell(&Status { is_in_transition: true, draining: 2, ..SERVING }, 3);
        let told = heard(&manager);
        let at_us: u64 =
            told[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before_us..=clock::monotonic_us()).contains(&at_us));
        assert_eq!(
            told[1..],
            [format!("STATUS=generation 0, workers: 2, draining: 2, version {VERSION}")]
        );
        teller.tell(&SERVING, 4);
        assert_eq!(heard(&manager)[0], ready());

        let stopping = Status { stops_ms: Some(30_005), ..SERVING };
        teller.tell(&stopping, 5);
        teller.tell(&stopping, 6);
        teller.reloading();
        let status = format!("STATUS=stopping, version {VERSION}");
        assert_eq!(
            heard(&manager),
            ["STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000".to_owned(), status]
        );
        teller.tell(&Status { stops_ms: Some(1006), ..SERVING }, 6);
        assert_eq!(heard(&manager), ["EXTEND_TIMEOUT_USEC=6000000"]);
    }

    #[test]
    fn after_an_upgrade_the_transition_is_still_to_end() {
        let name = format!("@idontstore-test-{}", process::id());
        let address = address(OsStr::new(&name)).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut teller = Teller::new(OsStr::new(&name), None, true).unwrap();
        teller.tell(&Status { is_in_transition: true, ..SERVING }, 0);
        assert!(heard(&manager).iter().all(|it| it.starts_with("STATUS=")));
        teller.tell(&SERVING, 1);
        assert_eq!(heard(&manager), [ready()]);
    }

    #[test]
    fn the_watchdog_hears_of_us_at_half_of_its_time() {
        let (manager, teller, _directory) = pair(Some(500));
        let mut notifier = Notifier(Some(teller));
        assert_eq!(notifier.due_ms(), Some(0));
        notifier.tell(&SERVING, 10_000);
        assert_eq!(heard(&manager).last().unwrap(), "WATCHDOG=1");
        assert_eq!(notifier.due_ms(), Some(10_500));
        notifier.tell(&SERVING, 10_499);
        assert!(heard(&manager).is_empty());
        notifier.tell(&SERVING, 10_500);
        assert_eq!(heard(&manager), ["WATCHDOG=1"]);

        let pid = process::id().to_string();
        let with = |usec: &'static str, pid: Option<&str>| {
            watchdog_ms(|name| match name {
                "WATCHDOG_USEC" => Ok(usec.to_owned()),
                _ => pid.map(str::to_owned).ok_or(VarError::NotPresent),
            })
        };
        assert_eq!(with("3000000", Some(&pid)), Some(1500));
        assert_eq!(with("3000000", None), Some(1500));
        assert_eq!(with("3000000", Some("1")), None);
        assert_eq!([with("0", None), with("soon", None)], [None, None]);
    }

    #[test]
    fn a_manager_without_room_is_told_later_in_order() {
        let (manager, mut teller, _directory) = pair(None);
        // More than any kernel keeps of datagrams that nobody reads.
        for i in 0..10_000 {
            teller.say(format!("filler {i}"));
            if teller.retry_ms.is_some() {
                break;
            }
        }
        assert!(teller.retry_ms.is_some(), "it has room for everything");
        let now_ms = clock::monotonic_ms();
        teller.tell(&SERVING, now_ms);
        assert_eq!(teller.retry_ms, Some(now_ms + RETRY_MS));
        let mut told = heard(&manager);
        teller.tell(&SERVING, now_ms + RETRY_MS);
        assert_eq!(teller.retry_ms, None);
        told.extend(heard(&manager));
        let fillers = told.iter().filter(|it| it.starts_with("filler")).count();
        assert_eq!(told[fillers], ready());
        assert_eq!(told.len(), fillers + 2);
    }

    #[test]
    fn nobody_to_tell_is_no_trouble() {
        let (manager, mut teller, directory) = pair(None);
        drop((manager, directory));
        teller.tell(&SERVING, 0);
        assert!(teller.fails && teller.unsent.is_empty());
        assert!(Teller::new(OsStr::new("vsock:2:1"), None, false).is_err());
    }
}
