//! Attackers that keep connections, and what is read of them.

use super::Bot;
use crate::line::Line;
use std::io;
use std::time::Duration;

/// How often a byte is sent by those that keep a connection.
const DRIP: Duration = Duration::from_secs(2);
/// Connections beyond what is kept that one attacker has at a time.
const EXTRA: usize = 2;
/// How long it has them, without reading a byte.
const EXTRA_STAY: Duration = Duration::from_millis(500);
/// A key that was never issued.
const NOWHERE: &str = "/AAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const BLOCK_BYTES: usize = 64 << 10;

impl Bot<'_> {
    /// Sends a body to a session that there is not, as long as anybody takes it.
    pub(super) fn send_on(self) -> io::Result<()> {
        let mut line = self.connect()?;
        line.request(&format!("PUT {NOWHERE}"), &format!("Content-Length: {}\r\n", 1_u64 << 39))?;
        self.count(false);
        let junk = vec![b'x'; BLOCK_BYTES];
        while !self.is_over() {
            self.send_all(&mut line, &junk)?;
        }
        Ok(())
    }

    /// Keeps `count` connections, each in another state. If `crowds` is set, opens more, which can only be turned away.
    pub(super) fn keep(self, count: usize, crowds: bool) -> io::Result<()> {
        let mut kept: Vec<Option<Line>> = (0..count).map(|_| None).collect();
        while !self.is_over() {
            for (index, place) in kept.iter_mut().enumerate() {
                *place = self.drip(place.take(), index);
            }
            if !crowds {
                self.sleep(DRIP);
                continue;
            }
            for _ in 0..4 {
                let extra: Vec<_> = (0..EXTRA).map(|_| self.connect()).collect();
                extra.iter().for_each(|line| self.count(line.is_ok()));
                self.sleep(EXTRA_STAY);
            }
        }
        Ok(())
    }

    /// Begins a connection, or does as little as keeps it; `None`, if it is lost.
    fn drip(self, line: Option<Line>, index: usize) -> Option<Line> {
        let done = match line {
            Some(mut line) if index % 3 == 1 => line.send(b"x").map(|()| line),
            Some(line) => Ok(line),
            None => self.connect().and_then(|mut line| {
                match index % 3 {
                    // This one says nothing at all.
                    0 => {}
                    1 => line.send(b"GET / HTTP/1.1\r\nHost: relay\r\nX: ")?,
                    _ => {
                        line.request("GET /", "")?;
                        let head = self.patiently(|| line.head())?;
                        self.count(head.status == 200);
                    }
                }
                Ok(line)
            }),
        };
        if done.is_err() {
            self.storm.broken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        done.ok()
    }
}
