//! Understands what comes back, a read at a time: as much HTTP as a benchmark takes, and the payload in it.

use crate::{Outcome, payload};

const HEAD_BYTES_MAX: usize = 16 << 10;

/// The message that has to come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// A message whose body is a payload of so many bytes.
    Payload(u64),
    /// An answer `200`, `201` or `206`, whatever its body.
    Answer,
    /// An answer that says, in `X-Bytes-Delivered`, that so many bytes were delivered.
    Report(u64),
    /// A request without a body.
    Request,
    /// No HTTP: a payload of so many bytes, then the end.
    Bare(u64),
    /// No HTTP: a payload of so many bytes, after which the connection may go on.
    Bytes(u64),
    /// No head: a payload of so many bytes in a chunked coding.
    Chunks(u64),
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Bare,
    Done,
}

/// A message that is being read.
#[derive(Debug)]
pub(crate) struct Hearing {
    expect: Expect,
    state: State,
    /// The head, and then whatever line is not complete.
    head: Head,
    line: Vec<u8>,
    /// Bytes of the body so far.
    pub(crate) body: u64,
    verifies: bool,
}

/// A message's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head(String);

impl Head {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// All fields, in their order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name, value.trim()))
    }

    /// Bytes of the body that it announces, and of the whole message.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.field("Content-Length").and_then(|it| it.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn message_bytes(&self) -> u64 {
        self.0.len() as u64 + self.body_bytes()
    }

    fn number(&self, name: &str) -> Outcome<Option<u64>> {
        Ok(self.field(name).map(str::parse).transpose()?)
    }

    fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }
}

impl Hearing {
    pub(crate) fn new(expect: Expect, verifies: bool) -> Self {
        let state = match expect {
            Expect::Bare(_) => State::Bare,
            Expect::Bytes(bytes) => State::Length(bytes),
            Expect::Chunks(_) => State::ChunkLine,
            _ => State::Head,
        };
        Self { expect, state, head: Head::default(), line: Vec::new(), body: 0, verifies }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(crate) fn into_head(self) -> Head {
        self.head
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Outcome<()> {
        while !bytes.is_empty() {
            let taken = self.step(bytes)?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The peer has sent its last byte.
    pub(crate) fn end(&mut self) -> Outcome<()> {
        match (&self.state, self.expect) {
            (State::Bare, Expect::Bare(bytes)) if bytes == self.body => self.state = State::Done,
            _ => return Err(format!("cut after {} bytes of {:?}", self.body, self.expect).into()),
        }
        Ok(())
    }

    /// Takes some of `bytes`, at least one.
    fn step(&mut self, bytes: &[u8]) -> Outcome<usize> {
        match self.state {
            State::Bare => self.take_body(bytes, u64::MAX),
            State::Length(left) | State::Chunk(left) => {
                let taken = self.take_body(bytes, left)?;
                let left = left - taken as u64;
                self.state = match self.state {
                    State::Length(_) if left == 0 => self.over()?,
                    State::Length(_) => State::Length(left),
                    _ if left == 0 => State::ChunkEnd,
                    _ => State::Chunk(left),
                };
                Ok(taken)
            }
            State::Head => {
                let taken = self.take_line(bytes)?;
                if self.line.ends_with(b"\r\n\r\n") || self.line == b"\r\n" {
                    self.head = Head(String::from_utf8(std::mem::take(&mut self.line))?);
                    self.state = self.after_head()?;
                }
                Ok(taken)
            }
            State::ChunkLine | State::ChunkEnd | State::Trailer => {
                let taken = self.take_line(bytes)?;
                if self.line.ends_with(b"\n") {
                    let line = String::from_utf8(std::mem::take(&mut self.line))?;
                    self.state = self.after_line(line.trim_end())?;
                }
                Ok(taken)
            }
            State::Done => Err("more came than was asked for".into()),
        }
    }

    /// Takes bytes up to the end of a line.
    fn take_line(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes[..end]);
        if self.line.len() > HEAD_BYTES_MAX {
            return Err("a head without an end".into());
        }
        Ok(end)
    }

    fn take_body(&mut self, bytes: &[u8], most: u64) -> Outcome<usize> {
        let taken = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let is_payload = matches!(
            self.expect,
            Expect::Payload(_) | Expect::Bare(_) | Expect::Bytes(_) | Expect::Chunks(_)
        );
        if self.verifies && is_payload {
            payload::verify(self.body, &bytes[..taken])?;
        }
        self.body += taken as u64;
        Ok(taken)
    }

    fn after_head(&self) -> Outcome<State> {
        let line = self.head.first_line();
        let answered = line.split(' ').nth(1).is_some_and(|it| ["200", "201", "206"].contains(&it));
        if line.starts_with("HTTP/") && !answered {
            return Err(format!("answered {line}").into());
        }
        if let Expect::Report(bytes) = self.expect
            && self.head.number("X-Bytes-Delivered")? != Some(bytes)
        {
            return Err(format!("not reported as {bytes} bytes delivered: {}", self.head.0).into());
        }
        match self.head.number("Content-Length")? {
            None if self.head.field("Transfer-Encoding").is_some() => Ok(State::ChunkLine),
            None | Some(0) => self.over(),
            Some(bytes) => Ok(State::Length(bytes)),
        }
    }

    fn after_line(&self, line: &str) -> Outcome<State> {
        Ok(match (&self.state, line) {
            (State::ChunkEnd, "") => State::ChunkLine,
            (State::ChunkEnd, _) => return Err("a chunk without an end".into()),
            (State::Trailer, "") => self.over()?,
            (State::Trailer, _) => State::Trailer,
            (_, line) => {
                let digits = line.split(';').next().unwrap_or_default().trim();
                match u64::from_str_radix(digits, 16)? {
                    0 => State::Trailer,
                    bytes => State::Chunk(bytes),
                }
            }
        })
    }

    /// The message is whole, if it is what was expected.
    fn over(&self) -> Outcome<State> {
        match self.expect {
            Expect::Payload(bytes) | Expect::Chunks(bytes) if bytes != self.body => {
                Err(format!("{} bytes came, {bytes} were sent", self.body).into())
            }
            _ => Ok(State::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(expect: Expect, text: &[u8]) -> Outcome<bool> {
        let mut hearing = Hearing::new(expect, true);
        for byte in text {
            hearing.feed(&[*byte])?;
        }
        Ok(hearing.is_done())
    }

    fn chunked(payload: &[u8]) -> Vec<u8> {
        let (first, second) = payload.split_at(1);
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n";
        let size = format!("\r\n{:x}\r\n", second.len());
        [head, first, size.as_bytes(), second, b"\r\n0\r\n\r\n"].concat()
    }

    #[test]
    fn a_payload_is_heard_byte_by_byte() -> Outcome<()> {
        assert!(heard(Expect::Payload(300), &chunked(payload::at(0, 300)))?);
        assert!(heard(Expect::Bytes(300), payload::at(0, 300))?);
        assert!(!heard(Expect::Bytes(301), payload::at(0, 300))?);
        assert!(!heard(Expect::Payload(300), b"HTTP/1.1 200 OK\r\n")?);
        Ok(())
    }

    #[test]
    fn what_is_altered_or_short_is_refused() {
        assert!(heard(Expect::Payload(300), &chunked(payload::at(1, 301))).is_err());
        assert!(heard(Expect::Bytes(300), payload::at(1, 301)).is_err());
        assert!(heard(Expect::Payload(301), &chunked(payload::at(0, 300))).is_err());
        assert!(heard(Expect::Answer, b"HTTP/1.1 502 Bad Gateway\r\n\r\n").is_err());
        assert!(
            heard(Expect::Report(2), b"HTTP/1.1 200 OK\r\nX-Bytes-Delivered: 1\r\n\r\n").is_err()
        );
    }
}
