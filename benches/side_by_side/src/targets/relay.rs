//! idontstore itself: the shipped binary with a configuration of its own, watched through its segment.

use super::{Carrier, Ends, Form, Lane, Requests, request};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::{Expect, Head};
use crate::payload;
use crate::process::{Tree, eventually};
use crate::stream::{Stream, Tls};
use shm::{Counters, Segment, WorkerId};
use std::cell::Cell;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How often a connection may land on the wrong worker. They are given out in turn as long as all workers
/// sleep, so the second one should do.
const CONNECTS_MAX: usize = 64;
const UNTIL_ASLEEP: Duration = Duration::from_millis(1);
const ANSWER_BYTES_MAX: usize = 4096;
const BOUNDARY: &str = "side-by-side-5f0c9c2e";

/// Where the two ends of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    OneWorker,
    TwoWorkers,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OneWorker => "one worker",
            Self::TwoWorkers => "two workers",
        })
    }
}

/// What a sender's answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    Sent,
    Acked,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sent => "sent",
            Self::Acked => "acked",
        })
    }
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) tree: Tree,
    pub(crate) address: SocketAddr,
    workers: usize,
    /// Pairs of connections so far.
    pairs: Cell<usize>,
    segment: Segment,
    tls: Option<Tls>,
    _directory: TempDir,
    /// Kept open, so that the program may go on printing.
    _stdout: BufReader<ChildStdout>,
}

/// What is different from the default configuration.
#[derive(Debug, Default)]
pub(crate) struct Setup<'a> {
    /// Further sections.
    pub(crate) more: &'a str,
    /// What the generator speaks, and the PEM files of the certificate and its key.
    pub(crate) tls: Option<(&'a Tls, &'a Path, &'a Path)>,
}

impl Relay {
    pub(crate) fn start(program: &Path, workers: usize, setup: &Setup<'_>) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("relay.toml");
        let tls = setup.tls.map(|(_, certificate, key)| {
            format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n")
        });
        let configuration = format!(
            "workers = {workers}\nlog.level = \"warn\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n{}{}",
            tls.unwrap_or_default(),
            setup.more
        );
        fs::write(&file, configuration)?;
        let arguments = ["-c".as_ref(), file.as_os_str()];
        let mut tree = Tree::start(program, &arguments, Stdio::piped())?;
        let mut stdout = BufReader::new(tree.child().stdout.take().ok_or("no output")?);
        let address = listening_address(&mut stdout)?;
        tree.settle_at(1 + workers)?;
        let segment = Segment::attach(OwnedFd::from(open_segment(tree.pid())?))
            .map_err(|error| format!("the segment: {error:?}"))?;
        let (_directory, _stdout) = (directory, stdout);
        let tls = setup.tls.map(|(tls, ..)| Tls::clone(tls));
        let pairs = Cell::new(0);
        Ok(Self { tree, address, workers, pairs, segment, tls, _directory, _stdout })
    }

    /// Connections of a receiver and a sender, on workers as `wanted`; each pair begins with another worker, so
    /// that all have as much to do.
    fn pair(&self, wanted: Placement) -> Outcome<(Stream, Stream)> {
        let first = self.pairs.replace(self.pairs.get() + 1) % self.workers;
        let second = (first + usize::from(wanted == Placement::TwoWorkers)) % self.workers;
        // Kept until both are there: to close a connection would wake the worker that has it.
        let mut misplaced = Vec::new();
        let [receiver, sender] = [first, second].map(|it| self.connect_to(it, &mut misplaced));
        let tls = self.tls.as_ref();
        Ok((Stream::over(receiver?, tls)?, Stream::over(sender?, tls)?))
    }

    /// A connection that `wanted` has accepted.
    fn connect_to(&self, wanted: usize, misplaced: &mut Vec<TcpStream>) -> Outcome<TcpStream> {
        for _ in 0..CONNECTS_MAX {
            let (socket, worker) = self.connect()?;
            if worker == wanted {
                return Ok(socket);
            }
            misplaced.push(socket);
            // A worker that is awake takes the next connection, too.
            thread::sleep(UNTIL_ASLEEP);
        }
        Err(format!("no connection was to be had on worker {wanted}").into())
    }

    /// A connection, and the worker that has accepted it.
    fn connect(&self) -> Outcome<(TcpStream, usize)> {
        let before = self.counters();
        let socket = TcpStream::connect(self.address)?;
        let accepted = |(now, then): (&Counters, &Counters)| now.accepted > then.accepted;
        let worker = eventually(|| self.counters().iter().zip(&before).position(accepted))?;
        Ok((socket, worker))
    }

    fn counters(&self) -> Vec<Counters> {
        let records = (0..self.workers).filter_map(WorkerId::new);
        let records = records.filter_map(|id| self.segment.shared().record(id));
        records.map(|record| record.counters()).collect()
    }

    /// How many senders and receivers have come, and wait or are served.
    pub(crate) fn places_held(&self) -> usize {
        self.segment.shared().census().places_held
    }

    /// Asks for so many sessions, one after the other on one connection; their paths.
    pub(crate) fn ask(&self, sessions: usize) -> Outcome<Vec<String>> {
        let mut end = End::new(Stream::connect(self.address, self.tls.as_ref())?, []);
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut ask = || {
            end.go_on([Step::Say(safe_conduct()), Step::Hear(Expect::Answer)]);
            end.complete(&mut buffer)?;
            location(&end.head)
        };
        (0..sessions).map(|_| ask()).collect()
    }

    /// A message session with its host, who sends, and its guest.
    pub(crate) fn lane(&self, placement: Placement, receipt: Receipt, bytes: u64) -> Outcome<Lane> {
        let mut asking = End::new(
            Stream::connect(self.address, self.tls.as_ref())?,
            [Step::Say(request("PUT", "/session", "")), Step::Hear(Expect::Answer)],
        );
        asking.complete(&mut [0; ANSWER_BYTES_MAX])?;
        let path = location(&asking.head)?;
        let cookie = asking.head.field("Set-Cookie").and_then(|it| it.split(';').next());
        let cookie = cookie.ok_or("a session without a token")?;
        let fields =
            format!("Cookie: {cookie}\r\nX-Receipt: {receipt}\r\nContent-Length: {bytes}\r\n");
        let put = [request("POST", &path, &fields).as_slice(), payload::at(0, bytes)].concat();
        let (receiver, sender) = self.pair(placement)?;
        Ok(Lane {
            sender,
            receiver,
            requests: Requests::Same { put, get: request("GET", &path, "") },
            answer: Expect::Report(bytes),
        })
    }
}

/// A request for a session.
pub(crate) fn safe_conduct() -> Vec<u8> {
    request("POST", "/", "Content-Length: 0\r\n")
}

/// The path of the session that an answer has issued.
pub(crate) fn location(head: &Head) -> Outcome<String> {
    let url = head.field("Location").ok_or("an answer without a session")?;
    let path = url.split_once("://bench").map_or(url, |(_, path)| path);
    Ok(path.to_owned())
}

/// A relay with its ends placed in one way.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) relay: Rc<Relay>,
    pub(crate) placement: Placement,
    pub(crate) form: Form,
}

impl Carrier for Placed {
    fn tree(&self) -> Option<&Tree> {
        Some(&self.relay.tree)
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        let path = self.relay.ask(1)?.pop().ok_or("no session")?;
        let (receiver, sender) = self.relay.pair(self.placement)?;
        let get = [Step::Say(request("GET", &path, "")), Step::Hear(Expect::Payload(bytes))];
        let mut put = match self.form {
            Form::Raw => {
                let head = request("PUT", &path, &format!("Content-Length: {bytes}\r\n"));
                vec![Step::Say(head), Step::Payload(bytes)]
            }
            Form::Multipart => {
                let before = format!(
                    "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
                );
                let after = format!("\r\n--{BOUNDARY}--\r\n");
                let length = bytes + (before.len() + after.len()) as u64;
                let fields = format!(
                    "Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n"
                );
                let head = [request("POST", &path, &fields), before.into_bytes()].concat();
                vec![Step::Say(head), Step::Payload(bytes), Step::Say(after.into_bytes())]
            }
        };
        put.push(Step::Hear(Expect::Report(bytes)));
        Ok(Ends { sender: End::new(sender, put), receiver: End::new(receiver, get) })
    }
}

fn listening_address(stdout: &mut impl BufRead) -> Outcome<SocketAddr> {
    for line in stdout.lines() {
        let line = line?;
        let address = line.strip_prefix("listening on http").and_then(|it| it.split_once("://"));
        if let Some((_, address)) = address {
            return Ok(address.trim_end_matches('/').parse()?);
        }
    }
    Err("the relay ended before it listened".into())
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
