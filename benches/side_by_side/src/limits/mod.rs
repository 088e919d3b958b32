//! The least that the work costs: this program once more, as a process that does one thing in the barest way. Each
//! limit prints its address, and dies with the process that started it.

mod copy;
mod echo;
mod meet;
mod splice;

use crate::Outcome;
use crate::process::Tree;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};

/// The argument that makes this program a limit.
const ARGUMENT: &str = "--limit";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A single process with a blocking loop that receives and sends so many KiB.
    Copy(usize),
    /// The same, with the payload in a chunked coding.
    CopyChunked(usize),
    /// A single process with a blocking loop from a socket to a pipe to a socket; no byte is copied out of the
    /// kernel.
    Splice,
    /// The barest relay in one process that pairs a `PUT` and a `GET` by path; small bodies only.
    Meet,
    /// A message through two processes: shared memory, and an eventfd to wake the second one.
    Echo,
}

impl Limit {
    const ALL: [Self; 7] = [
        Self::Copy(256),
        Self::Copy(512),
        Self::CopyChunked(256),
        Self::CopyChunked(512),
        Self::Splice,
        Self::Meet,
        Self::Echo,
    ];

    fn processes(self) -> usize {
        if self == Self::Echo { 2 } else { 1 }
    }

    pub(crate) fn settings(self) -> String {
        match self {
            Self::Copy(kib) => format!("one blocking process, {kib} KiB a call; no HTTP"),
            Self::CopyChunked(kib) => {
                format!("one blocking process, {kib} KiB a call, each in a chunk; no head")
            }
            Self::Splice => {
                "one blocking process, 1 MiB a call through a pipe of 1 MiB; no HTTP".to_owned()
            }
            Self::Meet => "one process; no session, no deadline, small bodies only".to_owned(),
            Self::Echo => "two processes, one message at a time; no HTTP".to_owned(),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(kib) => write!(f, "copy {kib} KiB"),
            Self::CopyChunked(kib) => write!(f, "chunking copy {kib} KiB"),
            Self::Splice => f.write_str("splice"),
            Self::Meet => f.write_str("meet"),
            Self::Echo => f.write_str("echo"),
        }
    }
}

/// Is this program to be a limit? Then it is, until it is killed.
pub(crate) fn serve(arguments: &[String]) -> Outcome<bool> {
    let [first, name, rest @ ..] = arguments else { return Ok(false) };
    if first != ARGUMENT {
        return Ok(false);
    }
    set_pdeathsig(Signal::SIGKILL)?;
    if let [memory] = rest {
        echo::serve_second(memory)?;
    }
    let limit = Limit::ALL.into_iter().find(|limit| limit.to_string() == *name);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let say = || {
        println!("{}", listener.local_addr().map_or_else(|it| it.to_string(), |it| it.to_string()))
    };
    let never = match limit.ok_or("no such limit")? {
        Limit::Copy(kib) => copy::serve(&listener, kib << 10, say)?,
        Limit::CopyChunked(kib) => copy::serve_chunked(&listener, kib << 10, say)?,
        Limit::Splice => splice::serve(&listener, say)?,
        Limit::Meet => meet::serve(&listener, say)?,
        Limit::Echo => echo::serve_first(&listener, say)?,
    };
    match never {}
}

/// A limit, seen from outside.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) tree: Tree,
    pub(crate) limit: Limit,
    pub(crate) address: SocketAddr,
}

impl Running {
    pub(crate) fn start(limit: Limit) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ARGUMENT, &limit.to_string()]).stdout(Stdio::piped());
        let mut tree = Tree::start_as_is(&mut command)?;
        let stdout = tree.child().stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{limit} did not start: {line}"))?;
        tree.settle_at(limit.processes())?;
        Ok(Self { tree, limit, address })
    }
}
