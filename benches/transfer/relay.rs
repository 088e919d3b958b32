//! The real program: started with a configuration of its own on a port the kernel chose, watched
//! through its segment, and ended whatever happens.

use crate::client::{self, Head};
use crate::cost::{Sample, cpu_time};
use shm::{Counters, Segment, WorkerId};
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
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
    address: SocketAddr,
    workers: usize,
    segment: Segment,
    /// The master's and the workers' process ids.
    pids: Vec<u32>,
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
        fs::write(&file, format!("workers = {workers}\nlog_level = \"warn\"\n{listener}"))?;
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

    /// One transfer: asks for a session, lets a receiver and a sender connect so that their workers are
    /// as `wanted` if that can be had, and returns what the counters say of it afterwards.
    pub(crate) fn transfer(
        &self,
        bytes: u64,
        wanted: Placement,
    ) -> Result<(Sample, Placement), Box<dyn Error>> {
        let path = self.ask()?;
        let (mut receiver, receiver_worker) = self.connect()?;
        let mut sender = None;
        for _ in 0..CONNECTS_MAX {
            let (socket, worker) = self.connect()?;
            sender = Some(socket);
            if (worker == receiver_worker) == (wanted == Placement::SameWorker) {
                break;
            }
        }
        let mut sender = sender.ok_or("no sender")?;
        let (before, cpu) = (self.counters(), cpu_time(&self.pids)?);
        write!(receiver, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let put = format!("PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {bytes}\r\n\r\n");
        let took = client::transfer(
            || {
                sender.write_all(put.as_bytes())?;
                client::send(&sender, bytes)
            },
            || {
                Head::read(&receiver)?.expect(200)?;
                client::receive(&receiver, bytes)
            },
        )?;
        let report = Head::read(&sender)?.expect(200)?;
        let cpu = cpu_time(&self.pids)? - cpu;
        let delivered: u64 = report.field("X-Bytes-Delivered")?.parse()?;
        if delivered != bytes {
            return Err(format!("{delivered} bytes of {bytes} were delivered").into());
        }
        Ok((Sample::new(bytes, took, cpu), self.placement_since(&before, bytes)?))
    }

    /// Asks for a session; returns its path.
    fn ask(&self) -> Result<String, Box<dyn Error>> {
        let (mut socket, _) = self.connect()?;
        socket.write_all(b"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n")?;
        let answer = Head::read(&socket)?.expect(201)?;
        let url = answer.field("Location")?;
        Ok(url.strip_prefix("http://bench").ok_or("a session elsewhere")?.to_owned())
    }

    /// A connection, and the worker that has accepted it.
    fn connect(&self) -> Result<(TcpStream, usize), Box<dyn Error>> {
        let before = self.counters();
        let socket = client::connect(self.address)?;
        let accepted = |(now, then): (&Counters, &Counters)| now.accepted > then.accepted;
        let worker = eventually(|| self.counters().iter().zip(&before).position(accepted))?;
        Ok((socket, worker))
    }

    fn counters(&self) -> Vec<Counters> {
        let records = (0..self.workers).filter_map(WorkerId::new);
        let records = records.filter_map(|id| self.segment.shared().record(id));
        records.map(|record| record.counters()).collect()
    }

    /// Where the `bytes` went that were moved since `before`. Bytes on more workers than one end can
    /// have mean that something else is going on.
    fn placement_since(&self, before: &[Counters], bytes: u64) -> Result<Placement, &'static str> {
        let now = self.counters();
        let worker = |count: fn(&Counters) -> u64| {
            let counts = now.iter().zip(before).map(|(now, then)| count(now) - count(then));
            counts.enumerate().find(|(_, count)| *count == bytes).map(|(worker, _)| worker)
        };
        let sender = worker(|it| it.bytes_in).ok_or("the sender's bytes are on no one worker")?;
        let receiver =
            worker(|it| it.bytes_out).ok_or("the receiver's bytes are on no one worker")?;
        Ok(if sender == receiver { Placement::SameWorker } else { Placement::TwoWorkers })
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
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Result<T, &'static str> {
    let start = Instant::now();
    loop {
        match ask() {
            Some(answer) => return Ok(answer),
            None if start.elapsed() > PATIENCE => return Err("the relay does not do what it must"),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}
