//! The honest clients: large transfers at a steady pace, and many exchanges of small files, from addresses that nobody else
//! has. They try nothing twice, and compare every byte.

use crate::line::Line;
use crate::run::Scale;
use crate::target::{Source, Target};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a small file.
const SMALL_BYTES: u64 = 20_000;
/// Clients that exchange small files. An exchange may take half a second, at 100 in a second.
const EXCHANGERS: u64 = 64;
/// How much longer than at its own pace a transfer may take until it is given up.
const DELAY_MAX: Duration = Duration::from_secs(20);
/// Failures that are told in words.
const TOLD_MAX: usize = 5;
/// Prime, so that bytes that a whole number of chunks has moved are noticed.
const BLOCK_BYTES: usize = 65_521;
/// Bytes that are sent in a row.
const SLICE_BYTES: u64 = 32 << 10;

/// The results of one kind of work.
#[derive(Debug, Default)]
pub struct Count {
    /// How many succeeded.
    pub done: u64,
    /// How many did not.
    pub failed: u64,
    /// How some of them failed.
    pub told: Vec<String>,
    /// How long each that succeeded took, in seconds.
    pub seconds: Vec<f64>,
}

/// The results of all kinds of work.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Large transfers.
    pub transfers: Count,
    /// Exchanges of small files.
    pub exchanges: Count,
    /// Bytes in a second of a large transfer, on average.
    pub bytes_per_second: f64,
    /// Exchanges in a second.
    pub exchanges_per_second: f64,
}

impl Count {
    fn add(&mut self, result: io::Result<Duration>) {
        match result {
            Ok(took) => {
                self.done += 1;
                self.seconds.push(took.as_secs_f64());
            }
            Err(error) => {
                self.failed += 1;
                if self.told.len() < TOLD_MAX {
                    self.told.push(error.to_string());
                }
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.seconds.extend(other.seconds);
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }

    /// The time, in seconds, that this part of those that succeeded took at most.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let index = (seconds.len() as f64 * part) as usize;
        seconds.get(index.min(seconds.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Works for `duration`, and until all that has begun is over.
pub(crate) fn work(target: &Target, scale: &Scale, duration: Duration) -> Outcome {
    let began = Instant::now();
    let ends = began + duration;
    let tickets = AtomicU64::new(0);
    let mut outcome = Outcome::default();
    thread::scope(|scope| {
        let transfers: Vec<_> = (0..scale.transfers)
            .map(|number| scope.spawn(move || transfers(target, scale, number, ends)))
            .collect();
        let exchanges: Vec<_> = (0..EXCHANGERS)
            .map(|_| scope.spawn(|| exchanges(target, scale, &tickets, began, ends)))
            .collect();
        for count in exchanges {
            outcome.exchanges.join(count.join().unwrap_or_default());
        }
        #[allow(clippy::cast_precision_loss)]
        let done = outcome.exchanges.done as f64;
        outcome.exchanges_per_second = done / began.elapsed().as_secs_f64();
        for count in transfers {
            outcome.transfers.join(count.join().unwrap_or_default());
        }
    });
    let count = &outcome.transfers;
    #[allow(clippy::cast_precision_loss)]
    let bytes = (count.done * scale.transfer_bytes) as f64;
    outcome.bytes_per_second = bytes / count.seconds.iter().sum::<f64>();
    outcome
}

fn transfers(target: &Target, scale: &Scale, number: u8, ends: Instant) -> Count {
    let mut count = Count::default();
    let sources = [20, 21].map(|net| Source::At(Ipv4Addr::new(127, net, 0, number + 1)));
    let payload = Payload::new(u64::from(number) + 1, scale.transfer_bytes);
    // Half of them may go by pipes.
    let chunked = number.is_multiple_of(2);
    while Instant::now() < ends {
        let result = transfer(target, sources, &payload, chunked, scale.bytes_per_second);
        if result.is_err() {
            // A client that is refused at once must not ask again thousands of times.
            thread::sleep(Duration::from_millis(200));
        }
        count.add(result);
    }
    count
}

/// Makes one transfer; returns how long it took from the request to send until all was delivered.
fn transfer(
    target: &Target,
    [from, to]: [Source; 2],
    payload: &Payload,
    chunked: bool,
    bytes_per_second: u64,
) -> io::Result<Duration> {
    let mut sender = target.connect(from)?;
    let path = sender.session().map_err(|e| named("asking for a session", &e))?;
    let mut receiver = target.connect(to)?;
    receiver.request(&format!("GET {path}"), "").map_err(|e| named("asking to receive", &e))?;
    thread::scope(|scope| {
        let received = scope.spawn(|| receive(&mut receiver, payload));
        let began = Instant::now();
        let sent = send(&mut sender, &path, payload, chunked, bytes_per_second);
        if sent.is_err() {
            // The receiver is not left waiting.
            drop(sender);
        }
        let took = began.elapsed();
        let received = received.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
        sent.map_err(|e| named("sending", &e))?;
        received.map_err(|e| named("receiving", &e))?;
        Ok(took)
    })
}

fn exchanges(
    target: &Target,
    scale: &Scale,
    tickets: &AtomicU64,
    began: Instant,
    ends: Instant,
) -> Count {
    let mut count = Count::default();
    let payload = Payload::new(99, SMALL_BYTES);
    loop {
        let ticket = tickets.fetch_add(1, Ordering::Relaxed);
        let starts = began + Duration::from_millis(1000 * ticket / scale.exchanges_per_second);
        if starts.max(Instant::now()) >= ends {
            return count;
        }
        thread::sleep(starts.saturating_duration_since(Instant::now()));
        let host = u8::try_from(ticket % 200).unwrap_or(0) + 1;
        let sources = [30, 31].map(|net| Source::At(Ipv4Addr::new(127, net, 0, host)));
        count.add(exchange(target, sources, &payload));
    }
}

/// Makes one exchange of a small file, from the first connection on.
fn exchange(target: &Target, [from, to]: [Source; 2], payload: &Payload) -> io::Result<Duration> {
    let began = Instant::now();
    let mut sender = target.connect(from)?;
    let path = sender.session().map_err(|e| named("asking for a session", &e))?;
    let mut receiver = target.connect(to)?;
    receiver.request(&format!("GET {path}"), "").map_err(|e| named("asking to receive", &e))?;
    // The file is so small that all of it finds room in the sockets.
    put(&mut sender, &path, payload).map_err(|e| named("sending a small file", &e))?;
    receive(&mut receiver, payload).map_err(|e| named("receiving a small file", &e))?;
    told_delivered(&mut sender, payload).map_err(|e| named("sending a small file", &e))?;
    Ok(began.elapsed())
}

fn put(sender: &mut Line, path: &str, payload: &Payload) -> io::Result<()> {
    sender.request(&format!("PUT {path}"), &format!("Content-Length: {}\r\n", payload.bytes))?;
    sender.send(payload.at(0, payload.bytes))
}

fn send(
    sender: &mut Line,
    path: &str,
    payload: &Payload,
    chunked: bool,
    bytes_per_second: u64,
) -> io::Result<()> {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked\r\n".to_owned(),
        false => format!("Content-Length: {}\r\n", payload.bytes),
    };
    sender.request(&format!("PUT {path}"), &framing)?;
    let (began, mut sent) = (Instant::now(), 0);
    while sent < payload.bytes {
        let slice = payload.at(sent, SLICE_BYTES);
        if chunked {
            let chunk = [format!("{:x}\r\n", slice.len()).as_bytes(), slice, b"\r\n"].concat();
            sender.send(&chunk)?;
        } else {
            sender.send(slice)?;
        }
        sent += slice.len() as u64;
        if began.elapsed() > DELAY_MAX + paced(sent, bytes_per_second) {
            let text = format!("given up, {sent} of {} bytes were taken", payload.bytes);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let due = began + paced(sent, bytes_per_second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    if chunked {
        sender.send(b"0\r\n\r\n")?;
    }
    told_delivered(sender, payload)
}

fn paced(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_micros(1_000_000 * bytes / bytes_per_second)
}

fn told_delivered(sender: &mut Line, payload: &Payload) -> io::Result<()> {
    let (head, text) = sender.expect(200)?;
    let delivered = head.field("x-bytes-delivered").and_then(|it| it.parse().ok());
    if delivered == Some(payload.bytes) {
        return Ok(());
    }
    Err(io::Error::other(format!("WRONG COUNT: {delivered:?} of {}: {text}", payload.bytes)))
}

fn receive(receiver: &mut Line, payload: &Payload) -> io::Result<()> {
    let head = receiver.head()?;
    if head.status != 200 {
        return Err(io::Error::other(format!("answered {}", head.status)));
    }
    let (mut at, mut is_right) = (0, true);
    receiver.body(&head, |mut piece| {
        while !piece.is_empty() && is_right {
            let expected = payload.at(at, piece.len() as u64);
            let (here, rest) = piece.split_at(expected.len().min(piece.len()));
            is_right = !expected.is_empty() && here == expected;
            at += here.len() as u64;
            piece = rest;
        }
    })?;
    match is_right && at == payload.bytes {
        true => Ok(()),
        false => Err(io::Error::other(format!("WRONG BYTES before {at} of {}", payload.bytes))),
    }
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Bytes that follow from a seed.
struct Payload {
    block: Arc<[u8]>,
    bytes: u64,
}

impl Payload {
    fn new(seed: u64, bytes: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state >> 32 & 0xFF).unwrap_or(0)
        };
        Self { block: std::iter::repeat_with(next).take(BLOCK_BYTES).collect(), bytes }
    }

    /// The bytes from `offset` on, `most` at most; empty at the end.
    fn at(&self, offset: u64, most: u64) -> &[u8] {
        let begin = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
        let most = most.min(self.bytes.saturating_sub(offset));
        let block = self.block.get(begin..).unwrap_or_default();
        block
            .get(..usize::try_from(most).unwrap_or(usize::MAX).min(block.len()))
            .unwrap_or_default()
    }
}
