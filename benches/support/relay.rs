//! The real program: started with a configuration of its own on a port the kernel chose, watched
//! through its segment, and ended whatever happens.

use crate::connection;
use shm::{Counters, Segment, WorkerId};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection may land on the wrong worker before that is accepted. They are given out in
/// turn, so the second one should do.
const CONNECTS_MAX: usize = 16;

/// Few, so that a look at all of them costs nothing.
const SESSIONS_MAX: usize = 16;

/// Where the two ends of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    SameWorker,
    TwoWorkers,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SameWorker => "same worker",
            Self::TwoWorkers => "two workers",
        })
    }
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    master: Child,
    pub(crate) address: SocketAddr,
    workers: usize,
    pub(crate) segment: Segment,
    /// The master's and the workers' process ids.
    pub(crate) pids: Vec<u32>,
    _directory: TempDir,
    /// Kept open, so that the program may go on printing.
    _stdout: BufReader<ChildStdout>,
}

/// Ends the relay if something fails while it is being started.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.as_mut().map(end);
    }
}

/// The workers die with their master.
fn end(master: &mut Child) {
    let _ = master.kill();
    let _ = master.wait();
}

impl Relay {
    pub(crate) fn start(workers: usize) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("relay.toml");
        let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
        let memory = format!("[memory]\nsessions_max = {SESSIONS_MAX}\n");
        let common = format!("workers = {workers}\nlog.level = \"warn\"\n");
        fs::write(&file, common + listener + &memory)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_idontstore"));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut starting = Starting(Some(command.spawn()?));
        let master = starting.0.as_mut().ok_or("no master")?;
        let mut stdout = BufReader::new(master.stdout.take().ok_or("no output")?);
        let address = listening_address(&mut stdout)?;
        let pid = master.id();
        let mut pids = vec![pid];
        pids.extend(eventually(|| Some(children(pid)).filter(|them| them.len() == workers))?);
        let segment = Segment::attach(OwnedFd::from(open_segment(pid)?))?;
        let master = starting.0.take().ok_or("no master")?;
        let (_directory, _stdout) = (directory, stdout);
        Ok(Self { master, address, workers, segment, pids, _directory, _stdout })
    }

    /// A receiver's and a sender's connection, on workers as `wanted` if that can be had, and what they
    /// are.
    pub(crate) fn pair(
        &self,
        wanted: Placement,
    ) -> Result<(TcpStream, TcpStream, Placement), Box<dyn Error>> {
        let (receiver, receiver_worker) = self.connect()?;
        let mut last = None;
        for _ in 0..CONNECTS_MAX {
            let (sender, worker) = self.connect()?;
            let same = worker == receiver_worker;
            let placement = if same { Placement::SameWorker } else { Placement::TwoWorkers };
            last = Some((sender, placement));
            if placement == wanted {
                break;
            }
        }
        let (sender, placement) = last.ok_or("no sender")?;
        Ok((receiver, sender, placement))
    }

    /// A connection, and the worker that has accepted it.
    pub(crate) fn connect(&self) -> Result<(TcpStream, usize), Box<dyn Error>> {
        let before = self.counters();
        let socket = connection::connect(self.address)?;
        let accepted = |(now, then): (&Counters, &Counters)| now.accepted > then.accepted;
        let worker = eventually(|| self.counters().iter().zip(&before).position(accepted))?;
        Ok((socket, worker))
    }

    pub(crate) fn counters(&self) -> Vec<Counters> {
        let records = (0..self.workers).filter_map(WorkerId::new);
        let records = records.filter_map(|id| self.segment.shared().record(id));
        records.map(|record| record.counters()).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        end(&mut self.master);
    }
}

fn listening_address(stdout: &mut impl BufRead) -> Result<SocketAddr, Box<dyn Error>> {
    for line in stdout.lines() {
        if let Some(address) = line?.strip_prefix("listening on http://") {
            return Ok(address.trim_end_matches('/').parse()?);
        }
    }
    Err("the relay ended before it listened".into())
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(1));
        parent.and_then(|parent| parent.parse().ok()) == Some(pid)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

/// The segment of the master `pid`, opened anew.
fn open_segment(pid: u32) -> io::Result<File> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let link = fs::read_link(&path).unwrap_or_default();
        if link.to_string_lossy().contains("memfd:idontstore") {
            return File::options().read(true).write(true).open(path);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Asks until there is an answer, or patience ends.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Result<T, &'static str> {
    let start = Instant::now();
    loop {
        match ask() {
            Some(answer) => return Ok(answer),
            None if start.elapsed() > PATIENCE => return Err("the relay does not do what it must"),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}
