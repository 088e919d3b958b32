//! What one program hands on to the next that takes its place in the master's process: a table of all that
//! is open, and of who lives, as JSON in a memory file whose descriptor an environment variable names.
//!
//! What must always hold: a program that does not understand the table takes nothing over, and says why.

use super::decision::{Past, PastError};
use super::opening;
use super::pulse::Pulse;
use super::workers::{Process, Workers};
use crate::config::{self, ConfigError};
use crate::control;
use crate::sys::pipe::Pipe;
use crate::sys::process::Child;
use crate::sys::program;
use crate::sys::sink::Sink;
use crate::worker::tether::MasterEnd;
use crate::worker::{Generation, Inheritance};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};
use shm::{AttachError, Geometry, Segment, WORKER_RECORDS_MAX, WorkerId};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The variable that names the state's descriptor.
pub(super) const TAKE_OVER: &str = "IDONTSTORE_TAKE_OVER";
/// The variable that names where to say whether it could, and not to do it.
pub(super) const TRY: &str = "IDONTSTORE_TRY";

/// Goes up when the meaning of a field changes.
const FORMAT: u32 = 2;
/// A table of all there can be, each with a configuration, is far smaller.
const STATE_BYTES_MAX: u64 = 16 << 20;

/// The table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// The master's process.
    pid: i32,
    segment: RawFd,
    wakers: Vec<RawFd>,
    /// Both ends of each.
    #[serde(default)]
    pipes: Vec<[RawFd; 2]>,
    /// What the generation runs with that served last, every value worked out.
    config: String,
    /// In the order of the configuration.
    listeners: Vec<RawFd>,
    /// They are the service manager's.
    #[serde(default)]
    is_activated: bool,
    admin: Option<RawFd>,
    /// The access log.
    access: Option<RawFd>,
    control: Option<control::Past>,
    workers: Vec<WorkerState>,
    past: Past,
}

#[derive(Debug, Serialize, Deserialize)]
struct WorkerState {
    record: usize,
    pid: i32,
    pidfd: RawFd,
    /// Where orders go, and where news come from.
    tether: [RawFd; 2],
    is_silent: bool,
    born_ms: u64,
}

/// Why what another program hands on is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("descriptor {fd}, said to be {what}, cannot be taken")]
    Descriptor { fd: RawFd, what: &'static str, source: io::Error },
    #[error("cannot read the state")]
    Unreadable(#[source] io::Error),
    #[error("the state is not understood")]
    Nonsense(#[source] serde_json::Error),
    #[error("the state is of format {0}, and this program's is {FORMAT}")]
    Format(u32),
    #[error("the segment does not fit")]
    Segment(#[from] AttachError),
    #[error("the state contradicts itself: {0}")]
    Contradiction(&'static str),
    #[error("the state contradicts itself")]
    Past(#[from] PastError),
    #[error("the configuration of the running generation is not understood")]
    Config(#[from] ConfigError),
    #[error("cannot go on with the control socket")]
    Control(#[source] io::Error),
}

/// All that is taken over.
pub(super) struct Restored {
    pub(super) inheritance: &'static Inheritance,
    /// The generation that served last.
    pub(super) current: Generation,
    /// Why no worker of it can be forked, if so.
    pub(super) lack: Option<String>,
    pub(super) is_activated: bool,
    pub(super) processes: Vec<Process>,
    pub(super) control: Option<control::Server>,
    pub(super) past: Past,
}

impl State {
    pub(super) fn new(
        inheritance: &Inheritance,
        current: &Generation,
        is_activated: bool,
        past: Past,
        workers: &Workers,
        control: Option<&control::Server>,
    ) -> Self {
        let worker = |it: &Process| WorkerState {
            record: it.record.index(),
            pid: it.child.pid.as_raw(),
            pidfd: it.child.pidfd.as_raw_fd(),
            tether: it.tether.fds(),
            is_silent: it.is_silent,
            born_ms: it.born_ms,
        };
        Self {
            format: FORMAT,
            pid: getpid().as_raw(),
            segment: inheritance.segment.fd().as_raw_fd(),
            wakers: inheritance.wakers.iter().map(|it| it.as_fd().as_raw_fd()).collect(),
            pipes: inheritance.pipes.iter().map(Pipe::fds).collect(),
            config: current.config.dump(),
            listeners: current.listeners.iter().map(|it| it.as_raw_fd()).collect(),
            is_activated,
            admin: current.admin.as_ref().map(|it| it.as_raw_fd()),
            access: current.access.as_ref().map(|it| it.as_fd().as_raw_fd()),
            control: control.map(control::Server::past),
            workers: workers.processes().iter().map(worker).collect(),
            past,
        }
    }

    /// Every descriptor that it names.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        let workers = self.workers.iter().flat_map(|it| [it.pidfd, it.tether[0], it.tether[1]]);
        let control = self.control.iter().flat_map(control::Past::fds);
        let mut fds = vec![self.segment];
        fds.extend(self.wakers.iter().chain(&self.listeners));
        fds.extend(self.pipes.iter().flatten());
        fds.extend(self.admin.iter().chain(&self.access));
        fds.extend(workers.chain(control));
        fds
    }

    /// Writes it where the next program can read it.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("idontstore state", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads what the program before has written.
    fn read(fd: RawFd) -> Result<Self, StateError> {
        let mut text = Vec::new();
        let file = File::from(take(fd, "the state")?);
        file.take(STATE_BYTES_MAX).read_to_end(&mut text).map_err(StateError::Unreadable)?;
        // The one field that is there in every format.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(&text).map_err(StateError::Nonsense)?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        serde_json::from_slice(&text).map_err(StateError::Nonsense)
    }

    /// Takes over what is open, whose table is behind `fd`. `master` is the process that is, or would become, the
    /// workers' parent.
    pub(super) fn restore(fd: RawFd, master: Pid) -> Result<Restored, StateError> {
        let state = Self::read(fd)?;
        if master.as_raw() != state.pid {
            return Err(StateError::Contradiction("it was not started in the master's place"));
        }
        let segment = Segment::attach(take(state.segment, "the segment")?)?;
        let config = config::parse_dump(&state.config, "the running configuration")?;
        let Geometry { pipes, .. } = segment.geometry();
        // There may be fewer than were asked for.
        if segment.geometry() != (Geometry { pipes, ..config.memory.geometry }) {
            return Err(StateError::Contradiction("the segment is not as it is configured"));
        }
        if state.pipes.len() != pipes as usize {
            return Err(StateError::Contradiction("pipes are missing"));
        }
        if config.listeners.len() != state.listeners.len() {
            return Err(StateError::Contradiction("listeners are missing"));
        }
        if state.wakers.len() != WORKER_RECORDS_MAX {
            return Err(StateError::Contradiction("eventfds are missing"));
        }
        let wakers = state.wakers.into_iter().map(|fd| {
            program::take_eventfd(fd).map_err(|source| StateError::Descriptor {
                fd,
                what: "an eventfd",
                source,
            })
        });
        let wakers = wakers.collect::<Result<_, _>>()?;
        let pipe = |[out, into]: [RawFd; 2]| {
            Ok::<_, StateError>(Pipe::after(take(out, "a pipe")?, take(into, "a pipe")?))
        };
        let pipes = state.pipes.into_iter().map(pipe).collect::<Result<_, _>>()?;
        let listeners = state.listeners.into_iter().map(|fd| take(fd, "a listener"));
        let listeners = listeners.collect::<Result<_, _>>()?;
        let admin = state.admin.map(|fd| take(fd, "the admin listener")).transpose()?;
        // For life, as with the program before.
        let inheritance: &Inheritance = Box::leak(Box::new(Inheritance { segment, wakers, pipes }));
        let access =
            state.access.map(|fd| take(fd, "the access log").map(Sink::new)).transpose()?;
        let (current, lack) =
            opening::again(config, &inheritance.segment, listeners, admin, access);
        let processes = state.workers.into_iter().map(WorkerState::restore);
        let processes: Vec<Process> = processes.collect::<Result<_, _>>()?;
        let mut living: Vec<usize> = processes.iter().map(|it| it.record.index()).collect();
        living.sort_unstable();
        if living != state.past.living() {
            return Err(StateError::Contradiction("workers without a process, or the reverse"));
        }
        let control = state.control.map(control::Server::after).transpose();
        Ok(Restored {
            inheritance,
            current,
            lack,
            is_activated: state.is_activated,
            processes,
            control: control.map_err(StateError::Control)?,
            past: state.past,
        })
    }
}

impl WorkerState {
    fn restore(self) -> Result<Process, StateError> {
        let record = WorkerId::new(self.record);
        let record = record.ok_or(StateError::Contradiction("no such worker record"))?;
        let pidfd = take(self.pidfd, "a worker's process")?;
        let [orders, news] = self.tether.map(|fd| take(fd, "a worker's tether"));
        let tether = MasterEnd::after(orders?, news?);
        let child = Child { pid: Pid::from_raw(self.pid), pidfd };
        let (is_silent, born_ms) = (self.is_silent, self.born_ms);
        let (pulse, is_ended) = (Pulse::default(), false);
        Ok(Process { record, child, tether, is_silent, born_ms, pulse, is_ended })
    }
}

fn take(fd: RawFd, what: &'static str) -> Result<OwnedFd, StateError> {
    program::take(fd).map_err(|source| StateError::Descriptor { fd, what, source })
}
