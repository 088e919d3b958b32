//! A target's processes: started, looked at from outside, and ended whatever happens.

use crate::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// How often memory is looked at while something runs.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// A process and all that descend from it.
#[derive(Debug)]
pub(crate) struct Tree {
    child: Child,
    pids: Vec<u32>,
}

impl Tree {
    /// Starts a program so that it dies with this one: by `setpriv`, and by a signal that lets a master
    /// end its workers.
    pub(crate) fn start(program: &Path, arguments: &[&OsStr], stdout: Stdio) -> Outcome<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program).args(arguments);
        Self::start_as_is(command.stdout(stdout))
    }

    /// The same for a program that sees to its end itself.
    pub(crate) fn start_as_is(command: &mut Command) -> Outcome<Self> {
        let started = command.stdin(Stdio::null()).spawn();
        let child = started.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        Ok(Self { pids: vec![child.id()], child })
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
        if descendants(self.child.id()) != self.pids {
            return Err("the target's processes are not those that it had".into());
        }
        let times: Outcome<Vec<Duration>> = self.pids.iter().map(|pid| cpu_of(*pid)).collect();
        Ok(times?.into_iter().sum())
    }

    /// Memory that they have in RAM, what they share counted once; bytes.
    pub(crate) fn memory(&self) -> u64 {
        memory_of(&self.pids)
    }

    /// Looks at the memory until [`Watch::peak`].
    pub(crate) fn watch(&self) -> Watch {
        let (pids, shared) =
            (self.pids.clone(), Arc::new((AtomicBool::new(false), AtomicU64::new(0))));
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while !theirs.0.load(Ordering::Relaxed) {
                theirs.1.fetch_max(memory_of(&pids), Ordering::Relaxed);
                thread::park_timeout(MEMORY_INTERVAL);
            }
            theirs.1.fetch_max(memory_of(&pids), Ordering::Relaxed);
        });
        Watch { thread: Some(thread), shared }
    }
}

impl Drop for Tree {
    /// `TERM`, which lets a master end its workers; what is still there after a while is killed.
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
    /// Whether it is over, and the most that was seen.
    shared: Arc<(AtomicBool, AtomicU64)>,
}

impl Watch {
    /// The most that was seen; bytes.
    pub(crate) fn peak(mut self) -> u64 {
        self.end();
        self.shared.1.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.shared.0.store(true, Ordering::Relaxed);
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

/// Of all threads of a process, to the nanosecond: `schedstat` (proc(5)).
fn cpu_of(pid: u32) -> Outcome<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let time = text.split(' ').next().ok_or("no time in schedstat")?;
        sum += Duration::from_nanos(time.parse()?);
    }
    Ok(sum)
}

/// What is their own (proportional set size: a page of the program's file that two map counts half for each),
/// and the shared memory of the one that maps most of it, as others map the same. Bytes.
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
