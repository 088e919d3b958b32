//! idontstore itself: the shipped binary with a configuration of its own, watched through its segment.

use super::setup::{Setup, packaged_configuration, unprivileged};
use super::{Carrier, Ends, Form, Lane, Requests, WORKERS, request};
use crate::Outcome;
use crate::end::{End, Step};
use crate::hearing::{Expect, Head};
use crate::payload;
use crate::process::{Tree, eventually, scratch};
use crate::sample::{Metric, Sample};
use crate::stream::{Stream, Tls};
use shm::{Counters, Segment, WorkerId, WorkerRecord};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How often a connection may land on the wrong worker. The kernel deals connections out in turn as long as all
/// workers sleep, so the second one should do.
const CONNECTS_MAX: usize = 64;
const UNTIL_ASLEEP: Duration = Duration::from_millis(1);
const ANSWER_BYTES_MAX: usize = 4096;
const BOUNDARY: &str = "side-by-side-5f0c9c2e";

/// Numbers of users that systemd keeps for services: nobody else has one of them. Each relay has another, as the
/// kernel counts pipes by user.
static USERS: AtomicU32 = AtomicU32::new(61_184);

/// Where the two ends of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Where the kernel deals them to, as in life.
    AsTheyLand,
    OneWorker,
    TwoWorkers,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AsTheyLand => "connections where the kernel deals them",
            Self::OneWorker => "both ends on one worker, which is chosen",
            Self::TwoWorkers => "the ends on two workers, which are chosen",
        })
    }
}

/// The moment that a sender's answer waits for.
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
    /// For the table.
    pub(crate) settings: String,
    /// Pairs of connections so far.
    pairs: Cell<usize>,
    /// Sessions that were issued and that nobody has used.
    unused: RefCell<Vec<String>>,
    landings: RefCell<Landings>,
    segment: Segment,
    tls: Option<Tls>,
    _directory: TempDir,
    /// Kept open, so that the program may go on printing.
    _stdout: BufReader<ChildStdout>,
}

/// How connections have landed since it was last told.
#[derive(Debug, Default)]
struct Landings {
    /// Pairs with both ends on one worker, and with the ends on two.
    pairs: [u32; 2],
    /// Connections that each worker had accepted when it was last told.
    accepted: Vec<u64>,
}

impl Relay {
    pub(crate) fn start(program: &Path, setup: &Setup<'_>) -> Outcome<Self> {
        let directory = scratch()?;
        let user = USERS.fetch_add(1, Ordering::Relaxed);
        let file = directory.path().join("relay.toml");
        let (configuration, mut command) = if setup.packaged {
            let configuration = packaged_configuration(directory.path(), setup.more);
            chown(directory.path(), Some(user), Some(user))?;
            (configuration, unprivileged(program, user))
        } else {
            (setup.configuration(user), Tree::command(program))
        };
        fs::write(&file, configuration)?;
        command.arg("-c").arg(&file).stdout(Stdio::piped());
        let mut tree = Tree::start_as_is(&mut command)?;
        let mut stdout = BufReader::new(tree.child().stdout.take().ok_or("no output")?);
        let address = listening_address(&mut stdout)?;
        tree.settle_at(1 + WORKERS)?;
        let segment = Segment::attach(OwnedFd::from(open_segment(tree.pid())?))
            .map_err(|error| format!("the segment: {error:?}"))?;
        let settings = setup.settings(Some(tree.pipes()));
        let (_directory, _stdout) = (directory, stdout);
        let tls = setup.tls.map(|(tls, ..)| Tls::clone(tls));
        let (pairs, unused) = (Cell::new(0), RefCell::default());
        Ok(Self {
            tree,
            address,
            settings,
            pairs,
            unused,
            landings: RefCell::default(),
            segment,
            tls,
            _directory,
            _stdout,
        })
    }

    /// Connections of a receiver and a sender, on workers as `wanted`; each pair begins with another worker, so
    /// that all have as much to do. As they land, they are what any client would get.
    pub(super) fn pair(&self, wanted: Placement) -> Outcome<(Stream, Stream)> {
        let tls = self.tls.as_ref();
        if wanted == Placement::AsTheyLand {
            let before = self.accepted();
            let pair = (Stream::connect(self.address, tls)?, Stream::connect(self.address, tls)?);
            self.note_landing(&before)?;
            return Ok(pair);
        }
        let first = self.pairs.replace(self.pairs.get() + 1) % WORKERS;
        let second = (first + usize::from(wanted == Placement::TwoWorkers)) % WORKERS;
        // Kept until both are there: to close a connection would wake the worker that has it.
        let mut misplaced = Vec::new();
        let [receiver, sender] = [first, second].map(|it| self.connect_to(it, &mut misplaced));
        Ok((Stream::over(receiver?, tls)?, Stream::over(sender?, tls)?))
    }

    /// Waits for a pair that has connected since `before` to be accepted, and notes whether one worker has both.
    fn note_landing(&self, before: &[u64]) -> Outcome<()> {
        let news = || -> Vec<u64> {
            self.accepted().iter().zip(before).map(|(now, then)| now - then).collect()
        };
        let news = eventually(|| Some(news()).filter(|it| it.iter().sum::<u64>() >= 2))?;
        self.landings.borrow_mut().pairs[usize::from(!news.contains(&2))] += 1;
        Ok(())
    }

    /// How connections have landed since this was last asked: pairs where each is looked at, else only how they are
    /// dealt out to the workers.
    pub(crate) fn landed(&self) -> Vec<(Metric, f64)> {
        let accepted = self.accepted();
        let mut landings = self.landings.borrow_mut();
        let pairs = std::mem::take(&mut landings.pairs).map(f64::from);
        let before = std::mem::replace(&mut landings.accepted, accepted.clone());
        if pairs != [0.0; 2] {
            return [Metric::OnOneWorker, Metric::OnTwoWorkers].into_iter().zip(pairs).collect();
        }
        let news = accepted.iter().zip(before.iter().chain(std::iter::repeat(&0)));
        let news: Vec<u64> = news.map(|(now, then)| now - then).collect();
        let (least, all) = (news.iter().min().copied(), news.iter().sum::<u64>());
        let share = 100.0 * least.unwrap_or_default() as f64 / all.max(1) as f64;
        vec![(Metric::LeastShare, share)]
    }

    /// A sample, and beside it how its connections have landed, where that was left to chance.
    pub(crate) fn landed_as(&self, placement: Placement, mut sample: Sample) -> Sample {
        if placement == Placement::AsTheyLand {
            sample.0.extend(self.landed());
        }
        sample
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
        let before = self.accepted();
        let socket = TcpStream::connect(self.address)?;
        let has_it = |(now, then): (&u64, &u64)| now > then;
        let worker = eventually(|| self.accepted().iter().zip(&before).position(has_it))?;
        Ok((socket, worker))
    }

    /// Connections that each worker has accepted so far.
    fn accepted(&self) -> Vec<u64> {
        self.counters().map(|counters| counters.accepted).collect()
    }

    /// Payload bytes that were read and dropped so far, as receivers had them.
    pub(crate) fn skipped(&self) -> u64 {
        self.counters().map(|counters| counters.bytes_skipped).sum()
    }

    fn counters(&self) -> impl Iterator<Item = Counters> {
        let records = (0..WORKERS).filter_map(WorkerId::new);
        let records = records.filter_map(|id| self.segment.shared().record(id));
        records.map(WorkerRecord::counters)
    }

    /// Both ends of a transfer. The heads of request and answer are `stretch` bytes longer than they might be: by their
    /// content type, and in a form by its boundary and its file's name.
    pub(crate) fn open(
        &self,
        placement: Placement,
        form: Form,
        bytes: u64,
        stretch: usize,
    ) -> Outcome<Ends> {
        let path = self.ask(1)?.pop().ok_or("no session")?;
        let (receiver, sender) = self.pair(placement)?;
        let get = [Step::Say(request("GET", &path, "")), Step::Hear(Expect::Payload(bytes))];
        let stretch = "x".repeat(stretch);
        let put = |fields: &str| {
            request("PUT", &path, &format!("Content-Type: text/plain{stretch}\r\n{fields}"))
        };
        let mut put = match form {
            Form::Raw => {
                let head = put(&format!("Content-Length: {bytes}\r\n"));
                vec![Step::Say(head), Step::Payload(bytes)]
            }
            Form::Chunked => {
                let (chunks, rest) = payload::chunked(bytes);
                let head = put("Transfer-Encoding: chunked\r\n");
                vec![Step::Say(head), Step::Chunks(chunks), Step::Say(rest)]
            }
            Form::Multipart => {
                let boundary = format!("{BOUNDARY}{stretch}");
                let before = format!(
                    "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
                     filename=\"f{stretch}\"\r\n\r\n"
                );
                let after = format!("\r\n--{boundary}--\r\n");
                let length = bytes + (before.len() + after.len()) as u64;
                let fields = format!(
                    "Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {length}\r\n"
                );
                let head = [request("POST", &path, &fields), before.into_bytes()].concat();
                vec![Step::Say(head), Step::Payload(bytes), Step::Say(after.into_bytes())]
            }
        };
        put.push(Step::Hear(Expect::Report(bytes)));
        Ok(Ends { sender: End::new(sender, put), receiver: End::new(receiver, get) })
    }

    /// Both ends of a transfer whose receiver has the first `from` bytes.
    pub(crate) fn open_rest(&self, from: u64, total: u64) -> Outcome<Ends> {
        let path = self.ask(1)?.pop().ok_or("no session")?;
        let (receiver, sender) = self.pair(Placement::AsTheyLand)?;
        let get = request("GET", &path, &format!("Range: bytes={from}-\r\n"));
        let put = request("PUT", &path, &format!("Content-Length: {total}\r\n"));
        let get = [Step::Say(get), Step::Hear(Expect::Payload(total - from))];
        let put = [Step::Say(put), Step::Payload(total), Step::Hear(Expect::Report(total))];
        Ok(Ends { sender: End::new(sender, put), receiver: End::new(receiver, get) })
    }

    /// How many senders and receivers have come, and wait or are served.
    pub(crate) fn places_held(&self) -> usize {
        self.segment.shared().census().places_held
    }

    /// The head of its answer to a request for a session.
    pub(crate) fn answer(&self) -> Outcome<Head> {
        answer_of(Stream::connect(self.address, self.tls.as_ref())?)
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

    /// So many sessions that nobody has used: those that were kept, and new ones.
    pub(crate) fn issued(&self, sessions: usize) -> Outcome<Vec<String>> {
        let mut paths = self.unused.take();
        paths.extend(self.ask(sessions.saturating_sub(paths.len()))?);
        Ok(paths)
    }

    /// Keeps sessions that nobody has used: one address may not have many.
    pub(crate) fn keep_issued(&self, paths: Vec<String>) {
        self.unused.replace(paths);
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

    /// A lane whose exchanges have a session each, which somebody else asks for; their paths go into its requests.
    pub(crate) fn exchange_lane(&self, receipt: Receipt, bytes: u64) -> Outcome<Lane> {
        let (receiver, sender) = self.pair(Placement::AsTheyLand)?;
        let (paths, fields) = (RefCell::new(Vec::new()), format!("X-Receipt: {receipt}\r\n"));
        let requests = Requests::Issued { paths, fields, bytes };
        Ok(Lane { sender, receiver, requests, answer: Expect::Report(bytes) })
    }
}

/// A request for a session.
pub(crate) fn safe_conduct() -> Vec<u8> {
    request("POST", "/", "Content-Length: 0\r\n")
}

/// The head of the answer that it gets on a connection.
pub(crate) fn answer_of(stream: Stream) -> Outcome<Head> {
    let mut end = End::new(stream, [Step::Say(safe_conduct()), Step::Hear(Expect::Answer)]);
    end.complete(&mut [0; ANSWER_BYTES_MAX])?;
    Ok(end.head)
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

    fn settings(&self) -> String {
        let form = match self.form {
            Form::Raw => "",
            Form::Chunked => "; a chunked body",
            Form::Multipart => "; a multipart form",
        };
        format!("{}; {}{form}", self.relay.settings, self.placement)
    }

    fn landed(&self) -> Vec<(Metric, f64)> {
        match self.placement {
            Placement::AsTheyLand => self.relay.landed(),
            Placement::OneWorker | Placement::TwoWorkers => Vec::new(),
        }
    }

    fn open(&self, bytes: u64) -> Outcome<Ends> {
        self.relay.open(self.placement, self.form, bytes, 0)
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
