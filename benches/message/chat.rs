//! A session of the message API with its host and guest.

use crate::connection::{self, Head};
use crate::relay::{Placement, Relay, eventually};
use memchr::memmem;
use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 256 << 10;

/// What a sender's answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Sent,
    Acked,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sent => "sent",
            Self::Acked => "acked",
        })
    }
}

/// A host that sends and a guest that receives.
#[derive(Debug)]
pub(crate) struct Chat<'r> {
    relay: &'r Relay,
    host: TcpStream,
    guest: TcpStream,
    /// The guest's request, the host's, and what ends it all.
    poll: Vec<u8>,
    post: Vec<u8>,
    delete: String,
    body: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'r> Chat<'r> {
    /// A session whose parties are placed as `wanted` if that can be had; and how they are. The guest
    /// waits for its first message.
    pub(crate) fn start(
        relay: &'r Relay,
        wanted: Placement,
        level: Level,
        body: &[u8],
    ) -> Result<(Self, Placement), Box<dyn Error>> {
        let (guest, host, placement) = relay.pair(wanted)?;
        let (path, cookie) = allocate(relay)?;
        let request = |method: &str, fields: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{fields}\r\n")
        };
        let fields = format!(
            "Cookie: {cookie}\r\nContent-Type: text/plain\r\nX-Receipt: {level}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let mut post = request("POST", &fields).into_bytes();
        post.extend(body);
        let mut chat = Self {
            relay,
            host,
            guest,
            poll: request("GET", "").into_bytes(),
            post,
            delete: request("DELETE", &format!("Cookie: {cookie}\r\n")),
            body: body.to_vec(),
            buffer: vec![0; BUFFER_BYTES.max(2 * body.len())],
        };
        chat.guest.write_all(&chat.poll)?;
        Ok((chat, placement))
    }

    /// One message: the times until the guest has it and until the host is told so. The guest waits
    /// for the next one then.
    pub(crate) fn pass(&mut self) -> Result<[Duration; 2], Box<dyn Error>> {
        self.wait_for_guest()?;
        let start = Instant::now();
        self.host.write_all(&self.post)?;
        let message = read_answer(&self.guest, &mut self.buffer)?;
        let got = start.elapsed();
        if message != self.body {
            return Err("the message is altered".into());
        }
        self.guest.write_all(&self.poll)?;
        read_answer(&self.host, &mut self.buffer)?;
        Ok([got, start.elapsed()])
    }

    /// The guest's request has come to its worker and has its place.
    fn wait_for_guest(&self) -> Result<(), &'static str> {
        let places_held = || self.relay.segment.shared().census().places_held;
        let start = Instant::now();
        // The first looks do not sleep: it takes some microseconds.
        while places_held() != 1 && start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        eventually(|| (places_held() == 1).then_some(()))
    }

    /// Ends the session, and the guest's wait with it.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.host.write_all(self.delete.as_bytes())?;
        Head::read(&self.host)?.expect(200)?;
        Head::read(&self.guest)?.expect(410)?;
        Ok(())
    }
}

/// Asks for a session; its path and the host's cookie.
fn allocate(relay: &Relay) -> Result<(String, String), Box<dyn Error>> {
    let mut socket = connection::connect(relay.address)?;
    socket.write_all(b"PUT /session HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let answer = Head::read(&socket)?.expect(201)?;
    let cookie = answer.field("Set-Cookie")?.split(';').next().unwrap_or_default();
    Ok((answer.field("Location")?.to_owned(), cookie.to_owned()))
}

/// Reads a whole answer, which must be `200`, into `buffer`; its body.
fn read_answer<'b>(mut socket: &TcpStream, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut bytes = 0;
    loop {
        let read = socket.read(&mut buffer[bytes..])?;
        bytes += read;
        if read == 0 {
            return Err(io::Error::other("an answer without an end"));
        }
        let Some(end) = memmem::find(&buffer[..bytes], b"\r\n\r\n") else { continue };
        let body = end + 4..end + 4 + content_length(&buffer[..end])?;
        if bytes > body.end {
            return Err(io::Error::other("more than an answer"));
        }
        if bytes == body.end {
            return Ok(&buffer[body]);
        }
    }
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    const NAME: &[u8] = b"\r\nContent-Length: ";
    let value = memmem::find(head, NAME).and_then(|at| head.get(at + NAME.len()..));
    let digits = value.map(|value| value.split(|byte| *byte == b'\r').next().unwrap_or_default());
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match number {
        Some(number) if head.starts_with(b"HTTP/1.1 200 ") => Ok(number),
        _ => Err(io::Error::other(String::from_utf8_lossy(head).into_owned())),
    }
}
