//! Attackers that ask for much, and often.

use super::Bot;
use crate::line::Line;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Requests that are sent before an answer is read, by those that want sessions quickly.
const IN_A_ROW: usize = 16;
/// Sessions that all attackers take before they hammer.
const ALL_SESSIONS: usize = 16_000;
/// The bytes of a head that come one by one: the rest of `head_bytes_max` as it is by default.
const HEAD_BYTES: usize = (16 << 10) - 200;
const ASK: &str = "POST / HTTP/1.1\r\nHost: relay\r\n\r\n";

impl Bot<'_> {
    /// Takes `count` sessions, and asks for that many again each second.
    pub(super) fn take_sessions(self, count: usize) -> io::Result<()> {
        let mut line = self.connect()?;
        while !self.is_over() {
            let began = Instant::now();
            self.ask(&mut line, count)?;
            self.sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// Asks for `count` sessions.
    fn ask(self, line: &mut Line, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 && !self.is_over() {
            let requests = left.min(IN_A_ROW);
            self.ask_in_a_row(line, requests)?;
            left -= requests;
        }
        Ok(())
    }

    fn ask_in_a_row(self, line: &mut Line, requests: usize) -> io::Result<()> {
        self.send_all(line, ASK.repeat(requests).as_bytes())?;
        for _ in 0..requests {
            let head = self.patiently(|| line.head())?;
            self.count(head.status == 201);
            line.body(&head, |_| ())?;
        }
        Ok(())
    }

    /// Asks for sessions that are not to be had, `in_a_row` requests at a time.
    pub(super) fn hammer(self, in_a_row: usize) -> io::Result<()> {
        let mut line = self.connect()?;
        self.ask(&mut line, self.share(ALL_SESSIONS))?;
        while !self.is_over() {
            self.ask_in_a_row(&mut line, in_a_row)?;
        }
        Ok(())
    }

    /// Sends a head that is as long as it may be, byte by byte.
    pub(super) fn head_by_byte(self) -> io::Result<()> {
        let mut line = self.connect()?;
        line.send(b"GET / HTTP/1.1\r\nHost: relay\r\nX: ")?;
        for _ in 0..HEAD_BYTES {
            if self.is_over() {
                return Ok(());
            }
            self.send_all(&mut line, b"x")?;
        }
        line.send(b"\r\n\r\n")?;
        let head = self.patiently(|| line.head())?;
        self.count(head.status == 200);
        Ok(())
    }

    /// Agrees on new keys, and leaves.
    pub(super) fn shake(self) -> io::Result<()> {
        let mut line = self.storm.target.attack_anew(self.source())?;
        self.storm.opened.fetch_add(1, Ordering::Relaxed);
        line.patience(super::LOOK)?;
        let shaken = self.patiently(|| line.shake());
        self.count(shaken.is_ok());
        shaken
    }

    /// Asks for a place that another of them has.
    pub(super) fn knock(self) -> io::Result<()> {
        let mut line = self.connect()?;
        let path = match self.storm.common.get() {
            Some(path) => path.clone(),
            None => {
                let path = self.patiently(|| line.session())?;
                self.storm.common.get_or_init(|| path).clone()
            }
        };
        while !self.is_over() {
            line.request(&format!("GET {path}"), "")?;
            let head = self.patiently(|| line.head())?;
            self.count(head.status == 200);
            line.body(&head, |_| ())?;
        }
        Ok(())
    }
}
