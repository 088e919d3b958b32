//! Attackers that send to themselves, and receive in every way that holds what others need.

use super::Bot;
use crate::scenes::{Body, Reader};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A length that no pair comes to the end of.
const ENDLESS: u64 = 1 << 39;
/// Bytes of payload that are sent at a time.
const BLOCK_BYTES: usize = 16 << 10;
/// Sleeps are short, so that the other side is not left waiting.
const NAP: Duration = Duration::from_millis(100);

impl Bot<'_> {
    /// Asks for a session, and relays through it to itself until it is cut.
    pub(super) fn pair(self, body: Body, reader: Reader) -> io::Result<()> {
        let mut asking = self.connect()?;
        let path = self.patiently(|| asking.session());
        self.count(path.is_ok());
        let path = path?;
        drop(asking);
        loop {
            let is_parted = AtomicBool::new(false);
            let result = thread::scope(|scope| {
                let thread = thread::Builder::new().stack_size(super::STACK_BYTES);
                let receiving = thread.spawn_scoped(scope, || {
                    let received = self.receive(&path, reader, &is_parted);
                    is_parted.store(true, Ordering::Relaxed);
                    received
                })?;
                let sent = self.send(&path, body, &is_parted);
                is_parted.store(true, Ordering::Relaxed);
                receiving.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))).and(sent)
            });
            let returns = matches!(reader, Reader::Returns(_));
            if self.is_over() || !returns || result.is_err() {
                return result;
            }
        }
    }

    fn send(self, path: &str, body: Body, is_parted: &AtomicBool) -> io::Result<()> {
        let mut line = self.connect()?;
        let framing = match body {
            Body::Length | Body::TinyRecords => format!("Content-Length: {ENDLESS}\r\n"),
            Body::Chunked | Body::TinyChunks => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        line.request(&format!("PUT {path}"), &framing)?;
        let junk = "junk".repeat(BLOCK_BYTES / 4);
        let block = match body {
            Body::Length | Body::TinyRecords => junk,
            Body::Chunked => format!("{BLOCK_BYTES:x}\r\n{junk}\r\n"),
            Body::TinyChunks => "1\r\nx\r\n".repeat(BLOCK_BYTES / 6),
        };
        let mut left = block.as_bytes();
        while !self.is_over() && !is_parted.load(Ordering::Relaxed) {
            let written = match body {
                Body::TinyRecords => line.write_records(left),
                _ => line.write(left),
            };
            match written {
                Ok(bytes) => left = left.get(bytes..).unwrap_or_default(),
                Err(error) if super::is_impatience(&error) => {}
                Err(error) => return Err(error),
            }
            if left.is_empty() {
                left = block.as_bytes();
            }
        }
        Ok(())
    }

    fn receive(self, path: &str, reader: Reader, is_parted: &AtomicBool) -> io::Result<()> {
        let window = if let Reader::Slow { window, .. } = reader { window } else { None };
        let mut line = self.connect_with(window)?;
        line.request(&format!("GET {path}"), "")?;
        let is_parted = || self.is_over() || is_parted.load(Ordering::Relaxed);
        let rest = |duration: Duration| {
            let ends = Instant::now() + duration;
            while !is_parted() && Instant::now() < ends {
                thread::sleep(ends.saturating_duration_since(Instant::now()).min(NAP));
            }
        };
        let mut room = vec![0; BLOCK_BYTES];
        if let Reader::Returns(after) = reader {
            rest(after);
            return Ok(());
        }
        while !is_parted() {
            let (bytes, pause) = match reader {
                Reader::Slow { bytes, pause, .. } => (bytes, pause),
                _ => (BLOCK_BYTES, Duration::ZERO),
            };
            let mut left = bytes;
            while left > 0 && !is_parted() {
                let most = left.min(room.len());
                match line.read(room.get_mut(..most).unwrap_or_default()) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => left -= bytes,
                    Err(error) if super::is_impatience(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            rest(pause);
        }
        Ok(())
    }
}
