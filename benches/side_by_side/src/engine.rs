//! The load generator's loop: moves any number of ends, a call at a time each, as they can go on. Level
//! triggered, so that it is fair and there is nothing to remember.

use crate::Outcome;
use crate::end::{End, Need};
use crate::payload::CALL_BYTES;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::time::{Duration, Instant};

/// How long nothing may happen: so that a fault is an error and not a standstill.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS_MAX: usize = 64;

/// Decides what happens when an end has taken its steps.
pub(crate) trait Driver {
    /// Gives the end back with further steps, or lets its connection close.
    fn done(&mut self, engine: &mut Engine, id: usize, end: End) -> Outcome<Option<End>>;
}

#[derive(Debug)]
pub(crate) struct Engine {
    epoll: Epoll,
    ends: Vec<Option<(End, Need)>>,
    /// Places of `ends` that are empty.
    free: Vec<usize>,
    /// Ends that were done as soon as they were added.
    done: Vec<(usize, End)>,
    live: usize,
    buffer: Vec<u8>,
    verifies: bool,
    stopped: bool,
}

impl Engine {
    pub(crate) fn new(verifies: bool) -> Outcome<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            ends: Vec::new(),
            free: Vec::new(),
            done: Vec::new(),
            live: 0,
            buffer: vec![0; CALL_BYTES],
            verifies,
            stopped: false,
        })
    }

    /// Lets an end begin; its id, which is free again once it is done.
    pub(crate) fn add(&mut self, mut end: End) -> Outcome<usize> {
        end.stream.set_nonblocking()?;
        let id = self.free.pop().unwrap_or_else(|| {
            self.ends.push(None);
            self.ends.len() - 1
        });
        self.live += 1;
        match end.turn(&mut self.buffer, self.verifies)? {
            Need::Nothing => self.done.push((id, end)),
            need => {
                self.epoll.add(&end.stream, event(need, id))?;
                self.ends[id] = Some((end, need));
            }
        }
        Ok(id)
    }

    /// Hears no more of an end that is done. Epoll would keep it as long as another end has the same connection.
    pub(crate) fn forget(&self, end: &End) {
        // Epoll never had an end that was done as soon as it was added.
        let _ = self.epoll.delete(&end.stream);
    }

    /// All ends that are under way.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &End> {
        self.ends.iter().flatten().map(|(end, _)| end)
    }

    /// Stops the loop. Ends that are not done by now are left alone.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Runs until all ends are done or the loop is stopped.
    pub(crate) fn run(&mut self, driver: &mut impl Driver) -> Outcome<()> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let mut last = Instant::now();
        while self.live > 0 && !self.stopped {
            while let Some((id, end)) = self.done.pop() {
                self.over(driver, id, end, None)?;
            }
            if self.live == 0 || self.stopped {
                break;
            }
            let timeout = EpollTimeout::try_from(PATIENCE)?;
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(nix::Error::EINTR) => 0,
                count => count?,
            };
            if count == 0 && last.elapsed() >= PATIENCE {
                return Err(format!("{} ends came to a standstill", self.live).into());
            }
            for event in &events[..count] {
                last = Instant::now();
                self.turn(driver, usize::try_from(event.data())?)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, driver: &mut impl Driver, id: usize) -> Outcome<()> {
        // An end that another end's event has ended has no events any more.
        let Some((mut end, needed)) = self.ends[id].take() else { return Ok(()) };
        match end.turn(&mut self.buffer, self.verifies)? {
            Need::Nothing => self.over(driver, id, end, Some(needed)),
            need => self.keep(id, end, need, Some(needed)),
        }
    }

    /// Asks the driver how to go on with an end, as often as it is done at once.
    fn over(
        &mut self,
        driver: &mut impl Driver,
        id: usize,
        end: End,
        registered: Option<Need>,
    ) -> Outcome<()> {
        let mut end = end;
        loop {
            let Some(again) = driver.done(self, id, end)? else {
                self.live -= 1;
                self.free.push(id);
                return Ok(());
            };
            end = again;
            match end.turn(&mut self.buffer, self.verifies)? {
                Need::Nothing => {}
                need => return self.keep(id, end, need, registered),
            }
        }
    }

    fn keep(&mut self, id: usize, end: End, need: Need, registered: Option<Need>) -> Outcome<()> {
        match registered {
            None => self.epoll.add(&end.stream, event(need, id))?,
            Some(needed) if needed != need => {
                self.epoll.modify(&end.stream, &mut event(need, id))?;
            }
            Some(_) => {}
        }
        self.ends[id] = Some((end, need));
        Ok(())
    }
}

fn event(need: Need, id: usize) -> EpollEvent {
    let flags = if need == Need::Write { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
    EpollEvent::new(flags, id as u64)
}
