//! An end of a transfer, a sender or a receiver: a connection, and the steps that it has to take. The generator
//! speaks to every kind of target in these steps, so its own work is the same for all.

use crate::hearing::{Expect, Head, Hearing};
use crate::stream::Stream;
use crate::{Outcome, payload};
use std::collections::VecDeque;
use std::io;

#[derive(Debug)]
pub(crate) enum Step {
    Say(Vec<u8>),
    /// Sends a payload of so many bytes.
    Payload(u64),
    /// Sends chunks of a chunked coding that take so many bytes.
    Chunks(u64),
    /// Sends no more.
    Shutdown,
    Hear(Expect),
}

/// The readiness that an end waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
    /// The end has taken all of its steps.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) stream: Stream,
    steps: VecDeque<Step>,
    /// How much of the first step was said.
    said: u64,
    hearing: Option<Hearing>,
    /// The head of what was heard last.
    pub(crate) head: Head,
}

impl End {
    pub(crate) fn new(stream: Stream, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps = steps.into_iter().collect();
        Self { stream, steps, said: 0, hearing: None, head: Head::default() }
    }

    /// Has it take further steps on the same connection.
    pub(crate) fn go_on(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.steps.extend(steps);
    }

    /// Bytes of the body that it has heard so far.
    pub(crate) fn heard(&self) -> u64 {
        self.hearing.as_ref().map_or(0, |hearing| hearing.body)
    }

    /// Takes steps as far as they go at once, but moves no more than one call of payload, so that every end has a
    /// turn. `verifies`: whether to compare each byte of a payload.
    pub(crate) fn turn(&mut self, buffer: &mut [u8], verifies: bool) -> Outcome<Need> {
        while let Some(step) = self.steps.front() {
            let outcome = match step {
                Step::Hear(expect) => {
                    let expect = *expect;
                    self.hear(expect, buffer, verifies)?
                }
                _ => self.say()?,
            };
            if let Some(need) = outcome {
                return Ok(need);
            }
            self.steps.pop_front();
            self.said = 0;
            if matches!(self.steps.front(), Some(Step::Hear(_))) {
                return Ok(Need::Read);
            }
        }
        Ok(Need::Nothing)
    }

    /// `None` once the step is taken.
    fn say(&mut self) -> Outcome<Option<Need>> {
        let (bytes, total) = match self.steps.front() {
            Some(Step::Say(bytes)) => {
                let said = usize::try_from(self.said)?;
                (&bytes[said..], bytes.len() as u64)
            }
            Some(Step::Payload(total)) => (payload::at(self.said, *total), *total),
            Some(Step::Chunks(total)) => (payload::chunks_at(self.said, *total), *total),
            _ => {
                self.stream.shutdown()?;
                return Ok(None);
            }
        };
        if !bytes.is_empty() {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Need::Write));
                }
                taken => self.said += taken? as u64,
            }
        }
        if self.said < total {
            return Ok(Some(Need::Write));
        }
        match self.stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Need::Write)),
            flushed => Ok(flushed.map(|()| None)?),
        }
    }

    fn hear(&mut self, expect: Expect, buffer: &mut [u8], verifies: bool) -> Outcome<Option<Need>> {
        loop {
            let hearing = self.hearing.get_or_insert_with(|| Hearing::new(expect, verifies));
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Need::Read));
                }
                Ok(0) => hearing.end()?,
                read => hearing.feed(&buffer[..read?])?,
            }
            if hearing.is_done() {
                self.head = self.hearing.take().map(Hearing::into_head).unwrap_or_default();
                return Ok(None);
            }
            if !self.stream.holds_back() {
                return Ok(Some(Need::Read));
            }
        }
    }

    /// Takes all of its steps, on a stream that blocks.
    pub(crate) fn complete(&mut self, buffer: &mut [u8]) -> Outcome<()> {
        while self.turn(buffer, true)? != Need::Nothing {}
        Ok(())
    }
}
