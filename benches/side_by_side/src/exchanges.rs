//! Small exchanges, one after the other in each of some lanes, for a while; and what they cost.

use crate::Outcome;
use crate::end::{End, Step};
use crate::engine::{Driver, Engine};
use crate::hearing::Expect;
use crate::process::Tree;
use crate::sample::{Metric, Sample, micros};
use crate::scenes::BODY_BYTES;
use crate::stream::Stream;
use crate::targets::relay::{Receipt, location, safe_conduct};
use crate::targets::{Lane, Requests, request};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// So many exchanges since then.
fn sample(tree: &Tree, exchanges: u64, start: Instant, cpu: Duration) -> Outcome<Sample> {
    let (took, cpu) = (start.elapsed(), tree.cpu()? - cpu);
    let exchanges = exchanges as f64;
    Ok(Sample(vec![
        (Metric::PerSecond, exchanges / took.as_secs_f64()),
        (Metric::CpuEach, micros(cpu) / exchanges),
        (Metric::PerCpuSecond, exchanges / cpu.as_secs_f64()),
    ]))
}

/// On connections that are kept alive. A receiver sends its next request as soon as it has a body, a
/// sender as soon as it has its answer; neither knows of the other. All are in one thread.
pub(crate) fn kept_alive(tree: &Tree, lanes: Vec<Lane>, span: Duration) -> Outcome<Sample> {
    let (start, cpu) = (Instant::now(), tree.cpu()?);
    let mut driver =
        KeptAlive { until: start + span, senders: lanes.len(), exchanges: 0, parties: Vec::new() };
    let mut engine = Engine::new(true)?;
    for lane in lanes {
        let requests = Rc::new(lane.requests);
        for (stream, receives) in [(lane.receiver, true), (lane.sender, false)] {
            let hears = if receives { Expect::Payload(BODY_BYTES) } else { lane.answer };
            let mut party = Party { requests: Rc::clone(&requests), receives, hears, number: 0 };
            let end = End::new(stream, party.next());
            driver.parties.push(party);
            engine.add(end)?;
        }
    }
    engine.run(&mut driver)?;
    sample(tree, driver.exchanges, start, cpu)
}

struct Party {
    requests: Rc<Requests>,
    receives: bool,
    hears: Expect,
    /// Of its next exchange.
    number: u64,
}

impl Party {
    fn next(&mut self) -> [Step; 2] {
        self.number += 1;
        let requests = &self.requests;
        let say = if self.receives { requests.get(self.number) } else { requests.put(self.number) };
        [Step::Say(say), Step::Hear(self.hears)]
    }
}

struct KeptAlive {
    until: Instant,
    /// Senders that go on.
    senders: usize,
    exchanges: u64,
    /// By the ids of their ends, which stay as long as it runs.
    parties: Vec<Party>,
}

impl Driver for KeptAlive {
    fn done(&mut self, engine: &mut Engine, id: usize, mut end: End) -> Outcome<Option<End>> {
        let party = self.parties.get_mut(id).ok_or("an end that nobody has")?;
        if !party.receives {
            self.exchanges += 1;
            if Instant::now() >= self.until {
                self.senders -= 1;
                if self.senders == 0 {
                    engine.stop();
                }
                return Ok(None);
            }
        }
        end.go_on(party.next());
        Ok(Some(end))
    }
}

/// How an exchange on fresh connections is begun.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// With a session that is asked for.
    Sessions(SocketAddr, Receipt),
    /// On a path that nobody has used.
    Paths(Paths),
}

#[derive(Debug)]
pub(crate) struct Paths {
    address: SocketAddr,
    used: u64,
}

impl Paths {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, used: 0 }
    }
}

/// On fresh connections, which the generator closes once it has its answer: one for asking, where there
/// is something to ask for, one for the receiver, one for the sender. The two begin at the same time.
pub(crate) fn fresh(tree: &Tree, kind: Fresh, lanes: usize, span: Duration) -> Outcome<Sample> {
    let (start, cpu) = (Instant::now(), tree.cpu()?);
    let left = vec![0; lanes];
    let mut driver =
        FreshDriver { kind, until: start + span, left, roles: HashMap::new(), exchanges: 0 };
    let mut engine = Engine::new(true)?;
    for lane in 0..lanes {
        driver.begin(&mut engine, lane)?;
    }
    engine.run(&mut driver)?;
    sample(tree, driver.exchanges, start, cpu)
}

struct FreshDriver {
    kind: Fresh,
    until: Instant,
    /// For each lane, how many of its two ends are not done.
    left: Vec<usize>,
    /// The lane of an end, and whether it is one that asks.
    roles: HashMap<usize, (usize, bool)>,
    exchanges: u64,
}

impl FreshDriver {
    fn begin(&mut self, engine: &mut Engine, lane: usize) -> Outcome<()> {
        match &mut self.kind {
            Fresh::Sessions(address, _) => {
                let asking = [Step::Say(safe_conduct()), Step::Hear(Expect::Answer)];
                let id = engine.add(End::new(Stream::connect(*address, None)?, asking))?;
                self.roles.insert(id, (lane, true));
                Ok(())
            }
            Fresh::Paths(paths) => {
                paths.used += 1;
                // The time makes paths of different runs different.
                let path = format!("/{:?}-{}", self.until, paths.used).replace(' ', "");
                self.meet(engine, lane, &path)
            }
        }
    }

    /// Lets a receiver and a sender begin.
    fn meet(&mut self, engine: &mut Engine, lane: usize, path: &str) -> Outcome<()> {
        let (address, fields) = match &self.kind {
            Fresh::Sessions(address, receipt) => (*address, format!("X-Receipt: {receipt}\r\n")),
            Fresh::Paths(paths) => (paths.address, String::new()),
        };
        let get = [Step::Say(request("GET", path, "")), Step::Hear(Expect::Payload(BODY_BYTES))];
        let put = request("PUT", path, &format!("{fields}Content-Length: {BODY_BYTES}\r\n"));
        let put = [put.as_slice(), crate::payload::at(0, BODY_BYTES)].concat();
        let answer = match self.kind {
            Fresh::Sessions(..) => Expect::Report(BODY_BYTES),
            Fresh::Paths(_) => Expect::Answer,
        };
        let put = [Step::Say(put), Step::Hear(answer)];
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
            if Instant::now() < self.until {
                self.begin(engine, lane)?;
            }
        }
        Ok(None)
    }
}
