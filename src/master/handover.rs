//! The handover state, which one program hands to the next in the master's process: all open descriptors and all
//! living workers, as JSON in a memory file. An environment variable names its descriptor.
//!
//! Invariant: a program that does not understand the table takes nothing over, and says why.

use super::decision::{DeciderState, DeciderStateError};
use super::heartbeat::Heartbeat;
use super::resources;
use super::workers::{Process, Workers};
use crate::config::{self, ConfigError};
use crate::control;
use crate::sys::pipe::Pipe;
use crate::sys::process::Child;
use crate::sys::program;
use crate::sys::sink::Sink;
use crate::worker::channel::MasterEnd;
use crate::worker::{Inherited, Resources};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};
use shm::{AttachError, Geometry, Segment, WORKER_RECORDS_MAX, WorkerId};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The variable that names the descriptor of the handover state.
pub(super) const TAKE_OVER: &str = "IDONTSTORE_TAKE_OVER";
/// The variable that names the descriptor for a trial's verdict.
pub(super) const TRY: &str = "IDONTSTORE_TRY";

/// The format of the state: it goes up when the meaning of a field changes.
const FORMAT: u32 = 3;
/// The largest state that is read. A state with all workers that can exist, each with a configuration, is far
/// smaller.
const STATE_BYTES_MAX: u64 = 16 << 20;

/// The table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandoverState {
    format: u32,
    /// The master's process.
    pid: i32,
    segment: RawFd,
    wakers: Vec<RawFd>,
    /// Both ends of each.
    #[serde(default)]
    pipes: Vec<[RawFd; 2]>,
    /// The configuration of the generation that served last, every value computed.
    config: String,
    /// In the order of the configuration.
    listeners: Vec<RawFd>,
    /// Whether the listeners are the service manager's.
    #[serde(default)]
    is_activated: bool,
    admin: Option<RawFd>,
    /// The access log.
    access: Option<RawFd>,
    control: Option<control::ServerState>,
    workers: Vec<ProcessState>,
    decider: DeciderState,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProcessState {
    record: usize,
    pid: i32,
    pidfd: RawFd,
    /// The descriptors for orders and for news.
    channel: [RawFd; 2],
    is_silent: bool,
    born_ms: u64,
}

/// Why a handover state is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error("cannot take descriptor {fd} ({what})")]
    Descriptor { fd: RawFd, what: &'static str, source: io::Error },
    #[error("cannot read the handover state")]
    Unreadable(#[source] io::Error),
    #[error("cannot parse the handover state")]
    Nonsense(#[source] serde_json::Error),
    #[error("the handover state has format {0}, and this program needs {FORMAT}")]
    Format(u32),
    #[error("cannot attach the segment")]
    Segment(#[from] AttachError),
    #[error("the handover state contradicts itself: {0}")]
    Contradiction(&'static str),
    #[error("the handover state contradicts itself")]
    Decider(#[from] DeciderStateError),
    #[error("cannot parse the configuration of the running generation")]
    Config(#[from] ConfigError),
    #[error("cannot take over the control socket")]
    Control(#[source] io::Error),
}

/// All that is taken over.
pub(super) struct Restored {
    pub(super) inherited: &'static Inherited,
    /// The generation that served last.
    pub(super) current: Resources,
    /// Why no worker of it can be forked, if so.
    pub(super) cannot_fork: Option<String>,
    pub(super) is_activated: bool,
    pub(super) processes: Vec<Process>,
    pub(super) control: Option<control::Server>,
    pub(super) decider: DeciderState,
}

/// Everything that one program hands to the next, beside the decider's state.
pub(super) struct Handed<'h> {
    pub(super) inherited: &'h Inherited,
    /// The generation that served last.
    pub(super) current: &'h Resources,
    /// Whether the listeners are the service manager's.
    pub(super) is_activated: bool,
    pub(super) workers: &'h Workers,
    pub(super) control: Option<&'h control::Server>,
}

impl HandoverState {
    pub(super) fn new(handed: Handed<'_>, decider: DeciderState) -> Self {
        let Handed { inherited, current, is_activated, workers, control } = handed;
        let worker = |it: &Process| ProcessState {
            record: it.record.index(),
            pid: it.child.pid.as_raw(),
            pidfd: it.child.pidfd.as_raw_fd(),
            channel: it.channel.fds(),
            is_silent: it.is_silent,
            born_ms: it.born_ms,
        };
        Self {
            format: FORMAT,
            pid: getpid().as_raw(),
            segment: inherited.segment.fd().as_raw_fd(),
            wakers: inherited.wakers.iter().map(|it| it.as_fd().as_raw_fd()).collect(),
            pipes: inherited.pipes.iter().map(Pipe::fds).collect(),
            config: current.config.dump(),
            listeners: current.listeners.iter().map(|it| it.as_raw_fd()).collect(),
            is_activated,
            admin: current.admin.as_ref().map(|it| it.as_raw_fd()),
            access: current.access.as_ref().map(|it| it.as_fd().as_raw_fd()),
            control: control.map(control::Server::state),
            workers: workers.processes().iter().map(worker).collect(),
            decider,
        }
    }

    /// Every descriptor that it names.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        let workers = self.workers.iter().flat_map(|it| [it.pidfd, it.channel[0], it.channel[1]]);
        let control = self.control.iter().flat_map(control::ServerState::fds);
        let mut fds = vec![self.segment];
        fds.extend(self.wakers.iter().chain(&self.listeners));
        fds.extend(self.pipes.iter().flatten());
        fds.extend(self.admin.iter().chain(&self.access));
        fds.extend(workers.chain(control));
        fds
    }

    /// Writes the state to a memory file for the next program.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("idontstore state", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads the state that the previous program has written.
    fn read(fd: RawFd) -> Result<Self, HandoverError> {
        let mut text = Vec::new();
        let file = File::from(take(fd, "the state")?);
        file.take(STATE_BYTES_MAX).read_to_end(&mut text).map_err(HandoverError::Unreadable)?;
        // The one field that every format has.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(&text).map_err(HandoverError::Nonsense)?;
        if format != FORMAT {
            return Err(HandoverError::Format(format));
        }
        serde_json::from_slice(&text).map_err(HandoverError::Nonsense)
    }

    /// Takes over the descriptors of the state behind `fd`. `master` is the process that is, or would become, the
    /// workers' parent.
    pub(super) fn restore(fd: RawFd, master: Pid) -> Result<Restored, HandoverError> {
        let state = Self::read(fd)?;
        if master.as_raw() != state.pid {
            return Err(HandoverError::Contradiction("this process is not in the master's place"));
        }
        let segment = Segment::attach(take(state.segment, "the segment")?)?;
        let config = config::parse_dump(&state.config, "the running configuration")?;
        let Geometry { pipes, .. } = segment.geometry();
        // The segment may have fewer pipes than the configuration asks for.
        if segment.geometry() != (Geometry { pipes, ..config.memory.geometry }) {
            return Err(HandoverError::Contradiction("the segment differs from the configuration"));
        }
        if state.pipes.len() != pipes as usize {
            return Err(HandoverError::Contradiction("pipes are missing"));
        }
        if config.listeners.len() != state.listeners.len() {
            return Err(HandoverError::Contradiction("listeners are missing"));
        }
        if state.wakers.len() != WORKER_RECORDS_MAX {
            return Err(HandoverError::Contradiction("eventfds are missing"));
        }
        let wakers = state.wakers.into_iter().map(|fd| {
            program::take_eventfd(fd).map_err(|source| HandoverError::Descriptor {
                fd,
                what: "an eventfd",
                source,
            })
        });
        let wakers = wakers.collect::<Result<_, _>>()?;
        let pipe = |[out, into]: [RawFd; 2]| {
            Ok::<_, HandoverError>(Pipe::after(take(out, "a pipe")?, take(into, "a pipe")?))
        };
        let pipes = state.pipes.into_iter().map(pipe).collect::<Result<_, _>>()?;
        let listeners = state.listeners.into_iter().map(|fd| take(fd, "a listener"));
        let listeners = listeners.collect::<Result<_, _>>()?;
        let admin = state.admin.map(|fd| take(fd, "the admin listener")).transpose()?;
        // The value lives as long as the process, as in the previous program.
        let inherited: &Inherited = Box::leak(Box::new(Inherited { segment, wakers, pipes }));
        let access =
            state.access.map(|fd| take(fd, "the access log").map(Sink::new)).transpose()?;
        let (current, cannot_fork) =
            resources::again(config, &inherited.segment, listeners, admin, access);
        let processes = state.workers.into_iter().map(ProcessState::restore);
        let processes: Vec<Process> = processes.collect::<Result<_, _>>()?;
        let mut living: Vec<usize> = processes.iter().map(|it| it.record.index()).collect();
        living.sort_unstable();
        if living != state.decider.living() {
            return Err(HandoverError::Contradiction(
                "the workers and their processes do not match",
            ));
        }
        let control = state.control.map(control::Server::after).transpose();
        Ok(Restored {
            inherited,
            current,
            cannot_fork,
            is_activated: state.is_activated,
            processes,
            control: control.map_err(HandoverError::Control)?,
            decider: state.decider,
        })
    }
}

impl ProcessState {
    fn restore(self) -> Result<Process, HandoverError> {
        let record = WorkerId::new(self.record);
        let record = record.ok_or(HandoverError::Contradiction("no such worker record"))?;
        let pidfd = take(self.pidfd, "a worker's process")?;
        let [orders, news] = self.channel.map(|fd| take(fd, "a worker channel"));
        let channel = MasterEnd::after(orders?, news?);
        let child = Child { pid: Pid::from_raw(self.pid), pidfd };
        let (is_silent, born_ms) = (self.is_silent, self.born_ms);
        let (heartbeat, is_meant_to_end) = (Heartbeat::default(), false);
        Ok(Process { record, child, channel, is_silent, born_ms, heartbeat, is_meant_to_end })
    }
}

fn take(fd: RawFd, what: &'static str) -> Result<OwnedFd, HandoverError> {
    program::take(fd).map_err(|source| HandoverError::Descriptor { fd, what, source })
}
