//! A whole transfer through the relay.

use crate::client;
use crate::connection::Head;
use crate::cost::Sample;
use crate::measure::cpu_time;
use crate::relay::{Placement, Relay};
use shm::Counters;
use std::error::Error;
use std::io::Write;

impl Relay {
    /// One transfer: asks for a session, lets a receiver and a sender connect so that their workers are
    /// as `wanted` if that can be had, and returns what the counters say of it afterwards.
    pub(crate) fn transfer(
        &self,
        bytes: u64,
        wanted: Placement,
    ) -> Result<(Sample, Placement), Box<dyn Error>> {
        let path = self.ask()?;
        let (mut receiver, mut sender, _) = self.pair(wanted)?;
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
