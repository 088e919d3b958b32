//! A bulk transfer over HTTPS on both sides, TLS 1.3 with AES-128-GCM; and the least that it can cost: *copy*, and
//! the TLS library's own time for opening what one side sealed and sealing it for the other.

use super::{Contender, HAPROXY, LANDED, NGINX, ONE_WORKER, PIPING, Scene, TLS_ALONE, TWO_WORKERS};
use crate::Outcome;
use crate::carry::carry;
use crate::limits::{Limit, Running};
use crate::payload;
use crate::plan::{Stage, is_there};
use crate::sample::{Metric, Sample};
use crate::targets::piping::Piping;
use crate::targets::proxy::{Directed, Direction, Kind, Proxy, Shape};
use crate::targets::relay::{Placed, Placement, Relay};
use crate::targets::setup::Setup;
use crate::targets::{Carrier, Form};
use nix::time::{ClockId, clock_gettime};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const GIB: f64 = (1u64 << 30) as f64;
/// Bytes that are sealed at a time.
const CALL_BYTES: usize = 128 << 10;

pub(crate) const SCENE: Scene = Scene {
    name: "https",
    title: "One bulk transfer over HTTPS, AES-128-GCM",
    remarks: "All but *copy*: TLS 1.3 with AES-128-GCM, which is all that the generator offers and takes; all sessions \
              are new, and shake hands before the clock starts. A proxy's connection to its origin is TLS as well, and it \
              does not verify the origin. idontstore and Piping Server open the sender's records and seal the receiver's, \
              as a proxy does.",
    metrics: &[Metric::CpuPerGib, Metric::GibPerSecond, Metric::AllCpuPerGib, Metric::PeakMib],
    ratios: &[
        (Metric::CpuPerGib, PIPING),
        (Metric::GibPerSecond, PIPING),
        (Metric::CpuPerGib, NGINX),
        (Metric::GibPerSecond, NGINX),
        (Metric::CpuPerGib, HAPROXY),
        (Metric::GibPerSecond, HAPROXY),
    ],
    round_seconds: 30.0,
    start,
};

fn start(stage: &Stage) -> Outcome<Vec<Contender>> {
    let (bytes, verifies) = (stage.plan.https_bytes, stage.plan.verifies);
    let carries = move |name: String, carrier: Box<dyn Carrier>| {
        let settings = carrier.settings();
        Contender::new(name, settings, move || carry(carrier.as_ref(), 1, bytes, verifies))
    };
    let certificate = &stage.certificate;
    let configurations = (Arc::clone(&certificate.client), Arc::clone(&certificate.server));
    let mut contenders =
        vec![Contender::new(TLS_ALONE, "records in memory, without a socket", move || {
            alone(&configurations, bytes)
        })];
    for limit in [Limit::Copy(256), Limit::Copy(512)] {
        contenders.push(carries(limit.to_string(), Box::new(Running::start(limit)?)));
    }
    let files = (certificate.certificate_file(), certificate.key_file());
    let tls = Some((&certificate.client, files.0.as_path(), files.1.as_path()));
    let relay = Rc::new(Relay::start(stage.relay(), &Setup { tls, ..Setup::default() })?);
    for (name, placement) in [
        (LANDED, Placement::AsTheyLand),
        (ONE_WORKER, Placement::OneWorker),
        (TWO_WORKERS, Placement::TwoWorkers),
    ] {
        let placed = Placed { relay: Rc::clone(&relay), placement, form: Form::Raw };
        contenders.push(carries(name.to_owned(), Box::new(placed)));
    }
    if let Some(script) = &stage.plan.piping {
        let piping = Piping::start(script, tls)?;
        contenders.push(carries(PIPING.to_owned(), Box::new(piping)));
    }
    for (name, directed) in proxies(stage)? {
        contenders.push(carries(name, Box::new(directed)));
    }
    Ok(contenders)
}

/// The proxies that are installed, with buffers of their own choice, of 256 and of 512 KiB. TLS payload cannot be
/// spliced.
fn proxies(stage: &Stage) -> Outcome<Vec<(String, Directed)>> {
    let mut proxies = Vec::new();
    for kind in [Kind::Nginx, Kind::HaProxy { splices: false }] {
        if !is_there(kind.program()) {
            continue;
        }
        for buffer_kib in [None, Some(256), Some(512)] {
            let shape = Shape { tls: Some(&stage.certificate), ..Shape::new(kind, buffer_kib) };
            let proxy = Rc::new(Proxy::start(&shape)?);
            for direction in [Direction::Upload, Direction::Download] {
                if buffer_kib == Some(512) || direction == Direction::Upload {
                    let name = format!("{}, {direction}", shape.name());
                    proxies.push((name, Directed { proxy: Rc::clone(&proxy), direction }));
                }
            }
        }
    }
    Ok(proxies)
}

type Configurations = (Arc<rustls::ClientConfig>, Arc<rustls::ServerConfig>);

/// The record layer of a relay's two sessions, without a socket: what comes from the sender is opened, and
/// sealed for the receiver. Only that is timed; the sender's sealing and the receiver's opening are not.
fn alone((client, server): &Configurations, bytes: u64) -> Outcome<Sample> {
    let pair = || -> Outcome<(ClientConnection, ServerConnection)> {
        let name = ServerName::try_from("localhost")?;
        let mut client = ClientConnection::new(Arc::clone(client), name)?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        let mut line = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            seal(&mut client, &mut line)?;
            open(&mut server, &line, &mut [])?;
            seal(&mut server, &mut line)?;
            open(&mut client, &line, &mut [])?;
        }
        Ok((client, server))
    };
    let ((mut sender, mut from), (mut receiver, mut to)) = (pair()?, pair()?);
    sender.set_buffer_limit(None);
    to.set_buffer_limit(None);
    let (mut line, mut opened) = (Vec::new(), vec![0; CALL_BYTES]);
    let (mut cpu, mut done, start) = (Duration::ZERO, 0, Instant::now());
    while done < bytes {
        let piece = payload::at(done, bytes);
        sender.writer().write_all(&piece[..piece.len().min(CALL_BYTES)])?;
        seal(&mut sender, &mut line)?;
        let before = thread_time()?;
        let count = open(&mut from, &line, &mut opened)?;
        to.writer().write_all(&opened[..count])?;
        seal(&mut to, &mut line)?;
        cpu += thread_time()? - before;
        let count = open(&mut receiver, &line, &mut opened)?;
        payload::verify(done, &opened[..count])?;
        done += count as u64;
    }
    let gib = bytes as f64 / GIB;
    Ok(Sample(vec![
        (Metric::CpuPerGib, cpu.as_secs_f64() / gib),
        (Metric::GibPerSecond, gib / start.elapsed().as_secs_f64()),
    ]))
}

/// Puts all that a session has to say into `line`.
fn seal<S: SideData>(session: &mut ConnectionCommon<S>, line: &mut Vec<u8>) -> Outcome<()> {
    line.clear();
    while session.wants_write() {
        session.write_tls(line)?;
    }
    Ok(())
}

/// Opens all that is in `line` into `opened`; how much that was.
fn open<S: SideData>(
    session: &mut ConnectionCommon<S>,
    mut line: &[u8],
    opened: &mut [u8],
) -> Outcome<usize> {
    let mut count = 0;
    while !line.is_empty() {
        session.read_tls(&mut line)?;
        session.process_new_packets()?;
        loop {
            match session.reader().read(&mut opened[count..]) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(count)
}

/// CPU time of this thread.
fn thread_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
