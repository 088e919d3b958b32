//! A target's processes: started, looked at from outside, and ended whatever happens.

use crate::Outcome;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);
/// How often memory is looked at while something runs.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// A process and all that descend from it.
#[derive(Debug)]
pub(crate) struct Tree {
    child: Child,
    pids: Vec<u32>,
    /// Whether it starts a process for each connection.
    forks: bool,
}

impl Tree {
    /// Starts a program so that it dies with this one: by `setpriv`, and by a signal that lets a master
    /// end its workers.
    pub(crate) fn start(program: &Path, arguments: &[&OsStr], stdout: Stdio) -> Outcome<Self> {
        Self::start_as_is(Self::command(program).args(arguments).stdout(stdout))
    }

    /// The command that starts a program in this way.
    pub(crate) fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program);
        command
    }

    /// The same for a program that sees to its end itself.
    pub(crate) fn start_as_is(command: &mut Command) -> Outcome<Self> {
        let started = command.stdin(Stdio::null()).spawn();
        let child = started.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        Ok(Self { pids: vec![child.id()], child, forks: false })
    }

    /// The same for a program that starts a process for each connection. These processes come and go.
    pub(crate) fn forking(mut self) -> Self {
        self.forks = true;
        self
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has so many processes, and takes note of them.
    pub(crate) fn settle_at(&mut self, processes: usize) -> Outcome<()> {
        eventually(|| {
            self.pids = descendants(self.child.id());
            (self.pids.len() == processes).then_some(())
        })
    }

    /// CPU time, user and system, that all of them have used so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        if self.forks {
            return eventually(|| cpu_with_ended(self.pid()));
        }
        if descendants(self.child.id()) != self.pids {
            return Err("the target's processes are not those that it had".into());
        }
        let times: Outcome<Vec<Duration>> = self.pids.iter().map(|pid| cpu_of(*pid)).collect();
        Ok(times?.into_iter().sum())
    }

    /// Pipes that the first process has both ends of.
    pub(crate) fn pipes(&self) -> usize {
        pipes_of(&[self.pid()]).len()
    }

    /// Memory that they have in RAM, what they share counted once; bytes.
    pub(crate) fn memory(&self) -> u64 {
        memory_of(&self.pids)
    }

    /// Looks at the memory, and at the pipes, until [`Watch::peaks`].
    pub(crate) fn watch(&self) -> Watch {
        let (pids, shared) = (self.pids.clone(), Arc::new(Peaks::default()));
        let forking = self.forks.then(|| self.pid());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            loop {
                let pids = forking.map_or_else(|| pids.clone(), descendants);
                let is_over = theirs.is_over.load(Ordering::Relaxed);
                theirs.memory.fetch_max(memory_of(&pids), Ordering::Relaxed);
                theirs.pipes.fetch_max(pipes_hold(&pids), Ordering::Relaxed);
                if is_over {
                    break;
                }
                thread::park_timeout(MEMORY_INTERVAL);
            }
        });
        Watch { thread: Some(thread), shared }
    }
}

impl Drop for Tree {
    /// Sends `TERM`, which lets a master end its workers, and kills what is still there after a while.
    fn drop(&mut self) {
        let signal = |pid: u32, signal| {
            let pid = i32::try_from(pid).map(Pid::from_raw);
            pid.map(|pid| kill(pid, signal))
        };
        let _ = signal(self.child.id(), Signal::SIGTERM);
        let ended = eventually(|| self.child.try_wait().ok().flatten());
        if ended.is_err() {
            for pid in descendants(self.child.id()) {
                let _ = signal(pid, Signal::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// A look at memory from time to time.
#[derive(Debug)]
pub(crate) struct Watch {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Peaks>,
}

/// The most that was seen; bytes.
#[derive(Debug, Default)]
struct Peaks {
    is_over: AtomicBool,
    memory: AtomicU64,
    pipes: AtomicU64,
}

impl Watch {
    /// The most that was seen of memory, and of what the pipes may hold; bytes.
    pub(crate) fn peaks(mut self) -> [u64; 2] {
        self.end();
        [&self.shared.memory, &self.shared.pipes].map(|most| most.load(Ordering::Relaxed))
    }

    fn end(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// The process and all that descend from it, in order of their ids.
fn descendants(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let pairs: Vec<(u32, u32)> = pids.filter_map(|pid| Some((parent(pid)?, pid))).collect();
    let (mut found, mut next) = (vec![pid], 0);
    while let Some(&parent) = found.get(next) {
        found.extend(pairs.iter().filter(|(of, _)| *of == parent).map(|(_, pid)| pid));
        next += 1;
    }
    found.sort_unstable();
    found
}

/// The second field after the name, which is in parentheses and may hold anything: `stat` (proc(5)).
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// The CPU time of all threads of a process, to the nanosecond: `schedstat` (proc(5)).
fn cpu_of(pid: u32) -> Outcome<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let time = text.split(' ').next().ok_or("no time in schedstat")?;
        sum += Duration::from_nanos(time.parse()?);
    }
    Ok(sum)
}

/// The CPU time of a process, of all that descend from it, and of its children that have ended. `None`: a process came or
/// went meanwhile.
fn cpu_with_ended(pid: u32) -> Option<Duration> {
    let pids = descendants(pid);
    let times: Outcome<Vec<Duration>> = pids.iter().map(|pid| cpu_of(*pid)).collect();
    let sum = times.ok()?.into_iter().sum::<Duration>() + cpu_of_ended(pid)?;
    (descendants(pid) == pids).then_some(sum)
}

/// The CPU time of children that have ended, in hundredths of a second: `stat` (proc(5)).
fn cpu_of_ended(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace().skip(13).take(2);
    let ticks: Option<Vec<u64>> = fields.map(|ticks| ticks.parse().ok()).collect();
    Some(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
}

/// The processes' own memory (proportional set size: a page of the program's file that two map counts half for each),
/// and the shared memory of the process that maps most of it, as the others map the same. The unit is bytes.
fn memory_of(pids: &[u32]) -> u64 {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_default() << 10
    };
    let of_one = |pid: &u32| {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let (pages, status) = (read("smaps_rollup"), read("status"));
        let own = field(&pages, "Pss_Anon:") + field(&pages, "Pss_File:");
        (own, field(&status, "RssShmem:"))
    };
    let all: Vec<(u64, u64)> = pids.iter().map(of_one).collect();
    let own: u64 = all.iter().map(|(own, _)| own).sum();
    own + all.iter().map(|(_, shared)| *shared).max().unwrap_or_default()
}

/// The pipes that have both ends in one of the processes, and where one of the ends is.
fn pipes_of(pids: &[u32]) -> BTreeMap<PathBuf, PathBuf> {
    let of_one = |pid: &u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = entries.filter_map(|it| Some((fs::read_link(it.path()).ok()?, it.path())));
        let mut ends: Vec<_> =
            links.filter(|(link, _)| link.to_string_lossy().starts_with("pipe:")).collect();
        ends.sort_unstable();
        let pipes = ends.chunk_by(|(one, _), (other, _)| one == other);
        let pipes: Vec<_> = pipes.filter(|ends| ends.len() == 2).map(|it| it[0].clone()).collect();
        pipes
    };
    pids.iter().flat_map(of_one).collect()
}

/// The bytes that these pipes may hold.
fn pipes_hold(pids: &[u32]) -> u64 {
    let size = |end: &PathBuf| {
        let end =
            File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(end).ok()?;
        u64::try_from(fcntl(&end, FcntlArg::F_GETPIPE_SZ).ok()?).ok()
    };
    pipes_of(pids).values().filter_map(size).sum()
}

/// A directory for what a target needs; its path is short wherever temporary files are, as a socket's may have 107 bytes.
pub(crate) fn scratch() -> Outcome<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in("/tmp")?)
}

/// Asks until there is an answer, or patience ends. The first looks do not sleep.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Some(answer) => return Ok(answer),
            None if start.elapsed() > PATIENCE => {
                return Err("a target does not do what it must".into());
            }
            None if start.elapsed() < Duration::from_millis(1) => std::hint::spin_loop(),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}
