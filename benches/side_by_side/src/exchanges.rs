//! Small exchanges, one after the other in each of some lanes, for a while; and what they cost.
//!
//! After each so many the clock stands still. Sessions that have to be there before an exchange begins are issued
//! then, no more at a time than the relay lets one address have by default. All contenders have such pauses.

use crate::Outcome;
use crate::end::{End, Step};
use crate::engine::{Driver, Engine};
use crate::hearing::Expect;
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros};
use crate::stream::Stream;
use crate::targets::relay::{Receipt, Relay, location, safe_conduct};
use crate::targets::{Lane, Requests, put, request};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that each exchange carries.
pub(crate) const BODY_BYTES: u64 = 1024;
/// Exchanges between two pauses. An address may have 862 sessions by default.
pub(crate) const BATCH: usize = 500;
/// How long a pause is in which nothing is issued: what is under way comes to its end, as it does while sessions are issued.
const PAUSE: Duration = Duration::from_millis(2);

/// Time of the clock and of the target's CPUs, without the pauses.
pub(crate) struct Stopwatch<'t> {
    tree: &'t Tree,
    took: Duration,
    pub(crate) cpu: Duration,
    /// When it began to run, and the target's CPU time by then.
    since: Option<(Instant, Duration)>,
}

impl<'t> Stopwatch<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, took: Duration::ZERO, cpu: Duration::ZERO, since: None }
    }

    pub(crate) fn start(&mut self) -> Outcome<()> {
        let cpu = self.tree.cpu()?;
        self.since = Some((Instant::now(), cpu));
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Outcome<()> {
        if let Some((start, cpu)) = self.since.take() {
            self.took += start.elapsed();
            self.cpu += self.tree.cpu()? - cpu;
        }
        Ok(())
    }

    fn took(&self) -> Duration {
        self.took + self.since.map_or(Duration::ZERO, |(start, _)| start.elapsed())
    }

    /// So many exchanges.
    fn sample(&self, exchanges: u64) -> Sample {
        let exchanges = exchanges as f64;
        Sample(vec![
            (Metric::PerSecond, exchanges / self.took.as_secs_f64()),
            (Metric::CpuEach, micros(self.cpu) / exchanges),
            (Metric::PerCpuSecond, exchanges / self.cpu.as_secs_f64()),
        ])
    }
}

/// Runs exchanges on connections that are kept alive. A receiver sends its next request as soon as it has a body, a
/// sender as soon as it has its answer; neither knows of the other. All are in one thread. `issuer` issues sessions,
/// if exchanges need any.
pub(crate) fn kept_alive(
    tree: &Tree,
    lanes: Vec<Lane>,
    span: Duration,
    issuer: Option<&Relay>,
) -> Outcome<Sample> {
    let mut driver = KeptAlive {
        watch: Stopwatch::new(tree),
        span,
        issuer,
        parties: Vec::new(),
        begun: vec![0; lanes.len()],
        senders: lanes.len(),
        left: 0,
        issued: Vec::new(),
        exchanges: 0,
    };
    let mut engine = Engine::new(true)?;
    for lane in lanes {
        let requests = Rc::new(lane.requests);
        for (stream, receives) in [(lane.receiver, true), (lane.sender, false)] {
            let hears = if receives { Expect::Payload(BODY_BYTES) } else { lane.answer };
            let requests = Rc::clone(&requests);
            driver.parties.push(Party { requests, receives, hears, number: 0 });
            let steps = driver.next(driver.parties.len() - 1)?;
            engine.add(End::new(stream, steps))?;
        }
    }
    engine.run(&mut driver)?;
    driver.watch.stop()?;
    if let Some(relay) = issuer {
        relay.keep_issued(driver.issued);
    }
    Ok(driver.watch.sample(driver.exchanges))
}

struct Party {
    requests: Rc<Requests>,
    receives: bool,
    hears: Expect,
    /// The number of the party's last exchange.
    number: u64,
}

struct KeptAlive<'t> {
    watch: Stopwatch<'t>,
    span: Duration,
    issuer: Option<&'t Relay>,
    /// The parties by the ids of their ends, which stay the same during the run; the two parties of a lane are
    /// neighbours.
    parties: Vec<Party>,
    /// Exchanges of each lane that one of its two has begun.
    begun: Vec<u64>,
    /// Senders that go on.
    senders: usize,
    /// Exchanges that may begin before the next pause, and the paths for them.
    left: usize,
    issued: Vec<String>,
    exchanges: u64,
}

impl KeptAlive<'_> {
    fn pause(&mut self) -> Outcome<()> {
        self.watch.stop()?;
        match self.issuer {
            Some(relay) => self.issued = relay.issued(BATCH)?,
            None => thread::sleep(PAUSE),
        }
        self.left = BATCH;
        self.watch.start()
    }

    /// The next steps of a party. The party that comes first to an exchange begins it.
    fn next(&mut self, id: usize) -> Outcome<[Step; 2]> {
        let number = self.parties.get(id).ok_or("an end that nobody has")?.number;
        if number == self.begun[id / 2] {
            if self.left == 0 {
                self.pause()?;
            }
            self.left -= 1;
            self.begun[id / 2] += 1;
            if let Requests::Issued { paths, .. } = self.parties[id].requests.as_ref() {
                paths.borrow_mut().push(self.issued.pop().ok_or("no session is left")?);
            }
        }
        let party = &mut self.parties[id];
        party.number += 1;
        let (requests, number) = (&party.requests, party.number);
        let say = if party.receives { requests.get(number) } else { requests.put(number) };
        Ok([Step::Say(say), Step::Hear(party.hears)])
    }
}

impl Driver for KeptAlive<'_> {
    fn done(&mut self, engine: &mut Engine, id: usize, mut end: End) -> Outcome<Option<End>> {
        let party = self.parties.get(id).ok_or("an end that nobody has")?;
        if !party.receives {
            self.exchanges += 1;
            if self.watch.took() >= self.span {
                self.senders -= 1;
                if self.senders == 0 {
                    engine.stop();
                }
                return Ok(None);
            }
        }
        end.go_on(self.next(id)?);
        Ok(Some(end))
    }
}

/// How an exchange on fresh connections is begun.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// Each exchange asks for its session on a connection of its own.
    Asked(Rc<Relay>, Receipt),
    /// Each exchange uses a session that was issued before.
    Issued(Rc<Relay>, Receipt),
    /// On a path that nobody has used.
    Paths(SocketAddr),
}

impl Fresh {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Asked(relay, _) | Self::Issued(relay, _) => relay.address,
            Self::Paths(address) => *address,
        }
    }
}

/// On fresh connections, which the generator closes once it has its answer: one for the receiver, one for the sender,
/// and where it is said so one for asking before. The two begin at the same time.
pub(crate) fn fresh(tree: &Tree, kind: Fresh, lanes: usize, span: Duration) -> Outcome<Sample> {
    // The time makes paths of different runs different.
    let prefix = format!("/{:?}-", Instant::now()).replace(' ', "");
    let (left, roles) = (vec![0; lanes], HashMap::new());
    let mut driver =
        FreshDriver { kind, prefix, paths: Vec::new(), begun: 0, left, roles, exchanges: 0 };
    let mut watch = Stopwatch::new(tree);
    while watch.took() < span {
        driver.begun = 0;
        match &driver.kind {
            Fresh::Issued(relay, _) => driver.paths = relay.issued(BATCH)?,
            _ => thread::sleep(PAUSE),
        }
        watch.start()?;
        let mut engine = Engine::new(true)?;
        for lane in 0..lanes {
            driver.begin(&mut engine, lane)?;
        }
        engine.run(&mut driver)?;
        watch.stop()?;
    }
    Ok(watch.sample(driver.exchanges))
}

struct FreshDriver {
    kind: Fresh,
    /// The beginning of paths, if sessions are not issued.
    prefix: String,
    /// The paths that were issued for this batch.
    paths: Vec<String>,
    /// Exchanges of this batch that have begun.
    begun: usize,
    /// For each lane, how many of its two ends are not done.
    left: Vec<usize>,
    /// The lane of an end, and whether that end asks.
    roles: HashMap<usize, (usize, bool)>,
    exchanges: u64,
}

impl FreshDriver {
    fn begin(&mut self, engine: &mut Engine, lane: usize) -> Outcome<()> {
        if self.begun == BATCH {
            return Ok(());
        }
        self.begun += 1;
        let path = match &self.kind {
            Fresh::Asked(relay, _) => {
                let asking = [Step::Say(safe_conduct()), Step::Hear(Expect::Answer)];
                let id = engine.add(End::new(Stream::connect(relay.address, None)?, asking))?;
                self.roles.insert(id, (lane, true));
                return Ok(());
            }
            Fresh::Issued(..) => self.paths.pop().ok_or("no session is left")?,
            // Exchanges that are done and this one's place in the batch together differ for any two.
            Fresh::Paths(_) => format!("{}{}-{}", self.prefix, self.exchanges, self.begun),
        };
        self.meet(engine, lane, &path)
    }

    /// Lets a receiver and a sender begin.
    fn meet(&mut self, engine: &mut Engine, lane: usize, path: &str) -> Outcome<()> {
        let address = self.kind.address();
        let (fields, answer) = match &self.kind {
            Fresh::Asked(_, receipt) | Fresh::Issued(_, receipt) => {
                (format!("X-Receipt: {receipt}\r\n"), Expect::Report(BODY_BYTES))
            }
            Fresh::Paths(_) => (String::new(), Expect::Answer),
        };
        let get = [Step::Say(request("GET", path, "")), Step::Hear(Expect::Payload(BODY_BYTES))];
        let put = [Step::Say(put(path, &fields, BODY_BYTES)), Step::Hear(answer)];
        self.left[lane] = 2;
        for steps in [get, put] {
            let id = engine.add(End::new(Stream::connect(address, None)?, steps))?;
            self.roles.insert(id, (lane, false));
        }
        Ok(())
    }
}

impl Driver for FreshDriver {
    fn done(&mut self, engine: &mut Engine, id: usize, end: End) -> Outcome<Option<End>> {
        let (lane, asks) = self.roles.remove(&id).ok_or("an end that nobody has")?;
        if asks {
            let path = location(&end.head)?;
            drop(end);
            self.meet(engine, lane, &path)?;
            return Ok(None);
        }
        drop(end);
        self.left[lane] -= 1;
        if self.left[lane] == 0 {
            self.exchanges += 1;
            self.begin(engine, lane)?;
        }
        Ok(None)
    }
}
