//! The attackers: a thread each, which does again and again what its scene says, until the scene is over.

mod asking;
mod holding;
mod pairs;

use crate::line::Line;
use crate::run::Scale;
use crate::scenes::{Act, Scene, Whence};
use crate::target::{Source, Target};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A thread's stack: it does little.
const STACK_BYTES: usize = 512 << 10;
/// How long a read or write may stand still until somebody looks whether the scene is over.
const LOOK: Duration = Duration::from_millis(300);
/// How long one waits that could not do what it wanted.
const PAUSE: Duration = Duration::from_millis(50);
/// However long the honest clients take, no attack lasts longer than this and its scene's time.
const GRACE: Duration = Duration::from_secs(60);

/// The work of the attackers, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acted {
    /// How many attackers there were.
    pub attackers: u64,
    /// Connections that they opened.
    pub opened: u64,
    /// Requests that were answered as they wished: sessions issued, for instance.
    pub done: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Connections that were refused or broken.
    pub broken: u64,
}

/// State that all attackers of a scene share.
struct Storm<'s> {
    target: &'s Target,
    scene: &'s Scene,
    attackers: usize,
    is_over: &'s AtomicBool,
    ends: Instant,
    opened: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    /// The session before which all knock.
    common: OnceLock<String>,
}

/// An attacker.
#[derive(Clone, Copy)]
struct Bot<'s> {
    storm: &'s Storm<'s>,
    number: usize,
}

/// Attacks until `is_over`.
pub(crate) fn storm(target: &Target, scene: &Scene, scale: &Scale, is_over: &AtomicBool) -> Acted {
    let attackers = scale.connections / scene.act.connections();
    let counts = || AtomicU64::new(0);
    let storm = Storm {
        target,
        scene,
        attackers,
        is_over,
        ends: Instant::now() + scale.duration + GRACE,
        opened: counts(),
        done: counts(),
        refused: counts(),
        broken: counts(),
        common: OnceLock::new(),
    };
    thread::scope(|scope| {
        for number in 0..attackers {
            let bot = Bot { storm: &storm, number };
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            if thread.spawn_scoped(scope, move || bot.run()).is_err() {
                storm.broken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let [opened, done, refused, broken] =
        [&storm.opened, &storm.done, &storm.refused, &storm.broken]
            .map(|count| count.load(Ordering::Relaxed));
    Acted { attackers: attackers.try_into().unwrap_or(u64::MAX), opened, done, refused, broken }
}

impl Bot<'_> {
    fn run(self) {
        while !self.is_over() {
            let result = match self.storm.scene.act {
                Act::Pair(body, reader) => self.pair(body, reader),
                Act::TakeSessions(all) => self.take_sessions(self.share(all)),
                Act::Hammer(in_a_row) => self.hammer(in_a_row),
                Act::HeadByByte => self.head_by_byte(),
                Act::SendOn => self.send_on(),
                Act::Keep(all) => self.keep(self.share(all), false),
                Act::Crowd(all) => self.keep(self.share(all), true),
                Act::Shake => self.shake(),
                Act::Knock => self.knock(),
            };
            if result.is_err() {
                self.storm.broken.fetch_add(1, Ordering::Relaxed);
                self.sleep(PAUSE);
            }
        }
    }

    /// The part of `all` that this attacker has.
    fn share(self, all: usize) -> usize {
        all.div_ceil(self.storm.attackers.max(1))
    }

    fn is_over(self) -> bool {
        self.storm.is_over.load(Ordering::Relaxed) || Instant::now() >= self.storm.ends
    }

    fn source(self) -> Source {
        let number = u16::try_from(self.number).unwrap_or(0);
        match self.storm.scene.whence {
            Whence::Addresses(count) => {
                let host = u8::try_from(number % u16::from(count)).unwrap_or(0) + 1;
                Source::At(Ipv4Addr::new(127, 66, 0, host))
            }
            Whence::OneSite => {
                Source::Named(Ipv6Addr::new(0x2001, 0xdb8, 0x66, number, 0, 0, 0, 1))
            }
        }
    }

    fn connect(self) -> io::Result<Line> {
        self.connect_with(None)
    }

    fn connect_with(self, window: Option<usize>) -> io::Result<Line> {
        let line = self.storm.target.attack(self.source(), window)?;
        self.storm.opened.fetch_add(1, Ordering::Relaxed);
        line.patience(LOOK)?;
        Ok(line)
    }

    /// Sleeps, unless the scene is over.
    fn sleep(self, duration: Duration) {
        let ends = Instant::now() + duration;
        while !self.is_over() && Instant::now() < ends {
            thread::sleep(ends.saturating_duration_since(Instant::now()).min(LOOK));
        }
    }

    /// Tries again what only took too long, until the scene is over.
    fn patiently<T>(self, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match act() {
                Err(error) if is_impatience(&error) && !self.is_over() => {}
                result => return result,
            }
        }
    }

    /// Sends all of `bytes`, however long that takes.
    fn send_all(self, line: &mut Line, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.patiently(|| line.write(bytes))?;
            if sent == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Counts an answer.
    fn count(self, is_done: bool) {
        let count = if is_done { &self.storm.done } else { &self.storm.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_impatience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
